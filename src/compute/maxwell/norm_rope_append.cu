#include "kernels/norm_rope_append.cuh"
#include "norm_rope_append.hpp"

namespace kvferry {
namespace kernels {

LaunchStatus launch_norm_rope_append(const HeadRows& input, const RopeAppend& output, int batch,
                                     cudaStream_t stream) {
  return launch_norm_rope_append_of(input, output, batch, stream);
}

}  // namespace kernels
}  // namespace kvferry
