#include "kvferry/compute/dequantise.hpp"

#include <cassert>
#include <cstddef>

#include "kvferry/core/half.hpp"

// Every type: the block's layout first, then the values in the order of operations that GGML
// defines, so that results are the same bits. Multi-byte fields are little-endian.

namespace kvferry {
namespace {

std::uint16_t u16_at(const std::uint8_t* p) {
  return static_cast<std::uint16_t>(p[0] | p[1] << 8);
}
std::uint32_t u32_at(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(u16_at(p)) | static_cast<std::uint32_t>(u16_at(p + 2)) << 16;
}
float half_at(const std::uint8_t* p) {
  return to_float(Half{u16_at(p)});
}
float signed_at(const std::uint8_t* p) {
  return static_cast<float>(static_cast<std::int8_t>(*p));
}

void expand_f32(const std::uint8_t* p, float* out) {
  *out = float_from_bits(u32_at(p));
}
void expand_f16(const std::uint8_t* p, float* out) {
  *out = half_at(p);
}
void expand_bf16(const std::uint8_t* p, float* out) {
  *out = to_float(BFloat16{u16_at(p)});
}

// Blocks of 32: low nibbles are values 0 to 15, high nibbles 16 to 31.

// scale f16, 16 bytes of nibbles
void expand_q4_0(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const std::uint8_t* const q = p + 2;
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((q[i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((q[i] >> 4) - 8);
  }
}

// scale f16, minimum f16, 16 bytes of nibbles
void expand_q4_1(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const float minimum = half_at(p + 2);
  const std::uint8_t* const q = p + 4;
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(q[i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(q[i] >> 4) + minimum;
  }
}

// scale f16, 32 fifth bits, 16 bytes of nibbles
void expand_q5_0(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const std::uint32_t high = u32_at(p + 2);
  const std::uint8_t* const q = p + 6;
  for (int i = 0; i < 16; ++i) {
    const int low_value = (q[i] & 15) | static_cast<int>((high >> i & 1) << 4);
    const int high_value = q[i] >> 4 | static_cast<int>((high >> (i + 16) & 1) << 4);
    out[i] = scale * static_cast<float>(low_value - 16);
    out[i + 16] = scale * static_cast<float>(high_value - 16);
  }
}

// scale f16, minimum f16, 32 fifth bits, 16 bytes of nibbles
void expand_q5_1(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const float minimum = half_at(p + 2);
  const std::uint32_t high = u32_at(p + 4);
  const std::uint8_t* const q = p + 8;
  for (int i = 0; i < 16; ++i) {
    const int low_value = (q[i] & 15) | static_cast<int>((high >> i & 1) << 4);
    const int high_value = q[i] >> 4 | static_cast<int>((high >> (i + 16) & 1) << 4);
    out[i] = scale * static_cast<float>(low_value) + minimum;
    out[i + 16] = scale * static_cast<float>(high_value) + minimum;
  }
}

// scale f16, 32 int8
void expand_q8_0(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  for (int i = 0; i < 32; ++i) out[i] = scale * signed_at(p + 2 + i);
}

// Blocks of 256.

// Scale and minimum `j` of the eight 6-bit pairs in 12 bytes: pairs 0 to 3 in the low six bits of
// bytes 0 to 3 and 4 to 7; pairs 4 to 7 in the nibbles of bytes 8 to 11, with their two upper bits
// in the upper bits of bytes 0 to 7.
struct ScaleAndMinimum {
  float scale;
  float minimum;
};
ScaleAndMinimum sixes_at(const std::uint8_t* p, int j) {
  if (j < 4) return {static_cast<float>(p[j] & 63), static_cast<float>(p[j + 4] & 63)};
  const int scale = (p[j + 4] & 15) | (p[j - 4] >> 6) << 4;
  const int minimum = p[j + 4] >> 4 | (p[j] >> 6) << 4;
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

// scale f16, minimum f16, 12 bytes of 6-bit scales and minima (32 values each), 128 bytes of
// nibbles: of each 32 bytes the low nibbles are 32 values, the high nibbles the next 32
void expand_q4_k(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const float minimum = half_at(p + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleAndMinimum s = sixes_at(p + 4, j);
    const float group_scale = scale * s.scale;
    const float group_minimum = minimum * s.minimum;
    const std::uint8_t* const q = p + 16 + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      out[j * 32 + i] = group_scale * static_cast<float>(q[i] >> shift & 15) - group_minimum;
    }
  }
}

// as Q4_K, with 32 bytes before the nibbles: bit j of byte i is the fifth bit of value 32 j + i
void expand_q5_k(const std::uint8_t* p, float* out) {
  const float scale = half_at(p);
  const float minimum = half_at(p + 2);
  const std::uint8_t* const high = p + 16;
  for (int j = 0; j < 8; ++j) {
    const ScaleAndMinimum s = sixes_at(p + 4, j);
    const float group_scale = scale * s.scale;
    const float group_minimum = minimum * s.minimum;
    const std::uint8_t* const q = p + 48 + j / 2 * 32;
    const int shift = j % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int value = (q[i] >> shift & 15) | (high[i] >> j & 1) << 4;
      out[j * 32 + i] = group_scale * static_cast<float>(value) - group_minimum;
    }
  }
}

// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 int8 scales (16 values each), scale
// f16. In each half of 128 values, with 64 low bytes and 32 high bytes, group j of 32 values has
// its nibbles in bytes j % 2 * 32 … (low nibbles for j < 2) and its upper bits at shift 2 j.
void expand_q6_k(const std::uint8_t* p, float* out) {
  const float scale = half_at(p + 208);
  for (int j = 0; j < 8; ++j) {
    const int half = j / 4;
    const int group = j % 4;
    const std::uint8_t* const low = p + half * 64 + group % 2 * 32;
    const std::uint8_t* const high = p + 128 + half * 32;
    for (int i = 0; i < 32; ++i) {
      const int value = (low[i] >> (group / 2 * 4) & 15) | (high[i] >> (group * 2) & 3) << 4;
      const float group_scale = scale * signed_at(p + 192 + j * 2 + i / 16);
      out[j * 32 + i] = group_scale * static_cast<float>(value - 32);
    }
  }
}

template <void (*Expand)(const std::uint8_t*, float*)>
void expand_all(TensorType type, Bytes data, Span<float> out) {
  const std::size_t bytes = block_bytes(type);
  const std::size_t values = block_values(type);
  const std::size_t blocks = data.size() / bytes;
  for (std::size_t b = 0; b < blocks; ++b) {
    Expand(data.data() + b * bytes, out.data() + b * values);
  }
}

}  // namespace

void dequantise(TensorType type, Bytes data, Span<float> out) {
  assert(data.size() % block_bytes(type) == 0);
  assert(out.size() == data.size() / block_bytes(type) * block_values(type));
  switch (type) {
    case TensorType::kF32:
      return expand_all<expand_f32>(type, data, out);
    case TensorType::kF16:
      return expand_all<expand_f16>(type, data, out);
    case TensorType::kBF16:
      return expand_all<expand_bf16>(type, data, out);
    case TensorType::kQ4_0:
      return expand_all<expand_q4_0>(type, data, out);
    case TensorType::kQ4_1:
      return expand_all<expand_q4_1>(type, data, out);
    case TensorType::kQ5_0:
      return expand_all<expand_q5_0>(type, data, out);
    case TensorType::kQ5_1:
      return expand_all<expand_q5_1>(type, data, out);
    case TensorType::kQ8_0:
      return expand_all<expand_q8_0>(type, data, out);
    case TensorType::kQ4_K:
      return expand_all<expand_q4_k>(type, data, out);
    case TensorType::kQ5_K:
      return expand_all<expand_q5_k>(type, data, out);
    case TensorType::kQ6_K:
      return expand_all<expand_q6_k>(type, data, out);
  }
}

void dequantise_row(const TensorView& tensor, std::uint64_t row, Span<float> out) {
  assert(row < tensor.rows && out.size() == tensor.columns);
  const std::uint64_t bytes = tensor.row_bytes();
  dequantise(
      tensor.type,
      tensor.data.subspan(static_cast<std::size_t>(row * bytes), static_cast<std::size_t>(bytes)),
      out);
}

}  // namespace kvferry
