// Model<Path>: the weights of a model, or of some of its layers, in a path's own layout.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/compute/path.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/engine/model_file.hpp"

namespace kvferry {

// Layers [begin, end) of a model.
struct LayerRange {
  static constexpr std::uint32_t kLast = std::numeric_limits<std::uint32_t>::max();

  std::uint32_t begin = 0;
  std::uint32_t end = kLast;  // kLast: all that follow
};

// Immutable once loaded; any number of Prefill and Decode objects may use it from any thread.
template <typename Path>
class Model {
 public:
  using Layer = typename Compute<Path>::Layer;
  using Embedding = typename Compute<Path>::Embedding;
  using Head = typename Compute<Path>::Head;

  // Repacks the weights of `layers`; does not need `file` afterwards. The embedding is loaded with
  // the first layer, the output head with the last. kInvalidArgument for a range that the model
  // has not, kMalformed or kUnsupported naming the layer for weights that the path refuses.
  static Result<Model> load(const ModelFile& file, ThreadPool& pool, LayerRange layers = {}) {
    const ModelConfig& config = file.config();
    layers.end = layers.end == LayerRange::kLast ? config.layers : layers.end;
    if (layers.begin >= layers.end || layers.end > config.layers) {
      return Error(ErrorCode::kInvalidArgument,
                   "layers [" + std::to_string(layers.begin) + ", " + std::to_string(layers.end) +
                       ") of a model that has " + std::to_string(config.layers));
    }
    Model model(config, layers);
    const ModelWeights& weights = file.weights();
    if (layers.begin == 0) {
      KVFERRY_ASSIGN(model.embedding_,
                     Compute<Path>::load_embedding(config, weights.token_embedding, pool));
    }
    for (std::uint32_t l = layers.begin; l < layers.end; ++l) {
      Result<Layer> layer = Compute<Path>::load_layer(config, weights.layers[l], pool);
      if (!layer.ok()) {
        return Error(layer.error().code,
                     "layer " + std::to_string(l) + ": " + layer.error().message);
      }
      model.layers_.push_back(*std::move(layer));
    }
    if (layers.end == config.layers) {
      const Embedding* embedding = model.embedding();
      KVFERRY_ASSIGN(model.head_, Compute<Path>::load_head(config, weights, embedding, pool));
    }
    return model;
  }

  const ModelConfig& config() const { return config_; }
  LayerRange layers() const { return range_; }
  // Of a cache for these layers.
  KvGeometry geometry(ElementType type) const {
    KvGeometry g = geometry_of(config_, type);
    g.first_layer = range_.begin;
    g.layers = range_.end - range_.begin;
    return g;
  }

  // `index` is the model's number of the layer, in layers().
  const Layer& layer(std::uint32_t index) const { return layers_[index - range_.begin]; }
  // nullptr when the first layer is not here.
  const Embedding* embedding() const { return embedding_ ? &*embedding_ : nullptr; }
  // nullptr when the last layer is not here.
  const Head* head() const { return head_ ? &*head_ : nullptr; }

 private:
  Model(ModelConfig config, LayerRange range) : config_(std::move(config)), range_(range) {}

  ModelConfig config_;
  LayerRange range_;
  std::vector<Layer> layers_;
  std::optional<Embedding> embedding_;
  std::optional<Head> head_;
};

}  // namespace kvferry
