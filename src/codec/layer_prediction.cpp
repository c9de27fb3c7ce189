#include "layer_prediction.hpp"

#include <algorithm>
#include <utility>

#include "row_kernels.hpp"

namespace kvferry {
namespace {

// Of a coder that shares its rows with nobody.
constexpr std::uint32_t kOwnTokens = 16384;
// No sum of a map's products overflows.
constexpr float kMaxRow = 65504.0f;

void load(const Half* halves, std::size_t count, float* floats) {
  row_kernels().load(ElementType::kF16, reinterpret_cast<const std::uint8_t*>(halves), count,
                     floats);
}
void load(const std::vector<BFloat16>& values, std::vector<float>& floats) {
  floats.resize(values.size());
  row_kernels().load(ElementType::kBF16, reinterpret_cast<const std::uint8_t*>(values.data()),
                     values.size(), floats.data());
}

}  // namespace

LayerPrediction::LayerPrediction(std::shared_ptr<const Predictor> predictor,
                                 std::shared_ptr<const Codebook> codebook, MatrixProduct product,
                                 std::shared_ptr<DecodedRows> decoded)
    : predictor_(std::move(predictor)),
      codebook_(std::move(codebook)),
      product_(std::move(product)),
      decoded_(decoded != nullptr
                   ? std::move(decoded)
                   : std::make_shared<DecodedRows>(
                         *predictor_, DecodedRows::bytes_for(*predictor_, kOwnTokens))) {}

int LayerPrediction::find_inputs(const KvRange& range) {
  input_planes_ = predictor_->inputs(range.layer, range.plane);
  input_rows_.clear();
  for (const KvPlane plane : input_planes_) {
    input_rows_.push_back(decoded_->find(range, plane));
    if (input_rows_.back() == nullptr) return -1;
  }
  return input_planes_.empty() ? -1 : static_cast<int>(range.layer - input_planes_.front().layer);
}

void LayerPrediction::predict(const KvRange& range) {
  const PredictorPlane& plane = predictor_plane(range);
  const CodebookPlane& own = codebook_->layers()[range.layer].plane(range.plane);
  const std::size_t width = channels();
  const std::size_t tokens = range.tokens();
  const std::size_t inner = input_planes_.size() * width + 1;

  inputs_.resize(tokens * inner);
  for (std::size_t p = 0; p < input_planes_.size(); ++p) {
    const std::vector<Half>& rows = *input_rows_[p];
    const CodebookPlane& of =
        codebook_->layers()[input_planes_[p].layer].plane(input_planes_[p].plane);
    load(of.means, means_);
    for (std::size_t t = 0; t < tokens; ++t) {
      float* to = inputs_.data() + t * inner + p * width;
      load(rows.data() + t * width, width, to);
      for (std::size_t c = 0; c < width; ++c) to[c] -= means_[c];
    }
  }
  for (std::size_t t = 0; t < tokens; ++t) inputs_[t * inner + inner - 1] = 1.0f;
  map_.resize(plane.map.size());
  load(plane.map.data(), plane.map.size(), map_.data());
  predicted_.resize(tokens * width);
  product_({tokens, inner, width}, inputs_.data(), map_.data(), predicted_.data());
  load(own.means, means_);
  for (std::size_t t = 0; t < tokens; ++t)
    row_kernels().add(means_.data(), width, predicted_.data() + t * width);

  to_coded_.resize(width * width);
  from_coded_.resize(width * width);
  for (std::size_t c = 0; c < width; ++c) {
    const std::int32_t step = own.step + own.weights[c];
    const float over_step = exp2_eighths(-step);
    const float times_step = exp2_eighths(step);
    float* components = to_coded_.data() + c * width;
    load(plane.basis.data() + c * width, width, components);
    for (std::size_t k = 0; k < width; ++k) {
      from_coded_[k * width + c] = components[k] * times_step;
      components[k] *= over_step;
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
  std::vector<Half> kept(range.tokens() * channels());
  row_kernels().store(ElementType::kF16, rows, kept.size(),
                      reinterpret_cast<std::uint8_t*>(kept.data()));
  decoded_->add(range, std::make_shared<const std::vector<Half>>(std::move(kept)));
}

}  // namespace kvferry
