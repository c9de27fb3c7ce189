// Speed of the codec on one core: F16 rows to a block's bytes and back, everything included, beside
// zstd and (where it was found) LZ4 on the same rows. M values/s, GB/s of F16 rows, bits a value.
//
// Rows: with KVFERRY_ROWS=FOLDER those that `kvferry kv` wrote there (ref_k.f32, ref_v.f32; the
// geometry is SmolLM2's); without, synthetic ones: Gaussian with a spread of its own for each
// channel, K about a mean and rotated. KVFERRY_ISA chooses the instruction set.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>
#include <zstd.h>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/codec/rotation.hpp"

#if defined(KVFERRY_BENCH_LZ4)
#include <lz4.h>
#endif

namespace {

using namespace kvferry;

constexpr std::uint32_t kTokens = 768;
constexpr std::uint32_t kLayers = 30;

KvGeometry geometry() {
  KvGeometry g;
  g.layers = kLayers;
  g.kv_heads = 3;
  g.head_dim = 64;
  for (int i = 0; i < 32; ++i)
    g.rope.inverse_frequency.push_back(static_cast<float>(std::pow(100000.0, -i / 32.0)));
  return g;
}

// [layers, tokens, row] of a plane, before rounding to F16.
std::vector<float> recorded(const std::string& folder, Plane plane) {
  const std::string path = folder + (plane == Plane::kKey ? "/ref_k.f32" : "/ref_v.f32");
  std::vector<float> values(kLayers * kTokens * geometry().row_values());
  std::FILE* file = std::fopen(path.c_str(), "rb");
  const std::size_t count =
      file == nullptr ? 0 : std::fread(values.data(), sizeof(float), values.size(), file);
  if (file != nullptr) std::fclose(file);
  if (count != values.size()) {
    std::fprintf(stderr, "error: %s does not hold %u layers of %u tokens of SmolLM2\n",
                 path.c_str(), kLayers, kTokens);
    std::exit(1);
  }
  return values;
}

std::vector<float> synthetic(Plane plane) {
  const KvGeometry g = geometry();
  std::mt19937 random(plane == Plane::kKey ? 1 : 2);
  std::normal_distribution<float> normal;
  std::vector<float> values(kLayers * kTokens * g.row_values());
  RopeTable rope(g.rope, g.head_dim);
  for (std::uint32_t l = 0; l < kLayers; ++l) {
    std::vector<float> spreads(g.row_values());
    std::vector<float> means(g.row_values(), 0.0f);
    for (std::size_t c = 0; c < spreads.size(); ++c) {
      spreads[c] = std::exp2(normal(random) * 0.7f);
      if (plane == Plane::kKey) means[c] = 2 * normal(random);
    }
    float* rows = values.data() + l * kTokens * g.row_values();
    for (std::size_t i = 0; i < kTokens * g.row_values(); ++i)
      rows[i] = means[i % spreads.size()] + spreads[i % spreads.size()] * normal(random);
    if (plane == Plane::kKey) rope.rotate(rows, 0, kTokens, g.kv_heads);
  }
  return values;
}

struct Blocks {
  std::vector<std::uint8_t> rows[2];  // F16 [layers, tokens, row] of K and V
  std::shared_ptr<const Codebook> codebook;
  std::vector<BlockSpec> specs;

  Bytes rows_of(const BlockSpec& spec) const {
    const std::size_t row = geometry().row_bytes();
    return Bytes(rows[spec.range.plane == Plane::kKey ? 0 : 1])
        .subspan((spec.range.layer * kTokens + spec.range.begin) * row, spec.range.tokens() * row);
  }
};

// A codebook of the rows' own spreads: steps of one standard deviation of a layer.
CodebookPlane measure(std::vector<float> rows, Plane plane) {
  const KvGeometry g = geometry();
  const std::size_t channels = g.row_values();
  if (plane == Plane::kKey) RopeTable(g.rope, g.head_dim).unrotate(rows.data(), 0, kTokens, 3);
  CodebookPlane made;
  double all = 0;
  for (std::size_t c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (std::size_t t = 1; t < kTokens; ++t) {
      const auto v = static_cast<double>(rows[t * channels + c]);
      sum += v;
      squares += v * v;
    }
    const double mean = plane == Plane::kKey ? sum / (kTokens - 1) : 0;
    const double variance = squares / (kTokens - 1) - mean * mean;
    all += variance;
    made.weights.push_back(0);
    made.means.push_back(to_bfloat16(static_cast<float>(mean)));
    made.spreads.push_back(
        static_cast<std::int8_t>(log2_eighths(static_cast<float>(std::sqrt(variance))) / 2));
  }
  made.step = static_cast<std::int16_t>(
      log2_eighths(static_cast<float>(std::sqrt(all / static_cast<double>(channels)))));
  return made;
}

const Blocks& blocks() {
  static const Blocks made = [] {
    Blocks b;
    const KvGeometry g = geometry();
    const char* folder = std::getenv("KVFERRY_ROWS");
    std::vector<CodebookLayer> layers(kLayers);
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const std::vector<float> values =
          folder != nullptr ? recorded(folder, plane) : synthetic(plane);
      std::vector<std::uint8_t>& rows = b.rows[plane == Plane::kKey ? 0 : 1];
      rows.resize(values.size() * 2);
      store_rows(ElementType::kF16, values, rows);
      const std::size_t layer = kTokens * g.row_values();
      for (std::uint32_t l = 0; l < kLayers; ++l) {
        const float* from = values.data() + l * layer;
        layers[l].plane(plane) = measure(std::vector<float>(from, from + layer), plane);
      }
    }
    b.codebook = Codebook::create(0, g.kv_heads, g.head_dim, layers).value();
    // As a prefill in chunks of 256 tokens publishes them.
    for (std::uint32_t begin = 0; begin < kTokens; begin += kMaxBlockTokens) {
      for (std::uint32_t l = 0; l < kLayers; ++l) {
        for (const Plane plane : {Plane::kKey, Plane::kValue})
          b.specs.push_back({Profile::kRaw, {l, plane, begin, begin + kMaxBlockTokens}});
      }
    }
    return b;
  }();
  return made;
}

void report(benchmark::State& state, std::size_t coded_bytes) {
  const double values =
      static_cast<double>(kTokens) * kLayers * 2 * static_cast<double>(geometry().row_values());
  const double runs = static_cast<double>(state.iterations());
  state.counters["Mvalues/s"] =
      benchmark::Counter(values * runs / 1e6, benchmark::Counter::kIsRate);
  state.counters["GB/s"] = benchmark::Counter(2 * values * runs / 1e9, benchmark::Counter::kIsRate);
  state.counters["bits/value"] = 8 * static_cast<double>(coded_bytes) / values;
}

// Every block of the cache, coded with `codebook`.
std::vector<std::vector<std::uint8_t>> encode_all(BlockEncoder& encoder, Profile profile) {
  std::vector<std::vector<std::uint8_t>> coded;
  for (BlockSpec spec : blocks().specs) {
    spec.profile = profile;
    std::vector<std::uint8_t> out(maximum_encoded_size(geometry(), spec.range.tokens()));
    out.resize(encoder.encode(spec, blocks().rows_of(spec), out)->total());
    coded.push_back(std::move(out));
  }
  return coded;
}

std::shared_ptr<const Codebook> codebook_for(Profile profile) {
  return is_quantised(profile) ? blocks().codebook : nullptr;
}

void encode(benchmark::State& state, Profile profile) {
  BlockEncoder encoder(geometry(), codebook_for(profile));
  std::vector<std::uint8_t> out(maximum_encoded_size(geometry(), kMaxBlockTokens));
  std::size_t bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    for (BlockSpec spec : blocks().specs) {
      spec.profile = profile;
      const auto size = encoder.encode(spec, blocks().rows_of(spec), out);
      if (!size.ok()) return state.SkipWithError(size.error().message.c_str());
      bytes += size->total();
    }
  }
  report(state, bytes);
}

void decode(benchmark::State& state, Profile profile) {
  BlockEncoder encoder(geometry(), codebook_for(profile));
  BlockDecoder decoder(geometry(), codebook_for(profile));
  const auto coded = encode_all(encoder, profile);
  std::vector<std::uint8_t> rows(kMaxBlockTokens * geometry().row_bytes());
  std::size_t bytes = 0;
  for (auto _ : state) {
    bytes = 0;
    for (std::size_t i = 0; i < coded.size(); ++i) {
      const Status done = decoder.decode({blocks().specs[i].range, 0}, coded[i], rows);
      if (!done.ok()) return state.SkipWithError(done.error().message.c_str());
      bytes += coded[i].size();
    }
  }
  report(state, bytes);
}

// A general compressor: compress(from, to, room) and expand(from, to, room) give sizes.
template <typename Compress, typename Expand>
void compare(benchmark::State& state, bool decoding, const Compress& compress,
             const Expand& expand) {
  std::vector<std::vector<std::uint8_t>> coded;
  std::size_t bytes = 0;
  for (const BlockSpec& spec : blocks().specs) {
    const Bytes rows = blocks().rows_of(spec);
    std::vector<std::uint8_t> out(rows.size() * 2);
    out.resize(compress(rows, out));
    bytes += out.size();
    coded.push_back(std::move(out));
  }
  std::vector<std::uint8_t> out(2 * kMaxBlockTokens * geometry().row_bytes());
  for (auto _ : state) {
    for (std::size_t i = 0; i < coded.size(); ++i) {
      const std::size_t size =
          decoding ? expand(Bytes(coded[i]), MutableBytes(out))
                   : compress(blocks().rows_of(blocks().specs[i]), MutableBytes(out));
      benchmark::DoNotOptimize(size);
    }
  }
  report(state, bytes);
}

void zstd(benchmark::State& state, int level, bool decoding) {
  const std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> compressor(ZSTD_createCCtx(),
                                                                           ZSTD_freeCCtx);
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> expander(ZSTD_createDCtx(),
                                                                         ZSTD_freeDCtx);
  compare(
      state, decoding,
      [&](Bytes from, MutableBytes to) {
        return ZSTD_compressCCtx(compressor.get(), to.data(), to.size(), from.data(), from.size(),
                                 level);
      },
      [&](Bytes from, MutableBytes to) {
        return ZSTD_decompressDCtx(expander.get(), to.data(), to.size(), from.data(), from.size());
      });
}

#if defined(KVFERRY_BENCH_LZ4)
void lz4(benchmark::State& state, bool decoding) {
  const auto text = [](Bytes b) { return reinterpret_cast<const char*>(b.data()); };
  const auto room = [](MutableBytes b) { return reinterpret_cast<char*>(b.data()); };
  compare(
      state, decoding,
      [&](Bytes from, MutableBytes to) {
        return static_cast<std::size_t>(LZ4_compress_default(
            text(from), room(to), static_cast<int>(from.size()), static_cast<int>(to.size())));
      },
      [&](Bytes from, MutableBytes to) {
        return static_cast<std::size_t>(LZ4_decompress_safe(
            text(from), room(to), static_cast<int>(from.size()), static_cast<int>(to.size())));
      });
}
#endif

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  for (const Profile profile : {Profile::kLossless, Profile::kHigh, Profile::kMedium, Profile::kLow,
                                Profile::kLowest, Profile::kQ8, Profile::kQ4H}) {
    const std::string name = name_of(profile);
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), encode, profile);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, profile);
  }
  for (const bool decoding : {false, true}) {
    const std::string what = decoding ? "decode/" : "encode/";
    benchmark::RegisterBenchmark((what + "zstd-1").c_str(), zstd, 1, decoding);
    benchmark::RegisterBenchmark((what + "zstd-3").c_str(), zstd, 3, decoding);
#if defined(KVFERRY_BENCH_LZ4)
    benchmark::RegisterBenchmark((what + "lz4").c_str(), lz4, decoding);
#endif
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
