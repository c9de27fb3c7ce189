#include <algorithm>
#include <string>

#include "kernels/attention.cuh"
#include "kernels/attention_checks.cuh"
#include "kernels/attention_combine.cuh"
#include "kernels/launch.cuh"
#include "kernels/split_attention.cuh"

namespace kvferry {
namespace kernels {
namespace {

constexpr unsigned kCombineThreads = 128;
// Blocks on a multiprocessor that hide the latency of its memory: twice what fits at once, so that
// a block that ends early is followed by another.
constexpr std::uint32_t kBlocksWanted = 8;

template <int kHeadDim>
cudaError_t launch_instance(const SplitAttentionParams& params, std::uint32_t multiprocessors,
                            cudaStream_t stream) {
  using Traits = SplitAttentionTraits<kHeadDim>;
  const std::uint32_t group = params.shape.heads / params.shape.kv_heads;
  const std::uint32_t rows = params.shape.kv_heads * ((group - 1) / Traits::kHeads + 1);
  const std::uint64_t wanted = std::uint64_t{kBlocksWanted} * multiprocessors;
  const std::uint64_t splits = (wanted - 1) / (std::uint64_t{rows} * params.sequences) + 1;
  const unsigned used = static_cast<unsigned>(
      std::min<std::uint64_t>(splits, attention_partitions(params.table_blocks)));
  const LaunchShape shape = {dim3(used, rows, params.sequences), dim3(Traits::kThreads),
                             sizeof(typename Traits::Shared), stream};
  return launch(shape, split_attention<kHeadDim>, params);
}

LaunchStatus check_partials(const std::string& what, const AttentionPartials& partials) {
  const LaunchStatus values = check_pointer(what, "the partials' values", partials.values, 16);
  if (!values.ok()) return values;
  return check_pointer(what, "the partials' weights", partials.weights, sizeof(float2));
}

}  // namespace

LaunchStatus launch_split_attention(const SplitAttentionParams& params,
                                    std::uint32_t multiprocessors, cudaStream_t stream) {
  const std::string what = "split_attention";
  const LaunchStatus checks[] = {
      check_shape(what, params.shape),
      check_sequences(what, params.sequences),
      check_pointer(what, "q", params.q, sizeof(float2)),
      check_pointer(what, "the block table", params.blocks, sizeof(CacheBlock)),
      check_pointer(what, "positions", params.positions, sizeof(std::uint32_t)),
      check_partials(what, params.partials),
  };
  for (const LaunchStatus& check : checks) {
    if (!check.ok()) return check;
  }
  if (params.table_blocks == 0 || params.table_blocks > kMaxAttentionTokens / kCacheBlockTokens) {
    return invalid_launch(what + ": a table of " + std::to_string(params.table_blocks) +
                          " blocks is not within 1.." +
                          std::to_string(kMaxAttentionTokens / kCacheBlockTokens));
  }
  if (params.table_stride != 0 && params.table_stride < params.table_blocks) {
    return invalid_launch(what + ": tables of " + std::to_string(params.table_blocks) +
                          " blocks cannot lie " + std::to_string(params.table_stride) + " apart");
  }
  if (params.partials.partitions < attention_partitions(params.table_blocks)) {
    return invalid_launch(what + ": room for " + std::to_string(params.partials.partitions) +
                          " partitions; " + std::to_string(params.table_blocks) +
                          " blocks may have " +
                          std::to_string(attention_partitions(params.table_blocks)));
  }
  if (multiprocessors == 0) return invalid_launch(what + ": a device of no multiprocessors");
  return launched(params.shape.head_dim == 64
                      ? launch_instance<64>(params, multiprocessors, stream)
                      : launch_instance<128>(params, multiprocessors, stream),
                  what);
}

LaunchStatus launch_combine_attention(const CombineAttentionParams& params, cudaStream_t stream) {
  const std::string what = "combine_attention";
  const CombinedAttention& input = params.input;
  const LaunchStatus checks[] = {
      check_heads(what, input.heads, input.head_dim),
      check_sequences(what, params.sequences),
      check_partials(what, input.partials),
      check_pointer(what, "positions", input.positions, sizeof(std::uint32_t)),
      check_pointer(what, "out", params.out, sizeof(float4)),
  };
  for (const LaunchStatus& check : checks) {
    if (!check.ok()) return check;
  }
  if (input.head_dim % 4 != 0) {
    return unsupported_launch(what + ": heads of " + std::to_string(input.head_dim) +
                              " values, which have to be a multiple of 4");
  }
  if (input.partials.partitions == 0) return invalid_launch(what + ": no partitions");
  const unsigned quads = input.heads * input.head_dim / 4;
  const LaunchShape shape = {dim3((quads - 1) / kCombineThreads + 1, params.sequences),
                             dim3(kCombineThreads), 0, stream};
  return launched(launch(shape, combine_attention<kCombineThreads>, params), what);
}

}  // namespace kernels
}  // namespace kvferry
