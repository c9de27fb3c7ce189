#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/codec/element_rows.hpp"
#include "kvferry/quality/cache_codec.hpp"

namespace kvferry {
namespace {

class ProfileCodec final : public CacheCodec {
 public:
  explicit ProfileCodec(const ProfileCodecOptions& options)
      : options_(options), name_(name_of(options.profile)) {}

  const std::string& name() const override { return name_; }

  Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool& threads,
                               Span<float> out) const override {
    std::atomic<std::uint64_t> bytes{0};
    std::mutex mutex;
    Status failure;
    threads.parallel_for(cache.planes(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t p = begin; p < end; ++p) {
        const Result<std::uint64_t> plane = recode_plane(cache, p, out);
        if (plane.ok()) {
          bytes += *plane;
        } else {
          const std::lock_guard<std::mutex> lock(mutex);
          failure = plane.error();
        }
      }
    });
    KVFERRY_TRY(failure);
    return 8 * bytes;
  }

 private:
  Result<std::uint64_t> recode_plane(const ContextCache& cache, std::size_t plane,
                                     Span<float> out) const {
    KvGeometry geometry = cache.geometry;
    geometry.type = ElementType::kF16;
    BlockEncoder encoder(geometry);
    BlockDecoder decoder(geometry);
    std::vector<std::uint8_t> block(maximum_encoded_size(geometry, options_.block_tokens));
    std::vector<std::uint8_t> rows;
    std::uint64_t bytes = 0;
    const KvRange all = cache.range(plane);
    for (std::uint32_t begin = 0; begin < cache.length(); begin += options_.block_tokens) {
      KvRange range = all;
      range.begin = begin;
      range.end = std::min(begin + options_.block_tokens, cache.length());
      const std::size_t at = plane * cache.plane_values() + begin * geometry.row_values();
      const std::size_t values = range.tokens() * geometry.row_values();
      rows.resize(range.tokens() * geometry.row_bytes());
      store_rows(geometry.type, Span<const float>(cache.values).subspan(at, values), rows);
      BlockSpec spec;
      spec.profile = options_.profile;
      spec.range = range;
      KVFERRY_ASSIGN(const BlockSize size, encoder.encode(spec, rows, block));
      BlockTarget target;
      target.range = range;
      KVFERRY_TRY(decoder.decode(target, Bytes(block).first(size.total()), rows));
      load_rows(geometry.type, rows, out.subspan(at, values));
      bytes += size.total() + kBlockFrameBytes;
    }
    return bytes;
  }

  const ProfileCodecOptions options_;
  const std::string name_;
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
