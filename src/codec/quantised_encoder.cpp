#include "quantised_encoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kvferry/codec/element_rows.hpp"
#include "kvferry/core/half.hpp"

#include "row_kernels.hpp"

namespace kvferry {
namespace {

// Fewer values than this are one lane's: four streams take twelve bytes more.
constexpr std::size_t kFourLaneValues = 8192;

// From as many tokens on, a block states its own means of K: each takes about five bits.
constexpr std::size_t kMeanTokens = 16;

// Of the profile, in eighths of an octave: steps of 0.125, 0.5, 1.19 and 2.18.
std::int32_t profile_step(Profile profile) {
  switch (profile) {
    case Profile::kHigh:
      return -24;
    case Profile::kMedium:
      return -8;
    case Profile::kLowest:
      return 9;
    default:
      return 2;
  }
}

// On top of it where the caller says nothing of the attention to the tokens: all of them are then
// coded nearly as finely as those that get the most of it, for the same divergence.
constexpr std::int32_t kNoClassesStep = -9;

// Without a codebook: the step in relation to the standard deviation of a block's values. With it
// SmolLM2 stays within the divergence that each profile has with a codebook.
constexpr std::int32_t kNeutralStep = -5;

// The kernels stop up to that many values before one that a table does not hold.
constexpr std::size_t kScalarValues = 32;

constexpr std::uint16_t kHalfInfinity = 0x7c00;

}  // namespace

void QuantisedEncoder::load(const KvGeometry& geometry, const KvRange& range, RopeTable& rope,
                            Bytes rows) {
  const RowKernels& kernels = row_kernels();
  values_.resize(tokens_ * channels_);
  const std::uint32_t first = range.tokens() - static_cast<std::uint32_t>(tokens_);
  rope.prepare(range.begin, range.tokens());
  for (std::size_t t = 0; t < tokens_; ++t) {
    float* row = values_.data() + t * channels_;
    kernels.load(geometry.type, rows.data() + (t + first) * geometry.row_bytes(), channels_, row);
    if (plane_ == Plane::kKey) kernels.rotate(rope.row(t + first, geometry.kv_heads), true, row);
  }
}

void QuantisedEncoder::sort_tokens(Span<const std::uint8_t> classes) {
  class_counts_.fill(0);
  tokens_by_class_.clear();
  const std::size_t first = classes.size() < tokens_ ? 0 : classes.size() - tokens_;
  for (std::uint32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    for (std::size_t t = 0; t < tokens_; ++t) {
      if ((classes.empty() ? 0 : classes[first + t]) != token_class) continue;
      tokens_by_class_.push_back(static_cast<std::uint32_t>(t));
      ++class_counts_[token_class];
    }
  }
}

// With a codebook the step is its own, else it follows the spread of the block's values: of K about
// the mean, which one token does not have, of V about 0. False when that is not finite. Also leaves
// the sums over the tokens in sums_.
bool QuantisedEncoder::choose_step(const BlockSpec& spec, const CodebookPlane* plane) {
  const RowKernels& kernels = row_kernels();
  sums_.assign(channels_, 0.0f);
  for (std::size_t t = 0; t < tokens_; ++t)
    kernels.add(values_.data() + t * channels_, channels_, sums_.data());
  step_ = profile_step(spec.profile) + (spec.token_classes.empty() ? kNoClassesStep : 0);
  if (plane != nullptr) {
    step_ += plane->step;
    return true;
  }
  means_.assign(channels_, 0.0f);
  const bool about_mean = plane_ == Plane::kKey && tokens_ > 1;
  if (about_mean) {
    for (std::size_t c = 0; c < channels_; ++c) means_[c] = sums_[c] / static_cast<float>(tokens_);
  }
  std::vector<float>& squares = inverse_steps_;
  squares.assign(channels_, 0.0f);
  for (std::size_t t = 0; t < tokens_; ++t) {
    kernels.add_squares(values_.data() + t * channels_, means_.data(), channels_, squares.data());
  }
  double sum = 0;
  double mean_sum = 0;
  for (std::size_t c = 0; c < channels_; ++c) {
    sum += static_cast<double>(squares[c]);
    mean_sum += static_cast<double>(means_[c]) * static_cast<double>(means_[c]);
  }
  const auto free = static_cast<double>(about_mean ? tokens_ - 1 : tokens_);
  double mean_square = sum / (free * static_cast<double>(channels_));
  if (!(mean_square < 1e30)) return false;
  // One token of K: about a quarter of its energy is not the mean's. Equal tokens: their K of the
  // first layer has no spread at all.
  if (plane_ == Plane::kKey && tokens_ == 1) mean_square /= 4;
  mean_square = std::max(mean_square, mean_sum / (256 * static_cast<double>(channels_)));
  if (mean_square > 1e-30) {
    step_ += kNeutralStep + log2_eighths(static_cast<float>(std::sqrt(mean_square)));
  } else {
    step_ = -kMaxBlockStep;
  }
  step_ = std::max(-kMaxBlockStep, std::min(kMaxBlockStep, step_));
  return true;
}

// The means as the decoder will have them. False when a correction is out of range.
bool QuantisedEncoder::choose_means(const CodebookPlane* plane) {
  means_.resize(channels_);
  for (std::size_t c = 0; c < channels_; ++c) means_[c] = codebook_mean(plane, c);
  if (plane_ != Plane::kKey || tokens_ < kMeanTokens) return true;
  flags_ |= kHasMeans;
  corrections_.resize(channels_);
  inverse_steps_.resize(channels_);
  for (std::size_t c = 0; c < channels_; ++c) {
    sums_[c] /= static_cast<float>(tokens_);
    inverse_steps_[c] = exp2_eighths(-(steps_.exponent(c) + kMeanStep));
  }
  if (!row_kernels().quantise(sums_.data(), means_.data(), inverse_steps_.data(), channels_,
                              corrections_.data())) {
    return false;
  }
  for (std::size_t c = 0; c < channels_; ++c)
    means_[c] = static_cast<float>(corrections_[c]) * steps_.mean_step(c) + means_[c];
  return true;
}

// Fills runs_. False when a value is out of range.
bool QuantisedEncoder::quantise() {
  const RowKernels& kernels = row_kernels();
  runs_.resize(channels_ * tokens_);
  run_begins_.resize(channels_);
  tile_.resize(kTileTokens * channels_);
  inverse_steps_.resize(channels_);
  std::size_t done = 0;
  for (std::uint32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    if (class_counts_[token_class] == 0) continue;
    for (std::size_t c = 0; c < channels_; ++c) {
      inverse_steps_[c] =
          exp2_eighths(8 * static_cast<std::int32_t>(token_class) - steps_.exponent(c));
    }
    const std::size_t end = done + class_counts_[token_class];
    while (done < end) {
      const std::size_t count = std::min(kTileTokens, end - done);
      for (std::size_t t = 0; t < count; ++t) {
        const float* row = values_.data() + tokens_by_class_[done + t] * channels_;
        if (!kernels.quantise(row, means_.data(), inverse_steps_.data(), channels_,
                              tile_.data() + t * channels_)) {
          return false;
        }
      }
      for (std::size_t c = 0; c < channels_; ++c) run_begins_[c] = c * tokens_ + done;
      kernels.tile_to_runs(tile_.data(), count, channels_, run_begins_.data(), runs_.data());
      done += count;
    }
  }
  return true;
}

void QuantisedEncoder::count(std::size_t channel) {
  const std::int16_t* run = runs_.data() + channel * tokens_;
  for (std::uint32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    counts_.add(run, class_counts_[token_class], token_class);
    run += class_counts_[token_class];
  }
}

// Each channel's own id, as a difference to the expected one, or the expected ones where the
// differences take more than they save.
void QuantisedEncoder::choose_ids(const CodebookPlane* plane) {
  expected_ids(steps_, plane, channels_, expected_ids_);
  ids_.resize(channels_);
  std::uint64_t bits = 0;
  std::uint64_t expected_bits = 0;
  std::int32_t sum = 0;
  for (std::size_t c = 0; c < channels_; ++c) {
    counts_.clear();
    count(c);
    std::uint64_t channel_bits = 0;
    ids_[c] = counts_.best_id(channel_bits);
    bits += channel_bits;
    expected_bits += counts_.bits_of(expected_ids_[c]);
    sum += ids_[c] - expected_ids_[c];
  }
  std::int32_t expected_bias = 0;
  if (plane == nullptr && tokens_ < kMeanTokens && tokens_ * channels_ <= kMaxRowValues) {
    // Nothing is expected: one id for all channels.
    counts_.clear();
    for (std::size_t c = 0; c < channels_; ++c) count(c);
    expected_bias = counts_.best_id(expected_bits);
  }

  id_bias_ = static_cast<std::int8_t>(sum / static_cast<std::int32_t>(channels_));
  id_differences_.resize(channels_);
  for (std::size_t c = 0; c < channels_; ++c)
    id_differences_[c] = static_cast<std::int16_t>(ids_[c] - expected_ids_[c] - id_bias_);
  std::uint64_t side_bits = 0;
  id_of_ids_ = id_of(id_differences_, side_bits);
  if (bits + side_bits < expected_bits) {
    flags_ |= kHasIds;
  } else {
    id_bias_ = static_cast<std::int8_t>(expected_bias);
    for (std::size_t c = 0; c < channels_; ++c)
      ids_[c] = static_cast<std::uint8_t>(expected_ids_[c] + expected_bias);
  }
  if ((flags_ & kHasMeans) != 0) id_of_means_ = id_of(corrections_, side_bits);
}

std::uint8_t QuantisedEncoder::id_of(const std::vector<std::int16_t>& values, std::uint64_t& bits) {
  counts_.clear();
  counts_.add(values.data(), values.size(), 0);
  return counts_.best_id(bits);
}

// Appends the segment's symbols, raw bits and escapes.
void QuantisedEncoder::prepare(std::uint32_t id, const std::int16_t* values, std::size_t count) {
  const RowKernels& kernels = row_kernels();
  const IdMeaning meaning = meaning_of(id);
  const TansTable& table = tans_tables()[meaning.table];
  const std::int32_t half = (1 << meaning.raw_bits) / 2;
  for (std::uint32_t bit = 0; bit < meaning.raw_bits; ++bit) {
    const std::size_t begin = raw_.size();
    raw_.resize(begin + (count + 7) / 8);
    kernels.take_bits(values, count, half, bit, raw_.data() + begin);
  }
  const std::size_t begin = symbols_.size();
  const std::size_t symbol_count = symbols_of(table, count);
  symbols_.resize(begin + symbol_count);
  std::uint8_t* symbols = symbols_.data() + begin;
  const auto escape = [this, values](std::size_t i) {
    escapes_.push_back({coded_count_ + i, values[i]});
  };
  // The kernels stop before what the table does not hold.
  std::size_t done = 0;
  while (!table.paired && done < count) {
    done += kernels.symbols_of_values(values + done, count - done, meaning.raw_bits, table.most,
                                      symbols + done);
    const std::size_t end = std::min(done + kScalarValues, count);
    for (; done < end; ++done) {
      const std::int32_t kept = (values[done] + half) >> meaning.raw_bits;
      if (!table.holds(kept)) escape(done);
      symbols[done] = static_cast<std::uint8_t>((table.holds(kept) ? kept : 0) + table.most);
    }
  }
  while (table.paired && done < symbol_count) {
    done += kernels.symbols_of_pairs(values + 2 * done, count / 2 - done, table.most,
                                     table.most_sum, symbols + done);
    const std::size_t end = std::min(done + kScalarValues / 2, symbol_count);
    for (; done < end; ++done) {
      std::int32_t a = values[2 * done];
      std::int32_t b = 2 * done + 1 < count ? values[2 * done + 1] : 0;
      if (!table.holds(a, b)) {
        // The larger one escapes, and the other one where it alone is too large as well.
        const bool first = std::abs(a) >= std::abs(b);
        if (first || !table.holds(a)) {
          escape(2 * done);
          a = 0;
        }
        if (!first || !table.holds(b)) {
          escape(2 * done + 1);
          b = 0;
        }
      }
      symbols[done] = static_cast<std::uint8_t>((a + table.most) * table.width + b + table.most);
    }
  }
  prepared_.push_back({meaning.table, begin, symbol_count});
  coded_count_ += count;
}

void QuantisedEncoder::prepare_block() {
  prepared_.clear();
  symbols_.clear();
  escapes_.clear();
  raw_.clear();
  coded_count_ = 0;
  if ((flags_ & kHasIds) != 0) prepare(id_of_ids_, id_differences_.data(), channels_);
  if ((flags_ & kHasMeans) != 0) prepare(id_of_means_, corrections_.data(), channels_);

  order_.arrange(ids_, class_counts_);
  coded_.resize(channels_ * tokens_);
  std::size_t class_begin = 0;
  for (std::uint32_t token_class = 0; token_class <= kMaxTokenClass; ++token_class) {
    const std::size_t count = class_counts_[token_class];
    const std::size_t* begins = order_.run_begins(token_class);
    for (std::size_t c = 0; c < channels_; ++c) {
      std::copy_n(runs_.data() + c * tokens_ + class_begin, count, coded_.data() + begins[c]);
    }
    class_begin += count;
  }
  for (const CodedOrder::Segment& s : order_.segments())
    prepare(s.id, coded_.data() + s.begin, s.count);
}

// False when `out` is too small.
bool QuantisedEncoder::write(Bytes first_row, MutableBytes out, BlockSize& size) {
  const std::size_t lanes = (flags_ & kFourLanes) != 0 ? kLanes : 1;
  writer_.start(lanes, symbols_.size(), prepared_.size());
  for (std::size_t i = prepared_.size(); i > 0; --i) {
    const Prepared& p = prepared_[i - 1];
    writer_.write_segment(tans_tables()[p.table], symbols_.data() + p.begin, p.count);
  }
  writer_.finish();

  side_.clear();
  ByteWriter side(side_);
  side.u16(static_cast<std::uint16_t>(step_));
  side.u8(flags_);
  if (tokens_ != 0) side.u8(static_cast<std::uint8_t>(id_bias_));
  if ((flags_ & kHasIds) != 0) side.u8(id_of_ids_);
  if ((flags_ & kHasMeans) != 0) side.u8(id_of_means_);
  std::size_t streams = 0;
  if (tokens_ != 0) {
    for (std::size_t i = 0; i < lanes; ++i) {
      put_varint(static_cast<std::uint32_t>(writer_.stream(i).size()), side_);
      streams += writer_.stream(i).size();
    }
    put_varint(static_cast<std::uint32_t>(escapes_.size()), side_);
    std::size_t next = 0;
    for (const Escape& e : escapes_) {
      put_varint(static_cast<std::uint32_t>(e.index - next), side_);
      put_varint(zigzag(e.value), side_);
      next = e.index + 1;
    }
  }
  if (side_.size() + first_row.size() + raw_.size() + streams > out.size()) return false;

  std::uint8_t* at = out.data();
  const auto put = [&at](Bytes bytes) {
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    at += bytes.size();
  };
  put(side_);
  put(first_row);
  put(raw_);
  if (tokens_ != 0) {
    for (std::size_t i = 0; i < lanes; ++i) put(writer_.stream(i));
  }
  size.side = side_.size();
  size.symbols = first_row.size() + raw_.size() + streams;
  return true;
}

bool QuantisedEncoder::encode(const KvGeometry& geometry, const BlockSpec& spec,
                              const CodebookPlane* plane, LayerPrediction* prediction,
                              RopeTable& rope, Bytes rows, MutableBytes out, BlockSize& size) {
  channels_ = geometry.row_values();
  plane_ = spec.range.plane;
  const std::size_t skipped = spec.range.begin == 0 ? 1 : 0;
  tokens_ = spec.range.tokens() - skipped;
  flags_ = tokens_ * channels_ >= kFourLaneValues ? kFourLanes : 0;
  step_ = 0;
  prepared_.clear();
  symbols_.clear();
  escapes_.clear();
  raw_.clear();

  std::vector<std::uint8_t> first_row;
  if (skipped != 0) {
    first_row.resize(2 * channels_);
    convert_rows(geometry.type, rows.first(geometry.row_bytes()), ElementType::kF16, first_row);
    for (std::size_t c = 0; c < channels_; ++c) {
      if ((first_row[2 * c + 1] & 0x7c) == kHalfInfinity >> 8) return false;
    }
  }
  if (tokens_ != 0) {
    load(geometry, spec.range, rope, rows);
    if (prediction != nullptr) {
      prediction->to_coded(skipped, tokens_, values_.data());
      plane = &prediction->coded_plane();
    }
    sort_tokens(spec.token_classes);
    if (!choose_step(spec, plane)) return false;
    steps_.set(step_, plane, channels_);
    // A predicted block has no means: the map has an offset.
    means_.assign(channels_, 0.0f);
    if (prediction == nullptr && !choose_means(plane)) return false;
    if (!quantise()) return false;
    choose_ids(plane);
    prepare_block();
  }
  return write(first_row, out, size);
}

}  // namespace kvferry
