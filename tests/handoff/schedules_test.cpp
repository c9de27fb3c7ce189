// Random schedules: one to three sources and a receiver over connections that delay, stall and
// break, with duplicates, cancels and full pools, all from one seed. A failing seed is printed.
#include <algorithm>
#include <random>

#include <catch2/catch.hpp>

#include "machines.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using std::chrono::milliseconds;

namespace {

const KvGeometry kGeometry = handoff_geometry();
const KnownSource kSource(kGeometry);

class Schedule {
 public:
  explicit Schedule(std::uint32_t seed)
      : random_(seed),
        offer_(random_offer()),
        sequence_(empty_sequence(kGeometry, chance(8) ? 1 : 16)),
        credit_((below(4) * 900 + 700) * sources_),
        receiver_(sequence_, handoff_identity(), receiver_options()) {
    for (std::uint16_t id = 1; id <= sources_; ++id) {
      SenderOptions options;
      options.address = {id, 1, id};
      options.sends_first_token = id == 1;
      options.pending_bytes = below(5000);
      lines_.push_back(std::make_unique<Line>(offer_, options, now_));
      receiver_.machine.add_link(now_);
    }
    for (const wire::CoveragePart& part : offer_.coverage) {
      for (std::uint32_t layer = part.first_layer; layer < part.end_layer; ++layer) {
        for (std::uint32_t at = part.begin; at < part.end;) {
          const std::uint32_t end = std::min(part.end, at + 1 + below(60));
          unpublished_.push_back({part.source, layer, at, end});
          at = end;
        }
      }
    }
    std::shuffle(unpublished_.begin(), unpublished_.end(), random_);
    faults_ = chance(2);
  }

  // Runs to the end; the name of the rule that was broken, or an empty string.
  std::string run() {
    for (int step = 0; step < 20000 && !everything_over(); ++step) {
      move();
      const std::string broken = broken_rule();
      if (!broken.empty()) return broken;
    }
    // Whatever hangs now is ended by time.
    for (int i = 0; i < 400 && !everything_over(); ++i) {
      now_ += milliseconds(1000);
      tick();
    }
    while (receiver_.work(now_)) {
    }
    if (!everything_over()) return "a wait does not end";
    return final_rule();
  }

  bool committed() const { return receiver_.machine.state() == HandoffReceiver::State::kCommitted; }

 private:
  struct Line {
    Line(const wire::Offer& offer, const SenderOptions& options, TimePoint now)
        : end(offer, kSource, options, now) {}
    SendingEnd end;
    std::deque<wire::Frame> there;  // on the way to the receiver
    std::deque<wire::Frame> back;
    bool connected = true;
    std::uint64_t granted = 0;
    std::uint64_t sent = 0;
  };
  struct Rows {
    std::uint16_t source;
    std::uint32_t layer;
    std::uint32_t begin;
    std::uint32_t end;
  };

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }
  bool chance(std::uint32_t one_in) { return below(one_in) == 0; }

  wire::Offer random_offer() {
    wire::Offer offer = make_offer(kGeometry, 1 + below(300));
    const auto tokens = static_cast<std::uint32_t>(offer.tokens.size());
    sources_ = static_cast<std::uint16_t>(1 + below(3));
    if (sources_ >= 2) offer.coverage = {{1, 0, 2, 0, tokens}, {2, 2, 3, 0, tokens}};
    if (sources_ == 3 && tokens > 1)
      offer.coverage = {
          {1, 0, 2, 0, tokens}, {2, 2, 3, 0, tokens / 2}, {3, 2, 3, tokens / 2, tokens}};
    sources_ = static_cast<std::uint16_t>(offer.coverage.size());
    if (chance(2)) offer.decode.emplace();
    return offer;
  }
  ReceiverOptions receiver_options() const {
    ReceiverOptions options;
    options.credit = credit_;
    return options;
  }

  void move() {
    Line& line = *lines_[below(sources_)];
    const std::size_t index =
        static_cast<std::size_t>(std::find_if(lines_.begin(), lines_.end(),
                                              [&](const auto& l) { return l.get() == &line; }) -
                                 lines_.begin());
    switch (below(faults_ ? 11 : 9)) {
      case 0:
        publish();
        break;
      case 1:
        line.end.work();
        break;
      case 2:
        receiver_.work(now_);
        break;
      case 3:
        if (!line.connected) break;
        if (auto frame = line.end.machine.take_frame(now_)) {
          if (frame->header.type == wire::MessageType::kBlock)
            line.sent += frame->header.payload_bytes;
          line.there.push_back(to_frame(*std::move(frame)));
        }
        break;
      case 4:
        if (!line.connected) break;
        if (auto frame = receiver_.machine.take_frame(index, now_))
          line.back.push_back(to_frame(*std::move(frame)));
        break;
      case 5:
      case 6:
        deliver_there(line, index);
        break;
      case 7:
        deliver_back(line);
        break;
      case 8:
        now_ += milliseconds(below(20));
        if (chance(10)) tick();
        break;
      default:
        if (chance(100)) fault(line, index);
        break;
    }
  }

  void publish() {
    if (!unpublished_.empty()) {
      const Rows rows = unpublished_.back();
      unpublished_.pop_back();
      const Status ignored =
          lines_[rows.source - 1]->end.machine.publish(rows.layer, rows.begin, rows.end);
      static_cast<void>(ignored);
    } else if (offer_.decode && !first_token_given_) {
      first_token_given_ = true;
      const Status ignored = lines_[0]->end.machine.send_first_token({});
      static_cast<void>(ignored);
    }
  }

  void deliver_there(Line& line, std::size_t index) {
    if (line.there.empty()) return;
    // Blocks may overtake each other; nothing else may.
    std::size_t blocks = 0;
    while (blocks < line.there.size() &&
           line.there[blocks].header.type == wire::MessageType::kBlock)
      ++blocks;
    if (blocks > 1 && chance(3))
      std::swap(line.there[0], line.there[below(static_cast<std::uint32_t>(blocks))]);
    wire::Frame frame = std::move(line.there.front());
    line.there.pop_front();
    receiver_.machine.on_frame(index, std::move(frame), now_);
  }

  void deliver_back(Line& line) {
    if (line.back.empty()) return;
    const wire::Frame frame = std::move(line.back.front());
    line.back.pop_front();
    if (frame.header.type == wire::MessageType::kAccept)
      line.granted = wire::parse_accept(frame.payload)->credit;
    if (frame.header.type == wire::MessageType::kCredit)
      line.granted = wire::parse_credit(frame.payload)->total;
    line.end.machine.on_frame(frame, now_);
  }

  void fault(Line& line, std::size_t index) {
    const Error reason(ErrorCode::kCancelled, "a whim");
    switch (below(5)) {
      case 0: {
        const Error lost(ErrorCode::kClosed, "lost");
        line.connected = false;
        line.there.clear();
        line.back.clear();
        line.end.machine.on_broken(lost);
        receiver_.machine.on_broken(index, lost);
        break;
      }
      case 1:
        line.end.machine.cancel(reason);
        break;
      case 2:
        receiver_.machine.cancel(reason);
        break;
      case 3:  // a stall
        now_ += milliseconds(below(15000));
        tick();
        break;
      case 4:  // a frame of an earlier attempt
        if (!line.there.empty()) {
          wire::Frame stale = line.there.back();
          stale.header.address.epoch = 0;
          line.there.push_front(stale);
        }
        break;
    }
  }

  void tick() {
    for (const auto& line : lines_) line->end.machine.on_tick(now_);
    receiver_.machine.on_tick(now_);
  }

  bool everything_over() const {
    return receiver_.machine.is_over() &&
           std::all_of(lines_.begin(), lines_.end(),
                       [](const auto& line) { return line->end.machine.is_over(); });
  }

  std::string broken_rule() const {
    if (!committed() && sequence_->length() != 0) return "something partial is visible";
    for (const auto& line : lines_) {
      if (line->sent > line->granted) return "the credit is exceeded";
      if (line->end.machine.state() == HandoffSender::State::kCommitted && !committed())
        return "a sender believes in a commit that was none";
    }
    return std::string();
  }

  std::string final_rule() const {
    const auto tokens = static_cast<std::uint32_t>(offer_.tokens.size());
    if (committed()) {
      if (sequence_->length() != tokens) return "the committed length is wrong";
      if (sequence_->tokens() != offer_.tokens) return "the committed tokens are wrong";
      if (!holds_known_rows(*sequence_, 0, tokens)) return "the committed rows are wrong";
      return std::string();
    }
    if (!faults_ && sequence_->pool()->capacity_blocks() > 1)
      return "it failed though nothing was in the way: " + receiver_.machine.error(0).message;
    if (sequence_->pool()->free_blocks() != sequence_->pool()->capacity_blocks())
      return "blocks are leaked";
    return std::string();
  }

  std::mt19937 random_;
  std::uint16_t sources_ = 1;
  wire::Offer offer_;
  std::shared_ptr<KvSequence> sequence_;
  std::uint64_t credit_;
  TimePoint now_{std::chrono::hours(1)};
  ReceivingEnd receiver_;
  std::vector<std::unique_ptr<Line>> lines_;
  std::vector<Rows> unpublished_;
  bool first_token_given_ = false;
  bool faults_ = false;
};

}  // namespace

TEST_CASE("random schedules keep the rules") {
  constexpr std::uint32_t kSeeds = 3000;
  std::uint32_t committed = 0;
  for (std::uint32_t seed = 0; seed < kSeeds; ++seed) {
    Schedule schedule(seed);
    const std::string broken = schedule.run();
    if (!broken.empty()) FAIL("seed " << seed << ": " << broken);
    committed += schedule.committed() ? 1 : 0;
  }
  // Neither all of them nor none: the schedules do reach both ends of the story.
  CHECK(committed > kSeeds / 4);
  CHECK(committed < kSeeds - kSeeds / 10);
}
