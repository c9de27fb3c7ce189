// HandoffDigest: one number over all blocks of a handoff, whatever order they came in.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/hash.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry::wire {

// A sum of hashes needs no memory for the blocks, where sorting them would need a record each (a
// peer may send a million blocks of one token). Each block's record of 21 bytes,
//
//   u16 source, u32 layer, u8 plane, u32 begin, u16 tokens, u64 payload hash,
//
// is hashed with seeds 0 and 1, the hashes are summed modulo 2^64, and the digest is the XXH64 of
// u64 count, u64 sum of seed 0, u64 sum of seed 1. Sums, not exclusive ors: a block that comes
// twice does not cancel out. Like every checksum here it finds accidents, not forgery, which is
// TLS's part.
class HandoffDigest {
 public:
  // `payload_hash`: header.payload_hash of the block's frame.
  void add(std::uint16_t source, const Block& block, std::uint64_t payload_hash) {
    std::vector<std::uint8_t> record;
    record.reserve(21);
    ByteWriter out(record);
    out.u16(source);
    out.u32(block.layer);
    out.u8(static_cast<std::uint8_t>(block.plane));
    out.u32(block.begin);
    out.u16(block.tokens);
    out.u64(payload_hash);
    blocks_ += 1;
    sums_[0] += hash64(record, 0);
    sums_[1] += hash64(record, 1);
  }

  // All blocks of `other` too: the digest of a handoff is that of its sources together.
  void add(const HandoffDigest& other) {
    blocks_ += other.blocks_;
    sums_[0] += other.sums_[0];
    sums_[1] += other.sums_[1];
  }

  std::uint64_t blocks() const { return blocks_; }

  std::uint64_t value() const {
    std::vector<std::uint8_t> summary;
    ByteWriter out(summary);
    out.u64(blocks_);
    out.u64(sums_[0]);
    out.u64(sums_[1]);
    return hash64(summary);
  }

 private:
  std::uint64_t blocks_ = 0;
  std::uint64_t sums_[2] = {0, 0};
};

}  // namespace kvferry::wire
