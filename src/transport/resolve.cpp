#include "resolve.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

namespace kvferry {
namespace detail {
namespace {

// getaddrinfo() knows no deadline, so it runs in a thread of its own, which is left behind when it
// takes too long; what it shares with us is kept alive by both.
struct Resolution {
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  std::error_code error;
  std::vector<tcp::endpoint> endpoints;
};

void resolve_into(Resolution& resolution, const Url& url) {
  asio::io_context context;
  tcp::resolver resolver(context);
  std::error_code error;
  const auto found = resolver.resolve(url.host, std::to_string(url.port),
                                      asio::ip::resolver_base::numeric_service, error);
  const std::lock_guard<std::mutex> lock(resolution.mutex);
  resolution.error = error;
  for (const auto& entry : found) resolution.endpoints.push_back(entry.endpoint());
  resolution.done = true;
  resolution.done_changed.notify_all();
}

}  // namespace

Result<std::vector<tcp::endpoint>> resolve(const Url& url, Deadline deadline,
                                           const Cancelled& cancelled) {
  std::error_code error;
  const asio::ip::address literal = asio::ip::make_address(url.host, error);
  if (!error) return std::vector<tcp::endpoint>{tcp::endpoint(literal, url.port)};

  const auto resolution = std::make_shared<Resolution>();
  try {
    std::thread([resolution, url] { resolve_into(*resolution, url); }).detach();
  } catch (const std::system_error& e) {
    return Error(ErrorCode::kResourceExhausted,
                 std::string("tcp: no thread to look up a host name: ") + e.what());
  }
  std::unique_lock<std::mutex> lock(resolution->mutex);
  const auto done = [&] { return resolution->done; };
  while (!resolution->done_changed.wait_until(lock, deadline.at_most(kCancelPoll).time(), done)) {
    if (cancelled && cancelled()) return Error(ErrorCode::kCancelled, "cancelled");
    if (deadline.expired()) {
      return Error(ErrorCode::kTimeout, "looking up the host '" + url.host + "' takes too long");
    }
  }
  if (resolution->error || resolution->endpoints.empty()) {
    return Error(ErrorCode::kNotFound,
                 "cannot find the host '" + url.host + "': " +
                     (resolution->error ? resolution->error.message() : std::string("no address")));
  }
  return resolution->endpoints;
}

}  // namespace detail
}  // namespace kvferry
