#include "weight_groups.hpp"

#include <cstring>

#include "kvferry/core/half.hpp"

namespace kvferry::cpu {
namespace {

constexpr std::size_t kGroupsPerSuperBlock = 8;  // K types: blocks of 256

float half_at(const std::uint8_t* p) {
  return to_float(Half{static_cast<std::uint16_t>(p[0] | p[1] << 8)});
}
std::uint32_t u32_at(const std::uint8_t* p) {
  return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
         static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}

std::size_t groups_per_block(TensorType type) {
  return block_values(type) / kGroupColumns;
}

const std::uint8_t* block_of(TensorType type, const std::uint8_t* row, std::size_t group) {
  return row + group / groups_per_block(type) * block_bytes(type);
}

// The 6-bit scale and minimum of group `j` of a Q4_K or Q5_K block, from its 12 bytes.
void read_sixes(const std::uint8_t* p, std::size_t j, int& scale, int& minimum) {
  if (j < 4) {
    scale = p[j] & 63;
    minimum = p[j + 4] & 63;
  } else {
    scale = (p[j + 4] & 15) | (p[j - 4] >> 6) << 4;
    minimum = p[j + 4] >> 4 | (p[j] >> 6) << 4;
  }
}

// Low halves are values 0 to 15, high halves 16 to 31.
void read_nibbles(const std::uint8_t* nibbles, std::uint8_t* q) {
  for (std::size_t i = 0; i < 16; ++i) {
    q[i] = nibbles[i] & 15;
    q[i + 16] = static_cast<std::uint8_t>(nibbles[i] >> 4);
  }
}

void read_fives(const std::uint8_t* fifth_bits, const std::uint8_t* nibbles, std::uint8_t* q) {
  read_nibbles(nibbles, q);
  const std::uint32_t high = u32_at(fifth_bits);
  for (std::size_t i = 0; i < 32; ++i) {
    q[i] = static_cast<std::uint8_t>(q[i] | (high >> i & 1) << 4);
  }
}

// Half `j % 2` of the 32 bytes of nibbles that groups j and j ^ 1 of a super-block share.
void read_k_nibbles(const std::uint8_t* nibbles, std::size_t j, std::uint8_t* q) {
  const std::uint8_t* p = nibbles + j / 2 * 32;
  const std::size_t shift = j % 2 * 4;
  for (std::size_t i = 0; i < 32; ++i) q[i] = static_cast<std::uint8_t>(p[i] >> shift & 15);
}

}  // namespace

bool group_form(TensorType type, GroupForm& form) {
  switch (type) {
    case TensorType::kQ4_0:
      form = {WeightFormat::kW4, 8, false, false, true};
      return true;
    case TensorType::kQ4_1:
      form = {WeightFormat::kW4, 0, true, false, true};
      return true;
    case TensorType::kQ5_0:
      form = {WeightFormat::kW8, 16, false, false, true};
      return true;
    case TensorType::kQ5_1:
      form = {WeightFormat::kW8, 0, true, false, true};
      return true;
    case TensorType::kQ8_0:
      form = {WeightFormat::kW8, 128, false, false, true};
      return true;
    case TensorType::kQ4_K:
      form = {WeightFormat::kW4, 0, true, false, false};
      return true;
    case TensorType::kQ5_K:
      form = {WeightFormat::kW8, 0, true, false, false};
      return true;
    case TensorType::kQ6_K:
      form = {WeightFormat::kW8, 32, false, true, false};
      return true;
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      break;
  }
  return false;
}

void read_parameters(TensorType type, const std::uint8_t* row, std::size_t index,
                     WeightGroup& group) {
  const std::uint8_t* block = block_of(type, row, index);
  group.second = 0.0f;
  switch (type) {
    case TensorType::kQ4_1:
    case TensorType::kQ5_1:
      group.second = half_at(block + 2);
      group.scale = half_at(block);
      break;
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: {
      int scale = 0, minimum = 0;
      read_sixes(block + 4, index % kGroupsPerSuperBlock, scale, minimum);
      group.scale = half_at(block) * static_cast<float>(scale);
      group.second = -(half_at(block + 2) * static_cast<float>(minimum));
      break;
    }
    case TensorType::kQ6_K: {
      const float scale = half_at(block + 208);
      std::int8_t sub_scales[2];
      std::memcpy(sub_scales, block + 192 + index % kGroupsPerSuperBlock * 2, 2);
      group.scale = scale * static_cast<float>(sub_scales[0]);
      group.second = scale * static_cast<float>(sub_scales[1]);
      break;
    }
    default:  // Q4_0, Q5_0, Q8_0
      group.scale = half_at(block);
      break;
  }
}

void read_group(TensorType type, const std::uint8_t* row, std::size_t index, WeightGroup& group) {
  read_parameters(type, row, index, group);
  const std::uint8_t* block = block_of(type, row, index);
  const std::size_t j = index % groups_per_block(type);
  switch (type) {
    case TensorType::kQ4_0:
      read_nibbles(block + 2, group.q);
      break;
    case TensorType::kQ4_1:
      read_nibbles(block + 4, group.q);
      break;
    case TensorType::kQ5_0:
      read_fives(block + 2, block + 6, group.q);
      break;
    case TensorType::kQ5_1:
      read_fives(block + 4, block + 8, group.q);
      break;
    case TensorType::kQ8_0:
      // q - 128 is the file's signed byte.
      for (std::size_t i = 0; i < 32; ++i) {
        group.q[i] = static_cast<std::uint8_t>(block[2 + i] ^ 0x80);
      }
      break;
    case TensorType::kQ4_K:
      read_k_nibbles(block + 16, j, group.q);
      break;
    case TensorType::kQ5_K:
      read_k_nibbles(block + 48, j, group.q);
      for (std::size_t i = 0; i < 32; ++i) {
        group.q[i] = static_cast<std::uint8_t>(group.q[i] | (block[16 + i] >> j & 1) << 4);
      }
      break;
    case TensorType::kQ6_K: {
      const std::uint8_t* low = block + j / 4 * 64 + j % 2 * 32;
      const std::uint8_t* high = block + 128 + j / 4 * 32;
      const std::size_t low_shift = j % 4 / 2 * 4, high_shift = j % 4 * 2;
      for (std::size_t i = 0; i < 32; ++i) {
        group.q[i] = static_cast<std::uint8_t>((low[i] >> low_shift & 15) |
                                               (high[i] >> high_shift & 3) << 4);
      }
      break;
    }
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBF16:
      break;
  }
}

}  // namespace kvferry::cpu
