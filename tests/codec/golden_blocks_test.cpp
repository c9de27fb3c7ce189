// Blocks of the shapes that models have, whose bytes and rows are the same on every machine:
// tests/golden/codec/blocks.txt has their hashes, one line a block. `test_codec "[golden_print]"`
// prints what this build makes of them.
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/core/hash.hpp"

#include "reference_decoder.hpp"
#include "test_predictor.hpp"

using namespace kvferry;

namespace {

struct Shape {
  const char* name;
  std::uint32_t kv_heads;
  std::uint32_t head_dim;
  RopeLayout layout;
};
constexpr Shape kShapes[] = {{"smollm2", 3, 64, RopeLayout::kInterleaved},
                             {"heads-of-80", 2, 80, RopeLayout::kSplitHalves},
                             {"heads-of-96", 2, 96, RopeLayout::kInterleaved},
                             {"heads-of-128", 1, 128, RopeLayout::kSplitHalves},
                             {"llama-7b", 32, 128, RopeLayout::kInterleaved},
                             {"tinyllama", 4, 64, RopeLayout::kInterleaved}};

struct Tokens {
  std::uint32_t begin;
  std::uint32_t count;
};
constexpr Tokens kTokens[] = {{0, 40}, {256, 64}, {1000, 17}, {31, 8}, {5, 1}};

constexpr Profile kPinned[] = {Profile::kRaw,    Profile::kHigh, Profile::kMedium, Profile::kLow,
                               Profile::kLowest, Profile::kQ8,   Profile::kQ4H};

KvGeometry geometry_of(const Shape& shape) {
  KvGeometry g;
  g.layers = 2;
  g.kv_heads = shape.kv_heads;
  g.head_dim = shape.head_dim;
  g.type = ElementType::kF16;
  g.rope.layout = shape.layout;
  // A division rounds alike everywhere, pow() does not.
  for (std::uint32_t i = 0; i < shape.head_dim / 2; ++i)
    g.rope.inverse_frequency.push_back(1.0f / static_cast<float>(1 + i * i));
  return g;
}

// cache_like_rows() about a mean of each channel, with a value in a thousand far out.
std::vector<std::uint8_t> golden_rows(const KvGeometry& g, std::uint32_t tokens,
                                      std::uint32_t seed) {
  std::vector<float> values = floats_of(g.type, cache_like_rows(g, tokens, seed));
  std::mt19937 random(seed + 1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t channel = i % g.row_values();
    values[i] += static_cast<float>(channel * 37 % 64) / 32.0f - 1.0f;
    if (random() % 1000 == 0) values[i] *= 32.0f;
  }
  std::vector<std::uint8_t> rows(tokens * g.row_bytes());
  store_rows(g.type, values, rows);
  return rows;
}

// One stream of blocks: two layers, K before V, so that the second layer can be predicted.
struct Stream {
  std::size_t shape;
  std::size_t profile;
  std::size_t tokens;

  std::string name(std::uint32_t layer, Plane plane) const {
    return std::string(kShapes[shape].name) + ' ' + name_of(kPinned[profile]) + ' ' +
           std::to_string(kTokens[tokens].begin) + '+' + std::to_string(kTokens[tokens].count) +
           " layer " + std::to_string(layer) + ' ' + name_of(plane);
  }
};

std::vector<Stream> streams() {
  std::vector<Stream> all;
  for (std::size_t s = 0; s < std::size(kShapes); ++s) {
    for (std::size_t p = 0; p < std::size(kPinned); ++p) {
      for (std::size_t t = 0; t < std::size(kTokens); ++t) all.push_back({s, p, t});
    }
  }
  return all;
}

std::string hex(std::uint64_t hash) {
  std::ostringstream out;
  out << std::hex << hash;
  return out.str();
}

// Lines of the stream: hashes of the block's bytes and of the rows that it decodes to. V is also
// compared with the reference decoder.
std::vector<std::string> lines_of(const Stream& stream, std::size_t& mismatches) {
  const KvGeometry g = geometry_of(kShapes[stream.shape]);
  KvGeometry exact = g;
  exact.type = ElementType::kF32;
  const Tokens tokens = kTokens[stream.tokens];
  const std::size_t number = stream.shape + stream.profile + stream.tokens;
  // Two of three with a codebook, half of them with classes, some predicted.
  const auto codebook = number % 3 != 0 ? test_codebook(g, 40) : nullptr;
  const auto classes = random_classes(number % 2 == 0 ? tokens.count : 0, 41);
  PredictionOptions prediction;
  if (codebook != nullptr && number % 2 == 0 && g.row_values() <= 256)
    prediction.predictor = test_predictor(g, *codebook, 1, 42);
  BlockEncoder encoder(g, codebook, prediction);
  BlockDecoder decoder(g, codebook, prediction);
  BlockDecoder exact_decoder(exact, codebook, prediction);

  std::vector<std::string> lines;
  for (std::uint32_t layer = 0; layer < g.layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvRange range{layer, plane, tokens.begin, tokens.begin + tokens.count};
      const Profile profile = kPinned[stream.profile];
      const auto rows = golden_rows(g, tokens.count, layer + 7);
      const auto block = encode(encoder, g, {profile, range, classes}, rows).value();
      const auto decoded = decode(decoder, g, {range, 0}, block).value();
      lines.push_back(stream.name(layer, plane) + ' ' + hex(hash64(block)) + ' ' +
                      hex(hash64(decoded)));
      const auto values =
          floats_of(exact.type, decode(exact_decoder, exact, {range, 0}, block).value());
      if (profile == Profile::kRaw && decoded != rows) ++mismatches;
      const BlockHeader header = parse_block_header(block).value();
      if (header.method != BlockMethod::kQuantised || header.predictor != 0 ||
          plane == Plane::kKey) {
        continue;
      }
      const auto expected = reference::decode_quantised(block, g.row_values(), codebook.get());
      const std::size_t first = expected.first_row.size();
      for (std::size_t i = 0; i < expected.values.size(); ++i)
        mismatches += values[first + i] == expected.values[i] ? 0 : 1;
    }
  }
  return lines;
}

// Of all streams, on several threads.
std::vector<std::string> all_lines(std::size_t threads) {
  const std::vector<Stream> all = streams();
  std::vector<std::vector<std::string>> lines(all.size());
  std::vector<std::size_t> mismatches(threads, 0);
  std::vector<std::thread> running;
  for (std::size_t t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      for (std::size_t i = t; i < all.size(); i += threads)
        lines[i] = lines_of(all[i], mismatches[t]);
    });
  }
  for (std::thread& thread : running) thread.join();
  for (const std::size_t count : mismatches) CHECK(count == 0);
  std::vector<std::string> joined;
  for (const auto& of_stream : lines)
    joined.insert(joined.end(), of_stream.begin(), of_stream.end());
  return joined;
}

}  // namespace

TEST_CASE("the bytes of blocks of many shapes, and their rows, are the golden ones") {
  std::ifstream file(KVFERRY_GOLDEN_DIR "/codec/blocks.txt");
  std::vector<std::string> golden;
  for (std::string line; std::getline(file, line);) golden.push_back(line);
  for (const std::size_t threads : {1u, 4u}) {
    const std::vector<std::string> lines = all_lines(threads);
    REQUIRE(lines.size() == golden.size());
    for (std::size_t i = 0; i < lines.size(); ++i) CHECK(lines[i] == golden[i]);
  }
}

TEST_CASE("golden blocks, printed", "[.][golden_print]") {
  for (const std::string& line : all_lines(1)) std::cout << line << '\n';
}
