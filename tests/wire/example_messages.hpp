// One message of every type, with every field set to something that is not its default.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/wire/messages.hpp"

namespace kvferry_test {

inline kvferry::wire::Hello example_hello() {
  kvferry::wire::Hello m;
  m.max_version = 3;
  m.optional_features = 0x8000000000000001u;
  m.role = kvferry::wire::Role::kDecode;
  m.max_payload = 1u << 20;
  m.clock_ns = 1234567890123456789u;
  m.agent = "kvferry 0.1.0";
  return m;
}

inline kvferry::RopeSpec example_rope() {
  kvferry::RopeSpec rope;
  rope.layout = kvferry::RopeLayout::kSplitHalves;
  rope.inverse_frequency = {1.0f, 0.25f};
  rope.attention_scale = 1.125f;
  return rope;
}

inline kvferry::SamplerParams example_sampler() {
  kvferry::SamplerParams s;
  s.temperature = 0.75f;
  s.top_k = 40;
  s.top_p = 0.5f;
  s.min_p = 0.0625f;
  s.repetition_penalty = 1.25f;
  s.repetition_window = 128;
  s.seed = 42;
  return s;
}

inline kvferry::wire::TicketId example_ticket() {
  kvferry::wire::TicketId id;
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(0xa0 + i);
  return id;
}

// Two sources: layers [0, 2) and [2, 3) of tokens [2, 5).
inline kvferry::wire::Offer example_offer() {
  kvferry::wire::Offer m;
  for (std::size_t i = 0; i < m.sequence.size(); ++i) m.sequence[i] = static_cast<std::uint8_t>(i);
  m.identity.architecture = "qwen2";
  m.identity.layers = 3;
  m.identity.heads = 4;
  m.identity.kv_heads = 2;
  m.identity.head_dim = 4;
  m.identity.hidden = 16;
  m.identity.ffn = 64;
  m.identity.vocab = 0x80000000u;  // the largest that token ids allow
  m.identity.norm_epsilon = 0.0009765625f;
  m.identity.rope = example_rope();
  m.identity.tokenizer = 0x0123456789abcdefu;
  m.identity.norms = 0xfedcba9876543210u;
  m.identity.name = "Example 1B Instruct";
  m.identity.basename = "Example";
  m.identity.finetune = "Instruct";
  m.identity.version = "v2";
  m.layers = 3;
  m.kv_heads = 2;
  m.head_dim = 4;
  m.type = kvferry::ElementType::kBF16;
  m.rope = example_rope();
  m.profile = 2;
  m.codebook = 0x1111222233334444u;
  m.codebook_bytes = 234;
  m.predictor = 0x5555666677778888u;
  m.predictor_bytes = 5678;
  m.provenance.path = "cpu";
  m.provenance.weight_format = "q4_1";
  m.provenance.codec_history = 6;
  m.provenance.position_offset = -8;
  m.base_generation = 7;
  m.base_length = 4;
  m.replace_begin = 2;
  m.tokens = {1, 2, 3, 999, 0x7fffffff};
  m.coverage.resize(2);
  m.coverage[0].source = 1;
  m.coverage[0].end_layer = 2;
  m.coverage[0].begin = 2;
  m.coverage[0].end = 5;
  m.coverage[1].source = 2;
  m.coverage[1].first_layer = 2;
  m.coverage[1].end_layer = 3;
  m.coverage[1].begin = 2;
  m.coverage[1].end = 5;
  kvferry::wire::DecodeOrder decode;
  decode.ticket = example_ticket();
  decode.sampler = example_sampler();
  decode.sampler_state.draws = 3;
  decode.max_tokens = 64;
  decode.ignore_eos = true;
  decode.stop = {"\n\n", "User:"};
  m.decode = decode;
  return m;
}

inline kvferry::wire::Accept example_accept() {
  kvferry::wire::Accept m;
  m.held_prefix = 3;
  m.generation = 7;
  m.base_length = 6;
  m.profiles = 7;
  m.credit = 4u << 20;
  m.codebook = kvferry::wire::ModelDataAnswer::kWants;
  m.predictor = kvferry::wire::ModelDataAnswer::kHas;
  m.resume = {{0, kvferry::Plane::kKey, 3, 4},
              {0, kvferry::Plane::kKey, 4, 5},
              {0, kvferry::Plane::kValue, 3, 5},
              {2, kvferry::Plane::kKey, 3, 4}};
  return m;
}

inline kvferry::wire::FirstToken example_first_token() {
  kvferry::wire::FirstToken m;
  m.token = 17;
  m.sampler_state.draws = 4;
  m.log_sum_exp = 12.5f;
  m.top = {{17, 11.0f}, {900, 10.5f}, {3, 10.5f}};
  return m;
}

// `coded` must outlive the message.
inline kvferry::wire::Block example_block(const std::vector<std::uint8_t>& coded) {
  kvferry::wire::Block m;
  m.layer = 2;
  m.plane = kvferry::Plane::kValue;
  m.begin = 3;
  m.tokens = 2;
  m.profile = 1;
  m.coded = coded;
  return m;
}

// `bytes` must outlive the message.
inline kvferry::wire::ModelData example_model_data(const std::vector<std::uint8_t>& bytes) {
  kvferry::wire::ModelData m;
  m.kind = kvferry::wire::ModelDataKind::kPredictor;
  m.id = 0x5555666677778888u;
  m.total = 5678;
  m.offset = 4096;
  m.bytes = bytes;
  return m;
}

inline kvferry::wire::Generate example_generate() {
  kvferry::wire::Generate m;
  m.messages = {{"system", "Be brief."}, {"user", "Gr\xc3\xbc\xc3\x9f Gott?"}};
  m.sampler = example_sampler();
  m.max_tokens = 64;
  m.ignore_eos = true;
  m.stop = {"\n"};
  return m;
}

inline kvferry::wire::Done example_done() {
  kvferry::wire::Done m;
  m.reason = kvferry::wire::FinishReason::kLength;
  m.text = "\xe2\x82\xac";
  m.report = {{"prefill_seconds", 0.5}, {"wire_bytes", 1048576.0}};
  return m;
}

}  // namespace kvferry_test
