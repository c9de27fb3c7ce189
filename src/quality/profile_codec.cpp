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

class ProfileCodec final : public CacheCodec {
 public:
  explicit ProfileCodec(const ProfileCodecOptions& options)
      : options_(options), name_(name_of(options.profile)) {
    if (!options.token_classes) name_ += "-flat";
  }

  const std::string& name() const override { return name_; }
  bool is_baseline() const override { return false; }

  Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool& threads,
                               Span<float> out) const override {
    const std::vector<std::uint8_t> classes = classes_of(cache);
    std::atomic<std::uint64_t> bytes{0};
    std::mutex mutex;
    Status failure;
    threads.parallel_for(cache.planes(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t p = begin; p < end; ++p) {
        const Result<std::uint64_t> plane = recode_plane(cache, classes, p, out);
        if (plane.ok()) {
          bytes += *plane;
        } else {
          const std::lock_guard<std::mutex> lock(mutex);
          failure = plane.error();
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

  Result<std::uint64_t> recode_plane(const ContextCache& cache,
                                     const std::vector<std::uint8_t>& classes, std::size_t plane,
                                     Span<float> out) const {
    KvGeometry geometry = cache.geometry;
    geometry.type = ElementType::kF16;
    BlockEncoder encoder(geometry, options_.codebook);
    BlockDecoder decoder(geometry, options_.codebook);
    std::vector<std::uint8_t> block(maximum_encoded_size(geometry, options_.block_tokens));
    std::vector<std::uint8_t> rows;
    std::uint64_t bytes = 0;
    const KvRange all = cache.range(plane);
    for (std::uint32_t begin = 0; begin < cache.length();) {
      // A chunk leaves when it is computed: no block reaches into the next one.
      const std::uint32_t chunk_end = (begin / cache.chunk_tokens + 1) * cache.chunk_tokens;
      KvRange range = all;
      range.begin = begin;
      range.end = std::min({begin + options_.block_tokens, chunk_end, cache.length()});
      const std::size_t at = plane * cache.plane_values() + begin * geometry.row_values();
      const std::size_t values = range.tokens() * geometry.row_values();
      rows.resize(range.tokens() * geometry.row_bytes());
      store_rows(geometry.type, Span<const float>(cache.values).subspan(at, values), rows);
      BlockSpec spec;
      spec.profile = options_.profile;
      spec.range = range;
      if (!classes.empty()) {
        spec.token_classes = Span<const std::uint8_t>(classes).subspan(
            plane / 2 * cache.length() + begin, range.tokens());
      }
      KVFERRY_ASSIGN(const BlockSize size, encoder.encode(spec, rows, block));
      BlockTarget target;
      target.range = range;
      KVFERRY_TRY(decoder.decode(target, Bytes(block).first(size.total()), rows));
      load_rows(geometry.type, rows, out.subspan(at, values));
      bytes += size.total() + kBlockFrameBytes;
      begin = range.end;
    }
    return bytes;
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
