// The small parts of the nodes: token streams, tickets, stop strings.
#include <thread>

#include <catch2/catch.hpp>

#include "kvferry/engine/gguf.hpp"
#include "kvferry/node/text_stream.hpp"
#include "kvferry/node/ticket_book.hpp"
#include "kvferry/node/token_stream.hpp"

namespace kvferry {
namespace {

using Clock = TicketBook::Clock;

TEST_CASE("a token stream gives its items in order and ends once") {
  TokenStream stream;
  CHECK_FALSE(stream.next(Deadline::after(std::chrono::milliseconds(1))));
  std::thread producer([&] {
    for (std::uint32_t i = 0; i < 100; ++i) {
      wire::Token token;
      token.index = i;
      stream.push(token);
    }
    stream.fail(Error(ErrorCode::kIo, "first"));
    stream.finish(wire::Done());  // too late
  });
  for (std::uint32_t i = 0; i < 100; ++i) {
    const auto item = stream.next(Deadline::after(std::chrono::seconds(10)));
    REQUIRE(item);
    CHECK(std::get<wire::Token>(*item).index == i);
  }
  const auto last = stream.next(Deadline::after(std::chrono::seconds(10)));
  producer.join();
  REQUIRE(last);
  CHECK(std::get<Error>(*last).message == "first");
  CHECK_FALSE(stream.next(Deadline::after(std::chrono::milliseconds(1))));
}

TEST_CASE("cancelling calls the handler, also one that comes later, and no removed one") {
  TokenStream stream;
  int calls = 0;
  stream.on_cancel([&] { ++calls; });
  stream.on_cancel(nullptr);
  stream.cancel();
  CHECK(calls == 0);
  stream.on_cancel([&] { ++calls; });
  CHECK(calls == 1);
  CHECK(stream.cancelled());
}

TEST_CASE("a ticket is good once, and only while it lives") {
  TicketBook book(2, std::chrono::seconds(10));
  const auto stream = std::make_shared<TokenStream>();
  const auto now = Clock::now();
  const wire::TicketId first = random_id();
  CHECK(first != random_id());
  REQUIRE(book.add(first, stream, now).ok());
  CHECK(book.add(first, stream, now).error().code == ErrorCode::kInvalidArgument);
  CHECK(book.redeem(random_id(), now).error().code == ErrorCode::kNotFound);
  CHECK(book.redeem(first, now).value() == stream);
  CHECK(book.redeem(first, now).error().code == ErrorCode::kNotFound);

  const wire::TicketId late = random_id();
  REQUIRE(book.add(late, stream, now).ok());
  REQUIRE(book.add(random_id(), stream, now).ok());
  CHECK(book.add(random_id(), stream, now).error().code == ErrorCode::kResourceExhausted);
  CHECK_FALSE(stream->cancelled());
  CHECK(book.redeem(late, now + std::chrono::seconds(11)).error().code == ErrorCode::kNotFound);
  CHECK(stream->cancelled());
  CHECK(book.add(random_id(), stream, now + std::chrono::seconds(11)).ok());
}

// Runs the tokens of `text` through a stream and returns what came out before the flush.
std::string released(const Tokenizer& tokenizer, TextStream& stream, const std::string& text) {
  std::string out;
  for (const TokenId token : tokenizer.tokenize(text).value()) out += stream.push(token).value();
  return out;
}

TEST_CASE("no part of a stop string is emitted, everything else is") {
  const GgufFile file = GgufFile::open(KVFERRY_GOLDEN_DIR "/tiny/tiny-qwen2-q8_0.gguf").value();
  const Tokenizer tokenizer = Tokenizer::create(vocabulary_from(file).value()).value();
  TextStream stops(tokenizer, {"END", "abc"});
  CHECK(released(tokenizer, stops, "one EN two END three") == "one EN two ");
  CHECK(stops.stopped());
  CHECK(stops.flush().empty());

  TextStream held(tokenizer, {"END"});
  CHECK(released(tokenizer, held, "the EN") == "the ");
  CHECK_FALSE(held.stopped());
  CHECK(held.flush() == "EN");
}

}  // namespace
}  // namespace kvferry
