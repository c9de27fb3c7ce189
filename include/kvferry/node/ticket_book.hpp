// TicketBook: one-time tickets that join a client's connection to the generation made for it.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/node/token_stream.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// 16 bytes from the operating system's entropy source: nobody guesses a ticket.
inline std::array<std::uint8_t, 16> random_id() {
  std::random_device source;
  std::array<std::uint8_t, 16> id{};
  for (std::size_t i = 0; i < id.size(); i += sizeof(std::uint32_t)) {
    const std::uint32_t word = source();
    std::memcpy(id.data() + i, &word, sizeof word);
  }
  return id;
}

// Thread-safe. A ticket is good for one redeem(); one that nobody redeems within `lifetime` has its
// stream cancelled, so that an absent client does not keep a sequence decoding.
class TicketBook {
 public:
  using Clock = std::chrono::steady_clock;

  TicketBook(std::size_t capacity, Clock::duration lifetime)
      : capacity_(capacity), lifetime_(lifetime) {}

  // kResourceExhausted when full, kInvalidArgument when the ticket is known already.
  Status add(const wire::TicketId& ticket, std::shared_ptr<TokenStream> stream,
             Clock::time_point now = Clock::now()) {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_expired(now);
    if (entries_.size() >= capacity_) {
      return Error(ErrorCode::kResourceExhausted,
                   "the decode node already has " + std::to_string(capacity_) +
                       " tickets that no client has redeemed; try again later");
    }
    if (!entries_.emplace(ticket, Entry{std::move(stream), now + lifetime_}).second) {
      return Error(ErrorCode::kInvalidArgument, "the offer reuses a ticket; make a new one");
    }
    return {};
  }

  // The stream behind a ticket; the ticket is used up. kNotFound otherwise.
  Result<std::shared_ptr<TokenStream>> redeem(const wire::TicketId& ticket,
                                              Clock::time_point now = Clock::now()) {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_expired(now);
    const auto entry = entries_.find(ticket);
    if (entry == entries_.end()) {
      return Error(ErrorCode::kNotFound,
                   "the ticket is unknown, used or expired; ask the prefill node for a new one");
    }
    std::shared_ptr<TokenStream> stream = std::move(entry->second.stream);
    entries_.erase(entry);
    return stream;
  }

  // Cancels the streams of tickets whose time is over. Called now and then, and by add and redeem.
  void expire(Clock::time_point now = Clock::now()) {
    std::lock_guard<std::mutex> lock(mutex_);
    drop_expired(now);
  }

 private:
  struct Entry {
    std::shared_ptr<TokenStream> stream;
    Clock::time_point expires;
  };

  void drop_expired(Clock::time_point now) {
    for (auto it = entries_.begin(); it != entries_.end();) {
      if (it->second.expires <= now) {
        it->second.stream->cancel();
        it = entries_.erase(it);
      } else {
        ++it;
      }
    }
  }

  const std::size_t capacity_;
  const Clock::duration lifetime_;
  std::mutex mutex_;
  std::map<wire::TicketId, Entry> entries_;
};

}  // namespace kvferry
