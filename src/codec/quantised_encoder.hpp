// The encoder of `high`, `medium`, `low` and `lowest`: uniform steps, entropy-coded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/rotation.hpp"

#include "coded_order.hpp"
#include "quantised_format.hpp"
#include "table_choice.hpp"
#include "tans_streams.hpp"

namespace kvferry {

class QuantisedEncoder {
 public:
  // Writes the content of a block to the front of `out`; only side and symbols of `size` are set.
  // `plane` is null without a codebook. False, with any content, when a value is not finite or too
  // large for its step, or the block does not fit: then it takes another method.
  bool encode(const KvGeometry& geometry, const BlockSpec& spec, const CodebookPlane* plane,
              RopeTable& rope, Bytes rows, MutableBytes out, BlockSize& size);

 private:
  // An entry of the list of escapes.
  struct Escape {
    std::size_t index;  // of the value, in the order of coding
    std::int32_t value;
  };
  // Symbols of a segment that are ready to be written.
  struct Prepared {
    std::uint32_t table;
    std::size_t begin;  // in symbols_
    std::size_t count;
  };

  void load(const KvGeometry& geometry, const KvRange& range, RopeTable& rope, Bytes rows);
  void sort_tokens(Span<const std::uint8_t> classes);
  bool choose_step(const BlockSpec& spec, const CodebookPlane* plane);
  bool choose_means(const CodebookPlane* plane);
  bool quantise();
  void count(std::size_t channel);
  void choose_ids(const CodebookPlane* plane);
  std::uint8_t id_of(const std::vector<std::int16_t>& values, std::uint64_t& bits);
  void prepare_block();
  void prepare(std::uint32_t id, const std::int16_t* values, std::size_t count);
  bool write(Bytes first_row, MutableBytes out, BlockSize& size);

  std::size_t channels_ = 0;
  std::size_t tokens_ = 0;  // that are coded: all but position 0
  Plane plane_ = Plane::kKey;
  std::int32_t step_ = 0;
  std::uint8_t flags_ = 0;
  ClassCounts class_counts_{};
  ChannelSteps steps_;
  CodedOrder order_;
  ValueCounts counts_;
  TansWriter writer_;

  std::vector<float> values_;                   // [tokens, channels]
  std::vector<std::uint32_t> tokens_by_class_;  // [tokens]
  std::vector<float> sums_;                     // [channels]
  std::vector<float> means_;                    // [channels], as the decoder has them
  std::vector<float> inverse_steps_;            // [channels]
  std::vector<std::int16_t> corrections_;       // [channels], of the means
  std::vector<std::int16_t> tile_;
  std::vector<std::size_t> run_begins_;       // [channels]
  std::vector<std::int16_t> runs_;            // [channels, tokens], tokens by class
  std::vector<std::uint8_t> ids_;             // [channels]
  std::vector<std::uint8_t> expected_ids_;    // [channels]
  std::vector<std::int16_t> id_differences_;  // [channels]
  std::int8_t id_bias_ = 0;
  std::uint8_t id_of_ids_ = 0;
  std::uint8_t id_of_means_ = 0;

  std::vector<std::int16_t> coded_;  // values of one segment
  std::vector<std::uint8_t> symbols_;
  std::vector<Prepared> prepared_;
  std::vector<Escape> escapes_;
  std::vector<std::uint8_t> raw_;
  std::vector<std::uint8_t> side_;
  std::size_t coded_count_ = 0;  // values prepared so far
};

}  // namespace kvferry
