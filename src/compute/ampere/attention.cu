#include <string>

#include "kernels/attention.cuh"
#include "kernels/attention_checks.cuh"
#include "kernels/flash_prefill.cuh"
#include "kernels/launch.cuh"

namespace kvferry {
namespace kernels {
namespace {

template <int kHeadDim>
cudaError_t launch_instance(const FlashPrefillParams& params, cudaStream_t stream) {
  using Traits = FlashPrefillTraits<kHeadDim>;
  const std::uint32_t rows = params.rows * (params.shape.heads / params.shape.kv_heads);
  const std::uint32_t tiles = (rows - 1) / Traits::kRows + 1;
  const LaunchShape shape = {dim3(tiles, params.shape.kv_heads), dim3(Traits::kThreads),
                             sizeof(typename Traits::Shared), stream};
  return launch(shape, flash_prefill<kHeadDim>, params);
}

}  // namespace

LaunchStatus launch_flash_prefill(const FlashPrefillParams& params, cudaStream_t stream) {
  const std::string what = "flash_prefill";
  const LaunchStatus checks[] = {
      check_shape(what, params.shape),
      check_chunk(what, params.begin, params.rows),
      check_pointer(what, "q", params.q, sizeof(__half2)),
      check_pointer(what, "out", params.out, sizeof(__half2)),
      check_pointer(what, "the block table", params.blocks, sizeof(CacheBlock)),
  };
  for (const LaunchStatus& check : checks) {
    if (!check.ok()) return check;
  }
  return launched(params.shape.head_dim == 64 ? launch_instance<64>(params, stream)
                                              : launch_instance<128>(params, stream),
                  what);
}

}  // namespace kernels
}  // namespace kvferry
