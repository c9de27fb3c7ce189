// LayerPrediction: what a coder with a predictor has of the blocks before, and says of the next.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"

namespace kvferry {

// Holds the decoded rows of the last layers of each range of tokens, as F16. Both ends of a stream
// have the same, so that both say the same.
class LayerPrediction {
 public:
  LayerPrediction(std::shared_ptr<const Predictor> predictor,
                  std::shared_ptr<const Codebook> codebook, MatrixProduct product)
      : predictor_(std::move(predictor)),
        codebook_(std::move(codebook)),
        product_(std::move(product)) {}

  const Predictor& predictor() const { return *predictor_; }

  // Layers before that a block of `range` depends on; -1 when it has to stand alone, because it is
  // the first or because rows of these very tokens are not held.
  int layers_before(const KvRange& range) const;

  // Computes what is said of `range`, for which layers_before() is not negative.
  void predict(const KvRange& range);
  // Of what is coded: steps, no means, spreads. After predict().
  const CodebookPlane& coded_plane() const { return coded_; }
  // Rows [count, channels], K before RoPE, of which the first is row `first` of the predicted
  // range, become what is coded in their place, and back.
  void to_coded(std::size_t first, std::size_t count, float* rows);
  void to_rows(std::size_t first, std::size_t count, float* rows);

  // Decoded rows [tokens, channels] of a block, K before RoPE.
  void remember(const KvRange& range, const float* rows);

 private:
  using Tokens = std::pair<std::uint32_t, std::uint32_t>;
  struct Held {
    std::uint32_t layer;
    Plane plane;
    std::vector<Half> rows;
  };

  const std::vector<Half>* find(const KvRange& range, KvPlane plane) const;
  const PredictorPlane& predictor_plane(const KvRange& range) const {
    return predictor_->layers()[range.layer].plane(range.plane);
  }
  std::size_t channels() const {
    return std::size_t{codebook_->kv_heads()} * codebook_->head_dim();
  }

  const std::shared_ptr<const Predictor> predictor_;
  const std::shared_ptr<const Codebook> codebook_;
  const MatrixProduct product_;
  std::map<Tokens, std::vector<Held>> held_;

  // Of the range that was predicted last.
  CodebookPlane coded_;
  std::vector<float> predicted_;   // [tokens, channels]
  std::vector<float> to_coded_;    // [channels, channels]: the basis over the steps
  std::vector<float> from_coded_;  // [channels, channels]: its inverse
  std::vector<float> inputs_;
  std::vector<float> map_;
  std::vector<float> product_rows_;
};

}  // namespace kvferry
