// What the threads of both hand-off sessions share.
#pragma once

#include <chrono>
#include <exception>
#include <new>
#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/handoff/peer_watch.hpp"

namespace kvferry {

// How long a session waits for a frame before its state machine looks at the time, and how long it
// tries to tell the peer of its end.
constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::milliseconds kFarewell{2000};

// Whether a receive failed because the connection is gone, and not because of what came.
inline bool is_broken(ErrorCode code) {
  return code == ErrorCode::kClosed || code == ErrorCode::kIo || code == ErrorCode::kIncomplete;
}

// What `call` returns. The application's KvSource and KvSink run on the sessions' threads, where an
// exception would end the process: it becomes an error.
template <typename Call>
auto without_exceptions(Call&& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::kResourceExhausted, "hand-off: out of memory");
  } catch (const std::exception& e) {
    return Error(ErrorCode::kInternal, std::string("hand-off: ") + e.what());
  }
}

}  // namespace kvferry
