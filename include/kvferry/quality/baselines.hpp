// Other ways to round a KV cache, as yardsticks for the profiles. Each takes F32 rows as they lie
// in a cache (K after RoPE) and states its own bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/core/span.hpp"
#include "kvferry/quality/cache_codec.hpp"

namespace kvferry {

// The rows of one plane of one layer, [tokens, kv_heads, head_dim].
struct PlaneRows {
  Span<float> values;  // rounded in place
  std::size_t tokens = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  Plane plane = Plane::kKey;
  std::size_t layer = 0;   // counted from 0
  std::size_t layers = 0;  // of the model
};

// Every function gives the bits that the rounded rows take.

// llama.cpp's block formats: groups of 32 neighbours of a head (the last may be shorter) with an
// F16 scale. 8.5 and 4.5 bits a value where head_dim is a multiple of 32.
std::uint64_t round_q8_0(const PlaneRows& rows);
std::uint64_t round_q4_0(const PlaneRows& rows);

// q4_0 of the heads after an orthonormal Hadamard transform over their largest power-of-two factor.
std::uint64_t round_q4_0_hadamard(const PlaneRows& rows);

// Variance-normalised rounding in the manner of KVarN (arXiv 2606.03458): tiles of 128 tokens of a
// head; Hadamard transform; rows and columns scaled in turn to unit deviation; rounded to 2^bits
// levels. An F16 scale a token and one a channel of each tile; token 0 stays in F16.
std::uint64_t round_kvarn(const PlaneRows& rows, int bits);

// Delta and entropy coding in the manner of CacheGen (arXiv 2310.07240): groups of ten tokens whose
// first is an anchor of 8 bits, the others their difference to it in steps that grow from the first
// third of the layers to the last; an ideal entropy coder with a table for each channel, whose
// counts (16 bits an entry) travel along.
std::uint64_t round_cachegen(const PlaneRows& rows);

// In place over each of consecutive runs of `size` values, a power of two; its own inverse.
void hadamard(Span<float> values, std::size_t size);

// All of the above: q8_0, q4_0, q4_0h, kvarn4, kvarn3, cachegen.
std::vector<std::unique_ptr<CacheCodec>> baselines();

}  // namespace kvferry
