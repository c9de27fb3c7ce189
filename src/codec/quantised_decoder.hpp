// The inverse of quantised_encoder.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/block_format.hpp"
#include "kvferry/codec/rotation.hpp"

#include "coded_order.hpp"
#include "quantised_format.hpp"
#include "tans_streams.hpp"

namespace kvferry {

class QuantisedDecoder {
 public:
  // The rows of a whole block, any bytes whose header is `header`, at the positions of `range`.
  // `plane` is null when the block has no codebook. kMalformed with the offset.
  Status decode(const KvGeometry& geometry, const BlockHeader& header, const CodebookPlane* plane,
                const KvRange& range, RopeTable& rope, Bytes block, MutableBytes rows);

 private:
  // The next entry of the list of escapes.
  struct Escape {
    std::uint64_t index;  // beyond every value when there is none
    std::int16_t value;
  };

  Status parse(const BlockHeader& header, Bytes block);
  Status read_side(const CodebookPlane* plane);
  Status read_values();
  Status read(std::uint32_t id, std::size_t count, std::int16_t* values);
  Status next_escape();
  Status store_first_row(const KvGeometry& geometry, const KvRange& range, RopeTable& rope,
                         MutableBytes row);
  void store_rows(const KvGeometry& geometry, const KvRange& range, RopeTable& rope,
                  MutableBytes rows);
  void sort_tokens(const BlockHeader& header);

  std::size_t channels_ = 0;
  std::size_t tokens_ = 0;  // that are coded: all but position 0
  std::int32_t step_ = 0;
  std::uint8_t flags_ = 0;
  std::uint8_t id_of_ids_ = 0;
  std::int8_t id_bias_ = 0;
  std::uint8_t id_of_means_ = 0;
  ClassCounts class_counts_{};
  ChannelSteps steps_;
  CodedOrder order_;
  TansReader reader_;

  // Parts of the block.
  Bytes first_row_;
  Bytes raw_;
  std::size_t raw_used_ = 0;
  std::size_t raw_offset_ = 0;      // in the block
  std::size_t streams_offset_ = 0;  // likewise
  ByteReader escapes_{Bytes()};
  std::uint64_t escapes_left_ = 0;
  std::size_t escapes_offset_ = 0;
  Escape escape_{};
  std::uint64_t read_count_ = 0;  // values so far

  std::vector<std::uint32_t> tokens_by_class_;  // [tokens]
  std::vector<std::int8_t> symbols_;            // of one segment, and one
  std::vector<std::int16_t> differences_;       // [channels]
  std::vector<std::int16_t> coded_;             // [channels * tokens], in the order of coding
  std::vector<std::uint8_t> ids_;               // [channels]
  std::vector<float> means_;                    // [channels]
  std::vector<std::size_t> run_begins_;         // [channels]
  std::vector<std::int16_t> tile_;
  std::vector<float> row_;
};

}  // namespace kvferry
