#include <algorithm>
#include <string>

#include "kernels/attention_checks.cuh"
#include "kernels/launch.cuh"
#include "kernels/token_attention.cuh"

namespace kvferry {
namespace kernels {
namespace {

constexpr unsigned kMeanThreads = 128;
constexpr std::uint32_t kMaxSlices = 65535;  // of a grid

struct WorkspaceSizes {
  std::size_t sums;  // elements
  std::size_t squares;
  std::size_t bytes() const { return sums * sizeof(float2) + squares * sizeof(float); }
};

LaunchStatus check_call(const std::string& what, const TokenAttentionParams& params) {
  const LaunchStatus checks[] = {check_shape(what, params.shape),
                                 check_chunk(what, params.begin, params.rows)};
  for (const LaunchStatus& check : checks) {
    if (!check.ok()) return check;
  }
  const std::uint32_t group = params.shape.heads / params.shape.kv_heads;
  const std::uint32_t queries = std::min(params.queries, params.rows);
  if (queries == 0) return invalid_launch(what + ": no queries");
  if (queries > kMaxSlices * kSlicePairs / group) {
    return invalid_launch(what + ": " + std::to_string(queries) + " queries; at most " +
                          std::to_string(kMaxSlices * kSlicePairs / group) + " of " +
                          std::to_string(group) + " heads a kv head");
  }
  return LaunchStatus();
}

// Of a call that passed check_call().
TokenAttentionKernelParams kernel_params(const TokenAttentionParams& params) {
  TokenAttentionKernelParams kernel = {};
  kernel.call = params;
  kernel.call.queries = std::min(params.queries, params.rows);
  kernel.pairs = kernel.call.queries * (params.shape.heads / params.shape.kv_heads);
  kernel.slices = (kernel.pairs - 1) / kSlicePairs + 1;
  kernel.partitions = (params.begin + params.rows - 1) / kPartitionTokens + 1;
  return kernel;
}
WorkspaceSizes sizes_of(const TokenAttentionKernelParams& kernel) {
  const std::size_t kv_heads = kernel.call.shape.kv_heads;
  return {kv_heads * kernel.partitions * kernel.pairs, kv_heads * kernel.slices * kernel.call.rows};
}

template <typename Query, int kHeadDim>
cudaError_t launch_instance(const TokenAttentionKernelParams& params, cudaStream_t stream) {
  using Traits = TokenAttentionTraits<kHeadDim>;
  const TokenAttentionParams& call = params.call;
  const std::uint32_t kv_heads = call.shape.kv_heads;
  const LaunchShape sums = {dim3(params.partitions, kv_heads, params.slices),
                            dim3(Traits::kThreads), sizeof(typename Traits::SumsShared), stream};
  const cudaError_t status = launch(sums, softmax_sums<Query, kHeadDim>, params);
  if (status != cudaSuccess) return status;
  const LaunchShape squares = {
      dim3(params.partitions - call.begin / kPartitionTokens, kv_heads, params.slices),
      dim3(Traits::kThreads), sizeof(typename Traits::SquaresShared), stream};
  return launch(squares, squared_weights<Query, kHeadDim>, params);
}

template <typename Query>
cudaError_t launch_head_dim(const TokenAttentionKernelParams& params, cudaStream_t stream) {
  return params.call.shape.head_dim == 64 ? launch_instance<Query, 64>(params, stream)
                                          : launch_instance<Query, 128>(params, stream);
}

}  // namespace

std::size_t token_attention_workspace(const TokenAttentionParams& params) {
  if (!check_call("token_attention", params).ok()) return 0;
  return sizes_of(kernel_params(params)).bytes();
}

LaunchStatus launch_token_attention(const TokenAttentionParams& params, QueryType type,
                                    cudaStream_t stream) {
  const std::string what = "token_attention";
  const std::size_t pair_bytes = type == QueryType::kF16 ? sizeof(__half2) : sizeof(float2);
  const LaunchStatus checks[] = {
      check_call(what, params),
      check_pointer(what, "q", params.q, pair_bytes),
      check_pointer(what, "out", params.out, sizeof(float)),
      check_pointer(what, "the block table", params.blocks, sizeof(CacheBlock)),
      check_pointer(what, "the workspace", params.workspace, sizeof(float2)),
  };
  for (const LaunchStatus& check : checks) {
    if (!check.ok()) return check;
  }
  TokenAttentionKernelParams kernel = kernel_params(params);
  const WorkspaceSizes sizes = sizes_of(kernel);
  if (params.workspace_bytes < sizes.bytes()) {
    return invalid_launch(what + ": a workspace of " + std::to_string(params.workspace_bytes) +
                          " bytes; " + std::to_string(sizes.bytes()) + " are needed");
  }
  kernel.sums = static_cast<float2*>(params.workspace);
  kernel.squares = reinterpret_cast<float*>(kernel.sums + sizes.sums);
  cudaError_t status = type == QueryType::kF16 ? launch_head_dim<__half>(kernel, stream)
                                               : launch_head_dim<float>(kernel, stream);
  if (status == cudaSuccess) {
    const LaunchShape mean = {dim3((params.rows - 1) / kMeanThreads + 1), dim3(kMeanThreads), 0,
                              stream};
    status = launch(mean, mean_squared_weights<kMeanThreads>, kernel);
  }
  return launched(status, what);
}

}  // namespace kernels
}  // namespace kvferry
