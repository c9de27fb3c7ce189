// TokenStream: what a generation has produced, on its way to one client. The decode loop pushes and
// the client's connection takes; either may be the first to give up.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/error.hpp"
#include "kvferry/wire/messages.hpp"

namespace kvferry {

// Thread-safe. It holds at most as many items as the generation's max_tokens (a bound that the node
// checks), so a client that reads slowly costs bounded memory and never holds up other sequences.
class TokenStream {
 public:
  // A token, or how it ended: then nothing follows.
  using Item = std::variant<wire::Token, wire::Done, Error>;

  // Producer. The first finish() or fail() counts; what comes after it is dropped.
  void push(wire::Token token) { put(Item(std::move(token)), false); }
  void finish(wire::Done done) { put(Item(std::move(done)), true); }
  void fail(Error error) { put(Item(std::move(error)), true); }

  // Consumer: the next item, or nothing when the deadline passes first.
  std::optional<Item> next(Deadline deadline) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_until(lock, deadline.time(), [this] { return !items_.empty(); })) {
      return std::nullopt;
    }
    Item item = std::move(items_.front());
    items_.pop_front();
    return item;
  }

  // Either side: nobody wants more. The producer looks at cancelled() between steps, or has
  // itself called.
  void cancel() {
    const std::lock_guard<std::mutex> lock(cancel_mutex_);
    cancelled_ = true;
    if (on_cancel_) on_cancel_();
  }
  bool cancelled() const { return cancelled_; }
  // `handler` is called by cancel(), at once if that was called before. An empty one ends that:
  // when it returns no call of the earlier handler is under way.
  void on_cancel(std::function<void()> handler) {
    const std::lock_guard<std::mutex> lock(cancel_mutex_);
    on_cancel_ = std::move(handler);
    if (on_cancel_ && cancelled_) on_cancel_();
  }

  // True once finish() or fail() was called.
  bool ended() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return ended_;
  }

 private:
  void put(Item item, bool last) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (ended_) return;
      ended_ = last;
      items_.push_back(std::move(item));
    }
    changed_.notify_one();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  bool ended_ = false;
  std::mutex cancel_mutex_;  // of on_cancel_; held while it runs
  std::function<void()> on_cancel_;
  std::atomic<bool> cancelled_{false};
};

}  // namespace kvferry
