#include "kvferry/core/bytes.hpp"

#include <catch2/catch.hpp>

namespace kvferry {
namespace {

TEST_CASE("what the writer wrote the reader reads, little-endian") {
  std::vector<std::uint8_t> out;
  ByteWriter w(out);
  w.u8(1);
  w.u16(0x0203);
  w.u32(0x04050607);
  w.u64(0x08090a0b0c0d0e0f);
  w.i64(-2);
  w.f32(1.5f);
  w.f64(-0.25);
  w.string("abc");
  CHECK(out[1] == 0x03);
  CHECK(out[3] == 0x07);
  ByteReader r(out);
  CHECK(r.u8() == 1);
  CHECK(r.u16() == 0x0203);
  CHECK(r.u32() == 0x04050607);
  CHECK(r.u64() == 0x08090a0b0c0d0e0f);
  CHECK(r.i64() == -2);
  CHECK(r.f32() == 1.5f);
  CHECK(r.f64() == -0.25);
  CHECK(r.string(10) == "abc");
  CHECK(r.at_end());
}

TEST_CASE("a reader fails at the end and stays failed") {
  const std::vector<std::uint8_t> three{1, 2, 3};
  ByteReader r(three);
  CHECK(r.u32() == 0);
  CHECK_FALSE(r.ok());
  CHECK(r.u8() == 0);
  CHECK(r.raw(0).empty());
  CHECK_FALSE(r.at_end());
}

TEST_CASE("a length beyond the cap or the input is refused before it is used") {
  std::vector<std::uint8_t> out;
  ByteWriter(out).string("abcdef");
  ByteReader over_cap(out);
  CHECK(over_cap.string(5).empty());
  CHECK_FALSE(over_cap.ok());
  out[3] = 0xff;  // a length of about 4 GiB
  ByteReader over_end(out);
  CHECK(over_end.string(0xffffffffu).empty());
  CHECK_FALSE(over_end.ok());
  ByteReader wraps(out);
  (void)wraps.u8();
  CHECK(wraps.raw(~std::uint64_t{0}).empty());
  CHECK_FALSE(wraps.ok());
}

}  // namespace
}  // namespace kvferry
