// Every instruction set gives the bits of the portable loops, at every length.
#include "src/codec/row_kernels.hpp"

#include <limits>

#include <catch2/catch.hpp>

#include "codec_rows.hpp"

using namespace kvferry;

namespace {

// Bit patterns of all sorts: small and large numbers, halves between integers, infinities, NaN.
std::vector<float> odd_floats(std::size_t count, std::uint32_t seed, bool finite) {
  std::mt19937 random(seed);
  std::vector<float> values(count);
  for (float& v : values) {
    switch (random() % (finite ? 4 : 5)) {
      case 0:
        v = static_cast<float>(static_cast<std::int32_t>(random() % 200)) / 2 - 50;
        break;
      case 1:
        v = float_from_bits(static_cast<std::uint32_t>((random() & 0x83ffffffu) |
                                                       0x38000000u));  // about the least F16
        break;
      case 2:
        v = static_cast<float>(static_cast<std::int32_t>(random())) / 65536.0f;
        break;
      case 3:
        v = 65504.0f + static_cast<float>(random() % 64) - 32;
        break;
      default:
        v = float_from_bits(static_cast<std::uint32_t>(random()));
    }
  }
  return values;
}

std::vector<std::int16_t> odd_integers(std::size_t count, std::uint32_t seed, std::int32_t most) {
  std::mt19937 random(seed);
  std::vector<std::int16_t> values(count);
  for (std::int16_t& v : values) {
    const std::int32_t bound = random() % 50 == 0 ? 32767 : most;
    v = static_cast<std::int16_t>(static_cast<std::int32_t>(random() % (2u * bound + 1)) - bound);
  }
  return values;
}

template <typename T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("row kernels agree on conversions and arithmetic") {
  const RowKernels& portable = *portable_row_kernels();
  for (const RowKernels* k : available_row_kernels()) {
    for (std::size_t n = 1; n < 70; n += n < 40 ? 1 : 13) {
      CAPTURE(k->name, n);
      const auto floats = odd_floats(n, static_cast<std::uint32_t>(n), false);
      for (const ElementType type : {ElementType::kF16, ElementType::kBF16, ElementType::kF32}) {
        std::vector<std::uint8_t> a(n * size_of(type)), b(a);
        portable.store(type, floats.data(), n, a.data());
        k->store(type, floats.data(), n, b.data());
        CHECK(same(a, b));
        std::vector<float> x(n), y(n);
        const auto bits = random_bytes(n * size_of(type), static_cast<std::uint32_t>(n));
        portable.load(type, bits.data(), n, x.data());
        k->load(type, bits.data(), n, y.data());
        for (std::size_t i = 0; i < n; ++i) CHECK((float_bits(x[i]) == float_bits(y[i])));
      }
      const auto steps = odd_floats(n, 90, true);
      const auto means = odd_floats(n, 91, true);
      const auto integers = odd_integers(n, 92, 300);
      std::vector<float> x(n), y(n);
      portable.dequantise(integers.data(), steps.data(), means.data(), n, x.data());
      k->dequantise(integers.data(), steps.data(), means.data(), n, y.data());
      CHECK(same(x, y));
      x = y = means;
      portable.add(steps.data(), n, x.data());
      k->add(steps.data(), n, y.data());
      portable.add_squares(steps.data(), means.data(), n, x.data());
      k->add_squares(steps.data(), means.data(), n, y.data());
      CHECK(same(x, y));
      std::vector<std::int16_t> p(n), q(n);
      const std::vector<float> zeros(n, 0.0f), ones(n, 0.5f);
      for (const bool finite : {false, true}) {
        const auto values = odd_floats(n, static_cast<std::uint32_t>(n) + 1000, finite);
        const bool fits = portable.quantise(values.data(), zeros.data(), ones.data(), n, p.data());
        CHECK(k->quantise(values.data(), zeros.data(), ones.data(), n, q.data()) == fits);
        if (fits) CHECK(same(p, q));
      }
    }
  }
}

TEST_CASE("row kernels agree on rotations") {
  for (const RowKernels* k : available_row_kernels()) {
    for (const RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kSplitHalves}) {
      for (std::size_t pairs = 0; pairs < 40; ++pairs) {
        for (const bool inverse : {false, true}) {
          const std::size_t head_dim = 2 * pairs + 4;
          const auto cos = odd_floats(pairs, 1, true);
          const auto sin = odd_floats(pairs, 2, true);
          const RowRotation r = {cos.data(), sin.data(), pairs, 3, head_dim, layout};
          auto a = odd_floats(3 * head_dim, 3, true);
          auto b = a;
          portable_row_kernels()->rotate(r, inverse, a.data());
          k->rotate(r, inverse, b.data());
          CHECK(same(a, b));
        }
      }
    }
  }
}

TEST_CASE("row kernels agree on tiles and runs") {
  for (const RowKernels* k : available_row_kernels()) {
    for (std::size_t tokens = 1; tokens <= kTileTokens; ++tokens) {
      for (const std::size_t channels : {1u, 7u, 8u, 30u, 192u}) {
        const auto tile = odd_integers(tokens * channels, 5, 300);
        std::vector<std::size_t> begins(channels);
        for (std::size_t c = 0; c < channels; ++c) begins[c] = (channels - 1 - c) * (tokens + 1);
        std::vector<std::int16_t> values(channels * (tokens + 1), -7);
        k->tile_to_runs(tile.data(), tokens, channels, begins.data(), values.data());
        std::vector<std::int16_t> back(tile.size());
        k->runs_to_tile(values.data(), begins.data(), tokens, channels, back.data());
        CHECK(back == tile);
        for (std::size_t c = 0; c < channels; ++c) {
          for (std::size_t t = 0; t < tokens; ++t)
            REQUIRE(values[begins[c] + t] == tile[t * channels + c]);
          REQUIRE(values[begins[c] + tokens] == -7);
        }
      }
    }
  }
}

TEST_CASE("row kernels agree on symbols, counts and bits") {
  const RowKernels& portable = *portable_row_kernels();
  for (const RowKernels* k : available_row_kernels()) {
    for (const std::int32_t spread : {2, 7, 100, 3000}) {
      for (std::size_t n = 1; n < 600; n = n * 3 / 2 + 1) {
        CAPTURE(k->name, spread, n);
        const auto values = odd_integers(n, static_cast<std::uint32_t>(n), spread);
        std::vector<std::uint32_t> a(kMagnitudes, 3), b(a);
        const auto end = portable.count_magnitudes(values.data(), n, a.data());
        CHECK(k->count_magnitudes(values.data(), n, b.data()) == end);
        CHECK(a == b);
        CHECK(a[end - 1] > 3);
        // With costs of all 32 bits, as sums wrap everywhere alike.
        std::vector<std::uint32_t> costs(kMagnitudes);
        for (std::size_t v = 0; v < kMagnitudes; ++v)
          costs[v] = static_cast<std::uint32_t>(v * 0x9e3779b9u);
        for (std::size_t count = 0; count <= kMagnitudes; count += 16) {
          REQUIRE(k->sum_of_costs(a.data(), costs.data(), count) ==
                  portable.sum_of_costs(a.data(), costs.data(), count));
        }

        for (std::uint32_t raw_bits = 0; raw_bits <= 6; ++raw_bits) {
          const std::int32_t most = 39;
          std::vector<std::uint8_t> s(n), t(n);
          const auto first = portable.symbols_of_values(values.data(), n, raw_bits, most, s.data());
          const auto also = k->symbols_of_values(values.data(), n, raw_bits, most, t.data());
          CHECK(also <= first);
          CHECK(first < also + 64);
          for (std::size_t i = 0; i < also; ++i) REQUIRE(s[i] == t[i]);

          const std::size_t plane = (n + 7) / 8;
          std::vector<std::uint8_t> planes(raw_bits * plane), more(planes);
          for (std::uint32_t bit = 0; bit < raw_bits; ++bit) {
            const std::int32_t half = (1 << raw_bits) / 2;
            portable.take_bits(values.data(), n, half, bit, planes.data() + bit * plane);
            k->take_bits(values.data(), n, half, bit, more.data() + bit * plane);
          }
          CHECK(planes == more);
          std::vector<std::int8_t> kept(n);
          for (std::size_t i = 0; i < n; ++i) kept[i] = static_cast<std::int8_t>(values[i]);
          std::vector<std::int16_t> x(n), y(n);
          portable.widen(kept.data(), n, raw_bits, planes.data(), x.data());
          k->widen(kept.data(), n, raw_bits, planes.data(), y.data());
          CHECK(x == y);
        }
        for (const std::int32_t most : {1, 3, 7}) {
          for (const std::int32_t most_sum : {most, most + 1}) {
            std::vector<std::uint8_t> s(n), t(n);
            const auto first =
                portable.symbols_of_pairs(values.data(), n / 2, most, most_sum, s.data());
            const auto also = k->symbols_of_pairs(values.data(), n / 2, most, most_sum, t.data());
            CHECK(also <= first);
            CHECK(first < also + 32);
            for (std::size_t i = 0; i < also; ++i) REQUIRE(s[i] == t[i]);
          }
        }
      }
    }
  }
}
