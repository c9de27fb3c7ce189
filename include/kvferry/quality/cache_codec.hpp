// CacheCodec: one way to carry a cache, as the evaluation sees it: what comes out, in how many
// bits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kvferry/codec/block.hpp"
#include "kvferry/core/thread_pool.hpp"
#include "kvferry/quality/context_cache.hpp"

namespace kvferry {

class CacheCodec {
 public:
  virtual ~CacheCodec() = default;
  virtual const std::string& name() const = 0;
  // Whether this is somebody else's way, built in for comparison.
  virtual bool is_baseline() const = 0;
  // Writes the values that a receiver would have to `out`, which has the size of cache.values, and
  // gives the number of bits that travel for them, all of them counted.
  virtual Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool& threads,
                                       Span<float> out) const = 0;
};

// What a block costs on the wire beside its coded bytes: a frame's header and the coordinates.
constexpr std::uint32_t kBlockFrameBytes = 60;

struct ProfileCodecOptions {
  Profile profile = Profile::kLow;
  std::uint32_t block_tokens = kMaxBlockTokens;  // 1 to kMaxBlockTokens
  std::shared_ptr<const Codebook> codebook;      // null: blocks scale themselves
  bool token_classes = true;                     // from the attention, where the cache has it
  std::shared_ptr<const Predictor> predictor;    // made for the codebook; null: none
};

// A profile of the codec, through BlockEncoder and BlockDecoder, from and to caches of F16. Blocks
// and their frames are counted, the codebook is not. Called by the profile's name, with "-flat"
// after it without token classes, "-predicted" with a predictor, and "/n" for blocks of n tokens
// where they are not the largest. kInvalidArgument for other block sizes, kUnsupported for a
// profile that this build has not.
Result<std::unique_ptr<CacheCodec>> profile_codec(const ProfileCodecOptions& options);

}  // namespace kvferry
