// Predictors as data: their bytes, their files, their shapes, and the product that they need.
#include <cstdio>
#include <string>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "src/codec/row_kernels.hpp"
#include "test_predictor.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = codec_geometry(ElementType::kF16, 2);

}  // namespace

TEST_CASE("a predictor survives its bytes and its file") {
  const auto codebook = test_codebook(kGeometry, 1);
  const auto made = test_predictor(kGeometry, *codebook, 2, 1);
  const auto back = Predictor::parse(made->bytes()).value();
  CHECK(back->bytes() == made->bytes());
  CHECK(back->id() == made->id());
  CHECK(back->depth() == 2);
  CHECK(back->layers()[3].value.map == made->layers()[3].value.map);
  CHECK(back->layers()[0].key.map.empty());
  CHECK(back->serves(kGeometry, codebook.get()).ok());
  CHECK(back->serves(kGeometry, nullptr).error().code == ErrorCode::kMismatch);
  CHECK(back->serves(kGeometry, test_codebook(kGeometry, 2).get()).error().code ==
        ErrorCode::kMismatch);
  CHECK(back->serves(codec_geometry(ElementType::kF16, 4), codebook.get()).error().code ==
        ErrorCode::kMismatch);

  CHECK(Predictor::path_beside("a.b/m.kvfc") == "a.b/m.kvfp");
  CHECK(Predictor::path_beside("a.b/m") == "a.b/m.kvfp");
  CHECK(Predictor::path_beside("m.kvfc") == "m.kvfp");
  const std::string path = "predictor_test." + std::to_string(::getpid());
  REQUIRE(made->save(path).ok());
  ModelIdentity other;
  other.architecture = "other";
  CHECK(Predictor::load(path, other).error().code == ErrorCode::kMismatch);
  std::remove(path.c_str());
  CHECK(Predictor::load(path, other).error().code == ErrorCode::kIo);
}

TEST_CASE("every changed byte and every cut of a predictor is refused") {
  const auto bytes = test_predictor(kGeometry, *test_codebook(kGeometry, 1), 1, 1)->bytes();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    auto bad = bytes;
    bad[at] = static_cast<std::uint8_t>(bad[at] ^ 0x81);
    const auto changed = Predictor::parse(bad);
    REQUIRE(!changed.ok());
    CHECK((changed.error().code == ErrorCode::kMalformed ||
           changed.error().code == ErrorCode::kChecksum ||
           changed.error().code == ErrorCode::kUnsupported));
    CHECK(!Predictor::parse(Bytes(bytes).first(at)).ok());
  }
}

TEST_CASE("a predictor of another shape, or not of numbers, is refused by layer and field") {
  const auto codebook = test_codebook(kGeometry, 1);
  const auto made = test_predictor(kGeometry, *codebook, 1, 1);
  const auto refusal = [&](auto change, std::uint32_t depth = 1) {
    std::vector<PredictorLayer> layers = made->layers();
    change(layers);
    const auto got = Predictor::create(7, codebook->id(), 3, 2, depth, std::move(layers));
    REQUIRE(!got.ok());
    CHECK(got.error().code == ErrorCode::kInvalidArgument);
    return got.error().message;
  };
  CHECK_THAT(refusal([](auto& layers) { layers[2].key.map.pop_back(); }),
             Catch::Contains("layer 2 K"));
  CHECK_THAT(refusal([](auto& layers) { layers[1].value.basis.clear(); }),
             Catch::Contains("layer 1 V"));
  CHECK_THAT(refusal([](auto& layers) { layers[3].value.map[5].bits = 0x7c00; }),
             Catch::Contains("not finite"));
  CHECK_THAT(refusal([](auto& layers) { layers[3].value.basis[5].bits = 0xfe00; }),
             Catch::Contains("not finite"));
  CHECK_THAT(refusal([](auto&) {}, 0), Catch::Contains("depth 0"));
  CHECK_THAT(refusal([](auto&) {}, 4), Catch::Contains("depth 4"));
}

TEST_CASE("products add in order, with the same bits on every instruction set") {
  std::mt19937 random(3);
  for (const ProductShape& shape : {ProductShape{1, 1, 1}, ProductShape{5, 3, 15},
                                    ProductShape{6, 7, 16}, ProductShape{13, 40, 35}}) {
    std::vector<float> x(shape.rows * shape.inner);
    std::vector<float> m(shape.inner * shape.columns);
    for (float& v : x) v = static_cast<float>(static_cast<std::int32_t>(random())) * 1e-9f;
    for (float& v : m) v = static_cast<float>(static_cast<std::int32_t>(random())) * 1e-9f;
    std::vector<float> expected(shape.rows * shape.columns);
    for (std::size_t r = 0; r < shape.rows; ++r) {
      for (std::size_t c = 0; c < shape.columns; ++c) {
        float sum = 0.0f;
        for (std::size_t i = 0; i < shape.inner; ++i)
          sum += x[r * shape.inner + i] * m[i * shape.columns + c];
        expected[r * shape.columns + c] = sum;
      }
    }
    for (const RowKernels* kernels : available_row_kernels()) {
      CAPTURE(kernels->name, shape.rows, shape.columns);
      std::vector<float> got(expected.size(), 1e30f);
      kernels->multiply(shape, x.data(), m.data(), got.data());
      CHECK(got == expected);
    }
  }
}
