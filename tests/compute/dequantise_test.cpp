// Every quantisation against values that the `gguf` Python package computed
// (golden/dequant/generate.py), bit for bit.
#include "kvferry/compute/dequantise.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/core/half.hpp"

using namespace kvferry;

namespace {

constexpr TensorType kTypes[] = {TensorType::kF32,  TensorType::kF16,  TensorType::kBF16,
                                 TensorType::kQ4_0, TensorType::kQ4_1, TensorType::kQ5_0,
                                 TensorType::kQ5_1, TensorType::kQ8_0, TensorType::kQ4_K,
                                 TensorType::kQ5_K, TensorType::kQ6_K};

struct Golden {
  std::vector<std::uint8_t> blocks;
  std::vector<std::uint32_t> values;  // bits of F32
};

std::vector<std::uint8_t> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::vector<std::uint8_t>((std::istreambuf_iterator<char>(in)),
                                   std::istreambuf_iterator<char>());
}

Golden golden(TensorType type) {
  std::string name = name_of(type);
  for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  const std::string path = KVFERRY_GOLDEN_DIR "/dequant/" + name;
  Golden g;
  g.blocks = read_file(path + ".blocks");
  const std::vector<std::uint8_t> bytes = read_file(path + ".f32");
  for (std::size_t i = 0; i + 4 <= bytes.size(); i += 4) {
    g.values.push_back(static_cast<std::uint32_t>(bytes[i] | bytes[i + 1] << 8) |
                       static_cast<std::uint32_t>(bytes[i + 2] | bytes[i + 3] << 8) << 16);
  }
  return g;
}

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> out;
  out.reserve(values.size());
  for (const float v : values) out.push_back(float_bits(v));
  return out;
}

}  // namespace

TEST_CASE("every quantisation gives the reference's bits") {
  for (const TensorType type : kTypes) {
    INFO(name_of(type));
    const Golden g = golden(type);
    REQUIRE(g.values.size() >= 512);
    REQUIRE(g.blocks.size() * block_values(type) == g.values.size() * block_bytes(type));
    // An odd address and a fence behind, both of which must not matter.
    std::vector<std::uint8_t> shifted(g.blocks.size() + 1, 0);
    std::copy(g.blocks.begin(), g.blocks.end(), shifted.begin() + 1);
    std::vector<float> out(g.values.size() + 1, std::numeric_limits<float>::quiet_NaN());
    out.back() = 12345.0f;
    dequantise(type, Bytes(shifted).subspan(1), Span<float>(out).first(g.values.size()));
    CHECK(out.back() == 12345.0f);
    out.pop_back();
    CHECK(bits(out) == g.values);
  }
}

TEST_CASE("any row of a matrix can be expanded alone") {
  for (const TensorType type : kTypes) {
    INFO(name_of(type));
    const Golden g = golden(type);
    TensorView view;
    view.type = type;
    view.columns = 2 * block_values(type);
    view.rows = g.values.size() / view.columns;
    view.data = g.blocks;
    REQUIRE(view.rows * view.row_bytes() == g.blocks.size());
    for (const std::uint64_t row : {std::uint64_t{0}, view.rows / 2, view.rows - 1}) {
      std::vector<float> out(view.columns, std::numeric_limits<float>::quiet_NaN());
      dequantise_row(view, row, out);
      const auto first = g.values.begin() + static_cast<std::ptrdiff_t>(row * view.columns);
      CHECK(bits(out) ==
            std::vector<std::uint32_t>(first, first + static_cast<std::ptrdiff_t>(view.columns)));
    }
  }
}

TEST_CASE("infinite and NaN scales stay what they are") {
  std::vector<std::uint8_t> block(34, 1);
  std::vector<float> out(32);
  block[0] = 0x00;
  block[1] = 0x7c;
  dequantise(TensorType::kQ8_0, block, out);
  CHECK(out[31] == std::numeric_limits<float>::infinity());
  block[1] = 0x7e;
  dequantise(TensorType::kQ8_0, block, out);
  CHECK(out[31] != out[31]);
}

TEST_CASE("no blocks give no values") {
  for (const TensorType type : kTypes) dequantise(type, Bytes(), Span<float>());
}
