// A small cache in plain memory, and the session of it.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kvferry/cache/strided.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/wire/session.hpp"

namespace kvferry_test {

// Values of [layers, plane, tokens, kv_heads, head_dim] that are all different in F16.
class SmallCache {
 public:
  explicit SmallCache(std::uint32_t tokens, std::uint32_t layers = 2) : tokens_(tokens) {
    geometry_.layers = layers;
    geometry_.kv_heads = 1;
    geometry_.head_dim = 4;
    geometry_.type = kvferry::ElementType::kF16;
    geometry_.rope.inverse_frequency = {1.0f, 0.125f};
    memory_.resize(std::size_t{2} * layers * tokens * geometry_.row_bytes());
  }

  void fill() {
    for (std::size_t i = 0; i + 1 < memory_.size(); i += 2) {
      const kvferry::Half value = kvferry::to_half(static_cast<float>(i) * 0.25f - 20.0f);
      memory_[i] = static_cast<std::uint8_t>(value.bits);
      memory_[i + 1] = static_cast<std::uint8_t>(value.bits >> 8);
    }
  }

  const kvferry::KvGeometry& geometry() const { return geometry_; }
  const std::vector<std::uint8_t>& memory() const { return memory_; }
  std::uint32_t length() const { return length_; }  // tokens that imports made visible
  const std::vector<kvferry::TokenId>& imported() const { return imported_; }

  kvferry::StridedSource source() { return kvferry::StridedSource(view()); }
  kvferry::StridedSink sink() {
    return kvferry::StridedSink(view(), [this](const kvferry::KvImportPlan& plan) {
      length_ = plan.end;
      imported_ = plan.tokens;
      return kvferry::Result<kvferry::KvCommit>(kvferry::KvCommit{1, plan.end});
    });
  }

  kvferry::ModelIdentity identity() const {
    kvferry::ModelIdentity id;
    id.architecture = "llama";
    id.layers = geometry_.layers;
    id.heads = 2;
    id.kv_heads = geometry_.kv_heads;
    id.head_dim = geometry_.head_dim;
    id.hidden = 8;
    id.ffn = 16;
    id.vocab = 100;
    id.norm_epsilon = 0.0001f;
    id.rope = geometry_.rope;
    id.tokenizer = 1;
    id.norms = 2;
    id.name = "small";
    return id;
  }

  kvferry::wire::Offer offer(kvferry::Profile profile) const {
    std::vector<kvferry::TokenId> ids;
    for (std::uint32_t i = 0; i < tokens_; ++i) ids.push_back(i % 100);
    kvferry::Provenance provenance;
    provenance.path = "cpu";
    provenance.weight_format = "f16";
    return kvferry::wire::session_offer(identity(), geometry_, ids, profile, provenance);
  }

  // The bytes of a session of this cache.
  std::vector<std::uint8_t> session(
      kvferry::Profile profile,
      const std::shared_ptr<const kvferry::Codebook>& codebook = nullptr) {
    std::vector<std::uint8_t> bytes;
    const auto append = [&](kvferry::Bytes piece) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
      return kvferry::Status();
    };
    kvferry::wire::write_session(source(), offer(profile), append, codebook).value();
    return bytes;
  }

 private:
  kvferry::StridedMemory view() {
    const auto row = static_cast<std::ptrdiff_t>(geometry_.row_bytes());
    const auto plane = row * static_cast<std::ptrdiff_t>(tokens_);
    return kvferry::StridedMemory::contiguous(geometry_, tokens_, memory_.data(), 2 * plane, plane,
                                              {row, 8, 2});
  }

  kvferry::KvGeometry geometry_;
  std::uint32_t tokens_;
  std::vector<std::uint8_t> memory_;
  std::uint32_t length_ = 0;
  std::vector<kvferry::TokenId> imported_;
};

// A codebook of its model.
inline std::shared_ptr<const kvferry::Codebook> small_codebook(const SmallCache& cache) {
  const kvferry::KvGeometry& g = cache.geometry();
  std::vector<kvferry::CodebookLayer> layers(g.layers);
  for (kvferry::CodebookLayer& layer : layers) {
    for (const kvferry::Plane p : {kvferry::Plane::kKey, kvferry::Plane::kValue}) {
      kvferry::CodebookPlane& plane = layer.plane(p);
      plane.step = -16;
      for (std::size_t c = 0; c < g.row_values(); ++c) {
        plane.weights.push_back(static_cast<std::int8_t>(c / 2));
        plane.means.push_back(kvferry::to_bfloat16(static_cast<float>(c) - 1.5f));
        plane.spreads.push_back(8);
      }
    }
  }
  return kvferry::Codebook::create(kvferry::Codebook::model_of(cache.identity()), g.kv_heads,
                                   g.head_dim, std::move(layers))
      .value();
}

// Reads a session into `cache`, `piece` bytes at a time.
inline kvferry::Result<kvferry::KvCommit> load(const std::vector<std::uint8_t>& bytes,
                                               SmallCache& cache, std::size_t piece = 4096) {
  kvferry::StridedSink sink = cache.sink();
  kvferry::wire::SessionImport import(cache.identity(), [&](const kvferry::wire::Offer&) {
    return kvferry::Result<kvferry::KvSink*>(&sink);
  });
  kvferry::wire::SessionReader reader(import);
  for (std::size_t at = 0; at < bytes.size(); at += piece) {
    const std::size_t count = std::min(piece, bytes.size() - at);
    KVFERRY_TRY(reader.feed(kvferry::Bytes(bytes).subspan(at, count)));
  }
  KVFERRY_TRY(reader.finish());
  return import.commit();
}

}  // namespace kvferry_test
