// Barriers, shuffles and votes.
#include "simt/block.hpp"
#include "simt/observer.hpp"
#include "simt/warp_functions.hpp"

namespace simt {
namespace {

struct ShuffleSlot {
  std::uint64_t value;
  std::uint64_t result;
  unsigned source;
};

struct VoteSlot {
  unsigned value;
  unsigned result;
};

void combine_shuffle(void* const (&slots)[kWarpLanes], std::uint32_t mask) {
  for (; mask != 0; mask &= mask - 1) {
    auto* slot = static_cast<ShuffleSlot*>(slots[__builtin_ctz(mask)]);
    slot->result = static_cast<const ShuffleSlot*>(slots[slot->source])->value;
  }
}

void combine_ballot(void* const (&slots)[kWarpLanes], std::uint32_t mask) {
  unsigned ballot = 0;
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const auto lane = static_cast<unsigned>(__builtin_ctz(left));
    ballot |= static_cast<const VoteSlot*>(slots[lane])->value << lane;
  }
  for (; mask != 0; mask &= mask - 1) {
    static_cast<VoteSlot*>(slots[__builtin_ctz(mask)])->result = ballot;
  }
}

// The lane that a shuffle reads: its own where the distance leads out of its segment.
unsigned source_lane(Shuffle kind, unsigned lane, int argument, int width) {
  const unsigned segment = static_cast<unsigned>(width);
  const unsigned first = lane / segment * segment;
  const unsigned within = lane - first;
  const unsigned amount = static_cast<unsigned>(argument);
  switch (kind) {
    case Shuffle::kIndex:
      return first + (amount & (segment - 1));
    case Shuffle::kUp:
      return amount > within ? lane : lane - amount;
    case Shuffle::kDown:
      return amount >= segment - within ? lane : lane + amount;
    case Shuffle::kXor:
      break;
  }
  // A lane may read a segment below its own, but none above.
  const unsigned other = lane ^ amount;
  return other >= first + segment ? lane : other;
}

const char* name_of(Shuffle kind) {
  switch (kind) {
    case Shuffle::kIndex:
      return "__shfl_sync";
    case Shuffle::kUp:
      return "__shfl_up_sync";
    case Shuffle::kDown:
      return "__shfl_down_sync";
    case Shuffle::kXor:
      break;
  }
  return "__shfl_xor_sync";
}

}  // namespace

void sync_threads(Site site) {
  BlockRunner::current()->barrier(site);
}

void sync_warp(unsigned mask, Site site) {
  BlockRunner& runner = *BlockRunner::current();
  runner.meet("__syncwarp", mask, site, nullptr, [](void* const(&)[kWarpLanes], std::uint32_t met) {
    if (observer() == nullptr) return;
    const unsigned number = BlockRunner::current()->lane().number;
    observer()->warp_barrier(number - number % kWarpLanes, met);
  });
}

std::uint64_t shuffle(Shuffle kind, unsigned mask, std::uint64_t bits, int argument, int width,
                      Site site) {
  BlockRunner& runner = *BlockRunner::current();
  const char* operation = name_of(kind);
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    runner.fail(operation, site, "width " + std::to_string(width) + " is not a power of two to 32");
  }
  ShuffleSlot slot = {bits, 0, 0};
  slot.source = source_lane(kind, runner.lane().number % kWarpLanes, argument, width);
  if (slot.source >= kWarpLanes || (mask >> slot.source & 1u) == 0) {
    runner.fail(operation, site,
                "reads lane " + std::to_string(slot.source) + ", which is not in the mask");
  }
  runner.meet(operation, mask, site, &slot, &combine_shuffle);
  return slot.result;
}

unsigned vote(Vote kind, unsigned mask, bool predicate, Site site) {
  VoteSlot slot = {predicate ? 1u : 0u, 0};
  const char* operation = kind == Vote::kBallot ? "__ballot_sync"
                          : kind == Vote::kAny  ? "__any_sync"
                                                : "__all_sync";
  BlockRunner::current()->meet(operation, mask, site, &slot, &combine_ballot);
  if (kind == Vote::kBallot) return slot.result;
  return kind == Vote::kAny ? slot.result != 0 : slot.result == mask;
}

void fence() {
  if (observer() != nullptr) observer()->fence();
}

}  // namespace simt
