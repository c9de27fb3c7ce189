#include "gemv.hpp"
#include "kernels/gemv_launch.cuh"

namespace kvferry {
namespace kernels {

LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input,
                         const StoreOutput& output, int batch, const GemvDevice& device,
                         cudaStream_t stream) {
  return launch_gemv_of(matrix, input, output, batch, device, stream);
}

LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input, const RopeAppend& output,
                         int batch, const GemvDevice& device, cudaStream_t stream) {
  return launch_gemv_of(matrix, input, output, batch, device, stream);
}

LaunchStatus launch_gemv(const GemvMatrix& matrix, const NormInput& input, const SwiGlu& output,
                         int batch, const GemvDevice& device, cudaStream_t stream) {
  return launch_gemv_of(matrix, input, output, batch, device, stream);
}

LaunchStatus launch_gemv(const GemvMatrix& matrix, const PlainInput& input,
                         const AddResidual& output, int batch, const GemvDevice& device,
                         cudaStream_t stream) {
  return launch_gemv_of(matrix, input, output, batch, device, stream);
}

int gemv_vectors(int columns) {
  return vectors_that_fit(columns);
}

}  // namespace kernels
}  // namespace kvferry
