// What the tests of hand-offs share: a source of known rows, offers of it, and a cache to look at.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/core/hash.hpp"
#include "kvferry/handoff/session.hpp"

namespace kvferry::testing {

inline KvGeometry handoff_geometry() {
  KvGeometry g;
  g.layers = 3;
  g.kv_heads = 2;
  g.head_dim = 8;
  g.type = ElementType::kF16;
  g.rope.inverse_frequency = {1.0f, 0.25f, 0.0625f, 0.015625f};
  return g;
}

inline ModelIdentity handoff_identity() {
  ModelIdentity id;
  id.architecture = "llama";
  id.layers = 3;
  id.heads = 4;
  id.kv_heads = 2;
  id.head_dim = 8;
  id.hidden = 32;
  id.ffn = 64;
  id.vocab = 100;
  id.norm_epsilon = 1e-5f;
  id.rope = handoff_geometry().rope;
  id.tokenizer = 11;
  id.norms = 22;
  return id;
}

// The row of (layer, plane, token): finite values of the geometry's type that differ everywhere.
inline std::vector<std::uint8_t> known_row(const KvGeometry& g, std::uint32_t layer, Plane plane,
                                           std::uint32_t token, std::uint32_t version = 0) {
  std::vector<std::uint8_t> row;
  ByteWriter out(row);
  for (std::uint32_t i = 0; i < g.row_values(); ++i) {
    const std::uint32_t key[5] = {layer, static_cast<std::uint32_t>(plane), token, i, version};
    const std::uint64_t hash = hash64(as_bytes(Span<const std::uint32_t>(key)));
    const float value = static_cast<float>(static_cast<std::int32_t>(hash % 4001) - 2000) / 512.0f;
    if (g.type == ElementType::kF32) out.f32(value);
    if (g.type == ElementType::kF16) out.u16(to_half(value).bits);
    if (g.type == ElementType::kBF16) out.u16(to_bfloat16(value).bits);
  }
  return row;
}

// Gives known_row() for every row.
class KnownSource : public KvSource {
 public:
  explicit KnownSource(const KvGeometry& geometry, std::uint32_t version = 0)
      : geometry_(geometry), version_(version) {}
  const KvGeometry& geometry() const override { return geometry_; }
  Status read(const KvRange& range, MutableBytes out) const override {
    KVFERRY_TRY(check_rows(geometry_, range, out.size()));
    std::uint8_t* to = out.data();
    for (std::uint32_t token = range.begin; token < range.end; ++token) {
      const auto row = known_row(geometry_, range.layer, range.plane, token, version_);
      to = std::copy(row.begin(), row.end(), to);
    }
    return {};
  }

 private:
  KvGeometry geometry_;
  std::uint32_t version_;
};

inline std::vector<TokenId> some_tokens(std::uint32_t count) {
  std::vector<TokenId> tokens;
  for (std::uint32_t i = 0; i < count; ++i) tokens.push_back(i * 7 % 100);
  return tokens;
}

// All layers of `tokens` tokens by one source, lossless, no decode order.
inline wire::Offer make_offer(const KvGeometry& g, std::uint32_t tokens) {
  wire::Offer offer;
  offer.sequence[0] = 1;
  offer.identity = handoff_identity();
  offer.layers = g.layers;
  offer.kv_heads = g.kv_heads;
  offer.head_dim = g.head_dim;
  offer.type = g.type;
  offer.rope = g.rope;
  offer.profile = static_cast<std::uint8_t>(Profile::kLossless);
  offer.tokens = some_tokens(tokens);
  offer.coverage = {{1, 0, g.layers, 0, tokens}};
  return offer;
}

inline std::shared_ptr<KvSequence> empty_sequence(const KvGeometry& g, std::uint32_t blocks = 64) {
  return KvSequence::create(KvPool::create(g, blocks).value());
}

// Whether tokens [begin, end) of the sequence are known_row()s, every one.
inline bool holds_known_rows(const KvSequence& sequence, std::uint32_t begin, std::uint32_t end,
                             std::uint32_t version = 0) {
  const KvGeometry& g = sequence.geometry();
  std::vector<std::uint8_t> row(g.row_bytes());
  for (std::uint32_t layer = 0; layer < g.layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      for (std::uint32_t token = begin; token < end; ++token) {
        const KvRange range{layer, plane, token, token + 1};
        if (!sequence.read(range, sequence.generation(), row).ok()) return false;
        if (row != known_row(g, layer, plane, token, version)) return false;
      }
    }
  }
  return true;
}

// Accepts every offer into one sequence.
class SequenceHandler : public HandoffHandler {
 public:
  explicit SequenceHandler(std::shared_ptr<KvSequence> sequence) : sink_(std::move(sequence)) {}
  Result<HandoffAcceptance> on_offer(const wire::Offer&) override {
    HandoffAcceptance acceptance;
    static_cast<HandoffTerms&>(acceptance) = terms;
    acceptance.sink = &sink_;
    return acceptance;
  }
  Status on_first_token(const wire::FirstToken& token) override {
    first_tokens.push_back(token);
    return first_token_answer;
  }

  HandoffTerms terms;
  Status first_token_answer;
  std::vector<wire::FirstToken> first_tokens;

 private:
  SequenceSink sink_;
};

}  // namespace kvferry::testing
