// Sessions as byte streams.
#include <fstream>
#include <iterator>

#include <catch2/catch.hpp>

#include "kvferry/cache/sequence_adapters.hpp"

#include "session_fixture.hpp"

using namespace kvferry;
using namespace kvferry::wire;
using namespace kvferry_test;

TEST_CASE("A session loads to the rows that it was made of, fed in pieces of any size") {
  for (const std::uint32_t tokens : {1u, 31u, 256u, 257u, 600u}) {
    for (const Profile profile : {Profile::kRaw, Profile::kLossless}) {
      SmallCache cache(tokens);
      cache.fill();
      const auto bytes = cache.session(profile);
      CHECK(cache.session(profile) == bytes);
      for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, bytes.size()}) {
        SmallCache copy(tokens);
        const auto loaded = load(bytes, copy, piece);
        REQUIRE(loaded.ok());
        CHECK(loaded->length == tokens);
        CHECK(copy.memory() == cache.memory());
        CHECK(copy.imported() == cache.offer(profile).tokens);
      }
    }
  }
}

TEST_CASE("A lossy session loads") {
  SmallCache cache(40);
  cache.fill();
  SmallCache copy(40);
  REQUIRE(load(cache.session(Profile::kHigh), copy).ok());
  CHECK(copy.length() == 40);
  CHECK(copy.memory() != SmallCache(40).memory());
}

TEST_CASE("A session carries the codebook that its blocks were made with, and loads alone") {
  SmallCache cache(40);
  cache.fill();
  const auto codebook = small_codebook(cache);
  const auto bytes = cache.session(Profile::kHigh, codebook);
  CHECK(bytes.size() != cache.session(Profile::kHigh).size());
  SmallCache copy(40);
  REQUIRE(load(bytes, copy, 61).ok());
  // As the codec alone does with the codebook.
  BlockEncoder encoder(cache.geometry(), codebook);
  BlockDecoder decoder(cache.geometry(), codebook);
  for (std::uint32_t layer = 0; layer < cache.geometry().layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvRange range{layer, plane, 0, 40};
      std::vector<std::uint8_t> rows(40 * cache.geometry().row_bytes());
      std::vector<std::uint8_t> loaded(rows.size());
      std::vector<std::uint8_t> block(maximum_encoded_size(cache.geometry(), 40));
      REQUIRE(cache.source().read(range, rows).ok());
      block.resize(encoder.encode({Profile::kHigh, range}, rows, block).value().total());
      REQUIRE(decoder.decode({range, 0}, block, rows).ok());
      REQUIRE(copy.source().read(range, loaded).ok());
      CHECK(loaded == rows);
    }
  }
  // Other profiles have no use for it.
  CHECK(cache.session(Profile::kQ8, codebook) == cache.session(Profile::kQ8));
  // One of another model.
  ModelIdentity other = cache.identity();
  other.norms ^= 1;
  auto layers = codebook->layers();
  const auto foreign = Codebook::create(Codebook::model_of(other), 1, 4, std::move(layers)).value();
  CHECK(load(cache.session(Profile::kHigh, foreign), copy).error().code == ErrorCode::kMismatch);
}

TEST_CASE("A flipped bit anywhere in a session with a codebook is an error") {
  SmallCache cache(3);
  cache.fill();
  auto bytes = cache.session(Profile::kLow, small_codebook(cache));
  for (std::size_t bit = 0; bit < 8 * bytes.size(); bit += 5) {
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    SmallCache copy(3);
    REQUIRE_FALSE(load(bytes, copy).ok());
    REQUIRE(copy.length() == 0);
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST_CASE("A flipped bit anywhere in a session is an error, and nothing is imported") {
  SmallCache cache(3);
  cache.fill();
  auto bytes = cache.session(Profile::kRaw);
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    INFO("bit " << bit % 8 << " of byte " << bit / 8);
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
    SmallCache copy(3);
    REQUIRE_FALSE(load(bytes, copy).ok());
    REQUIRE(copy.length() == 0);
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << bit % 8);
  }
}

TEST_CASE("A session cut off at any byte is incomplete, and nothing is imported") {
  SmallCache cache(3);
  cache.fill();
  const auto bytes = cache.session(Profile::kRaw);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    SmallCache copy(3);
    const auto loaded =
        load({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)}, copy);
    REQUIRE_FALSE(loaded.ok());
    REQUIRE(loaded.error().code == ErrorCode::kIncomplete);
    REQUIRE(copy.length() == 0);
  }
}

TEST_CASE("A failed import leaves a sequence as it was") {
  SmallCache small(3);
  small.fill();
  auto bytes = small.session(Profile::kRaw);
  bytes.back() ^= 1;
  const auto pool = KvPool::create(small.geometry(), 4).value();
  const auto sequence = KvSequence::create(pool);
  SequenceSink sink(sequence);
  {
    SessionImport import(small.identity(), [&](const Offer&) { return Result<KvSink*>(&sink); });
    SessionReader reader(import);
    CHECK_FALSE(reader.feed(bytes).ok());
    CHECK_FALSE(reader.finish().ok());
  }
  CHECK(sequence->length() == 0);
  CHECK(pool->free_blocks() == 4);

  bytes.back() ^= 1;
  SessionImport import(small.identity(), [&](const Offer&) { return Result<KvSink*>(&sink); });
  SessionReader reader(import);
  REQUIRE(reader.feed(bytes).ok());
  REQUIRE(reader.finish().ok());
  CHECK(sequence->length() == 0);  // not before commit()
  REQUIRE(import.commit().ok());
  CHECK(sequence->length() == 3);
}

TEST_CASE("A session of another shape, or refused by its reader, is not begun") {
  SmallCache cache(3, 2);
  cache.fill();
  const auto bytes = cache.session(Profile::kRaw);
  SmallCache deeper(3, 4);
  StridedSink sink = deeper.sink();
  SessionImport import(cache.identity(), [&](const Offer&) { return Result<KvSink*>(&sink); });
  const Status fed = SessionReader(import).feed(bytes);
  REQUIRE_FALSE(fed.ok());
  CHECK(fed.error().code == ErrorCode::kMismatch);
  CHECK(fed.error().message.find("layers") != std::string::npos);

  SessionImport refused(cache.identity(), [](const Offer&) -> Result<KvSink*> {
    return Error(ErrorCode::kResourceExhausted, "no room");
  });
  CHECK(SessionReader(refused).feed(bytes).error().code == ErrorCode::kResourceExhausted);
}

TEST_CASE("A missing block is found by the reader itself, whatever its handler checks") {
  class Anything : public SessionHandler {
   public:
    Status on_offer(const Offer&) override { return {}; }
    Status on_codebook(Bytes) override { return {}; }
    Status on_block(const Block&) override { return {}; }
  };
  const std::string name = KVFERRY_GOLDEN_DIR "/wire/session/bad_block_missing.kvsession";
  std::ifstream in(name, std::ios::binary);
  REQUIRE(in.good());
  const std::vector<std::uint8_t> bytes((std::istreambuf_iterator<char>(in)),
                                        std::istreambuf_iterator<char>());
  Anything handler;
  const Status fed = SessionReader(handler).feed(bytes);
  REQUIRE_FALSE(fed.ok());
  CHECK(fed.error().code == ErrorCode::kIncomplete);
  CHECK(fed.error().message.find("layer 0 V token 0") != std::string::npos);
}

TEST_CASE("Writing stops at the first error of its output") {
  SmallCache cache(300);
  cache.fill();
  int calls = 0;
  const Status status =
      write_session(cache.source(), cache.offer(Profile::kRaw), [&](Bytes) -> Status {
        if (++calls == 5) return Error(ErrorCode::kIo, "the disk is full");
        return {};
      });
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == ErrorCode::kIo);
  CHECK(calls == 5);
}

TEST_CASE("An offer that is not the source's, or no session's, is not written") {
  SmallCache cache(3);
  const auto refused = [&](const Offer& offer) {
    return write_session(cache.source(), offer, [](Bytes) { return Status(); }).error().code;
  };
  Offer offer = cache.offer(Profile::kRaw);
  offer.type = ElementType::kF32;
  CHECK(refused(offer) == ErrorCode::kInvalidArgument);
  offer = cache.offer(Profile::kRaw);
  offer.decode.emplace();
  CHECK(refused(offer) == ErrorCode::kUnsupported);
  offer = cache.offer(static_cast<Profile>(8));
  CHECK(refused(offer) == ErrorCode::kInvalidArgument);
}
