// gemm_s8: sums exact for every tile, number of stages and tail; no bank met twice; the launcher.
#include <set>
#include <string>

#include <catch2/catch.hpp>

#include "int8_product.hpp"
#include "kernels/gemm_s8_launch.cuh"

using namespace kvferry::kernels;
using namespace int8_product;
using kvferry_test::DeviceArray;

namespace {

constexpr int kRows[] = {1, 7, 63, 64, 65, 128, 129, 200};
constexpr int kColumns[] = {8, 24, 72, 200, 576, 1, 33};
constexpr int kMaxRows = 200, kMaxColumns = 576;

// The sums as floats: all scales are 1.
std::vector<float> product(const DeviceOperands& o, int m, int n, GemmS8Choice choice) {
  DeviceArray<float> out(static_cast<std::size_t>(m) * n);
  GemmS8Operands view = o.view;
  view.m = m;
  view.n = n;
  const LaunchStatus status = launch_gemm_s8(view, GemmStore{out.data(), nullptr, n}, choice, 0);
  REQUIRE(status.ok());
  return out.values();
}

std::size_t wrong_sums(const Operands& all, const std::vector<float>& got, int m, int n) {
  std::size_t wrong = 0;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      const float expected = static_cast<float>(all.sums[all.index(i, j)]);
      if (!(got[static_cast<std::size_t>(i) * n + j] == expected)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("sums are exact for every tile, number of stages and tail") {
  for (const int k : {64, 128, 576, 1536}) {
    // Smaller shapes are its first rows and columns.
    Operands all(kMaxRows, kMaxColumns, k, static_cast<unsigned>(k));
    std::fill(all.a_scale.begin(), all.a_scale.end(), 1.0f);
    std::fill(all.b_scale.begin(), all.b_scale.end(), 1.0f);
    const DeviceOperands device(all);
    std::size_t turn = static_cast<std::size_t>(k / 64);
    for (const GemmS8Choice choice : every_choice()) {
      for (const int m : kRows) {
        for (std::size_t i = 0; i < sizeof kColumns / sizeof kColumns[0]; ++i) {
          // Where sums are long, one width of each by turns.
          if (k > 64 && i != turn % (sizeof kColumns / sizeof kColumns[0])) continue;
          const int n = kColumns[i];
          CAPTURE(k, m, n, static_cast<int>(choice.tile), choice.stages);
          CHECK(wrong_sums(all, product(device, m, n, choice), m, n) == 0);
        }
        ++turn;
      }
    }
  }
}

TEST_CASE("blocks cover more than one band of 512 columns and several rows of tiles") {
  Operands all(300, 1200, 64, 3);
  std::fill(all.a_scale.begin(), all.a_scale.end(), 1.0f);
  std::fill(all.b_scale.begin(), all.b_scale.end(), 1.0f);
  const DeviceOperands device(all);
  for (const GemmS8Tile tile : kGemmS8Tiles) {
    CAPTURE(static_cast<int>(tile));
    CHECK(wrong_sums(all, product(device, 300, 1200, {tile, 3}), 300, 1200) == 0);
  }
}

#if !defined(__CUDACC__)
TEST_CASE("loads of fragments meet no bank twice") {
  const Operands all(129, 200, 192, 4);
  const DeviceOperands device(all);
  for (const GemmS8Choice choice : every_choice()) {
    simt::take_statistics();
    product(device, 129, 200, choice);
    const simt::Statistics statistics = simt::take_statistics();
    CAPTURE(static_cast<int>(choice.tile), choice.stages);
    CHECK(statistics.matrix_loads > 0);
    CHECK(statistics.bank_conflicts == 0);
  }
}

TEST_CASE("a device with less shared memory takes the choices that fit") {
  const Operands o(4, 8, 64, 6);
  const DeviceOperands device(o);
  const DeviceArray<float> out(32);
  const GemmStore store{out.data(), nullptr, 8};
  const int before = simt::settings().max_shared_bytes;
  simt::settings().max_shared_bytes = 99 * 1024;
  CHECK(launch_gemm_s8(device.view, store, {GemmS8Tile::k128x256, 4}, nullptr).ok());
  const LaunchStatus status =
      launch_gemm_s8(device.view, store, {GemmS8Tile::k128x256, 5}, nullptr);
  REQUIRE(!status.ok());
  CHECK(status.error().code == kvferry::ErrorCode::kUnsupported);
  CHECK(status.error().message.find("122880 bytes") != std::string::npos);
  simt::settings().max_shared_bytes = before;
  // What the runtime says of a launch itself.
  const LaunchStatus failed = launched(cudaErrorInvalidConfiguration, "a launch");
  CHECK(failed.error().code == kvferry::ErrorCode::kInternal);
  CHECK(failed.error().message.find("a launch: ") == 0);
}

TEST_CASE("copies of 16 bytes by eight neighbouring threads fill all banks") {
  for (int first = 0; first < 256; first += 8) {
    std::set<int> banks;
    for (int thread = first; thread < first + 8; ++thread) {
      banks.insert(gemm_place(thread / 4, thread % 4) % 8);
    }
    CHECK(banks.size() == 8);
  }
}
#endif

TEST_CASE("what cannot be computed is refused by name, and nothing is written") {
  const Operands o(4, 8, 64, 5);
  const DeviceOperands device(o);
  DeviceArray<float> out(32);
  const GemmStore store{out.data(), nullptr, 8};
  const auto refusal = [&](const GemmS8Operands& view, const GemmStore& epilogue,
                           const GemmS8Choice& choice) {
    const LaunchStatus status = launch_gemm_s8(view, epilogue, choice, 0);
    REQUIRE(!status.ok());
    CHECK(status.error().code == kvferry::ErrorCode::kInvalidArgument);
    return status.error().message;
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  const auto with = [&](void (*change)(GemmS8Operands&)) {
    GemmS8Operands view = device.view;
    change(view);
    return refusal(view, store, kGemmS8Default);
  };
  CHECK(has(with([](GemmS8Operands& v) { v.m = 0; }), "rows and columns"));
  CHECK(has(with([](GemmS8Operands& v) { v.n = -1; }), "rows and columns"));
  CHECK(has(with([](GemmS8Operands& v) { v.m = 2147483647; }), "rows and columns"));
  CHECK(has(with([](GemmS8Operands& v) { v.k = 0; }), "multiple of 64"));
  CHECK(has(with([](GemmS8Operands& v) { v.k = 32; }), "multiple of 64"));
  CHECK(has(with([](GemmS8Operands& v) { v.k = 1 << 17; }), "multiple of 64"));
  CHECK(has(with([](GemmS8Operands& v) { v.m = v.n = 1 << 30; }), "more tiles"));
  CHECK(has(with([](GemmS8Operands& v) { v.a = nullptr; }), "aligned to 16"));
  CHECK(has(with([](GemmS8Operands& v) { v.b += 8; }), "aligned to 16"));
  CHECK(has(with([](GemmS8Operands& v) { v.a_scale = nullptr; }), "scales"));
  CHECK(has(with([](GemmS8Operands& v) { v.b_scale = nullptr; }), "scales"));
  CHECK(has(refusal(device.view, {nullptr, nullptr, 8}, kGemmS8Default), "epilogue"));
  CHECK(has(refusal(device.view, {out.data() + 1, nullptr, 8}, kGemmS8Default), "epilogue"));
  CHECK(has(refusal(device.view, {out.data(), nullptr, 9}, kGemmS8Default), "epilogue"));
  CHECK(has(refusal(device.view, store, {GemmS8Tile::k64x128, 2}), "stages"));
  CHECK(has(refusal(device.view, store, {GemmS8Tile::k64x128, 6}), "stages"));
  CHECK(has(refusal(device.view, store, {static_cast<GemmS8Tile>(7), 4}), "no such tile"));
  for (const float v : out.values()) CHECK(v != v);
}
