// DecodeNode: takes KV caches from prefill nodes, generates from them, and streams to clients.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "kvferry/core/result.hpp"
#include "kvferry/node/node_options.hpp"

namespace kvferry {

struct DecodeNodeOptions {
  ModelOptions model;
  ServerOptions server;
  std::uint32_t max_sequences = 8;  // being received or decoded at a time; more are refused
  std::chrono::milliseconds ticket_lifetime{30000};  // for a client to attach
  // Where codebooks and predictors of prefill nodes are kept, so that a restart does not ask again;
  // made when it is not there. Empty: only in memory.
  std::string model_data_folder;
  std::uint64_t max_predictor_bytes = 64u << 20;  // a larger predictor is not asked for
};

// All sequences are decoded together, one batched step after another. A hand-off that fails takes
// only its own sequence with it, and its client is told why.
class DecodeNode {
 public:
  // Loads the model and listens.
  static Result<std::unique_ptr<DecodeNode>> start(const DecodeNodeOptions& options, NodeLog log);
  // Closes all connections, which ends all generations, and waits for all threads.
  ~DecodeNode();
  DecodeNode(const DecodeNode&) = delete;
  DecodeNode& operator=(const DecodeNode&) = delete;

  // Where it listens, with the real port.
  std::string address() const;

 private:
  class Impl;
  explicit DecodeNode(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvferry
