#include "quantised_decoder.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "kvferry/codec/element_rows.hpp"
#include "kvferry/core/half.hpp"

#include "row_kernels.hpp"

namespace kvferry {
namespace {

constexpr std::uint64_t kNoEscape = std::numeric_limits<std::uint64_t>::max();

Error malformed(std::size_t offset, const std::string& what) {
  return Error(ErrorCode::kMalformed, "codec block: byte " + std::to_string(offset) + ": " + what);
}

}  // namespace

void QuantisedDecoder::sort_tokens(const BlockHeader& header) {
  class_counts_.fill(0);
  tokens_by_class_.clear();
  const std::size_t first = header.tokens - tokens_;
  for (std::uint8_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    for (std::size_t t = 0; t < tokens_; ++t) {
      if (header.class_of(first + t) != token_class) continue;
      tokens_by_class_.push_back(static_cast<std::uint32_t>(t));
      ++class_counts_[token_class];
    }
  }
}

// Everything up to the streams.
Status QuantisedDecoder::parse(const BlockHeader& header, Bytes block) {
  ByteReader in(block);
  in.raw(header.content_offset());
  const std::size_t step_offset = in.offset();
  step_ = static_cast<std::int16_t>(in.u16());
  flags_ = in.u8();
  if (tokens_ != 0) id_bias_ = static_cast<std::int8_t>(in.u8());
  if ((flags_ & kHasIds) != 0) id_of_ids_ = in.u8();
  if ((flags_ & kHasMeans) != 0) id_of_means_ = in.u8();
  if (!in.ok()) return malformed(block.size(), "ends inside the step and the flags");
  if (step_ < -kMaxBlockStep || step_ > kMaxBlockStep)
    return malformed(step_offset, "a step of 2^(" + std::to_string(step_) + "/8)");
  if ((flags_ & ~(kFourLanes | kHasIds | kHasMeans)) != 0)
    return malformed(step_offset + 2, "unknown flags " + std::to_string(flags_));
  if (((flags_ & kHasIds) != 0 && id_of_ids_ >= kIds) ||
      ((flags_ & kHasMeans) != 0 && id_of_means_ >= kIds)) {
    return malformed(step_offset + 3, "a table id that is not below " + std::to_string(kIds));
  }

  std::array<std::uint32_t, kLanes> lengths{};
  const std::size_t lanes = (flags_ & kFourLanes) != 0 ? kLanes : 1;
  escapes_left_ = 0;
  escapes_ = ByteReader(Bytes());
  if (tokens_ != 0) {
    bool ok = true;
    for (std::size_t i = 0; i < lanes && ok; ++i) ok = read_varint(in, lengths[i]);
    std::uint32_t escapes = 0;
    ok = ok && read_varint(in, escapes);
    if (!ok) return malformed(in.offset(), "the lengths of the streams do not end");
    escapes_left_ = escapes;
    escapes_offset_ = in.offset();
    escapes_ = ByteReader(block.subspan(in.offset()));
    // Two bytes at least, each; they are read again as they are needed.
    if (escapes > in.remaining() / 2)
      return malformed(in.offset(), std::to_string(escapes) + " escapes do not fit");
    std::uint32_t skipped = 0;
    for (std::uint64_t i = 0; i < 2 * std::uint64_t{escapes}; ++i) {
      if (!read_varint(in, skipped)) return malformed(in.offset(), "an escape does not end");
    }
  }
  first_row_ = in.raw(tokens_ == header.tokens ? 0 : 2 * channels_);
  if (!in.ok()) return malformed(block.size(), "ends inside the row of position 0");
  std::uint64_t streams = 0;
  for (const std::uint32_t n : lengths) streams += n;
  if (streams > in.remaining()) {
    return malformed(in.offset(), "streams of " + std::to_string(streams) + " bytes, " +
                                      std::to_string(in.remaining()) + " are left");
  }
  raw_offset_ = in.offset();
  raw_ = in.raw(in.remaining() - streams);
  raw_used_ = 0;
  streams_offset_ = in.offset();
  if (tokens_ == 0) {
    if (!raw_.empty() || flags_ != 0)
      return malformed(step_offset, "values or flags without a token that is coded");
    return Status();
  }
  std::array<Bytes, kLanes> parts;
  for (std::size_t i = 0; i < lanes; ++i) parts[i] = in.raw(lengths[i]);
  if (!reader_.start(Span<const Bytes>(parts.data(), lanes)))
    return malformed(streams_offset_, "a stream has no end mark");
  return Status();
}

Status QuantisedDecoder::next_escape() {
  const std::uint64_t from = escape_.index == kNoEscape ? 0 : escape_.index + 1;
  if (escapes_left_ == 0) {
    escape_.index = kNoEscape;
    return Status();
  }
  --escapes_left_;
  std::uint32_t gap = 0;
  std::uint32_t value = 0;
  const std::size_t offset = escapes_offset_ + escapes_.offset();
  if (!read_varint(escapes_, gap) || !read_varint(escapes_, value))
    return malformed(offset, "an escape does not end");
  const std::int32_t v = unzigzag(value);
  if (v < std::numeric_limits<std::int16_t>::min() || v > std::numeric_limits<std::int16_t>::max())
    return malformed(offset, "an escape of " + std::to_string(v));
  escape_ = {from + gap, static_cast<std::int16_t>(v)};
  return Status();
}

// The next segment.
Status QuantisedDecoder::read(std::uint32_t id, std::size_t count, std::int16_t* values) {
  const IdMeaning meaning = meaning_of(id);
  const std::size_t plane = (count + 7) / 8;
  if (meaning.raw_bits * plane > raw_.size() - raw_used_) {
    return malformed(raw_offset_ + raw_used_,
                     "the raw bits of " + std::to_string(count) + " values are not there");
  }
  symbols_.resize(std::max(symbols_.size(), count + 1));
  reader_.read_segment(tans_tables()[meaning.table], symbols_.data(), count);
  row_kernels().widen(symbols_.data(), count, meaning.raw_bits, raw_.data() + raw_used_, values);
  raw_used_ += meaning.raw_bits * plane;
  for (; escape_.index < read_count_ + count;) {
    values[escape_.index - read_count_] = escape_.value;
    KVFERRY_TRY(next_escape());
  }
  read_count_ += count;
  return Status();
}

// Ids and means.
Status QuantisedDecoder::read_side(const CodebookPlane* plane) {
  expected_ids(steps_, plane, channels_, ids_);
  differences_.assign(channels_, 0);
  if ((flags_ & kHasIds) != 0) KVFERRY_TRY(read(id_of_ids_, channels_, differences_.data()));
  for (std::size_t c = 0; c < channels_; ++c) {
    const std::int32_t id = ids_[c] + id_bias_ + differences_[c];
    if (id < 0 || id >= static_cast<std::int32_t>(kIds)) {
      return malformed(streams_offset_,
                       "table id " + std::to_string(id) + " of channel " + std::to_string(c));
    }
    ids_[c] = static_cast<std::uint8_t>(id);
  }
  means_.resize(channels_);
  for (std::size_t c = 0; c < channels_; ++c) means_[c] = codebook_mean(plane, c);
  if ((flags_ & kHasMeans) != 0) {
    KVFERRY_TRY(read(id_of_means_, channels_, differences_.data()));
    for (std::size_t c = 0; c < channels_; ++c)
      means_[c] = static_cast<float>(differences_[c]) * steps_.mean_step(c) + means_[c];
  }
  return Status();
}

Status QuantisedDecoder::read_values() {
  order_.arrange(ids_, class_counts_);
  coded_.resize(channels_ * tokens_);
  for (const CodedOrder::Segment& s : order_.segments())
    KVFERRY_TRY(read(s.id, s.count, coded_.data() + s.begin));
  if (escape_.index != kNoEscape)
    return malformed(escapes_offset_, "an escape beyond the last value");
  if (raw_used_ != raw_.size())
    return malformed(raw_offset_ + raw_used_, "bytes between the raw bits and the streams");
  if (!reader_.finish())
    return malformed(streams_offset_, "the streams do not end with the values");
  return Status();
}

Status QuantisedDecoder::store_first_row(const KvGeometry& geometry, const KvRange& range,
                                         RopeTable& rope, MutableBytes row) {
  const RowKernels& kernels = row_kernels();
  row_.resize(channels_);
  kernels.load(ElementType::kF16, first_row_.data(), channels_, row_.data());
  for (std::size_t c = 0; c < channels_; ++c) {
    if ((first_row_[2 * c + 1] & 0x7c) == 0x7c)
      return malformed(raw_offset_ - first_row_.size() + 2 * c, "a value that is not finite");
  }
  if (range.plane == Plane::kKey)
    kernels.rotate(rope.row(0, geometry.kv_heads), false, row_.data());
  kernels.store(geometry.type, row_.data(), channels_, row.data());
  return Status();
}

void QuantisedDecoder::store_rows(const KvGeometry& geometry, const KvRange& range, RopeTable& rope,
                                  MutableBytes rows) {
  const RowKernels& kernels = row_kernels();
  const std::uint32_t first = range.tokens() - static_cast<std::uint32_t>(tokens_);
  tile_.resize(kTileTokens * channels_);
  row_.resize(channels_);
  std::size_t done = 0;
  for (std::uint32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    const std::size_t end = done + class_counts_[token_class];
    run_begins_.assign(order_.run_begins(token_class), order_.run_begins(token_class) + channels_);
    while (done < end) {
      const std::size_t count = std::min(kTileTokens, end - done);
      kernels.runs_to_tile(coded_.data(), run_begins_.data(), count, channels_, tile_.data());
      for (std::size_t t = 0; t < count; ++t) {
        const std::size_t token = first + tokens_by_class_[done + t];
        kernels.dequantise(tile_.data() + t * channels_, steps_.steps(token_class), means_.data(),
                           channels_, row_.data());
        if (range.plane == Plane::kKey)
          kernels.rotate(rope.row(token, geometry.kv_heads), false, row_.data());
        kernels.store(geometry.type, row_.data(), channels_,
                      rows.data() + token * geometry.row_bytes());
      }
      for (std::size_t& begin : run_begins_) begin += count;
      done += count;
    }
  }
}

Status QuantisedDecoder::decode(const KvGeometry& geometry, const BlockHeader& header,
                                const CodebookPlane* plane, const KvRange& range, RopeTable& rope,
                                Bytes block, MutableBytes rows) {
  channels_ = geometry.row_values();
  // The encoder's position 0, wherever it goes.
  tokens_ = header.begin == 0 ? header.tokens - std::size_t{1} : header.tokens;
  KVFERRY_TRY(parse(header, block));
  if (range.plane == Plane::kKey) rope.prepare(range.begin, range.tokens());
  if (!first_row_.empty())
    KVFERRY_TRY(store_first_row(geometry, range, rope, rows.first(geometry.row_bytes())));
  if (tokens_ == 0) return Status();
  sort_tokens(header);
  steps_.set(step_, plane, channels_);
  read_count_ = 0;
  escape_.index = kNoEscape;
  KVFERRY_TRY(next_escape());
  KVFERRY_TRY(read_side(plane));
  KVFERRY_TRY(read_values());
  store_rows(geometry, range, rope, rows);
  return Status();
}

}  // namespace kvferry
