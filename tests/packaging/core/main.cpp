// A block of KV rows through the codec and a channel, with kvferry::core alone.
#include <cstdio>
#include <numeric>
#include <vector>

#include "kvferry/codec/block.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/transport/loopback.hpp"

namespace {

kvferry::Status run() {
  kvferry::KvGeometry geometry;
  geometry.layers = 1;
  geometry.kv_heads = 2;
  geometry.head_dim = 8;
  geometry.rope.inverse_frequency.assign(4, 0.5F);
  const kvferry::KvRange range{0, kvferry::Plane::kValue, 0, 5};

  std::vector<std::uint8_t> rows(5 * geometry.row_bytes());
  std::iota(rows.begin(), rows.end(), std::uint8_t{1});
  std::vector<std::uint8_t> block(kvferry::maximum_encoded_size(geometry, 5));
  kvferry::BlockEncoder encoder(geometry);
  KVFERRY_ASSIGN(const kvferry::BlockSize size,
                 encoder.encode({kvferry::Profile::kLossless, range}, rows, block));
  block.resize(size.total());

  const kvferry::ChannelPair channel = kvferry::make_loopback();
  const kvferry::Deadline deadline = kvferry::Deadline::after(std::chrono::seconds(10));
  KVFERRY_TRY(kvferry::send_all(*channel.first, block, deadline));
  std::vector<std::uint8_t> received(block.size());
  KVFERRY_TRY(kvferry::receive_all(*channel.second, received, deadline));

  std::vector<std::uint8_t> decoded(rows.size());
  kvferry::BlockDecoder decoder(geometry);
  KVFERRY_TRY(decoder.decode({range, 0}, received, decoded));
  if (decoded != rows) return {kvferry::ErrorCode::kMismatch, "other rows came back"};
  return {};
}

}  // namespace

int main() {
  const kvferry::Status status = run();
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
