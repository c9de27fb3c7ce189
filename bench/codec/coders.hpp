// What is measured: kvferry's profiles, and general compressors on the same rows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <zstd.h>

#include "kvferry/codec/block.hpp"

#include "cache_rows.hpp"

#if defined(KVFERRY_BENCH_LZ4)
#include <lz4.h>
#endif

namespace kvferry::bench {

// One thread's. Both return 0 when something is wrong.
class Coder {
 public:
  virtual ~Coder() = default;
  // To the front of `out`, which has room for what does not shrink; returns the size.
  virtual std::size_t encode(const BlockRows& block, MutableBytes out) = 0;
  // The rows of the block to the front of `rows`; returns their size.
  virtual std::size_t decode(const BlockRows& block, Bytes coded, MutableBytes rows) = 0;
};

struct NamedCoder {
  std::string name;
  std::function<std::unique_ptr<Coder>()> make;
};

class BlockCoder : public Coder {
 public:
  BlockCoder(Profile profile, const KvGeometry& geometry,
             const std::shared_ptr<const Codebook>& codebook, const PredictionOptions& prediction)
      : profile_(profile),
        encoder_(geometry, codebook, prediction),
        decoder_(geometry, codebook, prediction) {}

  std::size_t encode(const BlockRows& block, MutableBytes out) override {
    const auto size = encoder_.encode({profile_, block.range, block.classes}, block.rows, out);
    return size.ok() ? size->total() : 0;
  }
  std::size_t decode(const BlockRows& block, Bytes coded, MutableBytes rows) override {
    const MutableBytes to = rows.first(block.rows.size());
    return decoder_.decode({block.range, 0}, coded, to).ok() ? to.size() : 0;
  }

 private:
  const Profile profile_;
  BlockEncoder encoder_;
  BlockDecoder decoder_;
};

class ZstdCoder : public Coder {
 public:
  explicit ZstdCoder(int level) : level_(level) {}

  std::size_t encode(const BlockRows& block, MutableBytes out) override {
    return valid(ZSTD_compressCCtx(compressor_.get(), out.data(), out.size(), block.rows.data(),
                                   block.rows.size(), level_));
  }
  std::size_t decode(const BlockRows&, Bytes coded, MutableBytes rows) override {
    return valid(
        ZSTD_decompressDCtx(expander_.get(), rows.data(), rows.size(), coded.data(), coded.size()));
  }

 private:
  static std::size_t valid(std::size_t size) { return ZSTD_isError(size) ? 0 : size; }

  const int level_;
  std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> compressor_{ZSTD_createCCtx(),
                                                                      ZSTD_freeCCtx};
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> expander_{ZSTD_createDCtx(),
                                                                    ZSTD_freeDCtx};
};

#if defined(KVFERRY_BENCH_LZ4)
class Lz4Coder : public Coder {
 public:
  std::size_t encode(const BlockRows& block, MutableBytes out) override {
    const int size = LZ4_compress_default(
        reinterpret_cast<const char*>(block.rows.data()), reinterpret_cast<char*>(out.data()),
        static_cast<int>(block.rows.size()), static_cast<int>(out.size()));
    return static_cast<std::size_t>(size);
  }
  std::size_t decode(const BlockRows&, Bytes coded, MutableBytes rows) override {
    const int size = LZ4_decompress_safe(
        reinterpret_cast<const char*>(coded.data()), reinterpret_cast<char*>(rows.data()),
        static_cast<int>(coded.size()), static_cast<int>(rows.size()));
    return size < 0 ? 0 : static_cast<std::size_t>(size);
  }
};
#endif

// `predictor` may be null.
inline std::vector<NamedCoder> coders_for(const KvGeometry& geometry,
                                          const std::shared_ptr<const Codebook>& codebook,
                                          const std::shared_ptr<const Predictor>& predictor) {
  std::vector<NamedCoder> coders;
  const auto add = [&](const std::string& name, Profile profile,
                       const PredictionOptions& prediction) {
    coders.push_back(
        {name,
         [=] { return std::make_unique<BlockCoder>(profile, geometry, codebook, prediction); }});
  };
  for (const Profile p : {Profile::kRaw, Profile::kLossless, Profile::kHigh, Profile::kMedium,
                          Profile::kLow, Profile::kLowest, Profile::kQ8, Profile::kQ4H}) {
    add(name_of(p), p, {});
  }
  if (predictor != nullptr) {
    for (const Profile p : {Profile::kHigh, Profile::kLow})
      add(std::string(name_of(p)) + " predict", p, {predictor, ordered_product});
  }
  for (const int level : {1, 3}) {
    coders.push_back(
        {"zstd-" + std::to_string(level), [level] { return std::make_unique<ZstdCoder>(level); }});
  }
#if defined(KVFERRY_BENCH_LZ4)
  coders.push_back({"lz4", [] { return std::make_unique<Lz4Coder>(); }});
#endif
  return coders;
}

}  // namespace kvferry::bench
