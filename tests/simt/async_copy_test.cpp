// cp.async: what lands when, and that a kernel that does not wait is found.
#include <vector>

#include <catch2/catch.hpp>

#include "kernels/ptx.cuh"
#include "kernels/shared_storage.cuh"
#include "tests/simt/device_array.hpp"
#include "tests/simt/expect_fault.hpp"

namespace kvferry_test {
namespace {

namespace ptx = kvferry::kernels::ptx;

struct Stage {
  uint4 rows[4][32];
};

std::vector<unsigned> counted() {
  std::vector<unsigned> values(4 * 32 * 4);
  for (unsigned i = 0; i < values.size(); ++i) values[i] = i + 1;
  return values;
}

// What the first word of the lane's row holds after the groups of copies up to `waited` have been
// waited for.
template <int kOutstanding>
void copy_and_look(const unsigned* from, unsigned* seen) {
  Stage& stage = kvferry::kernels::shared_storage<Stage>();
  const unsigned lane = threadIdx.x;
  for (unsigned group = 0; group < 4; ++group) {
    ptx::cp_async_16(&stage.rows[group][lane], from + (group * 32 + lane) * 4, group != 1);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<kOutstanding>();
  for (unsigned group = 0; group < 4; ++group) {
    seen[group * 32 + lane] = stage.rows[group][lane].x;
  }
  ptx::cp_async_wait<0>();
}

TEST_CASE("copies land in order at the wait, zeros for what is not valid") {
  const DeviceArray<unsigned> from(counted());
  const DeviceArray<unsigned> seen(4 * 32);
  const unsigned* const in = from.data();
  unsigned* const out = seen.data();
#if !defined(__SANITIZE_THREAD__)  // the race build refuses to look before the wait
  expect_clean(
      32, [in, out] { copy_and_look<2>(in, out); }, sizeof(Stage));
  for (unsigned i = 0; i < 128; ++i) {
    CHECK(seen.values()[i] == (i < 32 ? i * 4 + 1 : i < 64 ? 0u : 0xffffffffu));
  }
#endif
  expect_clean(
      32, [in, out] { copy_and_look<0>(in, out); }, sizeof(Stage));
  for (unsigned i = 0; i < 128; ++i) CHECK(seen.values()[i] == (i / 32 == 1 ? 0 : i * 4 + 1));
}

TEST_CASE("a kernel that leaves copies outstanding") {
  const DeviceArray<unsigned> from(counted());
  const unsigned* const in = from.data();
  expect_fault(
      "leaves with asynchronous copies outstanding", 32,
      [in] {
        Stage& stage = kvferry::kernels::shared_storage<Stage>();
        ptx::cp_async_16(&stage.rows[0][threadIdx.x], in + threadIdx.x * 4);
        ptx::cp_async_commit();
        ptx::cp_async_wait<1>();
      },
      sizeof(Stage));
}

TEST_CASE("a copy that is misaligned or outside memory") {
  const DeviceArray<unsigned> from(counted());
  const unsigned* const in = from.data();
  const auto copy = [in](unsigned shared_word, unsigned global_word) {
    return [=] {
      auto* words = reinterpret_cast<unsigned*>(&kvferry::kernels::shared_storage<Stage>());
      ptx::cp_async_16(words + shared_word, in + global_word);
      ptx::cp_async_wait<0>();
    };
  };
  expect_fault("cp_async_16 at async_copy_test.cpp:", 1, copy(2, 0), sizeof(Stage));
  expect_fault("not a multiple of 16", 1, copy(2, 0), sizeof(Stage));
  expect_fault("not a multiple of 16", 1, copy(0, 2), sizeof(Stage));
  expect_fault("outside shared memory", 1, copy(512, 0), sizeof(Stage));
  expect_fault("outside global memory", 1, copy(0, 512), sizeof(Stage));
}

}  // namespace
}  // namespace kvferry_test
