#include "simt/block.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <cxxabi.h>
#include <dlfcn.h>

#include "simt/observer.hpp"
#include "simt/sanitizer.hpp"

__thread uint3 threadIdx;
__thread uint3 blockIdx;
__thread uint3 blockDim;
__thread uint3 gridDim;

namespace simt {
namespace {

constexpr std::size_t kMaxLanes = 1024;
#if defined(KVFERRY_SIMT_ASAN)
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

__thread BlockRunner* current_runner = nullptr;

// Unwinds the lane that failed; its message is the runner's.
struct LaneFault {};

// The kernel's name where the program exports its symbols, else its address.
std::string name_of(const void* kernel) {
  Dl_info info;
  if (dladdr(kernel, &info) != 0 && info.dli_sname != nullptr && info.dli_saddr == kernel) {
    int status = 0;
    char* readable = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    std::string name = status == 0 ? readable : info.dli_sname;
    std::free(readable);
    return name;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%p", kernel);
  return std::string("kernel at ") + text;
}

}  // namespace

std::string text_of(Site site) {
  if (site.file == nullptr) return "no line";
  const char* name = std::strrchr(site.file, '/');
  return std::string(name == nullptr ? site.file : name + 1) + ":" + std::to_string(site.line);
}

std::string text_of(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " +
         std::to_string(index.z) + ")";
}

BlockRunner::BlockRunner()
    : stacks_(std::make_unique<StackArena>(kMaxLanes + 1, kStackBytes)), lanes_(kMaxLanes) {
  runnable_.reserve(kMaxLanes);
}

BlockRunner::~BlockRunner() = default;

BlockRunner* BlockRunner::current() {
  return current_runner;
}

void BlockRunner::prepare_lanes() {
  const uint3 shape = job_->block;
  const std::size_t count = std::size_t{shape.x} * shape.y * shape.z;
  lanes_.resize(count);
  warps_.resize((count + kWarpLanes - 1) / kWarpLanes);
  runnable_.clear();
  unsigned number = 0;
  for (unsigned z = 0; z < shape.z; ++z) {
    for (unsigned y = 0; y < shape.y; ++y) {
      for (unsigned x = 0; x < shape.x; ++x) {
        Lane& lane = lanes_[number];
        lane.context = stacks_->fresh(number, &BlockRunner::lane_entry);
        lane.index = uint3{x, y, z};
        lane.number = number++;
        lane.has_exited = false;
        lane.waits_in = nullptr;
        lane.copies.clear();
        lane.group_ends.clear();
        runnable_.push_back(&lane);
      }
    }
  }
  for (std::size_t w = 0; w < warps_.size(); ++w) {
    const std::size_t lanes = std::min<std::size_t>(kWarpLanes, count - w * kWarpLanes);
    warps_[w].present = lanes == kWarpLanes ? 0xffffffffu : (1u << lanes) - 1;
    warps_[w].exited = 0;
    warps_[w].meeting_count = 0;
  }
}

std::string BlockRunner::run(const LaunchJob& job, uint3 index, std::size_t order) {
  job_ = &job;
  order_ = order;
  at_barrier_ = 0;
  error_.clear();
  random_ = Random(job.seed + 0x632be59bd9b4e019u * (order + 1));
  ::blockIdx = index;
  ::blockDim = job.block;
  ::gridDim = job.grid;
  prepare_lanes();
  shared_.begin_block(job.shared_bytes);
  if (observer() != nullptr) observer()->block_begins(order, lanes_.size());
  current_runner = this;
  Lane* first = runnable_[random_.below(static_cast<std::uint32_t>(runnable_.size()))];
  std::swap(*std::find(runnable_.begin(), runnable_.end(), first), runnable_.back());
  runnable_.pop_back();
  resume(&scheduler_, *first);
  current_runner = nullptr;
  if (!error_.empty()) {
    // Fibers that were left where they stood never unwind.
    for (std::size_t i = 0; i < stacks_->count(); ++i) {
      unpoison(stacks_->bottom(i), stacks_->stack_bytes());
    }
  } else if (!shared_.is_intact()) {
    error_ = name_of(job.kernel) + ", block " + text_of(index) + ": something was written past " +
             "the end of shared memory of " + std::to_string(job.shared_bytes) + " bytes";
  }
  ++statistics_.blocks;
  return error_;
}

void BlockRunner::resume(Context* from, Lane& lane) {
  lane_ = &lane;
  ::threadIdx = lane.index;
  ++statistics_.switches;
#if defined(KVFERRY_SIMT_ASAN)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stacks_->bottom(lane.number), kStackBytes);
#endif
  switch_fiber(from, lane.context);
#if defined(KVFERRY_SIMT_ASAN)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void BlockRunner::lane_entry() {
  BlockRunner& runner = *current_runner;
#if defined(KVFERRY_SIMT_ASAN)
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (runner.runnable_.size() + 1 == runner.lanes_.size() && runner.host_stack_bytes_ == 0) {
    runner.host_stack_bottom_ = bottom;  // the first lane comes from the host's stack
    runner.host_stack_bytes_ = bytes;
  }
#endif
  try {
    (*runner.job_->body)();
    runner.exit_lane();
  } catch (const LaneFault&) {
  }
  runner.stop();
}

void BlockRunner::exit_lane() {
  if (!lane_->copies.empty()) {
    fail("the kernel's end", Site{}, "leaves with asynchronous copies outstanding");
  }
  Warp& own = warp();
  own.exited |= 1u << warp_lane();
  for (unsigned i = 0; i < own.meeting_count; ++i) {
    const Meeting& meeting = own.meetings[i];
    if ((meeting.mask & own.exited) != 0) {
      fail(meeting.operation, meeting.site,
           "this thread exits while others of the mask wait for it");
    }
  }
  lane_->has_exited = true;
  leave();
}

void BlockRunner::leave() {
  if (runnable_.empty()) {
    const bool all_done =
        std::all_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.has_exited; });
    if (!all_done) fail("the scheduler", Site{}, "no thread can run: " + census());
    return;
  }
  Context ended;
  const std::uint32_t pick = random_.below(static_cast<std::uint32_t>(runnable_.size()));
  Lane* next = runnable_[pick];
  runnable_[pick] = runnable_.back();
  runnable_.pop_back();
  resume(&ended, *next);
}

void BlockRunner::stop() {
  Context ended;
#if defined(KVFERRY_SIMT_ASAN)
  __sanitizer_start_switch_fiber(nullptr, host_stack_bottom_, host_stack_bytes_);
#endif
  switch_fiber(&ended, scheduler_);
  __builtin_unreachable();
}

void BlockRunner::note_error(const char* operation, Site site, const std::string& what) {
  error_ = name_of(job_->kernel) + ", block " + text_of(::blockIdx) + ", thread " +
           text_of(lane_->index) + ": " + operation +
           (site.file != nullptr ? " at " + text_of(site) : "") + ": " + what;
}

void BlockRunner::fail(const char* operation, Site site, const std::string& what) {
  note_error(operation, site, what);
  throw LaneFault{};
}

void BlockRunner::fail_at_once(const char* operation, Site site, const std::string& what) {
  note_error(operation, site, what);
  stop();
}

void BlockRunner::make_runnable(Lane& lane) {
  lane.waits_in = nullptr;
  runnable_.push_back(&lane);
}

void BlockRunner::wait(const char* operation, Site site) {
  lane_->waits_in = operation;
  lane_->waits_at = site;
  if (runnable_.empty()) fail(operation, site, "no thread can run: " + census());
  const std::uint32_t pick = random_.below(static_cast<std::uint32_t>(runnable_.size()));
  Lane* next = runnable_[pick];
  runnable_[pick] = runnable_.back();
  runnable_.pop_back();
  resume(&lane_->context, *next);
}

void BlockRunner::barrier(Site site) {
  const char* const operation = "__syncthreads";
  if (at_barrier_ != 0 && site != barrier_site_) {
    fail(operation, site, "divergent barrier: others wait at " + text_of(barrier_site_));
  }
  barrier_site_ = site;
  if (++at_barrier_ < lanes_.size()) {
    wait(operation, site);
    return;
  }
  at_barrier_ = 0;
  for (Lane& lane : lanes_) {
    if (&lane != lane_) make_runnable(lane);
  }
  if (observer() != nullptr) observer()->barrier();
}

void BlockRunner::check_mask(const char* operation, std::uint32_t mask, Site site) {
  const Warp& own = warp();
  const auto refuse = [&](const std::string& what) {
    char text[16];
    std::snprintf(text, sizeof text, "0x%08x", mask);
    fail(operation, site, std::string("mask ") + text + " " + what);
  };
  if ((mask >> warp_lane() & 1u) == 0) refuse("does not name the caller");
  if ((mask & ~own.present) != 0) refuse("names lanes that the block does not have");
  if ((mask & own.exited) != 0) refuse("names a lane that has exited");
}

void BlockRunner::meet(const char* operation, std::uint32_t mask, Site site, void* slot,
                       Combine combine) {
  Warp& own = warp();
  if ((mask >> warp_lane() & 1u) == 0 || (mask & (~own.present | own.exited)) != 0) {
    check_mask(operation, mask, site);
  }
  Meeting* meeting = nullptr;
  for (unsigned i = 0; i < own.meeting_count; ++i) {
    Meeting& open = own.meetings[i];
    if ((open.mask & mask) == 0) continue;
    if (open.mask != mask || std::strcmp(open.operation, operation) != 0 || open.site != site) {
      char text[64];
      std::snprintf(text, sizeof text, "mask 0x%08x, they 0x%08x", mask, open.mask);
      fail(operation, site,
           "other lanes of the mask wait in " + std::string(open.operation) + " at " +
               text_of(open.site) + " (" + text + ")");
    }
    meeting = &open;
  }
  if (meeting == nullptr) {
    meeting = &own.meetings[own.meeting_count++];
    meeting->operation = operation;
    meeting->site = site;
    meeting->mask = mask;
    meeting->arrived = 0;
    std::fill(std::begin(meeting->slots), std::end(meeting->slots), nullptr);
  }
  meeting->slots[warp_lane()] = slot;
  meeting->arrived |= 1u << warp_lane();
  if (meeting->arrived != mask) {
    wait(operation, site);
    return;
  }
  if (combine != nullptr) combine(meeting->slots, mask);
  Lane* first = lane_ - warp_lane();
  for (std::uint32_t left = mask & ~(1u << warp_lane()); left != 0; left &= left - 1) {
    make_runnable(first[__builtin_ctz(left)]);
  }
  *meeting = own.meetings[--own.meeting_count];
}

void BlockRunner::await_turn() {
  job_->await_turn(order_);
}

std::string BlockRunner::census() const {
  std::map<std::string, unsigned> counts;
  for (const Lane& lane : lanes_) {
    if (lane.has_exited) {
      ++counts["have exited"];
    } else if (lane.waits_in != nullptr) {
      ++counts[std::string("wait in ") + lane.waits_in + " at " + text_of(lane.waits_at)];
    }
  }
  std::string text;
  for (const auto& entry : counts) {
    text += (text.empty() ? "" : ", ") + std::to_string(entry.second) + " " + entry.first;
  }
  return text;
}

}  // namespace simt
