// PrefillNode: takes prompts from clients, computes their KV cache and hands it to a decode node.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kvferry/codec/profile.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/engine/prefill.hpp"
#include "kvferry/node/node_options.hpp"

namespace kvferry {

struct PrefillNodeOptions {
  ModelOptions model;
  ServerOptions server;
  std::string decode;              // address of the decode node, "tcp://host:port"
  std::string decode_for_clients;  // the address that clients are told; empty = `decode`
  Profile profile = Profile::kHigh;
  bool token_classes = true;                  // for the profiles that have them
  bool predictor_ahead = false;               // as SendOptions::predictor_ahead
  std::uint32_t chunk = kDefaultChunkTokens;  // prompt tokens computed together
};

// One request: GENERATE from the client, an offer to the decode node, a TICKET to the client, the
// prefill with its blocks leaving while it computes, the first token, and DONE once the decode node
// has committed. A client that goes away or sends CANCEL ends its prefill and hand-off. Prompts are
// computed one after the other; their hand-offs overlap.
class PrefillNode {
 public:
  // Loads the model and listens. The decode node is contacted for each request: it may start later
  // and restart at any time.
  static Result<std::unique_ptr<PrefillNode>> start(const PrefillNodeOptions& options, NodeLog log);
  // Cancels what is under way, tells the peers, and waits for all threads.
  ~PrefillNode();
  PrefillNode(const PrefillNode&) = delete;
  PrefillNode& operator=(const PrefillNode&) = delete;

  // Where it listens, with the real port.
  std::string address() const;

 private:
  class Impl;
  explicit PrefillNode(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvferry
