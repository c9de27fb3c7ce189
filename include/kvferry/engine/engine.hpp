// Engine: a loaded model that prefills and decodes, on a path that is chosen by its name.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kvferry/cache/sequence.hpp"
#include "kvferry/engine/decode.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/engine/prefill.hpp"

namespace kvferry {

struct EngineOptions {
  std::string path = "cpu";  // one of engine_paths()
  std::size_t threads = 0;   // 0: as many as the machine has processors
  LayerRange layers;
};

// "cpu", "reference": what this build has.
std::vector<std::string> engine_paths();

// Calls may come from several threads; they take turns. A request's on_layer must not call the
// engine.
class Engine {
 public:
  // Needs `file` only until it returns. kNotFound for an unknown path.
  static Result<std::unique_ptr<Engine>> load(const ModelFile& file,
                                              const EngineOptions& options = {});
  virtual ~Engine() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const char* path() const = 0;
  virtual LayerRange layers() const = 0;
  // Of a cache for these layers, with the path's own element type: F16 on the CPU path, F32 on the
  // reference path. The CPU path takes caches of any type.
  virtual KvGeometry geometry() const = 0;
  // Where the caches have to lie: for KvPool::create.
  virtual std::shared_ptr<KvMemory> cache_memory() const = 0;

  // As Prefill::run.
  virtual Status prefill(const PrefillRequest& request, KvSequence& sequence) = 0;
  // As Decode::step.
  virtual Status step(Span<const DecodeInput> inputs, Span<float> logits) = 0;
};

}  // namespace kvferry
