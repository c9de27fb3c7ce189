// One tile of gemm_s8 with every epilogue and all its tails, in a second: planted bugs are tried on
// this (mutations.json).
#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"

#include "int8_product.hpp"
#include "rope_rows.hpp"

using namespace kvferry::kernels;
using namespace int8_product;
using kvferry_test::DeviceArray;

namespace {

using Tile = GemmS8Traits<128, 128, 3, 2>;

template <typename Epilogue>
void run(const DeviceOperands& device, const Epilogue& epilogue) {
  REQUIRE(launch_gemm_s8_tile<Tile>(device.view, epilogue, "a tile", nullptr).ok());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
}

}  // namespace

TEST_CASE("a tile stores sums and adds them to a residual, to the bit") {
  // More than one band of 512 columns; an odd last one; more slices than stages.
  const Operands o(131, 643, 320, 81);
  const DeviceOperands device(o);
  const DeviceArray<float> out(o.sums.size());
  const DeviceArray<float> hidden(std::vector<float>(o.sums.size(), 2.5f));
  simt::take_statistics();
  run(device, GemmStore{out.data(), nullptr, o.n});
  CHECK(simt::take_statistics().bank_conflicts == 0);
  run(device, GemmAddResidual{hidden.data(), o.n});
  std::vector<float> stored, added;
  for (int i = 0; i < o.m; ++i) {
    for (int j = 0; j < o.n; ++j) {
      stored.push_back(std::fma(o.scaled(i, j), o.b_scale[static_cast<std::size_t>(j)], 0.0f));
      added.push_back(std::fma(o.scaled(i, j), o.b_scale[static_cast<std::size_t>(j)], 2.5f));
    }
  }
  CHECK(differences(out.values(), stored) == 0);
  CHECK(differences(hidden.values(), added) == 0);
}

TEST_CASE("a tile multiplies silu of a gate with its neighbour") {
  const Operands o(70, 40, 64, 82);
  const DeviceOperands device(o);
  const DeviceArray<__half> out(o.sums.size() / 2);
  run(device, GemmSwiGlu{out.data(), o.n});
  const std::vector<__half> got = out.values();
  std::size_t wrong = 0;
  for (int i = 0; i < o.m; ++i) {
    for (int j = 0; j < o.n; j += 2) {
      const double gate = o.exact(i, j);
      const double exact = gate / (1.0 + std::exp(-gate)) * o.exact(i, j + 1);
      const double error = std::fabs(__half2float(got[o.index(i, j) / 2]) - exact);
      wrong += !(error <= std::fabs(exact) * 6e-4 + 1e-7);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a tile writes rotated heads into caches") {
  const rope_rows::Shape shape{3, 2, 64, 48, true};
  const rope_rows::Rows batch(shape, 70, 83);
  const Operands model(70, shape.columns(), 64, 84);
  Operands paired = model;
  for (int c = 0; c < model.n; ++c) {
    const int from = shape.channel_of_column(c);
    std::copy_n(model.b.begin() + from * 64, 64, paired.b.begin() + c * 64);
    paired.b_scale[static_cast<std::size_t>(c)] = model.b_scale[static_cast<std::size_t>(from)];
  }
  const DeviceOperands device(paired);
  const rope_rows::DeviceRows to(batch);
  run(device, GemmRopeWrite{to.q.data(), nullptr, to.cache(), to.rotation(), 3, 2});
  CHECK(to.different(batch, [&](int row, int channel) {
    return std::fma(model.scaled(row, channel), model.b_scale[static_cast<std::size_t>(channel)],
                    0.0f);
  }) == 0);
}
