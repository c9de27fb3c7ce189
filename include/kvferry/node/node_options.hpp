// What both nodes are told when they start, and how they tell what happens.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "kvferry/cache/geometry.hpp"

namespace kvferry {

// Receives one line for every event worth knowing (a connection refused, a hand-off that failed).
// Called from any thread of the node; the library itself prints nothing.
using NodeLog = std::function<void(const std::string& line)>;

// How a node loads its model and how much it holds.
struct ModelOptions {
  std::string file;                       // GGUF
  std::string path = "cpu";               // compute path: "cpu" or "reference"
  unsigned threads = 0;                   // 0 = one for each core
  std::string codebook;                   // of the lossy profiles; empty: blocks scale themselves
  bool predict = false;                   // with the predictor beside the codebook
  std::optional<ElementType> cache_type;  // empty = the path's own: F16 on "cpu"
  std::uint32_t cache_tokens = 16384;  // of all sequences together; memory grows only as it is used
};

struct ServerOptions {
  std::string listen = "tcp://127.0.0.1:0";
  bool allow_public = false;                 // listen on an address that is not loopback
  std::size_t max_connections = 64;          // at a time; more are refused
  std::chrono::milliseconds timeout{30000};  // for every wait on a peer that should be answering
};

}  // namespace kvferry
