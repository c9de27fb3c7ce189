#include "race/detector.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include <dlfcn.h>

#include "simt/block.hpp"

namespace simt {
namespace {

constexpr std::uint32_t kBlockMask = 0xfffff;
// Stands for lanes of several warps: only a barrier orders what they did.
constexpr std::uint32_t kNoLane = 0xffff;

// "file:line" of an instruction, by addr2line where there is one.
std::string line_of(const void* code) {
  Dl_info info;
  if (code == nullptr || dladdr(code, &info) == 0) return "";
  const auto offset = static_cast<std::size_t>(static_cast<const char*>(code) -
                                               static_cast<const char*>(info.dli_fbase)) -
                      1;
  char command[512];
  std::snprintf(command, sizeof command, "addr2line -s -e '%s' 0x%zx 2>&1", info.dli_fname, offset);
  std::FILE* output = popen(command, "r");
  if (output == nullptr) return "";
  char line[256] = {};
  if (std::fgets(line, sizeof line, output) == nullptr) line[0] = '\0';
  pclose(output);
  line[std::strcspn(line, " \n")] = '\0';
  return std::string(" at ") + line;
}

const char* verb(Access kind) {
  return kind == Access::kRead ? "reads" : kind == Access::kWrite ? "writes" : "updates";
}

}  // namespace

void Detector::launch_begins() {
  launch_start_ = ++now_;
  published_.clear();
  splits_.clear();
}

void Detector::block_begins(std::size_t order, std::size_t lanes) {
  block_ = static_cast<std::uint32_t>(order) & kBlockMask;
  block_start_ = last_barrier_ = ++now_;
  has_fenced_ = false;
  clock_.assign(lanes, now_);
  known_.assign(lanes, std::array<Moment, kWarpLanes>{});
  block_acquired_.clear();
  lane_acquired_.clear();
}

void Detector::barrier() {
  last_barrier_ = ++now_;
  std::fill(clock_.begin(), clock_.end(), now_);
  for (const auto& entry : lane_acquired_) {
    block_acquired_.insert(entry.second.begin(), entry.second.end());
  }
  lane_acquired_.clear();
}

void Detector::warp_barrier(std::size_t first_lane, std::uint32_t mask) {
  std::array<Moment, kWarpLanes> known = {};
  Releases acquired;
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(left));
    const std::size_t lane = first_lane + i;
    for (unsigned j = 0; j < kWarpLanes; ++j) known[j] = std::max(known[j], known_[lane][j]);
    known[i] = std::max(known[i], clock_[lane]);
    const auto found = lane_acquired_.find(static_cast<std::uint32_t>(lane));
    if (found != lane_acquired_.end()) {
      acquired.insert(found->second.begin(), found->second.end());
    }
  }
  ++now_;
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const std::size_t lane = first_lane + static_cast<unsigned>(__builtin_ctz(left));
    known_[lane] = known;
    clock_[lane] = now_;
    if (!acquired.empty()) lane_acquired_[static_cast<std::uint32_t>(lane)] = acquired;
  }
}

void Detector::fence() {
  has_fenced_ = true;
}

void Detector::memory_freed(const void* base, std::size_t) {
  global_.erase(base);
  last_global_ = nullptr;
}

void Detector::access(Access kind, const void* pointer, std::size_t size, Site site) {
  BlockRunner* runner = BlockRunner::current();
  const Current current = {runner,
                           kind,
                           static_cast<const char*>(pointer),
                           site,
                           nullptr,
                           runner->shared().holds(pointer, size),
                           runner->lane().number};
  if (current.is_shared) {
    if (shared_ == nullptr) {
      shared_ = std::make_unique<Shadow>(runner->shared().end() - SharedMemory::kMaxBytes,
                                         SharedMemory::kMaxBytes);
    }
    touch(*shared_, current, size);
    return;
  }
  const Allocation* allocation = find_allocation(*runner->job().memory, pointer, size);
  if (allocation == nullptr) return;  // checked by who called
  touch(shadow_of(*allocation), current, size);
  if (kind == Access::kAtomic) synchronise(current);
}

void Detector::instrumented_access(Access kind, const void* pointer, std::size_t size,
                                   std::size_t alignment, const void* code) {
  BlockRunner* runner = BlockRunner::current();
  if (runner == nullptr) return;
  Current current = {runner,
                     kind,
                     static_cast<const char*>(pointer),
                     Site{},
                     code,
                     runner->shared().is_near(pointer),
                     runner->lane().number};
  Shadow* shadow = nullptr;
  if (current.is_shared) {
    if (!runner->shared().holds(pointer, size)) report(current, "outside shared memory");
    if (shared_ == nullptr) {
      shared_ = std::make_unique<Shadow>(runner->shared().end() - SharedMemory::kMaxBytes,
                                         SharedMemory::kMaxBytes);
    }
    shadow = shared_.get();
  } else if (last_global_ != nullptr && current.pointer >= last_global_->base() &&
             current.pointer + size <= last_global_->base() + last_global_->bytes()) {
    shadow = last_global_;
  } else {
    const Allocation* allocation = find_mapping(*runner->job().memory, pointer);
    if (allocation == nullptr) return;  // the lane's stack, constants
    if (find_allocation(*runner->job().memory, pointer, size) == nullptr) {
      report(current, "outside an allocation of " + std::to_string(allocation->bytes) + " bytes");
    }
    shadow = &shadow_of(*allocation);
  }
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0) {
    report(current, "at an address that is not a multiple of " + std::to_string(alignment));
  }
  touch(*shadow, current, size);
}

Shadow& Detector::shadow_of(const Allocation& allocation) {
  const auto found = global_.find(allocation.base);
  Shadow& shadow = found != global_.end()
                       ? found->second
                       : global_.emplace(allocation.base, Shadow(allocation.base, allocation.bytes))
                             .first->second;
  last_global_ = &shadow;
  return shadow;
}

void Detector::touch(Shadow& shadow, const Current& current, std::size_t size) {
  // What an earlier block left in shared memory, and an earlier launch elsewhere, does not count.
  const Moment valid_from = current.is_shared ? block_start_ : launch_start_;
  auto at = static_cast<std::size_t>(current.pointer - shadow.base());
  const std::size_t end = at + size;
  while (at < end) {
    Cell& cell = shadow.cell(at / 4);
    const std::size_t next = std::min(end, (at / 4 + 1) * 4);
    const bool is_split = (cell.writer & Cell::kSplit) != 0 && cell.read >= valid_from;
    if (!is_split && next - at == 4) {
      if ((cell.writer & Cell::kSplit) != 0) cell = Cell{};
      look_at(cell, current, valid_from);
    } else {
      SplitCells& bytes = split(cell, valid_from);
      for (std::size_t i = at; i < next; ++i) look_at(bytes[i % 4], current, valid_from);
    }
    at = next;
  }
}

// A split cell: `written` is the index of its four cells, `read` the moment of the split.
SplitCells& Detector::split(Cell& cell, Moment valid_from) {
  if ((cell.writer & Cell::kSplit) != 0 && cell.read >= valid_from) return splits_[cell.written];
  if ((cell.writer & Cell::kSplit) != 0) cell = Cell{};
  splits_.push_back(SplitCells{cell, cell, cell, cell});
  cell = Cell{static_cast<Moment>(splits_.size() - 1), Cell::kSplit, now_, 0, 0};
  return splits_.back();
}

bool Detector::is_ordered(Moment moment, std::uint32_t block, std::uint32_t lane,
                          const Current& current) const {
  if (block == block_) {
    if (moment < last_barrier_ || lane == current.lane) return true;
    return lane / kWarpLanes == current.lane / kWarpLanes &&
           known_[current.lane][lane % kWarpLanes] >= moment;
  }
  const auto covered_by = [&](const Releases& releases) {
    return std::any_of(releases.begin(), releases.end(), [&](const auto& release) {
      return release->block == block &&
             (moment < release->barrier ||
              (release->warp == lane / kWarpLanes && release->known[lane % kWarpLanes] >= moment));
    });
  };
  const auto own = lane_acquired_.find(current.lane);
  return covered_by(block_acquired_) || (own != lane_acquired_.end() && covered_by(own->second));
}

bool Detector::reads_are_ordered(const Cell& cell, const Current& current) const {
  if ((cell.reader & Cell::kBlocks) != 0) return false;
  const std::uint32_t block = cell.reader >> Cell::kBlockShift;
  if ((cell.reader & Cell::kWarps) != 0) {
    return is_ordered(cell.read, block, kNoLane, current);
  }
  const std::uint32_t first = (cell.reader & (kWarpLanes - 1)) * kWarpLanes;
  for (std::uint32_t left = cell.reading_lanes; left != 0; left &= left - 1) {
    const auto lane = first + static_cast<unsigned>(__builtin_ctz(left));
    if (!is_ordered(cell.read, block, lane, current)) return false;
  }
  return true;
}

void Detector::note_read(Cell& cell, const Current& current, Moment valid_from) const {
  const std::uint32_t warp = current.lane / kWarpLanes;
  const std::uint32_t mine = block_ << Cell::kBlockShift | warp;
  const std::uint32_t bit = 1u << current.lane % kWarpLanes;
  const Moment clock = clock_[current.lane];
  if (cell.read < valid_from || reads_are_ordered(cell, current)) {
    cell.reader = mine;
    cell.reading_lanes = bit;
    cell.read = clock;
    return;
  }
  if ((cell.reader & Cell::kBlocks) != 0 || cell.reader >> Cell::kBlockShift != block_) {
    cell.reader = Cell::kBlocks;
  } else if (cell.reader == mine) {
    cell.reading_lanes |= bit;
  } else {
    cell.reader = block_ << Cell::kBlockShift | Cell::kWarps;
  }
  cell.read = std::max(cell.read, clock);
}

void Detector::look_at(Cell& cell, const Current& current, Moment valid_from) {
  const bool both_atomic = current.kind == Access::kAtomic && (cell.writer & Cell::kAtomic) != 0;
  if (cell.written >= valid_from && !both_atomic &&
      !is_ordered(cell.written, cell.writer >> Cell::kBlockShift, cell.writer & Cell::kLaneMask,
                  current)) {
    report(current, std::string("which ") + other_thread(cell.writer) +
                        ((cell.writer & Cell::kAtomic) != 0 ? " updates" : " writes") +
                        " in no order with it");
  }
  if (current.kind == Access::kRead) {
    note_read(cell, current, valid_from);
    return;
  }
  if (cell.read >= valid_from && !reads_are_ordered(cell, current)) {
    report(current, "which another thread reads in no order with it");
  }
  cell.written = clock_[current.lane];
  cell.writer = block_ << Cell::kBlockShift | current.lane |
                (current.kind == Access::kAtomic ? Cell::kAtomic : 0);
  cell.read = 0;
}

void Detector::synchronise(const Current& current) {
  Releases& published = published_[current.pointer];
  Releases& acquired = lane_acquired_[current.lane];
  acquired.insert(published.begin(), published.end());
  if (!has_fenced_) return;
  auto release = std::make_shared<Release>();
  release->block = block_;
  release->barrier = last_barrier_;
  release->warp = current.lane / kWarpLanes;
  release->known = known_[current.lane];
  release->known[current.lane % kWarpLanes] = clock_[current.lane];
  clock_[current.lane] = ++now_;
  published.insert(block_acquired_.begin(), block_acquired_.end());
  published.insert(acquired.begin(), acquired.end());
  published.insert(std::move(release));
}

std::string Detector::other_thread(std::uint32_t who) const {
  if (who >> Cell::kBlockShift != block_) return "another block";
  return "thread " + std::to_string(who & Cell::kLaneMask) + " of the block";
}

void Detector::report(const Current& current, const std::string& what) {
  std::string where;
  if (current.is_shared) {
    where = "byte " + std::to_string(current.pointer - current.runner->shared().base()) +
            " of shared memory";
  } else {
    const Allocation* near = find_mapping(*current.runner->job().memory, current.pointer);
    where = "byte " + std::to_string(current.pointer - near->base) + " of an allocation of " +
            std::to_string(near->bytes) + " bytes";
  }
  current.runner->fail_at_once(
      "race build", current.site,
      std::string(verb(current.kind)) + line_of(current.code) + " " + where + ", " + what);
}

}  // namespace simt
