// Codebook: what the lossy profiles know about a model before they see a block of it.
//
// Made once per model by calibration, a few bytes a channel, known by the hash of its bytes. The
// profiles `high` to `lowest` work without one too: every block then scales itself by its own
// spread, all channels of a plane alike, which needs about a bit a value more for the same quality.
//
// Steps, weights and spreads are binary logarithms in integers, so that they are exact, small and
// the same on every machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/model/identity.hpp"

namespace kvferry {

// 2^(n / 8) for n in [-kMaxEighths, kMaxEighths], each to the nearest float.
constexpr std::int32_t kMaxEighths = 8 * 60;
float exp2_eighths(std::int32_t n);

// The n of which exp2_eighths(n) is nearest to `x`, in ratio; x is positive and finite. Clamped to
// the range of exp2_eighths().
std::int32_t log2_eighths(float x);

// One plane (K or V) of one layer. The quantisation step of channel c is
//   exp2_eighths(step + weights[c] + the profile's offset),
// where K is taken before RoPE.
struct CodebookPlane {
  std::int16_t step = 0;             // eighths of an octave; the profile's offset comes on top
  std::vector<std::int8_t> weights;  // [kv_heads, head_dim], eighths; equal over each RoPE pair
  std::vector<BFloat16> means;       // [kv_heads, head_dim], finite
  std::vector<std::int8_t> spreads;  // [kv_heads, head_dim], standard deviation about the mean as
                                     // 2^(n / 4); where blocks do not state their own
};

struct CodebookLayer {
  CodebookPlane key;
  CodebookPlane value;

  const CodebookPlane& plane(Plane p) const { return p == Plane::kKey ? key : value; }
  CodebookPlane& plane(Plane p) { return p == Plane::kKey ? key : value; }
};

// Immutable; may be used from any thread.
class Codebook {
 public:
  static constexpr std::int16_t kMaxStep = 200;  // |CodebookPlane::step|; 2^25 each way

  // `model` is model_of() of the model that it was measured on. kInvalidArgument, naming layer and
  // field, when the vectors are not of the shape or a value is out of range.
  static Result<std::shared_ptr<const Codebook>> create(std::uint64_t model, std::uint32_t kv_heads,
                                                        std::uint32_t head_dim,
                                                        std::vector<CodebookLayer> layers);

  // The inverse of bytes(). Any bytes: kMalformed with the offset, kChecksum, kUnsupported for
  // another version.
  static Result<std::shared_ptr<const Codebook>> parse(Bytes bytes);

  // Reads a file. kIo, or as parse(), with the path. kMismatch when it is another model's.
  static Result<std::shared_ptr<const Codebook>> load(const std::string& path,
                                                      const ModelIdentity& identity);
  // The file appears whole, replacing one that was there, or not at all.
  Status save(const std::string& path) const;

  // What binds a codebook to a model: its identity without the descriptive metadata.
  static std::uint64_t model_of(const ModelIdentity& identity);

  // Bytes of the serialised form of every codebook of this shape, one of a cache.
  static std::uint64_t bytes_for(std::uint32_t layers, std::uint32_t kv_heads,
                                 std::uint32_t head_dim);

  // kMismatch unless it serves caches of this shape, which may hold some of its layers only.
  Status fits(const KvGeometry& geometry) const;

  std::uint64_t id() const { return id_; }  // hash of bytes(); what blocks name, never 0
  std::uint64_t model() const { return model_; }
  std::uint32_t kv_heads() const { return kv_heads_; }
  std::uint32_t head_dim() const { return head_dim_; }
  const std::vector<CodebookLayer>& layers() const { return layers_; }
  // The serialised form (docs/wire-format.md, section 5.2).
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  Codebook() = default;

  std::uint64_t id_ = 0;
  std::uint64_t model_ = 0;
  std::uint32_t kv_heads_ = 0;
  std::uint32_t head_dim_ = 0;
  std::vector<CodebookLayer> layers_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace kvferry
