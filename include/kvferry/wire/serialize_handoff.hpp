// OFFER, ACCEPT, MODEL_DATA, FIRST_TOKEN, BLOCK, CREDIT, END, COMMITTED, CANCEL as bytes. Contract:
// wire/serialize.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "kvferry/wire/fields.hpp"
#include "kvferry/wire/messages.hpp"
#include "kvferry/wire/sampling_fields.hpp"
#include "kvferry/wire/serialize_connection.hpp"

namespace kvferry::wire {

// Names of a rotation's fields, which occur in the identity and in the geometry.
struct RopeNames {
  const char* layout;
  const char* inverse_frequency;
  const char* attention_scale;
};
constexpr RopeNames kIdentityRope = {"identity.rope.layout", "identity.rope.inverse_frequency",
                                     "identity.rope.attention_scale"};
constexpr RopeNames kRope = {"rope.layout", "rope.inverse_frequency", "rope.attention_scale"};

template <typename Io>
void rope_fields(Io& io, const RopeNames& names, RopeSpec& rope) {
  io.enumeration(names.layout, rope.layout, RopeLayout::kSplitHalves);
  io.list(names.inverse_frequency, rope.inverse_frequency,
          static_cast<std::uint32_t>(ModelIdentity::kMaxRopePairs), 4,
          [&](float& frequency) { io.real(names.inverse_frequency, frequency); });
  io.real(names.attention_scale, rope.attention_scale);
}

template <typename Io>
void fields(Io& io, ModelIdentity& id) {
  io.bytes("identity.architecture", id.architecture,
           static_cast<std::uint32_t>(ModelIdentity::kMaxArchitectureBytes));
  io.require(!id.architecture.empty(), "identity.architecture",
             "is empty; set ModelIdentity::architecture to the name of the model's architecture, "
             "such as \"llama\"");
  io.require(is_architecture(id.architecture), "identity.architecture",
             "is not printable ASCII without spaces");
  io.integer("identity.layers", id.layers);
  io.integer("identity.heads", id.heads);
  io.integer("identity.kv_heads", id.kv_heads);
  io.integer("identity.head_dim", id.head_dim);
  io.integer("identity.hidden", id.hidden);
  io.integer("identity.ffn", id.ffn);
  io.integer("identity.vocab", id.vocab);
  io.real("identity.norm_epsilon", id.norm_epsilon);
  rope_fields(io, kIdentityRope, id.rope);
  io.integer("identity.tokenizer", id.tokenizer);
  io.integer("identity.norms", id.norms);
  constexpr auto kCap = static_cast<std::uint32_t>(ModelIdentity::kMaxTextBytes);
  io.bytes("identity.name", id.name, kCap);
  io.bytes("identity.basename", id.basename, kCap);
  io.bytes("identity.finetune", id.finetune, kCap);
  io.bytes("identity.version", id.version, kCap);
}

template <typename Io>
void fields(Io& io, Provenance& p) {
  io.line("provenance.path", p.path, kMaxName);
  io.line("provenance.weight_format", p.weight_format, kMaxName);
  io.integer("provenance.codec_history", p.codec_history);
  io.integer("provenance.position_offset", p.position_offset);
}

template <typename Io>
void fields(Io& io, DecodeOrder& d) {
  io.identifier("decode.ticket", d.ticket);
  fields(io, d.sampler);
  fields(io, d.sampler_state);
  io.integer("decode.max_tokens", d.max_tokens);
  io.boolean("decode.ignore_eos", d.ignore_eos);
  stop_strings(io, d.stop);
}

// The cache's shape is one that can be stored: the limits are those of cache/geometry.hpp.
template <typename Io>
void geometry_rules(Io& io, const Offer& m) {
  if (!io.ok()) return;
  KvGeometry geometry;
  geometry.layers = m.layers;
  geometry.kv_heads = m.kv_heads;
  geometry.head_dim = m.head_dim;
  geometry.type = m.type;
  geometry.rope = m.rope;
  const Status valid = validate(geometry);
  if (!valid.ok()) io.require(false, "layers", "to rope: " + valid.error().message);
}

// The parts hold every layer of every shipped token, none twice.
template <typename Io>
void coverage(Io& io, Offer& m) {
  io.list("coverage", m.coverage, kMaxParts, 18, [&](CoveragePart& p) {
    io.integer("coverage.source", p.source);
    io.integer("coverage.first_layer", p.first_layer);
    io.integer("coverage.end_layer", p.end_layer);
    io.integer("coverage.begin", p.begin);
    io.integer("coverage.end", p.end);
    io.require(p.source >= 1, "coverage.source", "is 0; sources count from 1");
    io.require(p.first_layer < p.end_layer && p.end_layer <= m.layers, "coverage.first_layer",
               "does not begin a range of the model's layers");
    io.require(p.begin >= m.replace_begin && p.begin < p.end && p.end <= m.tokens.size(),
               "coverage.begin", "does not begin a range of the shipped tokens");
  });
  if (!io.ok()) return;
  std::uint64_t covered = 0;
  for (std::size_t i = 0; i < m.coverage.size(); ++i) {
    const CoveragePart& a = m.coverage[i];
    covered += static_cast<std::uint64_t>(a.end_layer - a.first_layer) * (a.end - a.begin);
    for (std::size_t j = 0; j < i; ++j) {
      const CoveragePart& b = m.coverage[j];
      io.require(a.end_layer <= b.first_layer || b.end_layer <= a.first_layer || a.end <= b.begin ||
                     b.end <= a.begin,
                 "coverage",
                 "has parts " + std::to_string(j) + " and " + std::to_string(i) + " that overlap");
    }
  }
  const std::uint64_t shipped =
      static_cast<std::uint64_t>(m.layers) * (m.tokens.size() - m.replace_begin);
  io.require(covered == shipped, "coverage",
             "holds " + std::to_string(covered) + " layer-token pairs of " +
                 std::to_string(shipped) + " to be shipped");
}

template <typename Io>
void fields(Io& io, Offer& m) {
  io.identifier("sequence", m.sequence);
  fields(io, m.identity);
  io.integer("layers", m.layers);
  io.integer("kv_heads", m.kv_heads);
  io.integer("head_dim", m.head_dim);
  io.enumeration("type", m.type, ElementType::kF32);
  rope_fields(io, kRope, m.rope);
  geometry_rules(io, m);
  io.integer("profile", m.profile);
  io.integer("codebook", m.codebook);
  io.integer("codebook_bytes", m.codebook_bytes);
  io.require((m.codebook == 0) == (m.codebook_bytes == 0), "codebook_bytes",
             "is 0 with a codebook, or not 0 without one");
  io.integer("predictor", m.predictor);
  io.require(m.predictor == 0 || m.codebook != 0, "predictor", "is there without a codebook");
  io.integer("predictor_bytes", m.predictor_bytes);
  io.require((m.predictor == 0) == (m.predictor_bytes == 0), "predictor_bytes",
             "is 0 with a predictor, or not 0 without one");
  fields(io, m.provenance);
  io.integer("base_generation", m.base_generation);
  io.integer("base_length", m.base_length);
  io.integer("replace_begin", m.replace_begin);
  io.list("tokens", m.tokens, kMaxTokens, 4, [&](TokenId& id) { token_id(io, "tokens", id); });
  io.require(m.base_length <= kMaxTokens, "base_length", "is above the cap on tokens");
  io.require(m.replace_begin <= m.base_length, "replace_begin",
             "leaves a hole after base_length: tokens between them are in neither end's cache");
  io.require(m.replace_begin < m.tokens.size(), "replace_begin",
             "is not below the number of tokens: nothing would be shipped");
  coverage(io, m);
  bool has_decode = m.decode.has_value();
  io.boolean("decode", has_decode);
  if (!has_decode || !io.ok()) return;
  if (Io::kReads) m.decode.emplace();
  fields(io, *m.decode);
}

template <typename Io>
void fields(Io& io, Accept& m) {
  io.integer("held_prefix", m.held_prefix);
  io.require(m.held_prefix <= kMaxTokens, "held_prefix", "is above the cap on tokens");
  io.integer("generation", m.generation);
  io.integer("base_length", m.base_length);
  io.require(m.base_length <= kMaxTokens, "base_length", "is above the cap on tokens");
  io.integer("profiles", m.profiles);
  io.integer("credit", m.credit);
  io.enumeration("codebook", m.codebook, ModelDataAnswer::kWants);
  io.enumeration("predictor", m.predictor, ModelDataAnswer::kWants);
  io.require(m.predictor == ModelDataAnswer::kNone || m.codebook != ModelDataAnswer::kNone,
             "predictor", "is answered without the codebook");
  const ResumeRange* before = nullptr;
  io.list("resume", m.resume, kMaxResumeRanges, 13, [&](ResumeRange& r) {
    io.integer("resume.layer", r.layer);
    io.enumeration("resume.plane", r.plane, Plane::kValue);
    io.integer("resume.begin", r.begin);
    io.integer("resume.end", r.end);
    io.require(r.layer < kMaxLayers, "resume.layer", "is above the cap on layers");
    io.require(r.begin < r.end && r.end <= kMaxTokens, "resume.begin",
               "does not begin a range of tokens");
    io.require(before == nullptr || std::tie(before->layer, before->plane, before->end) <=
                                        std::tie(r.layer, r.plane, r.begin),
               "resume", "is not sorted by layer, plane and token, or holds a token twice");
    before = &r;
  });
}

template <typename Io>
void fields(Io& io, ModelData& m) {
  io.enumeration("kind", m.kind, ModelDataKind::kPredictor);
  io.integer("id", m.id);
  io.require(m.id != 0, "id", "is 0");
  io.integer("total", m.total);
  io.integer("offset", m.offset);
  io.rest("bytes", m.bytes);
  io.require(!m.bytes.empty(), "bytes", "is empty");
  io.require(m.offset <= m.total && m.bytes.size() <= m.total - m.offset, "bytes",
             "ends beyond the total of " + std::to_string(m.total));
}

template <typename Io>
void fields(Io& io, FirstToken& m) {
  token_id(io, "token", m.token);
  fields(io, m.sampler_state);
  io.real("log_sum_exp", m.log_sum_exp);
  const TopLogit* before = nullptr;
  io.list("top", m.top, kMaxTopLogits, 8, [&](TopLogit& t) {
    token_id(io, "top.token", t.token);
    io.real("top.logit", t.logit);
    io.require(before == nullptr || before->logit >= t.logit, "top", "is not largest first");
    before = &t;
  });
}

// The coordinates, kBlockHeadBytes long.
template <typename Io>
void block_head(Io& io, Block& m) {
  io.integer("layer", m.layer);
  io.require(m.layer < kMaxLayers, "layer", "is above the cap on layers");
  io.enumeration("plane", m.plane, Plane::kValue);
  io.integer("profile", m.profile);
  io.integer("tokens", m.tokens);
  io.require(m.tokens >= 1 && m.tokens <= kMaxBlockTokens, "tokens",
             "is " + std::to_string(m.tokens) + ", not in [1, 256]");
  io.integer("begin", m.begin);
  io.require(m.begin <= kMaxTokens - m.tokens, "begin", "is above the cap on tokens");
}

template <typename Io>
void fields(Io& io, Block& m) {
  block_head(io, m);
  io.rest("coded", m.coded);
  io.require(!m.coded.empty(), "coded", "is empty");
}

template <typename Io>
void fields(Io& io, Credit& m) {
  io.integer("total", m.total);
}

template <typename Io>
void fields(Io& io, End& m) {
  io.integer("blocks", m.blocks);
  io.integer("payload_bytes", m.payload_bytes);
  io.integer("digest", m.digest);
}

template <typename Io>
void fields(Io& io, Committed& m) {
  io.integer("generation", m.generation);
  io.integer("length", m.length);
  io.require(m.length <= kMaxTokens, "length", "is above the cap on tokens");
  io.integer("digest", m.digest);
}

template <typename Io>
void fields(Io& io, Cancel& m) {
  error_code(io, m.code);
  io.line("text", m.text, kMaxErrorText);
}

inline Status serialize(const Offer& m, std::vector<std::uint8_t>& out) {
  return write_fields("OFFER", m, out);
}
inline Status serialize(const Accept& m, std::vector<std::uint8_t>& out) {
  return write_fields("ACCEPT", m, out);
}
inline Status serialize(const ModelData& m, std::vector<std::uint8_t>& out) {
  return write_fields("MODEL_DATA", m, out);
}
inline Status serialize(const FirstToken& m, std::vector<std::uint8_t>& out) {
  return write_fields("FIRST_TOKEN", m, out);
}
inline Status serialize(const Block& m, std::vector<std::uint8_t>& out) {
  return write_fields("BLOCK", m, out);
}
inline Status serialize(const Credit& m, std::vector<std::uint8_t>& out) {
  return write_fields("CREDIT", m, out);
}
inline Status serialize(const End& m, std::vector<std::uint8_t>& out) {
  return write_fields("END", m, out);
}
inline Status serialize(const Committed& m, std::vector<std::uint8_t>& out) {
  return write_fields("COMMITTED", m, out);
}
inline Status serialize(const Cancel& m, std::vector<std::uint8_t>& out) {
  return write_fields("CANCEL", m, out);
}

// The bytes of a block's payload that stand before block.coded, which is sent from where it lies:
// make_header(MessageType::kBlock, address, head, block.coded).
inline Status serialize_head(const Block& m, std::vector<std::uint8_t>& out) {
  const std::size_t size_before = out.size();
  FieldWriter writer("BLOCK", out);
  Block head = m;
  block_head(writer, head);
  writer.require(!m.coded.empty() && m.coded.size() <= kMaxPayload - kBlockHeadBytes, "coded",
                 "is empty or longer than a payload may be");
  if (!writer.ok()) out.resize(size_before);
  return writer.status();
}

inline Result<Offer> parse_offer(Bytes payload) {
  return parse_fields<Offer>("OFFER", payload);
}
inline Result<Accept> parse_accept(Bytes payload) {
  return parse_fields<Accept>("ACCEPT", payload);
}
// The result's `bytes` points into `payload`.
inline Result<ModelData> parse_model_data(Bytes payload) {
  return parse_fields<ModelData>("MODEL_DATA", payload);
}
inline Result<FirstToken> parse_first_token(Bytes payload) {
  return parse_fields<FirstToken>("FIRST_TOKEN", payload);
}
// The result's `coded` points into `payload`.
inline Result<Block> parse_block(Bytes payload) {
  return parse_fields<Block>("BLOCK", payload);
}
inline Result<Credit> parse_credit(Bytes payload) {
  return parse_fields<Credit>("CREDIT", payload);
}
inline Result<End> parse_end(Bytes payload) {
  return parse_fields<End>("END", payload);
}
inline Result<Committed> parse_committed(Bytes payload) {
  return parse_fields<Committed>("COMMITTED", payload);
}
inline Result<Cancel> parse_cancel(Bytes payload) {
  return parse_fields<Cancel>("CANCEL", payload);
}

}  // namespace kvferry::wire
