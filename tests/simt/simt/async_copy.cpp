// cp.async: copies that land when the lane waits for them.
#include <cstring>

#include "simt/block.hpp"
#include "simt/memory_access.hpp"
#include "simt/observer.hpp"
#include "simt/ptx.hpp"

namespace simt {
namespace {

constexpr std::size_t kCopyBytes = 16;

// The race build sees the destination written when the copy is issued and again when it lands, so
// that whoever touches it in between is found.
void observe(const PendingCopy& copy) {
  if (observer() == nullptr) return;
  if (copy.is_valid) observer()->access(Access::kRead, copy.global, kCopyBytes, copy.site);
  observer()->access(Access::kWrite, copy.shared, kCopyBytes, copy.site);
}

}  // namespace

void cp_async_16(void* shared, const void* global, bool is_valid, Site site) {
  check_shared(shared, kCopyBytes, kCopyBytes, "cp_async_16", site);
  check_global(global, is_valid ? kCopyBytes : 0, kCopyBytes, "cp_async_16", site);
  const PendingCopy copy = {shared, global, is_valid, site};
  observe(copy);
  std::memset(shared, 0xff, kCopyBytes);
  BlockRunner::current()->lane().copies.push_back(copy);
}

void cp_async_commit() {
  Lane& lane = BlockRunner::current()->lane();
  lane.group_ends.push_back(lane.copies.size());
}

void cp_async_wait(int groups) {
  Lane& lane = BlockRunner::current()->lane();
  const auto left = static_cast<std::size_t>(groups);
  if (lane.group_ends.size() <= left) return;
  const std::size_t landed = lane.group_ends.size() - left;
  const std::size_t copies = lane.group_ends[landed - 1];
  for (std::size_t i = 0; i < copies; ++i) {
    const PendingCopy& copy = lane.copies[i];
    observe(copy);
    if (copy.is_valid) {
      std::memcpy(copy.shared, copy.global, kCopyBytes);
    } else {
      std::memset(copy.shared, 0, kCopyBytes);
    }
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<std::ptrdiff_t>(copies));
  lane.group_ends.erase(lane.group_ends.begin(),
                        lane.group_ends.begin() + static_cast<std::ptrdiff_t>(landed));
  for (std::size_t& end : lane.group_ends) end -= copies;
}

}  // namespace simt
