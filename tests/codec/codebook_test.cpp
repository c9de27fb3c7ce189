#include <cmath>
#include <cstdio>
#include <fstream>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "quantised_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = codec_geometry(ElementType::kF16, 6);

// A file name of this process that is gone afterwards.
struct TemporaryPath {
  std::string path = "codebook_test." + std::to_string(::getpid());
  ~TemporaryPath() { std::remove(path.c_str()); }
};

}  // namespace

TEST_CASE("powers and logarithms by eighths") {
  for (std::int32_t n = -kMaxEighths; n <= kMaxEighths; ++n) {
    REQUIRE(exp2_eighths(n) == static_cast<float>(std::pow(2.0, n / 8.0)));
    REQUIRE(log2_eighths(exp2_eighths(n)) == n);
  }
  CHECK(exp2_eighths(10000) == exp2_eighths(kMaxEighths));
  CHECK(exp2_eighths(-10000) == exp2_eighths(-kMaxEighths));
  CHECK(log2_eighths(3e38f) == kMaxEighths);
  CHECK(log2_eighths(1e-45f) == -kMaxEighths);
  for (float x = 1e-6f; x < 1e6f; x *= 1.003f)
    REQUIRE(std::abs(log2_eighths(x) - 8 * std::log2(static_cast<double>(x))) < 0.5001);
}

TEST_CASE("a codebook survives its bytes") {
  const auto made = test_codebook(kGeometry, 1);
  const auto back = Codebook::parse(made->bytes()).value();
  CHECK(back->bytes() == made->bytes());
  CHECK(back->id() == made->id());
  CHECK(back->id() != 0);
  CHECK(back->model() == 7);
  CHECK(back->layers()[3].value.weights == made->layers()[3].value.weights);
  CHECK(back->layers()[3].key.step == made->layers()[3].key.step);
  CHECK(test_codebook(kGeometry, 2)->id() != made->id());
  CHECK(made->bytes().size() == 32 + 4 * 2 * (2 + 4 * 18) + 8);
}

TEST_CASE("every changed byte and every cut of a codebook is refused") {
  const auto bytes = test_codebook(kGeometry, 1)->bytes();
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto bad = bytes;
      bad[at] = static_cast<std::uint8_t>(bad[at] ^ flip);
      const auto got = Codebook::parse(bad);
      REQUIRE(!got.ok());
      const ErrorCode code = got.error().code;
      CHECK((code == ErrorCode::kMalformed || code == ErrorCode::kChecksum ||
             code == ErrorCode::kUnsupported));
    }
    CHECK(Codebook::parse(Bytes(bytes).first(at)).error().code == ErrorCode::kMalformed);
  }
  auto longer = bytes;
  longer.push_back(0);
  CHECK(Codebook::parse(longer).error().code == ErrorCode::kMalformed);
}

TEST_CASE("values that a codebook cannot have are named") {
  const auto good = test_codebook(kGeometry, 1);
  const auto refusal = [&good](const auto& change) {
    auto layers = good->layers();
    change(layers);
    const auto got = Codebook::create(7, 3, 6, layers);
    REQUIRE(!got.ok());
    CHECK(got.error().code == ErrorCode::kInvalidArgument);
    return got.error().message;
  };
  using Layers = std::vector<CodebookLayer>;
  CHECK(refusal([](Layers& l) { l[1].value.step = 201; }).find("layer 1 V: the step") !=
        std::string::npos);
  CHECK(refusal([](Layers& l) { l[2].key.weights.pop_back(); }).find("17") != std::string::npos);
  CHECK(refusal([](Layers& l) { l[0].key.means[5] = BFloat16{0x7f80}; }).find("channel 5") !=
        std::string::npos);
  CHECK(refusal([](Layers& l) { l[0].key.means[5] = BFloat16{0x7fc0}; }).find("mean") !=
        std::string::npos);
  CHECK(refusal([](Layers& l) { l.clear(); }).find("0 layers") != std::string::npos);
}

TEST_CASE("a codebook file belongs to one model") {
  const TemporaryPath file;
  ModelIdentity identity;
  identity.layers = 4;
  identity.name = "a";
  const auto layers = test_codebook(kGeometry, 1)->layers();
  const auto made = Codebook::create(Codebook::model_of(identity), 3, 6, layers).value();
  REQUIRE(made->save(file.path).ok());
  REQUIRE(made->save(file.path).ok());  // over the one that is there
  CHECK(Codebook::load(file.path, identity).value()->id() == made->id());
  identity.name = "another name of the same weights";
  CHECK(Codebook::load(file.path, identity).ok());
  identity.norms = 1;
  CHECK(Codebook::load(file.path, identity).error().code == ErrorCode::kMismatch);
  std::ofstream(file.path, std::ios::app) << "x";
  const auto broken = Codebook::load(file.path, identity);
  CHECK(broken.error().code == ErrorCode::kMalformed);
  CHECK(broken.error().message.find(file.path) != std::string::npos);
  CHECK(Codebook::load("no/such/file", identity).error().code == ErrorCode::kIo);
  CHECK(made->save("no/such/file").error().code == ErrorCode::kIo);
  CHECK(made->save(".").error().code == ErrorCode::kInvalidArgument);
}

TEST_CASE("a codebook fits caches of its shape, also of some layers") {
  const auto book = test_codebook(kGeometry, 1);
  KvGeometry g = kGeometry;
  CHECK(book->fits(g).ok());
  g.first_layer = 1;
  CHECK(book->fits(g).error().code == ErrorCode::kMismatch);
  g.layers = 3;
  CHECK(book->fits(g).ok());
  g.head_dim = 8;
  CHECK(book->fits(g).error().code == ErrorCode::kMismatch);
}
