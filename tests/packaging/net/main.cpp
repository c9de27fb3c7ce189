// A few bytes over TCP with kvferry::net.
#include <cstdio>
#include <string>
#include <vector>

#include "kvferry/transport/tcp.hpp"

namespace {

kvferry::Status run() {
  const kvferry::Deadline deadline = kvferry::Deadline::after(std::chrono::seconds(10));
  KVFERRY_ASSIGN(const auto listener, kvferry::listen_tcp("tcp://127.0.0.1:0", deadline));
  KVFERRY_ASSIGN(const auto client, kvferry::connect_tcp(listener->address(), deadline));
  KVFERRY_ASSIGN(const auto server, listener->accept(deadline));

  const std::string sent = "rows";
  KVFERRY_TRY(kvferry::send_all(*client, kvferry::as_bytes(sent), deadline));
  std::vector<std::uint8_t> received(sent.size());
  KVFERRY_TRY(kvferry::receive_all(*server, received, deadline));
  if (std::string(received.begin(), received.end()) != sent) {
    return {kvferry::ErrorCode::kMismatch, "other bytes came"};
  }
  return {};
}

}  // namespace

int main() {
  const kvferry::Status status = run();
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
