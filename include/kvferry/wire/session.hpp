// A session: the cache of one whole sequence as frames, OFFER, MODEL_DATA …, BLOCK …, END, in a
// byte stream with a beginning and an end. No I/O: bytes go to a callback and come as they are
// read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/codec/block.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/wire/coverage.hpp"
#include "kvferry/wire/digest.hpp"
#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/model_data.hpp"
#include "kvferry/wire/serialize.hpp"
#include "kvferry/wire/token_ids.hpp"

namespace kvferry::wire {

// Every frame of a session carries it.
constexpr FrameAddress kSessionAddress = {1, 1, 1};

// The offer of a session that holds all of `tokens`, in a cache of `geometry` (all layers).
inline Offer session_offer(const ModelIdentity& identity, const KvGeometry& geometry,
                           std::vector<TokenId> tokens, Profile profile, Provenance provenance) {
  Offer offer;
  offer.identity = identity;
  offer.layers = geometry.layers;
  offer.kv_heads = geometry.kv_heads;
  offer.head_dim = geometry.head_dim;
  offer.type = geometry.type;
  offer.rope = geometry.rope;
  offer.profile = static_cast<std::uint8_t>(profile);
  offer.provenance = std::move(provenance);
  CoveragePart all;
  all.end_layer = geometry.layers;
  all.end = static_cast<std::uint32_t>(tokens.size());
  offer.coverage.push_back(all);
  offer.tokens = std::move(tokens);
  return offer;
}

// Writes `source` as a session: the offer, the codebook, a block for each layer, plane and 256
// tokens (fewer where they would not fit into a payload) in this order, the end. `output` gets the
// bytes in order; its error ends the writing. Memory: one block.
//
// `codebook`: of the profiles `high` to `lowest`; the session carries it, so that it can be loaded
// alone. Null: blocks scale themselves. Blocks are not predicted: a predictor is larger than what
// it would save.
Status write_session(const KvSource& source, const Offer& offer,
                     const std::function<Status(Bytes)>& output,
                     const std::shared_ptr<const Codebook>& codebook = nullptr);

// Gets what a SessionReader found. Its errors end the reading.
class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  virtual Status on_offer(const Offer& offer) = 0;  // once, first
  // At most once, next: the serialised codebook that the offer names.
  virtual Status on_codebook(Bytes bytes) = 0;
  virtual Status on_block(const Block& block) = 0;  // inside the offer, no row twice
};

// Takes the bytes of a session, cut anywhere. Memory: one frame. After an error it stays failed.
class SessionReader {
 public:
  explicit SessionReader(SessionHandler& handler) : handler_(handler) {}

  Status feed(Bytes bytes);

  // To be called when the bytes end. Success means that all that the offer declared came, once,
  // and matches the digest; a session that is cut off is kIncomplete.
  Status finish();

  std::uint64_t blocks() const { return digest_.blocks(); }
  std::uint64_t payload_bytes() const { return payload_bytes_; }  // of the blocks

 private:
  enum class State { kStart, kBlocks, kEnded };

  Status take(const Frame& frame);
  Status take_offer(const Frame& frame);
  Status take_model_data(const Frame& frame);
  Status take_block(const Frame& frame);
  Status take_end(const Frame& frame);

  SessionHandler& handler_;
  FrameDecoder decoder_;
  State state_ = State::kStart;
  std::uint32_t layers_ = 0;
  std::uint32_t tokens_ = 0;
  std::optional<ModelDataAssembly> codebook_;
  BlockCoverage coverage_;
  HandoffDigest digest_;
  std::uint64_t payload_bytes_ = 0;
  Status failed_;
};

// Decodes a session into a KvSink as one import. Destroyed without commit() it leaves no trace.
class SessionImport : public SessionHandler {
 public:
  // Gives the sink for an offer, which outlives the import, or refuses the offer.
  using Open = std::function<Result<KvSink*>(const Offer&)>;

  // `identity`: of the model that will use the cache; another one is kMismatch, naming the field,
  // a token id that it does not have kMalformed.
  SessionImport(ModelIdentity identity, Open open)
      : identity_(std::move(identity)), open_(std::move(open)) {}
  ~SessionImport() override {
    if (sink_ != nullptr) sink_->abort();
  }
  SessionImport(const SessionImport&) = delete;
  SessionImport& operator=(const SessionImport&) = delete;

  Status on_offer(const Offer& offer) override;
  Status on_codebook(Bytes bytes) override;
  Status on_block(const Block& block) override;

  // Once, after SessionReader::finish() succeeded.
  Result<KvCommit> commit();

 private:
  const ModelIdentity identity_;
  const Open open_;
  KvSink* sink_ = nullptr;
  Offer offer_;  // without its tokens
  std::optional<BlockDecoder> decoder_;
  std::vector<std::uint8_t> rows_;
};

// A session holds one whole sequence and asks for nothing.
inline Status check_session_offer(const Offer& offer) {
  const auto refuse = [](const char* what) {
    return Status(ErrorCode::kUnsupported,
                  std::string("the OFFER of a session ") + what + "; it holds a whole sequence");
  };
  if (offer.base_generation != 0 || offer.base_length != 0 || offer.replace_begin != 0)
    return refuse("extends another sequence");
  if (offer.coverage.size() != 1 || offer.coverage[0].source != kSessionAddress.source)
    return refuse("has more than one source");
  if (offer.decode.has_value()) return refuse("orders a generation");
  if (offer.predictor != 0) {
    return Error(ErrorCode::kUnsupported,
                 "the OFFER of a session names a predictor; sessions are not predicted");
  }
  return {};
}

namespace detail {

// The codebook as MODEL_DATA frames, each given to put(header, head, tail).
template <typename Put>
Status write_codebook(const Codebook& codebook, const Put& put) {
  ModelDataPieces pieces(ModelDataKind::kCodebook, codebook.id(), codebook.bytes(), kMaxPayload);
  std::vector<std::uint8_t> payload;
  while (!pieces.empty()) {
    payload.clear();
    KVFERRY_TRY(serialize(pieces.next(), payload));
    KVFERRY_TRY(
        put(make_header(MessageType::kModelData, kSessionAddress, payload), payload, Bytes()));
  }
  return {};
}

}  // namespace detail

inline Status write_session(const KvSource& source, const Offer& whole,
                            const std::function<Status(Bytes)>& output,
                            const std::shared_ptr<const Codebook>& codebook) {
  const KvGeometry& geometry = source.geometry();
  Offer offer = whole;
  const bool has_codebook =
      codebook != nullptr && is_quantised(static_cast<Profile>(offer.profile));
  offer.codebook = has_codebook ? codebook->id() : 0;
  offer.codebook_bytes = has_codebook ? static_cast<std::uint32_t>(codebook->bytes().size()) : 0;
  if (geometry.first_layer != 0 || geometry.layers != offer.layers || geometry.type != offer.type ||
      geometry.kv_heads != offer.kv_heads || geometry.head_dim != offer.head_dim) {
    return Error(ErrorCode::kInvalidArgument, "the offer's geometry is not that of the source");
  }
  KVFERRY_TRY(check_session_offer(offer));
  const auto put = [&output](const FrameHeader& header, Bytes head, Bytes tail) -> Status {
    KVFERRY_TRY(output(encode_header(header)));
    KVFERRY_TRY(output(head));
    return output(tail);
  };
  std::vector<std::uint8_t> head;
  KVFERRY_TRY(serialize(offer, head));
  KVFERRY_TRY(put(make_header(MessageType::kOffer, kSessionAddress, head), head, Bytes()));
  if (has_codebook) KVFERRY_TRY(detail::write_codebook(*codebook, put));

  const auto tokens = static_cast<std::uint32_t>(offer.tokens.size());
  std::uint32_t most = std::min(tokens, kMaxBlockTokens);
  while (maximum_encoded_size(geometry, most) > kMaxPayload - kBlockHeadBytes) most /= 2;
  std::vector<std::uint8_t> rows(most * geometry.row_bytes());
  std::vector<std::uint8_t> coded(maximum_encoded_size(geometry, most));
  BlockEncoder encoder(geometry, has_codebook ? codebook : nullptr);
  HandoffDigest digest;
  End end;
  for (std::uint32_t layer = 0; layer < geometry.layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      for (std::uint32_t begin = 0; begin < tokens; begin += most) {
        const KvRange range = {layer, plane, begin, begin + std::min(most, tokens - begin)};
        const MutableBytes block_rows =
            MutableBytes(rows).first(range.tokens() * geometry.row_bytes());
        KVFERRY_TRY(source.read(range, block_rows));
        const BlockSpec spec = {static_cast<Profile>(offer.profile), range};
        KVFERRY_ASSIGN(const BlockSize size, encoder.encode(spec, block_rows, coded));
        Block block;
        block.layer = layer;
        block.plane = plane;
        block.begin = begin;
        block.tokens = static_cast<std::uint16_t>(range.tokens());
        block.profile = offer.profile;
        block.coded = Bytes(coded).first(size.total());
        head.clear();
        KVFERRY_TRY(serialize_head(block, head));
        const FrameHeader header =
            make_header(MessageType::kBlock, kSessionAddress, head, block.coded);
        KVFERRY_TRY(put(header, head, block.coded));
        digest.add(kSessionAddress.source, block, header.payload_hash);
        end.payload_bytes += header.payload_bytes;
      }
    }
  }
  end.blocks = digest.blocks();
  end.digest = digest.value();
  head.clear();
  KVFERRY_TRY(serialize(end, head));
  return put(make_header(MessageType::kEnd, kSessionAddress, head), head, Bytes());
}

inline Status SessionReader::feed(Bytes bytes) {
  if (!failed_.ok()) return failed_;
  while (!bytes.empty()) {
    const auto used = decoder_.feed(bytes);
    if (!used.ok()) return failed_ = used.error();
    bytes = bytes.subspan(*used);
    if (!decoder_.has_frame()) continue;
    const Frame frame = decoder_.take();
    failed_ = take(frame);
    if (!failed_.ok()) return failed_;
  }
  return {};
}

inline Status SessionReader::finish() {
  if (!failed_.ok()) return failed_;
  KVFERRY_TRY(decoder_.finish());
  if (state_ == State::kEnded) return {};
  return Error(ErrorCode::kIncomplete, "the session ends at byte " +
                                           std::to_string(decoder_.offset()) +
                                           " without its END frame: it was cut off");
}

inline Status SessionReader::take(const Frame& frame) {
  const FrameAddress& address = frame.header.address;
  const std::string name = name_of(frame.header.type);
  if (address.handoff != kSessionAddress.handoff || address.epoch != kSessionAddress.epoch ||
      address.source != kSessionAddress.source) {
    return Error(ErrorCode::kMalformed,
                 name + " in a session has another handoff, epoch or source than 1");
  }
  switch (state_) {
    case State::kStart:
      if (frame.header.type == MessageType::kOffer) return take_offer(frame);
      return Error(ErrorCode::kProtocol, name + " where a session has its OFFER");
    case State::kBlocks:
      if (frame.header.type == MessageType::kModelData) return take_model_data(frame);
      if (codebook_ && !codebook_->complete()) {
        return Error(ErrorCode::kIncomplete, name + " before the session's codebook is whole");
      }
      if (frame.header.type == MessageType::kBlock) return take_block(frame);
      if (frame.header.type == MessageType::kEnd) return take_end(frame);
      return Error(ErrorCode::kProtocol, name + " where a session has BLOCK or END");
    case State::kEnded:
      break;
  }
  return Error(ErrorCode::kProtocol, name + " after the END of a session");
}

inline Status SessionReader::take_offer(const Frame& frame) {
  KVFERRY_ASSIGN(const Offer offer, parse_offer(frame.payload));
  KVFERRY_TRY(check_session_offer(offer));
  layers_ = offer.layers;
  tokens_ = static_cast<std::uint32_t>(offer.tokens.size());
  if (offer.codebook != 0) {
    if (offer.codebook_bytes != Codebook::bytes_for(offer.layers, offer.kv_heads, offer.head_dim)) {
      return Error(ErrorCode::kMismatch, "the session's codebook of " +
                                             std::to_string(offer.codebook_bytes) +
                                             " bytes is not of the shape of its cache");
    }
    codebook_.emplace(ModelDataKind::kCodebook, offer.codebook, offer.codebook_bytes);
  }
  state_ = State::kBlocks;
  return handler_.on_offer(offer);
}

inline Status SessionReader::take_model_data(const Frame& frame) {
  if (!codebook_ || digest_.blocks() != 0) {
    return Error(ErrorCode::kProtocol, codebook_ ? "MODEL_DATA behind a block of a session"
                                                 : "MODEL_DATA in a session without a codebook");
  }
  KVFERRY_ASSIGN(const ModelData data, parse_model_data(frame.payload));
  KVFERRY_TRY(codebook_->add(data));
  return codebook_->complete() ? handler_.on_codebook(codebook_->take()) : Status();
}

inline Status SessionReader::take_block(const Frame& frame) {
  KVFERRY_ASSIGN(const Block block, parse_block(frame.payload));
  const KvRange range = {block.layer, block.plane, block.begin, block.begin + block.tokens};
  if (range.layer >= layers_ || range.end > tokens_) {
    return Error(ErrorCode::kProtocol, to_string(range) + " is outside of the session's " +
                                           std::to_string(layers_) + " layers and " +
                                           std::to_string(tokens_) + " tokens");
  }
  KVFERRY_TRY(coverage_.claim(range));
  digest_.add(frame.header.address.source, block, frame.header.payload_hash);
  payload_bytes_ += frame.payload.size();
  return handler_.on_block(block);
}

inline Status SessionReader::take_end(const Frame& frame) {
  KVFERRY_ASSIGN(const End end, parse_end(frame.payload));
  KVFERRY_TRY(coverage_.complete(layers_, tokens_));
  if (end.blocks != digest_.blocks() || end.payload_bytes != payload_bytes_) {
    return Error(ErrorCode::kIncomplete, "END counts " + std::to_string(end.blocks) +
                                             " blocks of " + std::to_string(end.payload_bytes) +
                                             " bytes; " + std::to_string(digest_.blocks()) +
                                             " of " + std::to_string(payload_bytes_) + " came");
  }
  if (end.digest != digest_.value()) {
    return Error(ErrorCode::kChecksum, "the digest of END is not that of the blocks that came");
  }
  state_ = State::kEnded;
  return {};
}

inline Status SessionImport::on_offer(const Offer& offer) {
  KVFERRY_TRY(compare(identity_, offer.identity));
  KVFERRY_TRY(check_token_ids(offer));
  KVFERRY_ASSIGN(KvSink* const sink, open_(offer));
  const KvGeometry& geometry = sink->geometry();
  const auto mismatch = [](const char* field) {
    return Status(ErrorCode::kMismatch,
                  std::string("the session's cache differs in ") + field + " from this one");
  };
  if (geometry.first_layer != 0 || geometry.layers != offer.layers) return mismatch("layers");
  if (geometry.kv_heads != offer.kv_heads) return mismatch("kv_heads");
  if (geometry.head_dim != offer.head_dim) return mismatch("head_dim");
  if (geometry.rope != offer.rope) return mismatch("rope");
  KvImportPlan plan;
  plan.end = static_cast<std::uint32_t>(offer.tokens.size());
  plan.tokens = offer.tokens;
  KVFERRY_TRY(sink->begin(plan));
  sink_ = sink;
  offer_ = offer;
  offer_.tokens.clear();
  decoder_.emplace(geometry);
  return {};
}

inline Status SessionImport::on_codebook(Bytes bytes) {
  KVFERRY_ASSIGN(auto codebook, open_codebook(bytes, offer_, sink_->geometry()));
  decoder_.emplace(sink_->geometry(), std::move(codebook));
  return {};
}

inline Status SessionImport::on_block(const Block& block) {
  const KvRange range = {block.layer, block.plane, block.begin, block.begin + block.tokens};
  rows_.resize(range.tokens() * sink_->geometry().row_bytes());
  KVFERRY_TRY(decoder_->decode({range, 0}, block.coded, rows_));
  return sink_->write(range, rows_);
}

inline Result<KvCommit> SessionImport::commit() {
  KVFERRY_ASSIGN(const KvCommit done, sink_->commit());
  sink_ = nullptr;
  return done;
}

}  // namespace kvferry::wire
