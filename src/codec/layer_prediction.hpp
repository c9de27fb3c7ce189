// LayerPrediction: what a coder with a predictor has of the blocks before, and says of the next.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/decoded_rows.hpp"
#include "kvferry/codec/predictor.hpp"

namespace kvferry {

// Both ends of a stream have decoded the same rows, so that both say the same.
class LayerPrediction {
 public:
  LayerPrediction(std::shared_ptr<const Predictor> predictor,
                  std::shared_ptr<const Codebook> codebook, MatrixProduct product,
                  std::shared_ptr<DecodedRows> decoded);

  const Predictor& predictor() const { return *predictor_; }

  // Looks up what a block of `range` is predicted from: the number of layers before, or -1 when it
  // has to stand alone, because it is the first or because rows of these very tokens are not held.
  int find_inputs(const KvRange& range);

  // Computes what is said of `range`, for which find_inputs() found all.
  void predict(const KvRange& range);
  // Of what is coded: steps, no means, spreads. After predict().
  const CodebookPlane& coded_plane() const { return coded_; }
  // Rows [count, channels], K before RoPE, of which the first is row `first` of the predicted
  // range, become what is coded in their place, and back.
  void to_coded(std::size_t first, std::size_t count, float* rows);
  void to_rows(std::size_t first, std::size_t count, float* rows);

  // Decoded rows [tokens, channels] of a block, K before RoPE.
  void remember(const KvRange& range, const float* rows);
  // The block came by a method that nothing is predicted from.
  void pass(const KvRange& range) { decoded_->add(range, nullptr); }

 private:
  const PredictorPlane& predictor_plane(const KvRange& range) const {
    return predictor_->layers()[range.layer].plane(range.plane);
  }
  std::size_t channels() const {
    return std::size_t{codebook_->kv_heads()} * codebook_->head_dim();
  }

  const std::shared_ptr<const Predictor> predictor_;
  const std::shared_ptr<const Codebook> codebook_;
  const MatrixProduct product_;
  const std::shared_ptr<DecodedRows> decoded_;

  // Of the range that was looked up last.
  std::vector<KvPlane> input_planes_;
  std::vector<DecodedRows::Rows> input_rows_;  // of input_planes_

  // Of the range that was predicted last.
  CodebookPlane coded_;
  std::vector<float> predicted_;   // [tokens, channels]
  std::vector<float> to_coded_;    // [channels, channels]: the basis over the steps
  std::vector<float> from_coded_;  // [channels, channels]: its inverse
  std::vector<float> inputs_;
  std::vector<float> means_;  // [channels]
  std::vector<float> map_;
  std::vector<float> product_rows_;
};

}  // namespace kvferry
