// calibrate(): makes the codebook of a model.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/engine/model_file.hpp"
#include "kvferry/engine/tokenizer.hpp"

namespace kvferry {

struct CalibrationOptions {
  std::size_t threads = 0;  // 0: as many as the machine has processors
  // Looked at often; when it becomes true the run ends with kCancelled. May be null.
  const std::atomic<bool>* cancel = nullptr;
  // Called with the measurements that are done and those that are to be. May be empty.
  std::function<void(std::size_t done, std::size_t total)> on_progress;
};

// Measures on `text`, on path::Reference:
//   - the weights of K, one over the root mean square of the queries that meet a channel, over each
//     RoPE pair and the heads that share the KV head; those of V, one over the norm of the columns
//     of the output projection that a channel meets;
//   - the mean and the spread of each channel, K before RoPE;
//   - each plane's step: every plane is coded on its own and the divergence of the next-token
//     distributions is measured; steps are such that all planes add the same divergence, and all
//     together what the profiles are meant to have.
// The same model and text give the same codebook on the same machine and for any thread count.
// kInvalidArgument when the text has fewer than 257 tokens, kUnsupported for a model of a context
// below 192 tokens; errors of the model, and kCancelled.
Result<std::shared_ptr<const Codebook>> calibrate(const ModelFile& file, const Tokenizer& tokenizer,
                                                  const std::string& text,
                                                  const CalibrationOptions& options = {});

}  // namespace kvferry
