// CancelWatch: notices, while this end only sends, that the peer wants no more or is gone.
#pragma once

#include <functional>
#include <thread>
#include <utility>

#include "kvferry/handoff/connection.hpp"

namespace kvferry {

// Owns the receiving side of the connection until it is destroyed, which closes the connection.
class CancelWatch {
 public:
  // `on_cancel` is called at most once, from the watch's thread, with what happened: the peer's
  // CANCEL, its ERROR, or the end of the connection.
  CancelWatch(Connection& connection, std::function<void(const Error&)> on_cancel)
      : connection_(connection),
        on_cancel_(std::move(on_cancel)),
        thread_([this] { on_cancel_(wait()); }) {}
  ~CancelWatch() {
    connection_.close();
    thread_.join();
  }
  CancelWatch(const CancelWatch&) = delete;
  CancelWatch& operator=(const CancelWatch&) = delete;

 private:
  Error wait() {
    for (;;) {
      const auto frame = connection_.receive(Deadline::after(std::chrono::seconds(1)));
      if (!frame.ok()) {
        if (frame.error().code == ErrorCode::kTimeout) continue;
        return frame.error();
      }
      if (frame->header.type == wire::MessageType::kCancel) {
        const auto cancel = wire::parse_cancel(frame->payload);
        if (!cancel.ok()) return cancel.error();
        return Error(cancel->code, connection_.peer() + " cancelled: " + cancel->text);
      }
      return Error(ErrorCode::kProtocol, connection_.peer() + " sent " +
                                             wire::name_of(frame->header.type) +
                                             " while it has to wait for this end");
    }
  }

  Connection& connection_;
  const std::function<void(const Error&)> on_cancel_;
  std::thread thread_;
};

}  // namespace kvferry
