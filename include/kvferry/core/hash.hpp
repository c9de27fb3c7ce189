// XXH64 (from the xxHash library): the checksum of everything that travels or is stored.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <xxhash.h>

#include "kvferry/core/span.hpp"

namespace kvferry {

// XXH64 of a byte string.
inline std::uint64_t hash64(Bytes bytes, std::uint64_t seed = 0) {
  return XXH64(bytes.data(), bytes.size(), seed);
}

// XXH64 of a byte string that comes in pieces.
class Hasher {
 public:
  explicit Hasher(std::uint64_t seed = 0) : state_(XXH64_createState()) {
    XXH64_reset(state_.get(), seed);
  }
  void update(Bytes bytes) { XXH64_update(state_.get(), bytes.data(), bytes.size()); }
  std::uint64_t digest() const { return XXH64_digest(state_.get()); }

 private:
  struct Free {
    void operator()(XXH64_state_t* s) const { XXH64_freeState(s); }
  };
  std::unique_ptr<XXH64_state_t, Free> state_;
};

}  // namespace kvferry
