#include "kvferry/codec/element_rows.hpp"

#include <cassert>
#include <cstring>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "caches lie in memory as they travel: little-endian");

template <typename T>
T load(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <typename T>
void store(T value, std::uint8_t* at) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

void load_rows(ElementType type, Bytes rows, Span<float> values) {
  assert(rows.size() == values.size() * size_of(type));
  const std::uint8_t* in = rows.data();
  switch (type) {
    case ElementType::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(load<Half>(in + 2 * i));
      return;
    case ElementType::kBF16:
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = to_float(load<BFloat16>(in + 2 * i));
      return;
    case ElementType::kF32:
      std::memcpy(values.data(), in, rows.size());
      return;
  }
}

void store_rows(ElementType type, Span<const float> values, MutableBytes rows) {
  assert(rows.size() == values.size() * size_of(type));
  std::uint8_t* out = rows.data();
  switch (type) {
    case ElementType::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) store(to_half(values[i]), out + 2 * i);
      return;
    case ElementType::kBF16:
      for (std::size_t i = 0; i < values.size(); ++i) store(to_bfloat16(values[i]), out + 2 * i);
      return;
    case ElementType::kF32:
      std::memcpy(out, values.data(), rows.size());
      return;
  }
}

void convert_rows(ElementType from, Bytes rows, ElementType to, MutableBytes out) {
  if (from == to) {
    std::memcpy(out.data(), rows.data(), rows.size());
    return;
  }
  // A stretch at a time, so that no buffer of the block's size is needed.
  constexpr std::size_t kStretch = 256;
  float values[kStretch];
  const std::size_t count = rows.size() / size_of(from);
  for (std::size_t i = 0; i < count; i += kStretch) {
    const std::size_t n = count - i < kStretch ? count - i : kStretch;
    load_rows(from, rows.subspan(i * size_of(from), n * size_of(from)), Span<float>(values, n));
    store_rows(to, Span<const float>(values, n), out.subspan(i * size_of(to), n * size_of(to)));
  }
}

}  // namespace kvferry
