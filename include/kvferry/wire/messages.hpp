// The messages of wire version 1 as plain structs. How they lie as bytes: wire/serialize.hpp and
// docs/wire-format.md, which is the authority. Caps are limits of the format: a parser refuses
// more.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/cache/origin.hpp"
#include "kvferry/cache/source_sink.hpp"
#include "kvferry/codec/block.hpp"
#include "kvferry/core/error.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/model/chat.hpp"
#include "kvferry/model/identity.hpp"
#include "kvferry/model/sampling.hpp"

namespace kvferry::wire {

constexpr std::uint16_t kVersion = 1;
constexpr std::uint32_t kMaxPayload = 16u << 20;     // bytes of one frame's payload
constexpr std::uint32_t kMinMaxPayload = 64u << 10;  // bytes that every end takes in one payload
constexpr std::uint32_t kMaxTokens = 1u << 20;  // token ids in one message, tokens of a sequence
constexpr std::uint32_t kMaxTokenId = 0x7fffffff;
constexpr std::uint32_t kBlockHeadBytes = 12;      // of a BLOCK payload, before the coded bytes
constexpr std::uint32_t kModelDataHeadBytes = 17;  // of a MODEL_DATA payload, before the bytes
constexpr std::uint32_t kMaxText = 4u << 20;       // bytes of prompt text
constexpr std::uint32_t kMaxName = 256;            // bytes of a name, an address, a path tag
constexpr std::uint32_t kMaxTokenText = 32768;     // bytes of text that one token completes
constexpr std::uint32_t kMaxErrorText = 4096;      // bytes of an error message
constexpr std::uint32_t kMaxParts = 64;            // rectangles in a coverage
constexpr std::uint32_t kMaxResumeRanges = 65536;  // ranges in a resume map
constexpr std::uint32_t kMaxTopLogits = 64;        // logits beside a first token
constexpr std::uint32_t kMaxStopStrings = 16;      // stop strings of a generation
constexpr std::uint32_t kMaxMessages = 1024;       // chat messages of a prompt
constexpr std::uint32_t kMaxReportEntries = 64;    // named figures in a report

enum class MessageType : std::uint8_t {
  // The connection itself (handoff id 0).
  kHello = 1,
  kPing = 2,
  kPong = 3,
  kError = 4,  // also of one handoff
  kGoodbye = 5,
  // A hand-off, sender to receiver unless noted.
  kOffer = 16,
  kAccept = 17,  // receiver to sender
  kFirstToken = 18,
  kBlock = 19,
  kCredit = 20,  // receiver to sender
  kEnd = 21,
  kCommitted = 22,  // receiver to sender
  kCancel = 23,     // either way
  kModelData = 24,  // of a hand-off, or of the connection after one
  // A client and the nodes.
  kGenerate = 32,  // client to prefill node
  kTicket = 33,    // prefill node to client
  kAttach = 34,    // client to decode node
  kToken = 35,     // decode node to client
  kDone = 36,      // either node to client
};

enum class Role : std::uint8_t { kPrefill = 0, kDecode = 1, kClient = 2, kTool = 3 };

// Connection ------------------------------------------------------------------------------------

// The first message of both ends. The versions overlap or the connection ends with kUnsupported.
// A required feature bit that the other end does not know ends it too, named by number; optional
// ones are used when both ends have them. Version 1 defines no feature.
struct Hello {
  std::uint16_t min_version = kVersion;
  std::uint16_t max_version = kVersion;
  std::uint64_t optional_features = 0;
  std::uint64_t required_features = 0;
  Role role = Role::kTool;
  std::uint32_t max_payload = kMaxPayload;  // largest payload that this end takes
  std::uint64_t clock_ns = 0;               // this end's monotonic clock, to align traces
  std::string agent;                        // "kvferry 0.1.0", at most kMaxName
};

struct Ping {
  std::uint64_t nonce = 0;
  std::uint64_t clock_ns = 0;
};

struct Pong {
  std::uint64_t nonce = 0;          // of the ping
  std::uint64_t ping_clock_ns = 0;  // of the ping
  std::uint64_t clock_ns = 0;       // when the pong was made
};

// Ends the handoff that the frame names, or the connection when it names none.
struct ErrorMessage {
  ErrorCode code = ErrorCode::kInternal;
  std::string text;  // at most kMaxErrorText
};

struct Goodbye {};

// Hand-off --------------------------------------------------------------------------------------

// What the coding of blocks takes from the model, made once and the same at both ends.
enum class ModelDataKind : std::uint8_t { kCodebook = 0, kPredictor = 1 };

inline const char* name_of(ModelDataKind kind) {
  return kind == ModelDataKind::kCodebook ? "codebook" : "predictor";
}

// What the receiver of an offer says to the codebook or the predictor that it names.
enum class ModelDataAnswer : std::uint8_t {
  kNone = 0,   // blocks come without
  kHas = 1,    // it is here
  kWants = 2,  // it is not here: blocks come with it if the sender sends it before them
};

using SequenceId = std::array<std::uint8_t, 16>;  // random; names a conversation on both nodes
using TicketId = std::array<std::uint8_t, 16>;    // random, one use; a client redeems it

// What one source ships: layers [first_layer, end_layer) of tokens [begin, end), both planes.
struct CoveragePart {
  std::uint16_t source = 1;
  std::uint32_t first_layer = 0;
  std::uint32_t end_layer = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

// What the receiver does once the cache is committed.
struct DecodeOrder {
  TicketId ticket{};  // who attaches with it gets the tokens
  SamplerParams sampler;
  SamplerState sampler_state;    // before the first token was drawn
  std::uint32_t max_tokens = 0;  // first token included
  bool ignore_eos = false;
  std::vector<std::string> stop;  // strings that end the text; at most kMaxStopStrings of kMaxName
};

// Opens a hand-off. Every source of a hand-off with several sends the same offer.
struct Offer {
  SequenceId sequence{};
  ModelIdentity identity;
  std::uint32_t layers = 0;  // of the whole model
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  ElementType type = ElementType::kF16;  // in which the sender computes
  RopeSpec rope;
  std::uint8_t profile = 0;          // codec profile of most blocks; each block names its own
  std::uint64_t codebook = 0;        // id of the codebook that lossy blocks are made with; 0 = none
  std::uint32_t codebook_bytes = 0;  // of its serialised form; 0 when there is none
  std::uint64_t predictor = 0;       // likewise of the predictor; only with a codebook
  std::uint32_t predictor_bytes = 0;
  Provenance provenance;
  std::uint64_t base_generation = 0;   // of the receiver's sequence that this extends; 0 = new
  std::uint32_t base_length = 0;       // tokens that the receiver has by the sender's knowledge
  std::uint32_t replace_begin = 0;     // tokens [replace_begin, tokens.size()) are shipped
  std::vector<TokenId> tokens;         // all ids of the sequence, from position 0
  std::vector<CoveragePart> coverage;  // together: every layer of every token shipped, once
  std::optional<DecodeOrder> decode;   // absent: cache only
};

// One rectangle row of a resume map: tokens [begin, end) of one plane of one layer are verified.
struct ResumeRange {
  std::uint32_t layer = 0;
  Plane plane = Plane::kKey;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

struct Accept {
  std::uint32_t held_prefix = 0;  // the receiver has tokens [0, held_prefix): not to be sent
  std::uint64_t generation = 0;   // of the sequence that the commit will extend
  std::uint32_t base_length = 0;  // its length now
  std::uint64_t profiles = 0;     // bit per codec profile that the receiver decodes
  std::uint64_t credit = 0;       // payload bytes of blocks that may be under way
  ModelDataAnswer codebook = ModelDataAnswer::kNone;
  ModelDataAnswer predictor = ModelDataAnswer::kNone;  // only with the codebook
  std::vector<ResumeRange> resume;  // verified blocks of an earlier attempt: not to be sent again
};

// A piece of a codebook or predictor, in the order of their offsets. `bytes` points into the
// frame's payload while parsing.
struct ModelData {
  ModelDataKind kind = ModelDataKind::kCodebook;
  std::uint64_t id = 0;
  std::uint32_t total = 0;   // bytes of the whole
  std::uint32_t offset = 0;  // of `bytes` in it
  Bytes bytes;
};

struct TopLogit {
  TokenId token = 0;
  float logit = 0;
};

// Sent as soon as it is sampled, ahead of the cache.
struct FirstToken {
  TokenId token = 0;
  SamplerState sampler_state;  // after it was drawn
  float log_sum_exp = 0;
  std::vector<TopLogit> top;  // largest first: the receiver may check its cache against them
};

// One encoded block. `coded` points into the frame's payload while parsing.
struct Block {
  std::uint32_t layer = 0;
  Plane plane = Plane::kKey;
  std::uint32_t begin = 0;   // tokens [begin, begin + tokens)
  std::uint16_t tokens = 0;  // 1..256
  std::uint8_t profile = 0;
  Bytes coded;  // codec/: decodable alone given the codebook
};

// Total of block payload bytes that the receiver lets the sender send since the accept.
struct Credit {
  std::uint64_t total = 0;
};

// This source has sent all it declared. The digest is over its blocks, sorted: see HandoffDigest.
struct End {
  std::uint64_t blocks = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t digest = 0;
};

// The cache is applied at the destination; decode may see it.
struct Committed {
  std::uint64_t generation = 0;
  std::uint32_t length = 0;
  std::uint64_t digest = 0;  // over all sources' blocks
};

struct Cancel {
  ErrorCode code = ErrorCode::kCancelled;
  std::string text;  // at most kMaxErrorText
};

// Client ----------------------------------------------------------------------------------------

// What a client wants. Exactly one of text, token_ids, messages is given.
struct Generate {
  std::string text;  // raw text, not put into the chat template
  std::vector<TokenId> token_ids;
  std::vector<ChatMessage> messages;  // put into the model's own chat template
  SamplerParams sampler;
  std::uint32_t max_tokens = 0;  // 0 = as many as there is room for
  bool ignore_eos = false;
  std::vector<std::string> stop;
};

// Where and with what to fetch the tokens.
struct Ticket {
  std::string decode_address;  // tcp://host:port
  TicketId ticket{};
  std::uint32_t prompt_tokens = 0;
};

struct Attach {
  TicketId ticket{};
};

struct Token {
  std::uint32_t index = 0;  // 0 = the first token
  TokenId token = 0;
  std::string text;  // whole UTF-8 characters that became complete; may be empty
};

enum class FinishReason : std::uint8_t {
  kStop = 0,    // end-of-sequence token or stop string
  kLength = 1,  // max_tokens or context used up
  kCancelled = 2,
  kHandedOver = 3,  // from the prefill node: the decode node has it now
};

// Closes a request. The figures are named in docs/wire-format.md (seconds, bytes, counts).
struct Done {
  FinishReason reason = FinishReason::kStop;
  std::string text;  // what the streaming detokenizer still held
  std::vector<std::pair<std::string, double>> report;
};

}  // namespace kvferry::wire
