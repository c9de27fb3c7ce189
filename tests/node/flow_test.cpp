// A request from client to prefill node to decode node and back, over TCP.
#include <thread>

#include "kvferry/transport/tcp.hpp"

#include "node_fixture.hpp"

namespace kvferry_test {
namespace {

SamplerParams seeded() {
  SamplerParams sampler;
  sampler.temperature = 0.8f;
  sampler.seed = 42;
  return sampler;
}

TEST_CASE("handed over or not, the tokens are the same") {
  const LoadedModel model = LoadedModel::load(tiny_options()).value();
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  for (const std::size_t length : {1u, 31u, 32u, 33u, 70u}) {
    for (const SamplerParams& sampler : {SamplerParams(), seeded()}) {
      wire::Generate request = request_of(some_ids(length), 24);
      request.sampler = sampler;
      const GenerationResult result = ask(*prefill, request).value();
      CAPTURE(length, sampler.temperature);
      CHECK(result.tokens == single_process(model, request));
      CHECK(result.reason == wire::FinishReason::kLength);
      CHECK(result.prompt_tokens == length);
      CHECK(result.first_token_seconds > 0);
      CHECK(result.second_token_seconds >= result.first_token_seconds);
      CHECK(result.decode_report.size() > 5);
      CHECK(result.prefill_report.size() > 5);
    }
  }
}

TEST_CASE("clients at once get what each would get alone") {
  const LoadedModel model = LoadedModel::load(tiny_options()).value();
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  std::vector<std::thread> clients;
  std::vector<std::vector<TokenId>> tokens(6);
  for (std::uint32_t c = 0; c < tokens.size(); ++c) {
    clients.emplace_back([&, c] {
      const auto result = ask(*prefill, request_of(some_ids(20 + 13 * c, c), 32));
      if (result.ok()) tokens[c] = result->tokens;
    });
  }
  for (std::thread& client : clients) client.join();
  for (std::uint32_t c = 0; c < tokens.size(); ++c) {
    CAPTURE(c);
    CHECK(tokens[c] == single_process(model, request_of(some_ids(20 + 13 * c, c), 32)));
  }
}

TEST_CASE("one token, and a first token that ends the text, need no step") {
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  const GenerationResult result = ask(*prefill, request_of(some_ids(9), 1)).value();
  CHECK(result.tokens.size() == 1);
  CHECK(result.second_token_seconds == 0);
}

TEST_CASE("a stop string ends the text before it") {
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  wire::Generate request = request_of(some_ids(12), 40);
  const std::string whole = ask(*prefill, request).value().text;
  REQUIRE(whole.size() > 12);
  const std::string stop = whole.substr(6, 4);
  request.stop = {stop};
  const GenerationResult result = ask(*prefill, request).value();
  CHECK(result.reason == wire::FinishReason::kStop);
  CHECK(result.text == whole.substr(0, whole.find(stop)));
}

TEST_CASE("a prompt that cannot be served is refused with the reason") {
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  const auto refusal = [&](const wire::Generate& request) {
    const auto result = ask(*prefill, request);
    REQUIRE_FALSE(result.ok());
    return result.error().message;
  };
  CHECK_THAT(refusal(request_of({1, 2, 2000000000u}, 4)), Catch::Contains("2000000000"));
  CHECK_THAT(refusal(request_of(std::vector<TokenId>(100000, 5), 4)), Catch::Contains("context"));
  wire::Generate request = request_of(some_ids(5), 4);
  request.sampler.temperature = 1000.0f;
  CHECK_FALSE(ask(*prefill, request).ok());
  // … and the nodes go on.
  CHECK(ask(*prefill, request_of(some_ids(5), 4)).ok());
}

TEST_CASE("nodes of different models refuse each other by the field") {
  DecodeNodeOptions options;
  options.model = tiny_options("tiny-llama3-ropefreqs-bf16");
  const auto decode = start_decode(options);
  const auto prefill = start_prefill(decode->address());
  const auto result = ask(*prefill, request_of(some_ids(5), 4));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code == ErrorCode::kMismatch);
  CHECK_THAT(result.error().message, Catch::Contains("architecture"));
}

TEST_CASE("a decode node without room says so, and serves again when there is room") {
  DecodeNodeOptions options;
  options.model = tiny_options();
  options.model.cache_tokens = 64;
  const auto decode = start_decode(options);
  const auto prefill = start_prefill(decode->address());
  const auto result = ask(*prefill, request_of(some_ids(50), 40));
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code == ErrorCode::kResourceExhausted);
  CHECK_THAT(result.error().message, Catch::Contains("64"));
  CHECK(ask(*prefill, request_of(some_ids(20), 40)).value().tokens.size() == 40);
  CHECK(ask(*prefill, request_of(some_ids(20), 40)).value().tokens.size() == 40);
}

TEST_CASE("a client that cancels ends its request on both nodes, the others go on") {
  const auto decode = start_decode();
  const auto prefill = start_prefill(decode->address());
  std::atomic<bool> cancel{false};
  ClientOptions options;
  options.prefill = prefill->address();
  std::size_t pieces = 0;
  const auto result = generate(
      options, request_of(some_ids(20), 400),
      [&](const std::string&) {
        if (++pieces == 3) cancel = true;
      },
      cancel);
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().code == ErrorCode::kCancelled);
  CHECK(ask(*prefill, request_of(some_ids(20), 8)).value().tokens.size() == 8);
}

TEST_CASE("without a decode node the client learns which address failed") {
  std::string nobody;
  {
    const auto listener =
        listen_tcp("tcp://127.0.0.1:0", Deadline::after(std::chrono::seconds(5))).value();
    nobody = listener->address();
  }
  const auto prefill = start_prefill(nobody);
  const auto result = ask(*prefill, request_of(some_ids(5), 4));
  REQUIRE_FALSE(result.ok());
  CHECK_THAT(result.error().message, Catch::Contains(nobody));
  // A decode node that starts later at that address is found.
  DecodeNodeOptions options;
  options.server.listen = nobody;
  const auto decode = start_decode(options);
  CHECK(ask(*prefill, request_of(some_ids(5), 4)).ok());
}

TEST_CASE("a decode node that stops in the middle is told to the client, and can be replaced") {
  auto decode = start_decode();
  const std::string address = decode->address();
  const auto prefill = start_prefill(address);
  std::size_t pieces = 0;
  ClientOptions options;
  options.prefill = prefill->address();
  const std::atomic<bool> cancel{false};
  std::thread stopper;
  const auto result = generate(
      options, request_of(some_ids(20), 400),
      [&](const std::string&) {
        if (++pieces == 3) stopper = std::thread([&] { decode.reset(); });
      },
      cancel);
  stopper.join();
  REQUIRE_FALSE(result.ok());
  CHECK_THAT(result.error().message, Catch::Contains(address));
  DecodeNodeOptions again;
  again.server.listen = address;
  decode = start_decode(again);
  CHECK(ask(*prefill, request_of(some_ids(20), 8)).ok());
}

}  // namespace
}  // namespace kvferry_test
