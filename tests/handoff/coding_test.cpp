// Codebooks, predictors and token classes in a hand-off: used where both ends have them.
#include <algorithm>
#include <atomic>

#include "sessions.hpp"
#include "tests/codec/test_predictor.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t kTokens = 300;

struct Coding {
  std::shared_ptr<const Codebook> codebook;
  std::shared_ptr<const Predictor> predictor;
  MatrixProduct product = ordered_product;
};

struct HandedOver {
  std::shared_ptr<KvSequence> sequence;
  HandoffReport report;
};

// Hands kTokens over with profile `low`, all in one chunk and of one class; -1: of none.
HandedOver hand_over(const Coding& sender, const Coding& receiver, int token_class = -1) {
  static const KvGeometry geometry = handoff_geometry();
  static const KnownSource source(geometry);
  Link link;
  HandedOver handed;
  handed.sequence = empty_sequence(geometry);
  SequenceHandler handler(handed.sequence);
  ReceiveOptions receive;
  receive.decode_threads = 3;
  receive.codebook = receiver.codebook;
  receive.predictor = receiver.predictor;
  receive.product = receiver.product;
  Receiving receiving(link.receiver, handler, receive);
  SendOptions send;
  send.encode_threads = 3;
  send.codebook = sender.codebook;
  send.predictor = sender.predictor;
  send.product = sender.product;
  wire::Offer offer = make_offer(geometry, kTokens);
  offer.profile = static_cast<std::uint8_t>(Profile::kLow);
  auto session = SendSession::start(link.sender, source, offer, send).value();
  std::vector<std::uint8_t> classes;
  if (token_class >= 0) classes.assign(kTokens, static_cast<std::uint8_t>(token_class));
  for (std::uint32_t layer = 0; layer < geometry.layers; ++layer)
    REQUIRE(session->publish(layer, 0, kTokens, classes).ok());
  const auto sent = session->finish();
  REQUIRE(sent.ok());
  REQUIRE(receiving.outcome().ok());
  CHECK(handed.sequence->length() == kTokens);
  handed.report = sent->report;
  return handed;
}

// Mean square of what the hand-off changed.
double change_of(const KvSequence& sequence) {
  const KvGeometry geometry = handoff_geometry();
  double sum = 0;
  std::vector<std::uint8_t> rows(kTokens * geometry.row_bytes());
  std::vector<std::uint8_t> expected(rows.size());
  for (std::uint32_t layer = 0; layer < geometry.layers; ++layer) {
    for (const Plane plane : {Plane::kKey, Plane::kValue}) {
      const KvRange range{layer, plane, 0, kTokens};
      REQUIRE(sequence.read(range, sequence.generation(), rows).ok());
      REQUIRE(KnownSource(geometry).read(range, expected).ok());
      const std::vector<float> a = floats_of(geometry.type, rows);
      const std::vector<float> b = floats_of(geometry.type, expected);
      for (std::size_t i = 0; i < a.size(); ++i)
        sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("codebook and predictor are used where both ends have the same, and only there") {
  const KvGeometry geometry = handoff_geometry();
  Coding with{test_codebook(geometry, 1), nullptr};
  Coding all = with;
  all.predictor = test_predictor(geometry, *all.codebook, 1, 1);
  Coding other{test_codebook(geometry, 2), nullptr};

  const HandedOver plain = hand_over({}, {});
  const HandedOver coded = hand_over(with, with);
  const HandedOver predicted = hand_over(all, all);
  CHECK(coded.report.payload_bytes != plain.report.payload_bytes);
  CHECK(predicted.report.payload_bytes != coded.report.payload_bytes);
  CHECK(change_of(*predicted.sequence) < 1e6);

  CHECK(hand_over(with, {}).report.payload_bytes == plain.report.payload_bytes);
  CHECK(hand_over({}, with).report.payload_bytes == plain.report.payload_bytes);
  CHECK(hand_over(with, other).report.payload_bytes == plain.report.payload_bytes);
  CHECK(hand_over(all, with).report.payload_bytes == coded.report.payload_bytes);
  CHECK(hand_over(with, all).report.payload_bytes == coded.report.payload_bytes);
}

TEST_CASE("both ends compute prediction where they are told to") {
  const KvGeometry geometry = handoff_geometry();
  std::atomic<int> sent{0}, received{0};
  const auto counted = [](std::atomic<int>& count) {
    return [&count](const ProductShape& shape, const float* x, const float* m, float* out) {
      ++count;
      ordered_product(shape, x, m, out);
    };
  };
  Coding sender{test_codebook(geometry, 1), nullptr};
  sender.predictor = test_predictor(geometry, *sender.codebook, 1, 1);
  Coding receiver = sender;
  sender.product = counted(sent);
  receiver.product = counted(received);
  hand_over(sender, receiver);
  CHECK(sent > 0);
  CHECK(received > 0);
}

TEST_CASE("token classes travel with what is published") {
  const Coding with{test_codebook(handoff_geometry(), 1), nullptr};
  const HandedOver coarse = hand_over(with, with, 0);
  const HandedOver fine = hand_over(with, with, kMaxTokenClass);
  CHECK(fine.report.payload_bytes > coarse.report.payload_bytes);
  // A quarter of the step: a sixteenth of the noise, and less where F16 is the limit.
  CHECK(change_of(*fine.sequence) < change_of(*coarse.sequence) / 8);
  // Whoever says nothing of the attention gets about half the step for every token.
  const HandedOver unknown = hand_over(with, with);
  CHECK(unknown.report.payload_bytes > coarse.report.payload_bytes);
  CHECK(unknown.report.payload_bytes < fine.report.payload_bytes);
  CHECK(change_of(*unknown.sequence) < change_of(*coarse.sequence) / 3);
}

TEST_CASE("classes of another number of tokens are refused") {
  Link link;
  const KvGeometry geometry = handoff_geometry();
  const KnownSource source(geometry);
  auto session = SendSession::start(link.sender, source, make_offer(geometry, 10)).value();
  const std::vector<std::uint8_t> classes(9);
  CHECK(session->publish(0, 0, 10, classes).error().code == ErrorCode::kInvalidArgument);
}
