#include "channel_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "kvferry/codec/rotation.hpp"
#include "kvferry/compute/dequantise.hpp"

namespace kvferry {
namespace {

// A first step, in standard deviations of a channel. The measured one replaces it.
constexpr double kFirstStep = 0.75;
// What meets a channel counts for at least this share of the layer's mean, as a root mean square.
constexpr double kLeastWeight = 1.0 / 64;

// Weights as eighths of an octave about 0 from what meets each channel, as mean squares.
std::vector<std::int8_t> weights_from(const std::vector<double>& squares) {
  double mean = 0.0;
  for (const double s : squares) mean += s / static_cast<double>(squares.size());
  const double least = std::max(mean * kLeastWeight * kLeastWeight, 1e-30);
  std::vector<double> octaves;
  double middle = 0.0;
  for (const double s : squares) {
    octaves.push_back(-0.5 * std::log2(std::max(s, least)));
    middle += octaves.back() / static_cast<double>(squares.size());
  }
  std::vector<std::int8_t> weights;
  for (const double o : octaves) {
    const double eighths = std::round(8.0 * (o - middle));
    weights.push_back(static_cast<std::int8_t>(std::max(-127.0, std::min(127.0, eighths))));
  }
  return weights;
}

}  // namespace

ChannelStatistics::ChannelStatistics(const ModelConfig& config) : config_(config) {
  const std::size_t channels = std::size_t{config.kv_heads} * config.head_dim;
  queries_.assign(config.layers,
                  std::vector<double>(std::size_t{config.heads} * config.head_dim, 0.0));
  planes_.assign(std::size_t{2} * config.layers,
                 {std::vector<double>(channels, 0.0), std::vector<double>(channels, 0.0)});
}

void ChannelStatistics::add_queries(std::uint32_t layer, Span<const float> queries) {
  std::vector<double>& squares = queries_[layer];
  for (std::size_t i = 0; i < queries.size(); ++i) {
    const double q = static_cast<double>(queries[i]);
    squares[i % squares.size()] += q * q;
  }
}

void ChannelStatistics::add_cache(const ContextCache& cache) {
  RopeTable rope(cache.geometry.rope, cache.geometry.head_dim);
  const std::size_t channels = cache.geometry.row_values();
  for (std::size_t p = 0; p < cache.planes(); ++p) {
    const auto first = cache.values.begin() + static_cast<std::ptrdiff_t>(p * cache.plane_values());
    std::vector<float> rows(first, first + static_cast<std::ptrdiff_t>(cache.plane_values()));
    if (cache.range(p).plane == Plane::kKey)
      rope.unrotate(rows.data(), 0, cache.length(), cache.geometry.kv_heads);
    for (std::size_t i = channels; i < rows.size(); ++i) {
      const double x = static_cast<double>(rows[i]);
      planes_[p].sums[i % channels] += x;
      planes_[p].squares[i % channels] += x * x;
    }
  }
  tokens_ += static_cast<double>(cache.length()) - 1.0;
}

// Of the channels of K: averaged over the heads that share a KV head, and over each RoPE pair,
// which a rotation mixes.
std::vector<double> ChannelStatistics::query_squares(std::uint32_t layer) const {
  const std::size_t dim = config_.head_dim;
  const std::size_t group = config_.heads / config_.kv_heads;
  std::vector<double> out(config_.kv_heads * dim, 0.0);
  for (std::size_t i = 0; i < queries_[layer].size(); ++i)
    out[i / dim / group * dim + i % dim] += queries_[layer][i] / static_cast<double>(group);
  const std::size_t pairs = config_.rope.inverse_frequency.size();
  const bool interleaved = config_.rope.layout == RopeLayout::kInterleaved;
  for (std::size_t h = 0; h < config_.kv_heads; ++h) {
    for (std::size_t i = 0; i < pairs; ++i) {
      double& a = out[h * dim + (interleaved ? 2 * i : i)];
      double& b = out[h * dim + (interleaved ? 2 * i + 1 : i + pairs)];
      a = b = (a + b) / 2.0;
    }
  }
  return out;
}

// Of the channels of V: squared norms of the columns of Wo [hidden, heads * head_dim] that they
// meet.
std::vector<double> ChannelStatistics::output_squares(const TensorView& output) const {
  const std::size_t dim = config_.head_dim;
  const std::size_t group = config_.heads / config_.kv_heads;
  std::vector<double> out(config_.kv_heads * dim, 0.0);
  std::vector<float> row(output.columns);
  for (std::uint64_t r = 0; r < output.rows; ++r) {
    dequantise_row(output, r, row);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double w = static_cast<double>(row[i]);
      out[i / dim / group * dim + i % dim] += w * w;
    }
  }
  return out;
}

Result<std::vector<CodebookLayer>> ChannelStatistics::codebook(const ModelWeights& weights) const {
  std::vector<CodebookLayer> layers(config_.layers);
  for (std::uint32_t l = 0; l < config_.layers; ++l) {
    for (const Plane which : {Plane::kKey, Plane::kValue}) {
      const PlaneSums& measured = planes_[std::size_t{2} * l + static_cast<std::size_t>(which)];
      CodebookPlane& plane = layers[l].plane(which);
      plane.weights = weights_from(which == Plane::kKey ? query_squares(l)
                                                        : output_squares(weights.layers[l].o));
      double octaves = 0.0;
      for (std::size_t c = 0; c < measured.sums.size(); ++c) {
        const double mean = measured.sums[c] / tokens_;
        const double square = measured.squares[c] / tokens_;
        if (!(square < 1e30)) {
          return Error(ErrorCode::kMalformed, "layer " + std::to_string(l) + " " + name_of(which) +
                                                  ": the model computes values that are not "
                                                  "finite or too large to calibrate on");
        }
        plane.means.push_back(to_bfloat16(static_cast<float>(mean)));
        const double stated = static_cast<double>(to_float(plane.means.back()));
        const double variance = std::max(square - 2.0 * mean * stated + stated * stated, 1e-16);
        const double spread = 0.5 * std::log2(variance);
        plane.spreads.push_back(
            static_cast<std::int8_t>(std::max(-127.0, std::min(127.0, std::round(4.0 * spread)))));
        octaves += spread / static_cast<double>(measured.sums.size());
      }
      plane.step = static_cast<std::int16_t>(std::round(8.0 * (octaves + std::log2(kFirstStep))));
    }
  }
  return layers;
}

}  // namespace kvferry
