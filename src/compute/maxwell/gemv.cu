// The matrix-vector products of path::MaxwellFp16, each in four weight formats and for one to four
// vectors.
#include "kernels/gemv_launch.cuh"

namespace kvferry {
namespace kernels {

// Q, K and V of models whose heads are normed; logits.
template LaunchStatus launch_gemv(octet::Format, const GemvMatrix&, const NormInput&,
                                  const StoreOutput&, int, const GemvDevice&, cudaStream_t);
// Gate and up.
template LaunchStatus launch_gemv(octet::Format, const GemvMatrix&, const NormInput&, const SwiGlu&,
                                  int, const GemvDevice&, cudaStream_t);
// O and down.
template LaunchStatus launch_gemv(octet::Format, const GemvMatrix&, const PlainInput&,
                                  const AddResidual&, int, const GemvDevice&, cudaStream_t);

}  // namespace kernels
}  // namespace kvferry
