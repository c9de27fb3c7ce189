#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/codec/token_classes.hpp"
#include "kvferry/quality/cache_codec.hpp"

namespace kvferry {
namespace {

struct TokenRange {
  std::uint32_t begin;
  std::uint32_t end;
};

// Of one thread.
struct Coders {
  Coders(const KvGeometry& geometry, const ProfileCodecOptions& options)
      : encoder(geometry, options.codebook, prediction(options)),
        decoder(geometry, options.codebook, prediction(options)),
        block(maximum_encoded_size(geometry, options.block_tokens)) {}

  static PredictionOptions prediction(const ProfileCodecOptions& options) {
    PredictionOptions prediction;
    prediction.predictor = options.predictor;
    return prediction;
  }

  BlockEncoder encoder;
  BlockDecoder decoder;
  std::vector<std::uint8_t> block;
  std::vector<std::uint8_t> rows;
};

class ProfileCodec final : public CacheCodec {
 public:
  explicit ProfileCodec(const ProfileCodecOptions& options)
      : options_(options), name_(name_of(options.profile)) {
    if (!options.token_classes) name_ += "-flat";
    if (options.predictor != nullptr) name_ += "-predicted";
    if (options.block_tokens != kMaxBlockTokens)
      name_ += "/" + std::to_string(options.block_tokens);
  }

  const std::string& name() const override { return name_; }
  bool is_baseline() const override { return false; }

  Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool& threads,
                               Span<float> out) const override {
    const std::vector<std::uint8_t> classes = classes_of(cache);
    // Without prediction planes are independent of each other, with it ranges of tokens are.
    const std::vector<TokenRange> ranges = ranges_of(cache);
    const bool predicted = options_.predictor != nullptr;
    std::atomic<std::uint64_t> bytes{0};
    std::mutex mutex;
    Status failure;
    const std::size_t items = predicted ? ranges.size() : cache.planes();
    threads.parallel_for(items, 1, [&](std::size_t begin, std::size_t end, std::size_t) {
      Coders coders(f16_geometry(cache), options_);
      for (std::size_t item = begin; item < end; ++item) {
        const std::size_t others = predicted ? cache.planes() : ranges.size();
        for (std::size_t other = 0; other < others; ++other) {
          const std::size_t plane = predicted ? other : item;
          const TokenRange& tokens = ranges[predicted ? item : other];
          const auto block = recode_block(coders, cache, classes, plane, tokens, out);
          if (block.ok()) {
            bytes += *block;
          } else {
            const std::lock_guard<std::mutex> lock(mutex);
            failure = block.error();
          }
        }
      }
    });
    if (!failure.ok()) return failure.error();
    return 8 * bytes;
  }

 private:
  // [layers, tokens], or empty. Of each chunk for itself.
  std::vector<std::uint8_t> classes_of(const ContextCache& cache) const {
    std::vector<std::uint8_t> classes;
    if (!options_.token_classes || cache.attention.empty() || !is_quantised(options_.profile))
      return classes;
    classes.resize(cache.attention.size());
    for (std::size_t layer = 0; layer < cache.geometry.layers; ++layer) {
      for (std::size_t begin = 0; begin < cache.length(); begin += cache.chunk_tokens) {
        const std::size_t at = layer * cache.length() + begin;
        const std::size_t count = std::min<std::size_t>(cache.chunk_tokens, cache.length() - begin);
        token_classes(Span<const float>(cache.attention).subspan(at, count),
                      Span<std::uint8_t>(classes).subspan(at, count));
      }
    }
    return classes;
  }

  // A chunk leaves when it is computed: no block reaches into the next one.
  std::vector<TokenRange> ranges_of(const ContextCache& cache) const {
    std::vector<TokenRange> ranges;
    for (std::uint32_t begin = 0; begin < cache.length(); begin = ranges.back().end) {
      const std::uint32_t chunk_end = (begin / cache.chunk_tokens + 1) * cache.chunk_tokens;
      ranges.push_back(
          {begin, std::min({begin + options_.block_tokens, chunk_end, cache.length()})});
    }
    return ranges;
  }

  static KvGeometry f16_geometry(const ContextCache& cache) {
    KvGeometry geometry = cache.geometry;
    geometry.type = ElementType::kF16;
    return geometry;
  }

  Result<std::uint64_t> recode_block(Coders& coders, const ContextCache& cache,
                                     const std::vector<std::uint8_t>& classes, std::size_t plane,
                                     const TokenRange& tokens, Span<float> out) const {
    const KvGeometry geometry = f16_geometry(cache);
    KvRange range = cache.range(plane);
    range.begin = tokens.begin;
    range.end = tokens.end;
    const std::size_t at = plane * cache.plane_values() + range.begin * geometry.row_values();
    const std::size_t values = range.tokens() * geometry.row_values();
    coders.rows.resize(range.tokens() * geometry.row_bytes());
    store_rows(geometry.type, Span<const float>(cache.values).subspan(at, values), coders.rows);
    BlockSpec spec;
    spec.profile = options_.profile;
    spec.range = range;
    if (!classes.empty()) {
      spec.token_classes = Span<const std::uint8_t>(classes).subspan(
          plane / 2 * cache.length() + range.begin, range.tokens());
    }
    KVFERRY_ASSIGN(const BlockSize size, coders.encoder.encode(spec, coders.rows, coders.block));
    BlockTarget target;
    target.range = range;
    KVFERRY_TRY(
        coders.decoder.decode(target, Bytes(coders.block).first(size.total()), coders.rows));
    load_rows(geometry.type, coders.rows, out.subspan(at, values));
    return size.total() + std::uint64_t{kBlockFrameBytes};
  }

  const ProfileCodecOptions options_;
  std::string name_;
};

}  // namespace

Result<std::unique_ptr<CacheCodec>> profile_codec(const ProfileCodecOptions& options) {
  if (options.block_tokens == 0 || options.block_tokens > kMaxBlockTokens) {
    return Error(ErrorCode::kInvalidArgument, "blocks of " + std::to_string(options.block_tokens) +
                                                  " tokens; use 1 to " +
                                                  std::to_string(kMaxBlockTokens));
  }
  if (!is_available(options.profile)) {
    return Error(ErrorCode::kUnsupported,
                 std::string("profile ") + name_of(options.profile) + " is not in this build");
  }
  return std::unique_ptr<CacheCodec>(std::make_unique<ProfileCodec>(options));
}

}  // namespace kvferry
