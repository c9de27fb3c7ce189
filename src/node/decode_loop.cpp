#include "decode_loop.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace kvferry {

DecodeLoop::DecodeLoop(const LoadedModel& model, std::function<void()> between_steps)
    : model_(model), between_steps_(std::move(between_steps)), thread_([this] { run(); }) {}

DecodeLoop::~DecodeLoop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void DecodeLoop::add(std::unique_ptr<Generation> generation) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    added_.push_back(std::move(generation));
  }
  changed_.notify_one();
}

void DecodeLoop::run() {
  while (collect()) {
    between_steps_();
    for (const auto& generation : active_) {
      if (generation->cancelled()) generation->finish(wire::FinishReason::kCancelled);
    }
    active_.erase(std::remove_if(active_.begin(), active_.end(),
                                 [](const auto& generation) { return generation->finished(); }),
                  active_.end());
    if (!active_.empty()) step();
  }
  active_.clear();
}

bool DecodeLoop::collect() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || !added_.empty() || !active_.empty(); });
  std::move(added_.begin(), added_.end(), std::back_inserter(active_));
  added_.clear();
  return !stopping_;
}

void DecodeLoop::step() {
  const std::size_t vocab = model_.config().vocab;
  inputs_.clear();
  for (const auto& generation : active_) {
    inputs_.push_back({&generation->sequence(), generation->last_token()});
  }
  logits_.resize(active_.size() * vocab);
  if (!model_.engine->step(inputs_, Span<float>(logits_)).ok()) {
    for (const auto& generation : active_) step_alone(*generation);
    return;
  }
  for (std::size_t i = 0; i < active_.size(); ++i) {
    active_[i]->advance(Span<const float>(logits_).subspan(i * vocab, vocab));
  }
}

void DecodeLoop::step_alone(Generation& generation) {
  const DecodeInput input{&generation.sequence(), generation.last_token()};
  const Span<float> logits = Span<float>(logits_).first(model_.config().vocab);
  const Status status = model_.engine->step(Span<const DecodeInput>(&input, 1), logits);
  if (!status.ok()) return generation.fail(status.error());
  generation.advance(logits);
}

}  // namespace kvferry
