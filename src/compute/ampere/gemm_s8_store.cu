#include "kernels/gemm_s8_launch.cuh"

namespace kvferry {
namespace kernels {

template LaunchStatus launch_gemm_s8(const GemmS8Operands&, const GemmStore&, const GemmS8Choice&,
                                     cudaStream_t);

}  // namespace kernels
}  // namespace kvferry
