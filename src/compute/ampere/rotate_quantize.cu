#include "kernels/rotate_quantize_launch.cuh"

namespace kvferry {
namespace kernels {

template LaunchStatus launch_rotate_quantize(const FloatRows&, int, int, int, const QuantizedRows&,
                                             cudaStream_t);
template LaunchStatus launch_rotate_quantize(const HalfRows&, int, int, int, const QuantizedRows&,
                                             cudaStream_t);
template LaunchStatus launch_rotate_quantize(const NormedRows&, int, int, int, const QuantizedRows&,
                                             cudaStream_t);

}  // namespace kernels
}  // namespace kvferry
