// Host names to addresses, with a deadline.
#pragma once

#include <vector>

#include "kvferry/core/deadline.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/transport/url.hpp"

#include "tcp_socket.hpp"

namespace kvferry {
namespace detail {

// All endpoints that `url` stands for, at least one. kTimeout, kCancelled, kNotFound,
// kResourceExhausted.
Result<std::vector<tcp::endpoint>> resolve(const Url& url, Deadline deadline,
                                           const Cancelled& cancelled = {});

}  // namespace detail
}  // namespace kvferry
