#include <string>

#include "kernels/launch.cuh"
#include "kernels/norm_rope_write_launch.cuh"

namespace kvferry {
namespace kernels {

LaunchStatus launch_norm_rope_write(const NormRopeWriteParams& params, cudaStream_t stream) {
  const std::string what = "norm_rope_write: " + std::to_string(params.rows) + " rows of " +
                           std::to_string(params.heads) + " + 2 x " +
                           std::to_string(params.kv_heads) + " heads of " +
                           std::to_string(params.cache.head_dim);
  constexpr int kMaxHeads = 1 << 16;
  if (params.rows < 1 || params.heads < 1 || params.heads > kMaxHeads || params.kv_heads < 1 ||
      params.kv_heads > kMaxHeads || params.cache.head_dim < 2 ||
      params.cache.head_dim > kNormRopeMaxHeadDim) {
    return invalid_launch(what + ": needs rows and heads, of at most " +
                          std::to_string(kNormRopeMaxHeadDim) + " channels");
  }
  const int all = params.heads + 2 * params.kv_heads;
  if (!is_valid_rope(params.rope, params.cache, params.heads, params.kv_heads,
                     all * params.cache.head_dim) ||
      !is_aligned(params.qkv, 4) || !is_aligned(params.q_weight, 4) ||
      !is_aligned(params.k_weight, 4) || !is_aligned(params.q, 4)) {
    return invalid_launch(what +
                          ": an odd or impossible shape, or a pointer that is null or not "
                          "aligned");
  }
  constexpr int kWarps = kNormRopeThreads / 32;
  const LaunchShape shape = {
      dim3(static_cast<unsigned>(params.rows), static_cast<unsigned>((all + kWarps - 1) / kWarps)),
      dim3(kNormRopeThreads), 0, stream};
  if (params.cache.head_dim <= 64) return launched(launch(shape, norm_rope_write<1>, params), what);
  if (params.cache.head_dim <= 128) {
    return launched(launch(shape, norm_rope_write<2>, params), what);
  }
  return launched(launch(shape, norm_rope_write<4>, params), what);
}

}  // namespace kernels
}  // namespace kvferry
