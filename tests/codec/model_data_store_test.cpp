// What a receiver keeps of codebooks and predictors, and of decoded rows.
#include "kvferry/codec/model_data_store.hpp"

#include <fstream>
#include <string>
#include <thread>

#include <catch2/catch.hpp>
#include <sys/stat.h>

#include "kvferry/codec/decoded_rows.hpp"

#include "test_predictor.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace kvferry;

namespace {

ModelIdentity identity() {
  ModelIdentity id;
  id.architecture = "llama";
  id.layers = 3;
  return id;
}

const KvGeometry& geometry() {
  static const KvGeometry g = codec_geometry(ElementType::kF16, 6);
  return g;
}

std::shared_ptr<const Codebook> codebook(std::uint32_t seed, std::uint64_t model = 0) {
  const auto made = test_codebook(geometry(), seed);
  return Codebook::create(model == 0 ? Codebook::model_of(identity()) : model, made->kv_heads(),
                          made->head_dim(), made->layers())
      .value();
}

}  // namespace

TEST_CASE("a store keeps what was used last, up to its number") {
  ModelDataStoreOptions options;
  options.codebooks = 2;
  ModelDataStore store(identity(), options);
  const auto a = codebook(1);
  const auto b = codebook(2);
  const auto c = codebook(3);
  CHECK(store.codebook(a->id()) == nullptr);
  store.add(a);
  store.add(b);
  CHECK(store.codebook(a->id()) == a);
  store.add(c);
  CHECK(store.codebook(a->id()) == a);
  CHECK(store.codebook(b->id()) == nullptr);
  CHECK(store.codebook(c->id()) == c);
  CHECK(store.predictor(a->id()) == nullptr);
}

TEST_CASE("a folder keeps over a restart, bounded, and what is damaged in it is ignored") {
  const TemporaryFolder folder;
  const std::string kept = folder.file("a/b");  // two levels that are not there
  std::string log;
  ModelDataStoreOptions options;
  options.folder = kept;
  options.codebooks = 2;
  options.log = [&log](const std::string& line) { log += line + "\n"; };
  const auto a = codebook(1);
  const auto predictor = test_predictor(geometry(), *a, 2, 1);
  {
    ModelDataStore store(identity(), options);
    store.add(a);
    store.add(predictor);
    CHECK(TemporaryFolder::files(kept).empty());
    store.save();
    CHECK(TemporaryFolder::files(kept).size() == 2);
    struct stat found;
    REQUIRE(stat(kept.c_str(), &found) == 0);
    CHECK((found.st_mode & 0777) == 0700);
  }
  {
    ModelDataStore store(identity(), options);
    REQUIRE(store.codebook(a->id()) != nullptr);
    CHECK(store.codebook(a->id())->bytes() == a->bytes());
    CHECK(store.codebook(a->id() + 1) == nullptr);
  }
  CHECK(log.empty());
  // What is not the store's is left alone; what a killed process left behind is not.
  for (const char* name : {"codebook-mine.kvfc", "codebook-0123456789abcdef.kvfc", "notes"})
    std::ofstream(kept + "/" + name) << "x";
  std::ofstream(kept + "/codebook-0123456789abcdef.x1Y2z3") << "x";
  for (std::uint32_t seed = 2; seed < 6; ++seed) {
    ModelDataStore store(identity(), options);
    store.add(codebook(seed));
    store.save();
  }
  CHECK(TemporaryFolder::files(kept).size() == 3 + 3);  // two codebooks and the predictor
  CHECK(TemporaryFolder::files(kept).count("codebook-mine.kvfc") == 1);
  CHECK(TemporaryFolder::files(kept).count("codebook-0123456789abcdef.x1Y2z3") == 0);
  CHECK(ModelDataStore(identity(), options).codebook(a->id()) == nullptr);
  const auto last = codebook(5);
  for (const char* damage : {"x", "", "cut"}) {
    std::string path;
    for (const std::string& name : TemporaryFolder::files(kept)) {
      const std::string file = kept + "/" + name;
      if (name.find("codebook-") == 0 && ModelDataStore(identity(), options).codebook(last->id()) &&
          Codebook::load(file, identity()).ok() &&
          Codebook::load(file, identity()).value()->id() == last->id()) {
        path = file;
      }
    }
    REQUIRE_FALSE(path.empty());
    log.clear();
    std::ofstream(path, std::ios::binary | std::ios::trunc) << damage;
    ModelDataStore store(identity(), options);
    CHECK(store.codebook(last->id()) == nullptr);
    CHECK(log.find("fetched again") != std::string::npos);
    store.add(last);
    store.save();
    CHECK(ModelDataStore(identity(), options).codebook(last->id()) != nullptr);
  }
}

TEST_CASE("what is in a file under another id, or of another model, is ignored") {
  const TemporaryFolder folder;
  const std::string kept = folder.file("a/b");  // two levels that are not there
  std::string log;
  ModelDataStoreOptions options;
  options.folder = kept;
  options.log = [&log](const std::string& line) { log += line; };
  const auto a = codebook(1);
  {
    ModelDataStore store(identity(), options);
    store.add(a);
    store.save();
  }
  REQUIRE(TemporaryFolder::files(kept).size() == 1);
  const std::string path = kept + "/" + *TemporaryFolder::files(kept).begin();
  REQUIRE(codebook(2)->save(path).ok());
  CHECK(ModelDataStore(identity(), options).codebook(a->id()) == nullptr);
  CHECK_FALSE(log.empty());
  log.clear();
  REQUIRE(a->save(path).ok());
  ModelIdentity other = identity();
  other.layers = 4;
  CHECK(ModelDataStore(other, options).codebook(a->id()) == nullptr);
  CHECK_FALSE(log.empty());
}

TEST_CASE("a folder that cannot be written costs a log line") {
  std::string log;
  ModelDataStoreOptions options;
  options.folder = "/dev/null/model-data";
  options.log = [&log](const std::string& line) { log += line; };
  ModelDataStore store(identity(), options);
  const auto a = codebook(1);
  store.add(a);
  store.save();
  CHECK_FALSE(log.empty());
  CHECK(store.codebook(a->id()) == a);
}

TEST_CASE("one predictor is fetched at a time") {
  ModelDataStore store(identity());
  auto right = store.reserve_predictor();
  REQUIRE(right != nullptr);
  CHECK(store.reserve_predictor() == nullptr);
  auto copy = right;
  right.reset();
  CHECK(store.reserve_predictor() == nullptr);
  copy.reset();
  CHECK(store.reserve_predictor() != nullptr);
}

TEST_CASE("decoded rows are kept as long as something can be predicted from them") {
  const auto predictor = test_predictor(geometry(), *test_codebook(geometry(), 1), 1, 1);
  const std::uint32_t layers = geometry().layers;
  REQUIRE(layers >= 3);
  const auto rows = std::make_shared<const std::vector<Half>>(10 * geometry().row_values());
  DecodedRows held(*predictor, DecodedRows::bytes_for(*predictor, 10));
  const auto has = [&](std::uint32_t layer, Plane plane) {
    return held.find({0, Plane::kKey, 5, 15}, {layer, plane}) != nullptr;
  };
  held.add({0, Plane::kKey, 5, 15}, rows);
  held.add({0, Plane::kValue, 5, 15}, rows);
  CHECK(has(0, Plane::kKey));
  CHECK(held.find({1, Plane::kKey, 5, 14}, {0, Plane::kKey}) == nullptr);  // other tokens
  held.add({1, Plane::kValue, 5, 15}, nullptr);                            // out of order
  CHECK(has(0, Plane::kValue));
  CHECK_FALSE(has(1, Plane::kValue));
  held.add({1, Plane::kKey, 5, 15}, rows);
  CHECK_FALSE(has(0, Plane::kKey));  // depth 1: all that could need it has come
  CHECK_FALSE(has(0, Plane::kValue));
  CHECK(has(1, Plane::kKey));
  // The same block again is another stream.
  held.add({0, Plane::kKey, 5, 15}, rows);
  CHECK(has(0, Plane::kKey));
  CHECK_FALSE(has(1, Plane::kKey));

  // Whatever is never completed is bounded: the oldest goes.
  DecodedRows small(*predictor, 3 * rows->size() * sizeof(Half) + 3 * 400);
  for (std::uint32_t begin = 0; begin < 1000; begin += 10)
    small.add({0, Plane::kKey, begin, begin + 10}, rows);
  std::size_t kept = 0;
  for (std::uint32_t begin = 0; begin < 1000; begin += 10)
    kept += small.find({1, Plane::kKey, begin, begin + 10}, {0, Plane::kKey}) != nullptr ? 1 : 0;
  CHECK(kept >= 1);
  CHECK(kept <= 4);
  CHECK(small.find({1, Plane::kKey, 990, 1000}, {0, Plane::kKey}) != nullptr);
}
