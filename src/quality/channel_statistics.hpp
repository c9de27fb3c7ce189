// ChannelStatistics: what calibration learns of the channels of each layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/model/config.hpp"
#include "kvferry/model/weights.hpp"
#include "kvferry/quality/context_cache.hpp"

namespace kvferry {

class ChannelStatistics {
 public:
  explicit ChannelStatistics(const ModelConfig& config);

  // Queries of one layer, [tokens, heads, head_dim], before or after RoPE.
  void add_queries(std::uint32_t layer, Span<const float> queries);
  // Rows of all layers. Token 0 is left out, as codec blocks leave it out.
  void add_cache(const ContextCache& cache);

  // Means, spreads and weights of every layer; the steps of all planes in relation to the spreads
  // of their own channels. kMalformed unless all that was measured is finite.
  Result<std::vector<CodebookLayer>> codebook(const ModelWeights& weights) const;

 private:
  struct PlaneSums {
    std::vector<double> sums, squares;  // [kv_heads, head_dim]
  };

  std::vector<double> query_squares(std::uint32_t layer) const;
  std::vector<double> output_squares(const TensorView& output) const;

  const ModelConfig& config_;
  std::vector<std::vector<double>> queries_;  // [layers][heads, head_dim], sums of squares
  std::vector<PlaneSums> planes_;             // [layers, 2]
  double tokens_ = 0.0;
};

}  // namespace kvferry
