#include "layer_prediction.hpp"

#include <algorithm>

namespace kvferry {
namespace {

// Ranges of tokens whose rows are held at a time; beyond, the oldest positions are forgotten.
constexpr std::size_t kMaxRanges = 64;
// No sum of a map's products overflows.
constexpr float kMaxRow = 65504.0f;

}  // namespace

const std::vector<Half>* LayerPrediction::find(const KvRange& range, KvPlane plane) const {
  const auto found = held_.find({range.begin, range.end});
  if (found == held_.end()) return nullptr;
  for (const Held& held : found->second) {
    if (held.layer == plane.layer && held.plane == plane.plane) return &held.rows;
  }
  return nullptr;
}

int LayerPrediction::layers_before(const KvRange& range) const {
  const std::vector<KvPlane> inputs = predictor_->inputs(range.layer, range.plane);
  const bool all = !inputs.empty() && std::all_of(inputs.begin(), inputs.end(), [&](KvPlane p) {
    return find(range, p) != nullptr;
  });
  return all ? static_cast<int>(range.layer - inputs.front().layer) : -1;
}

void LayerPrediction::predict(const KvRange& range) {
  const std::vector<KvPlane> inputs = predictor_->inputs(range.layer, range.plane);
  const PredictorPlane& plane = predictor_plane(range);
  const CodebookPlane& own = codebook_->layers()[range.layer].plane(range.plane);
  const std::size_t width = channels();
  const std::size_t tokens = range.tokens();
  const std::size_t inner = inputs.size() * width + 1;

  inputs_.resize(tokens * inner);
  for (std::size_t p = 0; p < inputs.size(); ++p) {
    const std::vector<Half>& rows = *find(range, inputs[p]);
    const CodebookPlane& of = codebook_->layers()[inputs[p].layer].plane(inputs[p].plane);
    for (std::size_t t = 0; t < tokens; ++t) {
      float* to = inputs_.data() + t * inner + p * width;
      for (std::size_t c = 0; c < width; ++c)
        to[c] = to_float(rows[t * width + c]) - to_float(of.means[c]);
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) inputs_[t * inner + inner - 1] = 1.0f;
  map_.resize(plane.map.size());
  std::transform(plane.map.begin(), plane.map.end(), map_.begin(),
                 [](Half h) { return to_float(h); });
  predicted_.resize(tokens * width);
  product_({tokens, inner, width}, inputs_.data(), map_.data(), predicted_.data());
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t c = 0; c < width; ++c) predicted_[t * width + c] += to_float(own.means[c]);
  }

  to_coded_.resize(width * width);
  from_coded_.resize(width * width);
  for (std::size_t c = 0; c < width; ++c) {
    const std::int32_t step = own.step + own.weights[c];
    for (std::size_t k = 0; k < width; ++k) {
      const float component = to_float(plane.basis[c * width + k]);
      to_coded_[c * width + k] = component * exp2_eighths(-step);
      from_coded_[k * width + c] = component * exp2_eighths(step);
    }
  }
  coded_.step = 0;
  coded_.weights.assign(width, 0);
  coded_.means.assign(width, BFloat16{0});
  coded_.spreads = plane.spreads;
}

void LayerPrediction::to_coded(std::size_t first, std::size_t count, float* rows) {
  const std::size_t values = count * channels();
  const float* predicted = predicted_.data() + first * channels();
  product_rows_.resize(values);
  for (std::size_t i = 0; i < values; ++i) product_rows_[i] = rows[i] - predicted[i];
  product_({count, channels(), channels()}, product_rows_.data(), to_coded_.data(), rows);
}

void LayerPrediction::to_rows(std::size_t first, std::size_t count, float* rows) {
  const std::size_t values = count * channels();
  const float* predicted = predicted_.data() + first * channels();
  product_rows_.resize(values);
  product_({count, channels(), channels()}, rows, from_coded_.data(), product_rows_.data());
  for (std::size_t i = 0; i < values; ++i) {
    // A hostile block's rows may have overflowed; what is not a number becomes the limit.
    rows[i] = std::max(-kMaxRow, std::min(kMaxRow, product_rows_[i] + predicted[i]));
  }
}

void LayerPrediction::remember(const KvRange& range, const float* rows) {
  const Tokens tokens{range.begin, range.end};
  if (held_.size() >= kMaxRanges && held_.find(tokens) == held_.end()) held_.erase(held_.begin());
  std::vector<Held>& held = held_[tokens];
  held.erase(std::remove_if(held.begin(), held.end(),
                            [&](const Held& h) {
                              return h.layer + predictor_->depth() < range.layer ||
                                     h.layer > range.layer ||
                                     (h.layer == range.layer && h.plane == range.plane);
                            }),
             held.end());
  std::vector<Half> kept(range.tokens() * channels());
  for (std::size_t i = 0; i < kept.size(); ++i)
    kept[i] = to_half(std::max(-kMaxRow, std::min(kMaxRow, rows[i])));
  held.push_back({range.layer, range.plane, std::move(kept)});
}

}  // namespace kvferry
