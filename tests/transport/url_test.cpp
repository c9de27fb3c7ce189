#include "kvferry/transport/url.hpp"

#include <catch2/catch.hpp>

using namespace kvferry;

TEST_CASE("addresses are read and written") {
  struct Case {
    const char* text;
    const char* scheme;
    const char* host;
    std::uint16_t port;
  };
  for (const Case& c : {Case{"tcp://127.0.0.1:7000", "tcp", "127.0.0.1", 7000},
                        Case{"tcp://[::1]:0", "tcp", "::1", 0},
                        Case{"tls://nano.local:65535", "tls", "nano.local", 65535},
                        Case{"ucx://[fe80::1%eth0]:1", "ucx", "fe80::1%eth0", 1}}) {
    INFO(c.text);
    const auto url = parse_url(c.text);
    REQUIRE(url.ok());
    CHECK(url->scheme == c.scheme);
    CHECK(url->host == c.host);
    CHECK(url->port == c.port);
    CHECK(to_string(*url) == c.text);
  }
  CHECK(parse_url("TCP://host:1")->scheme == "tcp");
}

TEST_CASE("addresses that are none are refused with a reason") {
  for (const char* const text : {"",
                                 "host:80",
                                 "tcp:/host:80",
                                 "://host:80",
                                 "tcp://",
                                 "tcp://:80",
                                 "tcp://host",
                                 "tcp://host:",
                                 "tcp://host:65536",
                                 "tcp://host:-1",
                                 "tcp://host:+1",
                                 "tcp://host: 1",
                                 "tcp://host:1x",
                                 "tcp://host:000001",
                                 "tcp://host:99999999999999999999",
                                 "tcp://[::1]",
                                 "tcp://[::1:80",
                                 "tcp://[]:80",
                                 "tcp://[host]:80",
                                 "tcp://::1:80",
                                 "tcp://user@host:80",
                                 "tcp://host:80/",
                                 "tcp://host:80?x",
                                 "tcp://ho st:80",
                                 "t-cp://host:80",
                                 "tcp://h\nost:80"}) {
    INFO(text);
    const auto url = parse_url(text);
    REQUIRE_FALSE(url.ok());
    CHECK(url.error().code == ErrorCode::kInvalidArgument);
    CHECK(url.error().message.find('\n') == std::string::npos);
  }
  CHECK_FALSE(parse_url("tcp://" + std::string(256, 'a') + ":80").ok());
}
