#include "kvferry/wire/frame.hpp"

#include "example_messages.hpp"
#include "field_writers.hpp"
#include "golden_files.hpp"
#include "session_fixture.hpp"

namespace kvferry_test {

using kvferry::ErrorCode;
using namespace kvferry::wire;

namespace {

using ByteVector = std::vector<std::uint8_t>;

// The frames of a session, to be put together differently. The digest of END is made again.
class Frames {
 public:
  explicit Frames(const ByteVector& session) {
    FrameDecoder decoder;
    kvferry::Bytes rest(session);
    while (!rest.empty()) {
      rest = rest.subspan(decoder.feed(rest).value());
      if (decoder.has_frame()) frames.push_back(decoder.take());
    }
  }

  template <typename Message>
  void replace(std::size_t index, const Message& message) {
    frames[index].payload = unchecked_payload(message);
  }

  ByteVector bytes(bool count_again = true) {
    HandoffDigest digest;
    End end;
    for (const Frame& frame : frames) {
      if (frame.header.type != MessageType::kBlock) continue;
      digest.add(frame.header.address.source, parse_block(frame.payload).value(),
                 kvferry::hash64(frame.payload));
      end.payload_bytes += frame.payload.size();
    }
    end.blocks = digest.blocks();
    end.digest = digest.value();
    ByteVector out;
    for (Frame& frame : frames) {
      if (count_again && frame.header.type == MessageType::kEnd)
        frame.payload = unchecked_payload(end);
      write_frame(frame.header.type, frame.header.address, frame.payload, out);
    }
    return out;
  }

  std::vector<Frame> frames;  // OFFER, four BLOCKs, END
};

}  // namespace

std::vector<GoldenFile> golden_sessions() {
  std::vector<GoldenFile> files;
  SmallCache cache(3);
  cache.fill();
  const ByteVector good = cache.session(kvferry::Profile::kRaw);
  files.push_back({"session/raw.kvsession", good, std::nullopt, ""});
  {
    Frames reordered(good);
    std::swap(reordered.frames[1], reordered.frames[4]);
    std::swap(reordered.frames[2], reordered.frames[3]);
    files.push_back({"session/raw_any_order.kvsession", reordered.bytes(), std::nullopt, ""});
  }
  const auto bad = [&](const std::string& name, ErrorCode error, const std::string& why,
                       ByteVector bytes) {
    files.push_back({"session/bad_" + name + ".kvsession", std::move(bytes), error, why});
  };
  const auto changed = [&](const std::string& name, ErrorCode error, const std::string& why,
                           auto change, bool count_again = true) {
    Frames session(good);
    change(session);
    bad(name, error, why, session.bytes(count_again));
  };
  bad("empty", ErrorCode::kIncomplete, "no bytes", {});
  bad("cut_inside_frame", ErrorCode::kIncomplete, "the last byte is missing",
      ByteVector(good.begin(), good.end() - 1));
  changed("cut_before_end", ErrorCode::kIncomplete, "no END",
          [](Frames& s) { s.frames.pop_back(); });
  changed("only_offer", ErrorCode::kIncomplete, "no blocks and no END",
          [](Frames& s) { s.frames.resize(1); });
  changed("block_missing", ErrorCode::kIncomplete, "the V block of layer 0 did not come",
          [](Frames& s) { s.frames.erase(s.frames.begin() + 2); });
  changed("block_twice", ErrorCode::kProtocol, "a block comes twice",
          [](Frames& s) { s.frames.insert(s.frames.begin() + 2, s.frames[1]); });
  changed("block_outside", ErrorCode::kProtocol, "a block of layer 2 of 2",
          [](Frames& s) { s.frames[1].payload[0] = 2; });
  changed("block_coordinates", ErrorCode::kMismatch,
          "the K block of layer 0 goes by the name of the V block",
          [](Frames& s) { std::swap(s.frames[1].payload[4], s.frames[2].payload[4]); });
  changed("block_coded", ErrorCode::kMalformed, "coded bytes of an unknown method",
          [](Frames& s) { s.frames[1].payload[kBlockHeadBytes + 2] = 9; });
  changed(
      "end_count", ErrorCode::kIncomplete, "END counts one block more",
      [](Frames& s) { s.frames[5].payload[0] += 1; }, false);
  changed(
      "end_digest", ErrorCode::kChecksum, "the digest is wrong",
      [](Frames& s) { s.frames[5].payload[16] ^= 1; }, false);
  changed(
      "frame_after_end", ErrorCode::kProtocol, "a block after END",
      [](Frames& s) { s.frames.push_back(s.frames[1]); }, false);
  {
    ByteVector bytes = good;
    bytes.insert(bytes.end(), 64, 0);
    bad("bytes_after_end", ErrorCode::kMalformed, "zeros after END", bytes);
  }
  changed("no_offer", ErrorCode::kProtocol, "a block comes first",
          [](Frames& s) { s.frames.erase(s.frames.begin()); });
  changed("two_offers", ErrorCode::kProtocol, "a second offer",
          [](Frames& s) { s.frames.insert(s.frames.begin(), s.frames[0]); });
  changed("other_source", ErrorCode::kMalformed, "a block of source 2",
          [](Frames& s) { s.frames[1].header.address.source = 2; });
  {
    const ByteVector with = cache.session(kvferry::Profile::kLow, small_codebook(cache));
    files.push_back({"session/codebook.kvsession", with, std::nullopt, ""});
    const auto other = [&](const std::string& name, ErrorCode error, const std::string& why,
                           auto change) {
      Frames session(with);
      change(session);
      bad("codebook_" + name, error, why, session.bytes());
    };
    // OFFER, MODEL_DATA, four BLOCKs, END
    other("missing", ErrorCode::kIncomplete, "the codebook did not come",
          [](Frames& s) { s.frames.erase(s.frames.begin() + 1); });
    other("behind_block", ErrorCode::kIncomplete, "the codebook comes behind a block",
          [](Frames& s) { std::swap(s.frames[1], s.frames[2]); });
    other("twice", ErrorCode::kProtocol, "the codebook comes twice",
          [](Frames& s) { s.frames.insert(s.frames.begin() + 1, s.frames[1]); });
    const auto data = [&](const std::string& name, ErrorCode error, const std::string& why,
                          auto change) {
      other(name, error, why, [&](Frames& s) {
        const ByteVector payload = s.frames[1].payload;
        ModelData m = parse_model_data(payload).value();
        change(m);
        s.replace(1, m);
      });
    };
    data("cut", ErrorCode::kIncomplete, "its last byte is missing",
         [](ModelData& m) { m.bytes = m.bytes.first(m.bytes.size() - 1); });
    data("total", ErrorCode::kResourceExhausted, "it is larger than the offer says",
         [](ModelData& m) { ++m.total; });
    data("other", ErrorCode::kMismatch, "another codebook than the offer names",
         [](ModelData& m) { m.id ^= 1; });
    data("predictor", ErrorCode::kMismatch, "a predictor",
         [](ModelData& m) { m.kind = ModelDataKind::kPredictor; });
    other("content", ErrorCode::kChecksum, "a byte of it is changed",
          [](Frames& s) { s.frames[1].payload[60] ^= 1; });
    other("not_named", ErrorCode::kProtocol, "the offer names no codebook",
          [&](Frames& s) { s.replace(0, cache.offer(kvferry::Profile::kLow)); });
    other("size", ErrorCode::kMismatch, "the offer's codebook is not of the cache's shape",
          [&](Frames& s) {
            Offer m = cache.offer(kvferry::Profile::kLow);
            m.codebook = small_codebook(cache)->id();
            m.codebook_bytes = 1u << 30;
            s.replace(0, m);
          });
  }
  const auto offer = [&](const std::string& name, ErrorCode error, const std::string& why,
                         auto change) {
    changed(name, error, why, [&](Frames& s) {
      Offer m = cache.offer(kvferry::Profile::kRaw);
      change(m);
      s.replace(0, m);
    });
  };
  offer("extends", ErrorCode::kUnsupported, "it extends another sequence", [](Offer& m) {
    m.base_generation = 1;
    m.base_length = 1;
  });
  offer("decode_order", ErrorCode::kUnsupported, "it orders a generation",
        [](Offer& m) { m.decode.emplace(); });
  offer("predicted", ErrorCode::kUnsupported, "it names a predictor", [](Offer& m) {
    m.codebook = m.predictor = 1;
    m.codebook_bytes = m.predictor_bytes = 1;
  });
  offer("other_model", ErrorCode::kMismatch, "norm weights of another model",
        [](Offer& m) { m.identity.norms ^= 1; });
  offer("token_id", ErrorCode::kMalformed, "a token id that the model does not have",
        [](Offer& m) { m.tokens[2] = m.identity.vocab; });
  offer("other_rope", ErrorCode::kMismatch, "another rotation than the identity's",
        [](Offer& m) { m.rope.inverse_frequency[1] = 0.25f; });
  return files;
}

}  // namespace kvferry_test
