#pragma once

#include <cstdint>

#include "kvferry/engine/gguf.hpp"

namespace kvferry {

// Metadata types are numbered 0 to kGgufTypes - 1.
constexpr std::uint32_t kGgufTypes = 13;

// Bytes of one value in the file; 0 for strings and arrays, whose length varies.
std::uint32_t bytes_of(GgufType type);

}  // namespace kvferry
