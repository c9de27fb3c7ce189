// DecodeLoop: decodes all generations of a node together, one batched step after another.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "generation.hpp"

namespace kvferry {

// Generations join and leave between steps. One thread.
class DecodeLoop {
 public:
  // `model` outlives it. `between_steps` is called in the loop's thread before every step.
  DecodeLoop(const LoadedModel& model, std::function<void()> between_steps);
  // Ends all generations with an error to their clients.
  ~DecodeLoop();
  DecodeLoop(const DecodeLoop&) = delete;
  DecodeLoop& operator=(const DecodeLoop&) = delete;

  // Decodes a generation that has its cache until it ends.
  void add(std::unique_ptr<Generation> generation);

 private:
  void run();
  // Takes in what was added; waits when there is nothing to do. False when it is to stop.
  bool collect();
  void step();
  // The step of one generation alone, when that of all together failed.
  void step_alone(Generation& generation);

  const LoadedModel& model_;
  const std::function<void()> between_steps_;
  std::vector<std::unique_ptr<Generation>> active_;  // the thread's own
  std::vector<DecodeInput> inputs_;
  std::vector<float> logits_;  // [active, vocab]
  std::mutex mutex_;           // of what follows
  std::condition_variable changed_;
  std::vector<std::unique_ptr<Generation>> added_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace kvferry
