#include "kvferry/wire/frame.hpp"
#include "kvferry/wire/serialize.hpp"

#include "example_messages.hpp"
#include "golden_files.hpp"

namespace kvferry_test {

using kvferry::wire::FrameAddress;
using kvferry::wire::MessageType;

namespace {

constexpr FrameAddress kConnection = {0, 0, 0};
constexpr FrameAddress kHandoff = {0x0123456789abcdefu, 2, 1};

template <typename Message>
std::vector<std::uint8_t> frame_of(MessageType type, const FrameAddress& address,
                                   const Message& message) {
  std::vector<std::uint8_t> payload;
  std::vector<std::uint8_t> frame;
  serialize(message, payload).value();
  write_frame(type, address, payload, frame);
  return frame;
}

// `frame` with other flags and a header that is longer by `extension` bytes of 0xe5.
std::vector<std::uint8_t> reframed(const std::vector<std::uint8_t>& frame, std::uint8_t flags,
                                   std::size_t extension) {
  std::vector<std::uint8_t> out(frame.begin(), frame.begin() + 40);
  out[6] = flags;
  out[22] = static_cast<std::uint8_t>(48 + extension);
  out.resize(40 + extension, 0xe5);
  const std::uint64_t checksum = kvferry::hash64(out);
  kvferry::ByteWriter(out).u64(checksum);
  out.insert(out.end(), frame.begin() + 48, frame.end());
  return out;
}

}  // namespace

std::vector<GoldenFile> golden_good_frames() {
  using namespace kvferry::wire;
  std::vector<GoldenFile> files;
  const auto add = [&](const std::string& name, std::vector<std::uint8_t> bytes) {
    files.push_back({"good/" + name + ".frame", std::move(bytes), std::nullopt, ""});
  };
  add("hello", frame_of(MessageType::kHello, kConnection, example_hello()));
  const Ping ping = {0x0102030405060708u, 1000000007};
  add("ping", frame_of(MessageType::kPing, kConnection, ping));
  add("pong",
      frame_of(MessageType::kPong, kConnection, Pong{ping.nonce, ping.clock_ns, 1000500007}));
  const ErrorMessage error = {kvferry::ErrorCode::kMismatch, "the models differ in layers"};
  add("error_of_connection", frame_of(MessageType::kError, kConnection, error));
  add("error_of_handoff", frame_of(MessageType::kError, kHandoff, error));
  add("goodbye", frame_of(MessageType::kGoodbye, kConnection, Goodbye()));

  add("offer", frame_of(MessageType::kOffer, kHandoff, example_offer()));
  Offer cache_only = example_offer();
  cache_only.identity.architecture = "my-engine/gemma3";  // one that the library has no name for
  cache_only.decode.reset();
  add("offer_cache_only", frame_of(MessageType::kOffer, kHandoff, cache_only));
  add("accept", frame_of(MessageType::kAccept, kHandoff, example_accept()));
  add("first_token", frame_of(MessageType::kFirstToken, kHandoff, example_first_token()));
  const std::vector<std::uint8_t> coded = {0xde, 0xad, 0xbe, 0xef, 0x00};
  add("block", frame_of(MessageType::kBlock, kHandoff, example_block(coded)));
  add("credit", frame_of(MessageType::kCredit, kHandoff, Credit{8u << 20}));
  add("end", frame_of(MessageType::kEnd, kHandoff, End{12, 3456, 0x5555666677778888u}));
  add("committed", frame_of(MessageType::kCommitted, kHandoff, Committed{8, 5, 0x99u}));
  add("cancel_of_handoff",
      frame_of(MessageType::kCancel, kHandoff, Cancel{kvferry::ErrorCode::kTimeout, "too slow"}));
  add("cancel_of_connection", frame_of(MessageType::kCancel, kConnection, Cancel()));

  add("model_data_of_handoff",
      frame_of(MessageType::kModelData, kHandoff, example_model_data(coded)));
  add("model_data_of_connection",
      frame_of(MessageType::kModelData, kConnection, example_model_data(coded)));

  add("generate_messages", frame_of(MessageType::kGenerate, kConnection, example_generate()));
  Generate text;
  text.text = "Once upon a time";
  add("generate_text", frame_of(MessageType::kGenerate, kConnection, text));
  Generate ids;
  ids.token_ids = {1, 2, 3};
  add("generate_token_ids", frame_of(MessageType::kGenerate, kConnection, ids));
  add("ticket", frame_of(MessageType::kTicket, kConnection,
                         Ticket{"tcp://127.0.0.1:7001", example_ticket(), 12}));
  add("attach", frame_of(MessageType::kAttach, kConnection, Attach{example_ticket()}));
  add("token", frame_of(MessageType::kToken, kConnection, Token{1, 42, " \xe2\x82\xac\n"}));
  add("done", frame_of(MessageType::kDone, kConnection, example_done()));

  const std::vector<std::uint8_t> plain = frame_of(MessageType::kPing, kConnection, ping);
  add("framing_ignorable_flags", reframed(plain, 0xff, 0));
  add("framing_longer_header", reframed(plain, 0, 24));
  return files;
}

}  // namespace kvferry_test
