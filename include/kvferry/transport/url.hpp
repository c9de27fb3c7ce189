// Addresses as people write them: tcp://host:port.
#pragma once

#include <cctype>
#include <cstdint>
#include <string>

#include "kvferry/core/result.hpp"

namespace kvferry {

struct Url {
  std::string scheme;      // lower case: "tcp"
  std::string host;        // a name, an IPv4 address, or an IPv6 address without its brackets
  std::uint16_t port = 0;  // 0 asks a listener for any free port
};

// "scheme://host:port", an IPv6 address in brackets. Nothing else may be there: no user, path or
// query. Error kInvalidArgument.
inline Result<Url> parse_url(const std::string& text) {
  const auto bad = [&text](const std::string& what) {
    // Cut, and without control characters: the text may come from a peer and end up in a log.
    std::string shown = text.substr(0, 128);
    for (char& c : shown) {
      if (std::iscntrl(static_cast<unsigned char>(c))) c = '?';
    }
    return Error(ErrorCode::kInvalidArgument,
                 "address '" + shown + "': " + what + "; write it as tcp://host:port");
  };
  const std::size_t separator = text.find("://");
  if (separator == std::string::npos) return bad("there is no '://'");
  Url url;
  for (const char c : text.substr(0, separator)) {
    const auto u = static_cast<unsigned char>(c);
    if (!std::isalnum(u)) return bad("the scheme has a character that is no letter or digit");
    url.scheme.push_back(static_cast<char>(std::tolower(u)));
  }
  if (url.scheme.empty()) return bad("the scheme is missing");

  std::string rest = text.substr(separator + 3);
  const bool bracketed = !rest.empty() && rest.front() == '[';
  const std::size_t host_end = bracketed ? rest.find(']') : rest.find(':');
  if (host_end == std::string::npos) {
    return bad(bracketed ? "the bracket is not closed" : "the port is missing");
  }
  url.host = bracketed ? rest.substr(1, host_end - 1) : rest.substr(0, host_end);
  if (url.host.empty()) return bad("the host is missing");
  if (url.host.size() > 255) return bad("the host is longer than 255 characters");
  for (const char c : url.host) {
    const auto u = static_cast<unsigned char>(c);
    const bool allowed = bracketed ? std::isxdigit(u) || c == ':' || c == '.' || c == '%' ||
                                         std::isalnum(u)  // a zone, as in fe80::1%eth0
                                   : std::isalnum(u) || c == '.' || c == '-' || c == '_';
    if (!allowed) return bad("the host has a character that does not belong there");
  }
  if (bracketed && url.host.find(':') == std::string::npos) {
    return bad("only IPv6 addresses stand in brackets");
  }

  rest = rest.substr(host_end + (bracketed ? 1 : 0));
  if (rest.empty() || rest.front() != ':') return bad("the port is missing");
  rest.erase(0, 1);
  if (rest.empty() || rest.size() > 5) return bad("the port is not a number up to 65535");
  std::uint32_t port = 0;
  for (const char c : rest) {
    if (c < '0' || c > '9') return bad("the port is not a number up to 65535");
    port = port * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (port > 65535) return bad("the port is not a number up to 65535");
  url.port = static_cast<std::uint16_t>(port);
  return url;
}

// The text that parse_url() reads back.
inline std::string to_string(const Url& url) {
  const bool brackets = url.host.find(':') != std::string::npos;
  return url.scheme + "://" + (brackets ? "[" + url.host + "]" : url.host) + ":" +
         std::to_string(url.port);
}

}  // namespace kvferry
