// Shadow: for every four bytes of a range of memory, who wrote and who read them last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace simt {

// A moment is a count of the detector's clock; 0 is before everything.
using Moment = std::uint32_t;

// Who touched memory: block (its place in the order, modulo 2^20), then lane or warp and flags.
struct Cell {
  static constexpr std::uint32_t kBlockShift = 12;
  static constexpr std::uint32_t kLaneMask = 0x3ff;
  static constexpr std::uint32_t kAtomic = 0x400;  // of `writer`
  static constexpr std::uint32_t kSplit = 0x800;   // of `writer`; see Shadow::split
  // Of `reader`: its low five bits are a warp.
  static constexpr std::uint32_t kWarps = 0x400;   // several warps of the block
  static constexpr std::uint32_t kBlocks = 0x800;  // several blocks

  Moment written;
  std::uint32_t writer;
  Moment read;  // the last
  std::uint32_t reader;
  std::uint32_t reading_lanes;  // of the one warp that read
};

// The four bytes of a word that lanes touch one by one.
using SplitCells = std::array<Cell, 4>;

class Shadow {
 public:
  Shadow(const void* base, std::size_t bytes);
  ~Shadow();
  Shadow(Shadow&& other) noexcept;
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;
  Shadow& operator=(Shadow&&) = delete;

  const char* base() const { return base_; }
  std::size_t bytes() const { return bytes_; }
  Cell& cell(std::size_t word) { return cells_[word]; }

 private:
  const char* base_;
  std::size_t bytes_;
  Cell* cells_;  // zero until touched, and not in memory
  std::size_t mapped_bytes_;
};

}  // namespace simt
