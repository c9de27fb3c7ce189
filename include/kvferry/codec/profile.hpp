// Profile: how faithfully, and in how few bits, a cache travels.
#pragma once

#include <cstdint>
#include <string>

#include "kvferry/core/result.hpp"

namespace kvferry {

// The numbers travel on the wire.
enum class Profile : std::uint8_t {
  kRaw = 0,       // rows as they are
  kLossless = 1,  // bit-exact, byte planes and zstd
  kHigh = 2,  // from here on lossy: uniform steps, entropy-coded, each coarser than the one before
  kMedium = 3,
  kLow = 4,
  kLowest = 5,
  kQ8 = 6,   // fixed rate, 8 bits
  kQ4H = 7,  // fixed rate, 4 bits after a Hadamard transform
};

inline const char* name_of(Profile p) {
  switch (p) {
    case Profile::kRaw:
      return "raw";
    case Profile::kLossless:
      return "lossless";
    case Profile::kHigh:
      return "high";
    case Profile::kMedium:
      return "medium";
    case Profile::kLow:
      return "low";
    case Profile::kLowest:
      return "lowest";
    case Profile::kQ8:
      return "q8";
    case Profile::kQ4H:
      return "q4h";
  }
  return "unknown";
}

// Whether `p` is a profile that this build encodes and decodes; numbers from a peer may not be one.
inline bool is_available(Profile p) {
  return static_cast<std::uint8_t>(p) <= static_cast<std::uint8_t>(Profile::kQ4H);
}

// Lossy profiles ship K before RoPE, so that a cache can be moved to other positions; the others
// ship it as stored.
inline bool is_lossy(Profile p) {
  return p != Profile::kRaw && p != Profile::kLossless;
}

// Profiles that a codebook and token classes serve.
inline bool is_quantised(Profile p) {
  return p == Profile::kHigh || p == Profile::kMedium || p == Profile::kLow ||
         p == Profile::kLowest;
}

// For help texts and messages.
constexpr const char* kProfileNames = "raw, lossless, high, medium, low, lowest, q8 or q4h";

// The profile of that name, kInvalidArgument when there is none.
inline Result<Profile> profile_from_name(const std::string& name) {
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(Profile::kQ4H); ++i) {
    const Profile p = static_cast<Profile>(i);
    if (name == name_of(p)) return p;
  }
  return Error(ErrorCode::kInvalidArgument,
               "no profile is called \"" + name + "\"; use " + kProfileNames);
}

}  // namespace kvferry
