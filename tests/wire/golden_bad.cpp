#include <cmath>
#include <limits>

#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

#include "example_messages.hpp"
#include "field_writers.hpp"
#include "golden_files.hpp"

namespace kvferry_test {

using kvferry::ErrorCode;
using namespace kvferry::wire;

namespace {

using ByteVector = std::vector<std::uint8_t>;

ByteVector framed(MessageType type, const ByteVector& payload) {
  const FrameAddress address =
      belongs_to_handoff(type) ? FrameAddress{0x0123456789abcdefu, 2, 1} : FrameAddress();
  ByteVector frame;
  write_frame(type, address, payload, frame);
  return frame;
}

// `frame` with byte `at` of its header changed and the header's checksum made right again.
ByteVector with_header_byte(ByteVector frame, std::size_t at, std::uint8_t value) {
  frame[at] = value;
  const std::uint64_t checksum = kvferry::hash64(kvferry::Bytes(frame).first(40));
  for (std::size_t i = 0; i < 8; ++i)
    frame[40 + i] = static_cast<std::uint8_t>(checksum >> (8 * i));
  return frame;
}

class BadFrames {
 public:
  void add(const std::string& name, ErrorCode error, const std::string& why, ByteVector bytes) {
    files.push_back({"bad/" + name + ".frame", std::move(bytes), error, why});
  }
  // A well-framed message that breaks a rule of its own.
  template <typename Message>
  void message(const std::string& name, MessageType type, const std::string& why,
               const Message& m) {
    add(name, ErrorCode::kMalformed, why, framed(type, unchecked_payload(m)));
  }
  // The same, made from a good message.
  template <typename Message, typename Change>
  void changed(const std::string& name, MessageType type, const std::string& why, Message m,
               Change change) {
    change(m);
    message(name, type, why, m);
  }
  std::vector<GoldenFile> files;
};

void add_framing(BadFrames& bad) {
  const ByteVector ping = framed(MessageType::kPing, unchecked_payload(Ping{7, 8}));
  const ByteVector coded = {1, 2, 3};
  const ByteVector block = framed(MessageType::kBlock, unchecked_payload(example_block(coded)));
  const auto header = [&](const std::string& name, ErrorCode error, const std::string& why,
                          const ByteVector& frame, std::size_t at, std::uint8_t value) {
    bad.add("framing_" + name, error, why, with_header_byte(frame, at, value));
  };
  header("magic", ErrorCode::kMalformed, "the magic bytes are KVFX", ping, 3, 'X');
  header("version_0", ErrorCode::kUnsupported, "version 0", ping, 4, 0);
  header("version_2", ErrorCode::kUnsupported, "version 2", ping, 4, 2);
  header("type_0", ErrorCode::kUnsupported, "message type 0", ping, 5, 0);
  header("type_99", ErrorCode::kUnsupported, "message type 99", ping, 5, 99);
  header("required_flag_8", ErrorCode::kUnsupported, "flag bit 8 is set", ping, 7, 0x01);
  header("required_flag_15", ErrorCode::kUnsupported, "flag bit 15 is set", ping, 7, 0x80);
  header("header_length_40", ErrorCode::kMalformed, "a header of 40 bytes", ping, 22, 40);
  header("header_length_52", ErrorCode::kMalformed, "a header of 52 bytes", ping, 22, 52);
  header("header_length_304", ErrorCode::kMalformed, "a header of 304 bytes", ping, 23, 1);
  header("reserved", ErrorCode::kMalformed, "the reserved bytes are not zero", ping, 28, 1);
  header("payload_over_cap", ErrorCode::kResourceExhausted, "a payload of 16 MiB + 16 bytes", ping,
         27, 1);
  header("ping_of_handoff", ErrorCode::kMalformed, "PING names handoff 1", ping, 8, 1);
  ByteVector lost = block;
  std::fill(lost.begin() + 8, lost.begin() + 16, std::uint8_t{0});
  header("block_of_connection", ErrorCode::kMalformed, "BLOCK names no handoff", lost, 8, 0);
  header("epoch_0", ErrorCode::kMalformed, "a handoff with epoch 0", block, 16, 0);
  header("source_0", ErrorCode::kMalformed, "a handoff with source 0", block, 20, 0);
  ByteVector flipped = ping;
  flipped[40] ^= 1;
  bad.add("framing_header_checksum", ErrorCode::kChecksum, "the header's checksum is wrong",
          flipped);
  flipped = block;
  flipped.back() ^= 1;
  bad.add("framing_payload_checksum", ErrorCode::kChecksum, "the payload's checksum is wrong",
          flipped);
  bad.add("framing_cut_header", ErrorCode::kIncomplete, "30 bytes of a header",
          ByteVector(block.begin(), block.begin() + 30));
  bad.add("framing_cut_payload", ErrorCode::kIncomplete, "the last byte is missing",
          ByteVector(block.begin(), block.end() - 1));
}

void add_connection(BadFrames& bad) {
  const auto hello = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("hello_" + name, MessageType::kHello, why, example_hello(), change);
  };
  hello("version_0", "min_version is 0", [](Hello& m) { m.min_version = 0; });
  hello("versions_crossed", "min_version is above max_version",
        [](Hello& m) { m.min_version = 4; });
  hello("role", "role 4", [](Hello& m) { m.role = static_cast<Role>(4); });
  hello("max_payload", "max_payload is below 64 KiB", [](Hello& m) { m.max_payload = 65535; });
  hello("agent_control", "agent holds an escape character", [](Hello& m) { m.agent = "\x1b[31m"; });
  hello("agent_utf8", "agent is not UTF-8", [](Hello& m) { m.agent = "\xff"; });
  hello("agent_length", "agent has 257 bytes", [](Hello& m) { m.agent.assign(257, 'a'); });
  ByteVector payload = unchecked_payload(example_hello());
  payload.push_back(0);
  bad.add("hello_trailing", ErrorCode::kMalformed, "a byte after the last field",
          framed(MessageType::kHello, payload));
  payload = unchecked_payload(Ping{7, 8});
  payload.pop_back();
  bad.add("ping_short", ErrorCode::kMalformed, "the last byte of clock_ns is missing",
          framed(MessageType::kPing, payload));
  bad.add("goodbye_trailing", ErrorCode::kMalformed, "GOODBYE has a payload",
          framed(MessageType::kGoodbye, {0}));
  const auto error = [&](const std::string& name, const std::string& why, const ErrorMessage& m) {
    bad.message("error_" + name, MessageType::kError, why, m);
  };
  error("code_0", "code 0", {static_cast<ErrorCode>(0), "x"});
  error("text_newline", "text has two lines", {ErrorCode::kIo, "a\nb"});
  error("text_surrogate", "text holds a surrogate", {ErrorCode::kIo, "\xed\xa0\x80"});
  error("text_length", "text has 4097 bytes", {ErrorCode::kIo, std::string(4097, 'x')});
}

void add_offer(BadFrames& bad) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  const auto offer = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("offer_" + name, MessageType::kOffer, why, example_offer(), change);
  };
  offer("architecture_empty", "no architecture", [](Offer& m) { m.identity.architecture.clear(); });
  offer("architecture_space", "the architecture holds a space",
        [](Offer& m) { m.identity.architecture = "my llama"; });
  offer("architecture_ascii", "the architecture is not ASCII",
        [](Offer& m) { m.identity.architecture = "lam\xc3\xa4"; });
  offer("architecture_length", "the architecture has 65 bytes",
        [](Offer& m) { m.identity.architecture.assign(65, 'a'); });
  offer("identity_rope_nan", "an inverse frequency of the identity is not a number",
        [&](Offer& m) { m.identity.rope.inverse_frequency[1] = nan; });
  offer("identity_rope_pairs", "the identity has 513 RoPE pairs",
        [](Offer& m) { m.identity.rope.inverse_frequency.assign(513, 1.0f); });
  offer("identity_name_length", "the identity's name has 257 bytes",
        [](Offer& m) { m.identity.name.assign(257, 'n'); });
  offer("layers_0", "no layers", [](Offer& m) { m.layers = 0; });
  offer("layers_4097", "4097 layers", [](Offer& m) { m.layers = 4097; });
  offer("kv_heads_0", "no KV heads", [](Offer& m) { m.kv_heads = 0; });
  offer("head_dim_odd", "head_dim 5", [](Offer& m) { m.head_dim = 5; });
  offer("row_values", "a row of 131072 values", [](Offer& m) { m.kv_heads = 32768; });
  offer("element_type", "element type 3",
        [](Offer& m) { m.type = static_cast<kvferry::ElementType>(3); });
  offer("rope_layout", "RoPE layout 2",
        [](Offer& m) { m.rope.layout = static_cast<kvferry::RopeLayout>(2); });
  offer("rope_pairs", "3 RoPE pairs in a head of 4 values",
        [](Offer& m) { m.rope.inverse_frequency.push_back(0.5f); });
  offer("rope_infinity", "an infinite inverse frequency",
        [&](Offer& m) { m.rope.inverse_frequency[0] = infinity; });
  offer("rope_scale_nan", "the attention scale is not a number",
        [&](Offer& m) { m.rope.attention_scale = nan; });
  offer("path_control", "provenance.path holds a line break",
        [](Offer& m) { m.provenance.path = "cpu\n"; });
  offer("hole", "replace_begin is above base_length", [](Offer& m) { m.base_length = 1; });
  offer("nothing_shipped", "replace_begin is the number of tokens", [](Offer& m) {
    m.base_length = 5;
    m.replace_begin = 5;
  });
  offer("no_tokens", "no tokens", [](Offer& m) {
    m.base_length = m.replace_begin = 0;
    m.tokens.clear();
    m.coverage.clear();
  });
  offer("base_length", "base_length is above 2^20",
        [](Offer& m) { m.base_length = (1u << 20) + 1; });
  offer("token_id", "a token id of 2^31", [](Offer& m) { m.tokens[0] = 0x80000000u; });
  offer("coverage_source_0", "a part has source 0", [](Offer& m) { m.coverage[0].source = 0; });
  offer("coverage_layers", "a part ends after the last layer",
        [](Offer& m) { m.coverage[1].end_layer = 4; });
  offer("coverage_empty_part", "a part has no layers",
        [](Offer& m) { m.coverage[1].first_layer = 3; });
  offer("coverage_before", "a part begins before replace_begin",
        [](Offer& m) { m.coverage[0].begin = 1; });
  offer("coverage_after", "a part ends after the last token",
        [](Offer& m) { m.coverage[0].end = 6; });
  offer("coverage_overlap", "two parts overlap", [](Offer& m) { m.coverage[1].first_layer = 1; });
  offer("coverage_overlap_and_gap", "two parts overlap, and layer 2 is in none", [](Offer& m) {
    m.coverage[1].first_layer = 1;
    m.coverage[1].end_layer = 2;
  });
  offer("coverage_gap", "layer 2 is in no part", [](Offer& m) { m.coverage.pop_back(); });
  offer("coverage_parts", "65 parts", [](Offer& m) { m.coverage.resize(65, m.coverage[0]); });
  offer("temperature_nan", "the temperature is not a number",
        [&](Offer& m) { m.decode->sampler.temperature = nan; });
  offer("temperature_negative", "the temperature is negative",
        [](Offer& m) { m.decode->sampler.temperature = -0.5f; });
  offer("top_p_0", "top_p is 0", [](Offer& m) { m.decode->sampler.top_p = 0.0f; });
  offer("min_p_1", "min_p is 1", [](Offer& m) { m.decode->sampler.min_p = 1.0f; });
  offer("repetition_penalty", "the repetition penalty is 11",
        [](Offer& m) { m.decode->sampler.repetition_penalty = 11.0f; });
  offer("repetition_window", "the repetition window is 4097",
        [](Offer& m) { m.decode->sampler.repetition_window = 4097; });
  offer("codebook_bytes", "a codebook of no bytes", [](Offer& m) { m.codebook_bytes = 0; });
  offer("codebook_absent", "bytes of no codebook", [](Offer& m) {
    m.codebook = 0;
    m.predictor = 0;
    m.predictor_bytes = 0;
  });
  offer("predictor_bytes", "a predictor of no bytes", [](Offer& m) { m.predictor_bytes = 0; });
  offer("predictor_alone", "a predictor without its codebook", [](Offer& m) {
    m.codebook = 0;
    m.codebook_bytes = 0;
  });
  offer("stop_empty", "an empty stop string", [](Offer& m) { m.decode->stop[0].clear(); });
  offer("stop_count", "17 stop strings", [](Offer& m) { m.decode->stop.assign(17, "x"); });
  Offer cache_only = example_offer();
  cache_only.decode.reset();
  ByteVector payload = unchecked_payload(cache_only);
  payload.back() = 2;
  bad.add("offer_decode_2", ErrorCode::kMalformed, "the decode flag is 2",
          framed(MessageType::kOffer, payload));
  // Up to the count of the identity's inverse frequencies.
  payload.resize(16 + 4 + cache_only.identity.architecture.size() + 7 * 4 + 4 + 1);
  kvferry::ByteWriter(payload).u32(512);
  bad.add("offer_count_without_entries", ErrorCode::kMalformed,
          "512 inverse frequencies announced at the end of the payload",
          framed(MessageType::kOffer, payload));
}

void add_handoff(BadFrames& bad) {
  using kvferry::Plane;
  const auto accept = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("accept_" + name, MessageType::kAccept, why, example_accept(), change);
  };
  accept("held_prefix", "held_prefix is above 2^20",
         [](Accept& m) { m.held_prefix = (1u << 20) + 1; });
  accept("resume_empty", "a resume range without tokens", [](Accept& m) { m.resume[3].end = 3; });
  accept("resume_plane", "plane 2", [](Accept& m) { m.resume[3].plane = static_cast<Plane>(2); });
  accept("resume_overlap", "two resume ranges overlap", [](Accept& m) { m.resume[0].end = 5; });
  accept("resume_order", "resume ranges out of order",
         [](Accept& m) { std::swap(m.resume[2], m.resume[3]); });
  accept("resume_layer", "layer 4096", [](Accept& m) { m.resume[3].layer = 4096; });
  ByteVector payload = unchecked_payload(example_accept());
  payload[32] = 0xff;
  bad.add("accept_codebook", ErrorCode::kMalformed, "the answer to the codebook is 255",
          framed(MessageType::kAccept, payload));
  accept("predictor_alone", "a predictor without its codebook",
         [](Accept& m) { m.codebook = ModelDataAnswer::kNone; });

  const auto first = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("first_token_" + name, MessageType::kFirstToken, why, example_first_token(),
                change);
  };
  first("id", "a token id of 2^32 - 1", [](FirstToken& m) { m.token = 0xffffffffu; });
  first("log_sum_exp", "log_sum_exp is not a number",
        [](FirstToken& m) { m.log_sum_exp = std::nanf(""); });
  first("order", "logits out of order", [](FirstToken& m) { m.top[2].logit = 12.0f; });
  first("infinity", "an infinite logit",
        [](FirstToken& m) { m.top[0].logit = std::numeric_limits<float>::infinity(); });
  first("count", "65 logits", [](FirstToken& m) { m.top.assign(65, TopLogit()); });

  const ByteVector coded = {1, 2, 3};
  const auto block = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("block_" + name, MessageType::kBlock, why, example_block(coded), change);
  };
  block("layer", "layer 4096", [](Block& m) { m.layer = 4096; });
  block("plane", "plane 2", [](Block& m) { m.plane = static_cast<Plane>(2); });
  block("tokens_0", "no tokens", [](Block& m) { m.tokens = 0; });
  block("tokens_257", "257 tokens", [](Block& m) { m.tokens = 257; });
  block("begin", "a block that ends after token 2^20", [](Block& m) { m.begin = (1u << 20) - 1; });
  block("begin_wraps", "begin + tokens is above 2^32", [](Block& m) { m.begin = 0xffffffffu; });
  block("empty", "no coded bytes", [](Block& m) { m.coded = kvferry::Bytes(); });
  const auto data = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("model_data_" + name, MessageType::kModelData, why, example_model_data(coded),
                change);
  };
  data("kind", "kind 2", [](ModelData& m) { m.kind = static_cast<ModelDataKind>(2); });
  data("id", "id 0", [](ModelData& m) { m.id = 0; });
  data("empty", "no bytes", [](ModelData& m) { m.bytes = kvferry::Bytes(); });
  data("end", "bytes beyond the total", [](ModelData& m) { m.offset = m.total - 2; });
  data("offset", "an offset beyond the total", [](ModelData& m) { m.offset = 0xffffffffu; });
  bad.message("committed_length", MessageType::kCommitted, "length is above 2^20",
              Committed{1, (1u << 20) + 1, 0});
  bad.message("cancel_code_0", MessageType::kCancel, "code 0",
              Cancel{static_cast<ErrorCode>(0), ""});
}

void add_client(BadFrames& bad) {
  const auto generate = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("generate_" + name, MessageType::kGenerate, why, example_generate(), change);
  };
  generate("nothing", "neither text nor token ids nor messages",
           [](Generate& m) { m.messages.clear(); });
  generate("two", "text and messages", [](Generate& m) { m.text = "x"; });
  generate("role_length", "a role of 257 bytes",
           [](Generate& m) { m.messages[0].role.assign(257, 'r'); });
  generate("message_count", "1025 messages",
           [](Generate& m) { m.messages.assign(1025, kvferry::ChatMessage()); });
  generate("top_p_nan", "top_p is not a number",
           [](Generate& m) { m.sampler.top_p = std::nanf(""); });
  bad.message("ticket_no_address", MessageType::kTicket, "no address",
              Ticket{"", example_ticket(), 1});
  bad.message("ticket_address_control", MessageType::kTicket, "the address holds a control byte",
              Ticket{"tcp://a\x07:1", example_ticket(), 1});
  bad.add("attach_short", ErrorCode::kMalformed, "15 bytes of a ticket",
          framed(MessageType::kAttach, ByteVector(15, 1)));
  bad.message("token_half_character", MessageType::kToken, "text ends inside a character",
              Token{0, 1, "\xe2\x82"});
  const auto done = [&](const std::string& name, const std::string& why, auto change) {
    bad.changed("done_" + name, MessageType::kDone, why, example_done(), change);
  };
  done("reason", "reason 4", [](Done& m) { m.reason = static_cast<FinishReason>(4); });
  done("report_nan", "a figure is not a number",
       [](Done& m) { m.report[0].second = std::nan(""); });
  done("report_name", "a figure without a name", [](Done& m) { m.report[0].first.clear(); });
  done("report_count", "65 figures", [](Done& m) { m.report.assign(65, {"x", 1.0}); });
}

}  // namespace

std::vector<GoldenFile> golden_bad_frames() {
  BadFrames bad;
  add_framing(bad);
  add_connection(bad);
  add_offer(bad);
  add_handoff(bad);
  add_client(bad);
  return std::move(bad.files);
}

}  // namespace kvferry_test
