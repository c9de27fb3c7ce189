// Sessions: whatever the bytes, an import takes effect only as a whole. An input that begins with
// 'K' is a session; any other one is a list of frames, each a type, a length of two bytes and a
// payload, which get the framing and the checksums that they need.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "tests/wire/session_fixture.hpp"

namespace {

using kvferry::Bytes;

std::vector<std::uint8_t> framed(Bytes list) {
  std::vector<std::uint8_t> session;
  while (list.size() >= 3) {
    const auto type = static_cast<kvferry::wire::MessageType>(list[0]);
    const std::size_t length = std::min<std::size_t>(list[1] | list[2] << 8, list.size() - 3);
    kvferry::wire::write_frame(type, kvferry::wire::kSessionAddress, list.subspan(3, length),
                               session);
    list = list.subspan(3 + length);
  }
  return session;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const Bytes bytes(data, size);
  kvferry_test::SmallCache cache(3);
  const auto loaded =
      data[0] == 'K'
          ? kvferry_test::load(std::vector<std::uint8_t>(bytes.begin(), bytes.end()), cache, 37)
          : kvferry_test::load(framed(bytes.subspan(1)), cache, 37);
  if (cache.length() != (loaded.ok() ? 3u : 0u)) std::abort();
  return 0;
}
