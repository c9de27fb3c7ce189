// Predictor: linear maps that tell a layer's K and V from the decoded K and V of the layers before.
//
// What a map leaves is coded in place of the rows, in a basis of its own (the eigenvectors of its
// covariance), which halves the bits of the lossy profiles. It costs a matrix product a block at
// both ends and blocks that are decoded in the order of the layers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/geometry.hpp"
#include "kvferry/codec/codebook.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/core/span.hpp"
#include "kvferry/model/identity.hpp"

namespace kvferry {

// out[r][c] = sum over i of x[r][i] * m[i][c], all F32 and row by row: x [rows, inner],
// m [inner, columns], out [rows, columns]. A path that has a better place to compute it brings its
// own; ends whose products round differently still understand each other.
struct ProductShape {
  std::size_t rows;
  std::size_t inner;
  std::size_t columns;
};
using MatrixProduct =
    std::function<void(const ProductShape& shape, const float* x, const float* m, float* out)>;

// Adds in the order of `inner`, so that it has the same bits on every machine.
void ordered_product(const ProductShape& shape, const float* x, const float* m, float* out);

// One plane of one layer.
struct KvPlane {
  std::uint32_t layer = 0;
  Plane plane = Plane::kKey;
};

// How one plane of one layer is predicted. `width` is kv_heads * head_dim; K is taken before RoPE.
struct PredictorPlane {
  // [inputs + 1, width]. The inputs are K and V of the layers before, the farthest first, and K of
  // the same layer where the plane is V; the last row is an offset.
  std::vector<Half> map;
  // [width, width], orthonormal columns: the basis of what is left, in units of the codebook's
  // steps.
  std::vector<Half> basis;
  // [width] standard deviation along each column, as 2^(n / 4).
  std::vector<std::int8_t> spreads;
};

struct PredictorLayer {
  PredictorPlane key;  // empty maps in the first layer: there is nothing to predict it from
  PredictorPlane value;

  const PredictorPlane& plane(Plane p) const { return p == Plane::kKey ? key : value; }
  PredictorPlane& plane(Plane p) { return p == Plane::kKey ? key : value; }
};

// Immutable; may be used from any thread. Made for one codebook: it divides by its steps.
class Predictor {
 public:
  static constexpr std::uint32_t kMaxDepth = 3;
  static constexpr std::size_t kMaxBytes = std::size_t{1} << 30;  // of all planes

  // `depth`: layers before that are used, 1 to kMaxDepth. kInvalidArgument, naming layer and
  // field, when a vector is not of the shape or a value is not finite.
  static Result<std::shared_ptr<const Predictor>> create(
      std::uint64_t model, std::uint64_t codebook, std::uint32_t kv_heads, std::uint32_t head_dim,
      std::uint32_t depth, std::vector<PredictorLayer> layers);

  // The inverse of bytes(). Any bytes: kMalformed with the offset, kChecksum, kUnsupported for
  // another version.
  static Result<std::shared_ptr<const Predictor>> parse(Bytes bytes);

  // Reads a file. kIo, or as parse(), with the path. kMismatch when it is another model's.
  static Result<std::shared_ptr<const Predictor>> load(const std::string& path,
                                                       const ModelIdentity& identity);
  // The file appears whole, replacing one that was there, or not at all.
  Status save(const std::string& path) const;
  // Where the predictor of a codebook file lies: beside it, ending in .kvfp.
  static std::string path_beside(const std::string& codebook);

  // Bytes of one of that shape; layers of 32 bits, `channels` is kv_heads * head_dim.
  static std::uint64_t bytes_for(std::uint32_t layers, std::uint64_t channels, std::uint32_t depth);

  // kMismatch unless it serves caches of this shape, which may hold some of its layers only, that
  // are coded with this codebook.
  Status serves(const KvGeometry& geometry, const Codebook* codebook) const;

  std::uint64_t id() const { return id_; }  // hash of bytes(); what blocks name, never 0
  std::uint64_t model() const { return model_; }
  std::uint64_t codebook() const { return codebook_; }
  std::uint32_t kv_heads() const { return kv_heads_; }
  std::uint32_t head_dim() const { return head_dim_; }
  std::uint32_t depth() const { return depth_; }
  const std::vector<PredictorLayer>& layers() const { return layers_; }

  // Planes that a plane is predicted from, in the order of the map's inputs; none: not predicted.
  std::vector<KvPlane> inputs(std::uint32_t layer, Plane plane) const;

  // The serialised form (docs/wire-format.md).
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  Predictor() = default;

  std::uint64_t id_ = 0;
  std::uint64_t model_ = 0;
  std::uint64_t codebook_ = 0;
  std::uint32_t kv_heads_ = 0;
  std::uint32_t head_dim_ = 0;
  std::uint32_t depth_ = 0;
  std::vector<PredictorLayer> layers_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace kvferry
