// check_channel(): proves that an implementation of Channel keeps its contract. Needs no test
// framework: call it with a function that makes connected pairs, and look at what it returns.
//
// A channel that does not keep its deadlines can make a check hang, so run it under a time limit.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kvferry/transport/channel.hpp"

namespace kvferry::testing {

// Makes a fresh pair of connected channels, or says why it cannot.
using MakeChannelPair = std::function<Result<ChannelPair>()>;

struct ConformanceOptions {
  std::size_t transfer_bytes = 8u << 20;  // each way, in the transfer check
  std::size_t buffer_bound =
      64u << 20;  // most bytes that it may hold for a peer that does not receive
};

// One rule of the contract and how it was broken; `problems` is empty when it was kept.
struct ConformanceCheck {
  std::string name;
  std::vector<std::string> problems;
};

namespace detail {

using std::chrono::milliseconds;

constexpr milliseconds kShort{50};        // a deadline that is meant to pass
constexpr milliseconds kPatience{20000};  // one that is not
constexpr milliseconds kSettle{30};       // until another thread is blocked, most likely

inline Deadline soon() {
  return Deadline::after(kShort);
}
inline Deadline late() {
  return Deadline::after(kPatience);
}

// Byte `position` of the test stream `seed`: no shift or swap of the stream looks like the stream.
inline std::uint8_t stream_byte(std::uint64_t seed, std::uint64_t position) {
  std::uint64_t x = (position >> 3) * 0x9e3779b97f4a7c15u + seed;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x ^= x >> 27;
  return static_cast<std::uint8_t>(x >> (8 * (position & 7)));
}

inline std::vector<std::uint8_t> stream_bytes(std::uint64_t seed, std::uint64_t position,
                                              std::size_t count) {
  std::vector<std::uint8_t> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = stream_byte(seed, position + i);
  return bytes;
}

// Collects the problems of one check; any thread may report.
class Findings {
 public:
  void expect(bool condition, const std::string& problem) {
    if (condition) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (problems_.size() < 8) problems_.push_back(problem);
  }
  void expect_ok(const Status& status, const std::string& what) {
    expect(status.ok(), what + (status.ok() ? "" : ": " + text_of(status.error())));
  }
  template <typename T>
  void expect_code(const Result<T>& result, ErrorCode code, const std::string& what) {
    const std::string got = result.ok() ? "success" : text_of(result.error());
    expect(!result.ok() && result.error().code == code,
           what + ": expected " + name_of(code) + ", got " + got);
  }
  std::vector<std::string> take() { return std::move(problems_); }

 private:
  static std::string text_of(const Error& error) {
    return std::string(name_of(error.code)) + " (" + error.message + ")";
  }
  std::mutex mutex_;
  std::vector<std::string> problems_;
};

// Joins when it goes out of scope.
class ScopedThread {
 public:
  explicit ScopedThread(std::function<void()> body) : thread_(std::move(body)) {}
  ~ScopedThread() { join(); }
  ScopedThread(const ScopedThread&) = delete;
  ScopedThread& operator=(const ScopedThread&) = delete;
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::thread thread_;
};

// Receives bytes [from, from + count) of stream `seed` in pieces of at most `piece`.
inline void expect_stream(Findings& findings, Channel& channel, std::uint64_t seed,
                          std::uint64_t from, std::size_t count, std::size_t piece) {
  std::vector<std::uint8_t> buffer(piece);
  std::size_t received = 0;
  while (received < count) {
    const std::size_t ask = std::min(piece, count - received);
    const auto got = channel.receive(MutableBytes(buffer).first(ask), late());
    if (!got.ok()) {
      findings.expect(false, "receiving failed after " + std::to_string(received) + " of " +
                                 std::to_string(count) + " bytes: " + got.error().message);
      return;
    }
    if (*got == 0 || *got > ask) {
      findings.expect(
          false, "receive() of " + std::to_string(ask) + " bytes returned " + std::to_string(*got));
      return;
    }
    for (std::size_t i = 0; i < *got; ++i) {
      if (buffer[i] != stream_byte(seed, from + received + i)) {
        findings.expect(false, "byte " + std::to_string(from + received + i) + " arrived changed");
        return;
      }
    }
    received += *got;
  }
}

// Sends bytes [0, count) of stream `seed` in pieces of at most `piece`, each as two buffers.
inline Status send_stream(Channel& channel, std::uint64_t seed, std::size_t count,
                          std::size_t piece) {
  for (std::size_t sent = 0; sent < count;) {
    const std::vector<std::uint8_t> bytes = stream_bytes(seed, sent, std::min(piece, count - sent));
    const std::size_t cut = bytes.size() / 3;
    const std::array<Bytes, 2> parts = {{Bytes(bytes).first(cut), Bytes(bytes).subspan(cut)}};
    KVFERRY_TRY(channel.send(Span<const Bytes>(parts), late()));
    sent += bytes.size();
  }
  return {};
}

// Sends until the channel is full. Returns the bytes of the sends that succeeded.
inline std::size_t fill(Findings& findings, Channel& channel, std::uint64_t seed, std::size_t bound,
                        Status& last) {
  const std::size_t piece = std::min<std::size_t>(bound / 8 + 1, 256 * 1024);
  std::size_t accepted = 0;
  while (accepted <= bound) {
    const std::vector<std::uint8_t> bytes = stream_bytes(seed, accepted, piece);
    last = send_all(channel, bytes, soon());
    if (!last.ok()) return accepted;
    accepted += piece;
  }
  findings.expect(false, "more than " + std::to_string(bound) +
                             " bytes were taken from a sender whose peer does not receive");
  return accepted;
}

inline void check_order(Findings& f, ChannelPair& pair) {
  // More buffers than one system call takes, some of them empty.
  const std::vector<std::uint8_t> bytes = stream_bytes(1, 0, 3000);
  std::vector<Bytes> parts;
  for (std::size_t at = 0, length = 0; at < bytes.size();
       at += length, length = (length + 5) % 97) {
    length = std::min(length, bytes.size() - at);
    parts.push_back(Bytes(bytes).subspan(at, length));
  }
  const ScopedThread sender([&] {
    f.expect_ok(pair.first->send(Span<const Bytes>(parts), late()), "sending many buffers");
  });
  expect_stream(f, *pair.second, 1, 0, bytes.size(), 4096);
  f.expect(!pair.first->peer().empty() && !pair.second->peer().empty(), "peer() is empty");
}

inline void check_partial_reads(Findings& f, ChannelPair& pair) {
  const ScopedThread sender(
      [&] { f.expect_ok(send_stream(*pair.first, 2, 5000, 5000), "sending"); });
  std::size_t at = 0;
  for (const std::size_t piece : {1, 2, 3, 7, 64, 1000}) {
    expect_stream(f, *pair.second, 2, at, 3 * piece, piece);
    at += 3 * piece;
  }
  expect_stream(f, *pair.second, 2, at, 5000 - at, 4096);
}

inline void check_zero_size(Findings& f, ChannelPair& pair) {
  const std::array<Bytes, 2> nothing = {};
  f.expect_ok(pair.first->send(Span<const Bytes>(), late()), "sending no buffer");
  f.expect_ok(pair.first->send(Span<const Bytes>(nothing), late()), "sending empty buffers");
  const auto none = pair.second->receive(MutableBytes(), late());
  f.expect(none.ok() && *none == 0, "receiving into an empty buffer does not return 0 at once");
  std::array<std::uint8_t, 4> buffer{};
  f.expect_code(pair.second->receive(buffer, soon()), ErrorCode::kTimeout,
                "receiving after nothing was sent");
  f.expect_ok(send_all(*pair.first, stream_bytes(3, 0, 1), late()), "sending one byte");
  expect_stream(f, *pair.second, 3, 0, 1, 4);
}

inline void check_small_writes(Findings& f, ChannelPair& pair) {
  constexpr std::size_t kBytes = 40000;
  const ScopedThread sender(
      [&] { f.expect_ok(send_stream(*pair.first, 4, kBytes, 5), "sending 5 bytes at a time"); });
  expect_stream(f, *pair.second, 4, 0, kBytes, 4096);
}

inline void check_both_ways(Findings& f, ChannelPair& pair, std::size_t bytes) {
  const ScopedThread there(
      [&] { f.expect_ok(send_stream(*pair.first, 5, bytes, 300000), "sending from one end"); });
  const ScopedThread back(
      [&] { f.expect_ok(send_stream(*pair.second, 6, bytes, 70001), "sending from the other"); });
  const ScopedThread reader([&] { expect_stream(f, *pair.second, 5, 0, bytes, 65536); });
  expect_stream(f, *pair.first, 6, 0, bytes, 100003);
}

inline void check_receive_deadline(Findings& f, ChannelPair& pair) {
  std::array<std::uint8_t, 16> buffer{};
  for (int i = 0; i < 2; ++i) {
    const Deadline deadline = soon();
    f.expect_code(pair.second->receive(buffer, deadline), ErrorCode::kTimeout,
                  "receiving from a silent peer");
    f.expect(deadline.expired(), "receive() gave up before its deadline");
  }
  const ScopedThread sender([&] {
    f.expect_ok(send_stream(*pair.first, 7, 100, 100), "sending after a time-out");
    f.expect_ok(send_stream(*pair.second, 8, 100, 100), "sending back after it");
  });
  expect_stream(f, *pair.second, 7, 0, 100, 16);
  expect_stream(f, *pair.first, 8, 0, 100, 16);
}

inline void check_back_pressure(Findings& f, ChannelPair& pair, std::size_t bound) {
  Status last;
  const std::size_t accepted = fill(f, *pair.first, 9, bound, last);
  f.expect_code(last, ErrorCode::kTimeout, "sending to a peer that does not receive");
  f.expect_code(send_all(*pair.first, stream_bytes(9, 0, 1), soon()), ErrorCode::kClosed,
                "sending after a send that failed in the middle");
  const ScopedThread sender(
      [&] { f.expect_ok(send_stream(*pair.second, 10, 100, 100), "the peer sending meanwhile"); });
  expect_stream(f, *pair.first, 10, 0, 100, 100);
  expect_stream(f, *pair.second, 9, 0, accepted, 65536);
}

inline void check_blocked_send_resumes(Findings& f, ChannelPair& pair, std::size_t bound) {
  // One send that few buffers can hold: it ends only because the peer receives.
  const std::size_t bytes = std::min<std::size_t>(bound, 24u << 20);
  const ScopedThread sender(
      [&] { f.expect_ok(send_stream(*pair.first, 11, bytes, bytes), "one large send"); });
  std::this_thread::sleep_for(kSettle);
  expect_stream(f, *pair.second, 11, 0, bytes, 200000);
}

inline void check_close_wakes_receive(Findings& f, ChannelPair& pair) {
  const auto blocked = [&f](Channel& channel, const char* what) {
    std::array<std::uint8_t, 16> buffer{};
    f.expect_code(channel.receive(buffer, late()), ErrorCode::kClosed, what);
  };
  const ScopedThread here([&] { blocked(*pair.first, "a receive at the end that closes"); });
  const ScopedThread there([&] { blocked(*pair.second, "a receive at the other end"); });
  std::this_thread::sleep_for(kSettle);
  pair.first->close();
}

inline void check_close_wakes_send(Findings& f, ChannelPair& pair, bool peer_closes) {
  const ScopedThread sender([&] {
    const std::vector<std::uint8_t> piece(1u << 20);
    Status last;
    while (last.ok()) last = send_all(*pair.first, piece, late());
    f.expect_code(last, ErrorCode::kClosed, "a send that waits for a peer that does not receive");
  });
  std::this_thread::sleep_for(2 * kSettle);
  (peer_closes ? pair.second : pair.first)->close();
}

inline void check_orderly_end(Findings& f, ChannelPair& pair) {
  ScopedThread sender([&] {
    f.expect_ok(send_stream(*pair.first, 12, 20000, 20000), "sending");
    pair.first->close();
    pair.first->close();
  });
  expect_stream(f, *pair.second, 12, 0, 20000, 4096);
  sender.join();
  std::array<std::uint8_t, 16> buffer{};
  for (int i = 0; i < 2; ++i) {
    f.expect_code(pair.second->receive(buffer, late()), ErrorCode::kClosed,
                  "receiving after all that a closed peer had sent");
    f.expect_code(pair.first->receive(buffer, late()), ErrorCode::kClosed,
                  "receiving at an end that has closed");
    f.expect_code(send_all(*pair.first, Bytes(buffer), late()), ErrorCode::kClosed,
                  "sending at an end that has closed");
  }
  // The news may still be under way, but it arrives.
  Status last;
  const Deadline deadline = late();
  while (last.ok() && !deadline.expired()) {
    last = send_all(*pair.second, Bytes(buffer), late());
    std::this_thread::sleep_for(milliseconds(1));
  }
  f.expect_code(last, ErrorCode::kClosed, "sending to a peer that has closed");
}

inline void check_destructor_closes(Findings& f, ChannelPair& pair) {
  const ScopedThread sender([&] {
    f.expect_ok(send_stream(*pair.first, 13, 1000, 1000), "sending");
    pair.first.reset();
  });
  expect_stream(f, *pair.second, 13, 0, 1000, 4096);
  std::array<std::uint8_t, 16> buffer{};
  f.expect_code(pair.second->receive(buffer, late()), ErrorCode::kClosed,
                "receiving after the peer was destroyed");
}

inline void check_close_from_anywhere(Findings& f, ChannelPair& pair) {
  const auto traffic = [&f](Channel& channel, bool sends) {
    std::vector<std::uint8_t> buffer(1000);
    Status last;
    while (last.ok()) {
      if (sends) {
        last = send_all(channel, buffer, late());
      } else {
        const auto got = channel.receive(MutableBytes(buffer), late());
        if (!got.ok()) last = got.error();
      }
    }
    f.expect_code(last, ErrorCode::kClosed,
                  sends ? "sending while closing" : "receiving while closing");
  };
  const ScopedThread a([&] { traffic(*pair.first, true); });
  const ScopedThread b([&] { traffic(*pair.first, false); });
  const ScopedThread c([&] { traffic(*pair.second, true); });
  const ScopedThread d([&] { traffic(*pair.second, false); });
  std::this_thread::sleep_for(kSettle);
  const ScopedThread closer([&] { pair.second->close(); });
  pair.first->close();
}

}  // namespace detail

// Runs every check on a fresh pair and returns them all, in order.
inline std::vector<ConformanceCheck> check_channel(const MakeChannelPair& make_pair,
                                                   const ConformanceOptions& options = {}) {
  using detail::Findings;
  using Body = std::function<void(Findings&, ChannelPair&)>;
  const std::size_t bound = options.buffer_bound;
  const std::vector<std::pair<const char*, Body>> checks = {
      {"bytes arrive unchanged and in order", detail::check_order},
      {"a receive may take part of what is there", detail::check_partial_reads},
      {"sending and receiving nothing has no effect", detail::check_zero_size},
      {"many small writes", detail::check_small_writes},
      {"large transfers in both directions at once",
       [&](Findings& f, ChannelPair& p) { detail::check_both_ways(f, p, options.transfer_bytes); }},
      {"a receive that times out leaves the channel usable", detail::check_receive_deadline},
      {"a peer that does not receive holds the sender back, in bounded memory",
       [&](Findings& f, ChannelPair& p) { detail::check_back_pressure(f, p, bound); }},
      {"a send that waits goes on when the peer receives",
       [&](Findings& f, ChannelPair& p) { detail::check_blocked_send_resumes(f, p, bound); }},
      {"closing wakes receivers at both ends", detail::check_close_wakes_receive},
      {"closing wakes a sender at the same end",
       [](Findings& f, ChannelPair& p) { detail::check_close_wakes_send(f, p, false); }},
      {"closing wakes a sender at the other end",
       [](Findings& f, ChannelPair& p) { detail::check_close_wakes_send(f, p, true); }},
      {"what was sent before closing arrives, then the end", detail::check_orderly_end},
      {"destroying a channel closes it", detail::check_destructor_closes},
      {"any thread may close in the middle of traffic", detail::check_close_from_anywhere},
  };
  std::vector<ConformanceCheck> results;
  for (const auto& check : checks) {
    Findings findings;
    auto pair = make_pair();
    if (pair.ok()) {
      check.second(findings, *pair);
    } else {
      findings.expect(false, "no channel pair could be made: " + pair.error().message);
    }
    results.push_back({check.first, findings.take()});
  }
  return results;
}

}  // namespace kvferry::testing
