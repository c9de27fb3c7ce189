// The options of every program that loads a model and samples from it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "kvferry/model/sampling.hpp"
#include "kvferry/node/node_options.hpp"

namespace kvferry::cli {

inline void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("--model", options.file, "GGUF model file (llama, qwen2 or qwen3 family)")
      ->required();
  command.add_option("--path", options.path, "How to compute: cpu, or reference (F32 throughout)")
      ->capture_default_str();
  command.add_option("--threads", options.threads, "Threads; 0 = one for each core")
      ->capture_default_str()
      ->check(CLI::Range(0, 256));
  command
      .add_option("--cache-tokens", options.cache_tokens,
                  "Tokens that the KV cache has room for; memory grows only as it is used")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24));
}

// An option that is on or off.
inline void add_switch(CLI::App& command, const std::string& name, bool& value,
                       const std::string& help) {
  command
      .add_option_function<std::string>(
          name, [&value](const std::string& text) { value = text == "on"; }, help)
      ->check(CLI::IsMember({"on", "off"}))
      ->default_str(value ? "on" : "off");
}

// For reports on a hand-off with one of the profiles `high` to `lowest`.
constexpr const char* kNoCodebook =
    "no codebook: blocks scaled themselves, which takes more bits or loses more, how much depends "
    "on the model; kvferry calibrate makes one, --codebook names it";

// What the profiles `high` to `lowest` work with.
inline void add_codebook_option(CLI::App& command, ModelOptions& options) {
  command.add_option("--codebook", options.codebook,
                     "Codebook of the model, from kvferry calibrate, for the profiles high to "
                     "lowest; without one blocks scale themselves");
}
inline void add_codec_options(CLI::App& command, ModelOptions& options) {
  add_codebook_option(command, options);
  add_switch(command, "--predict", options.predict,
             "Predict layers from those before, with the .kvfp file beside the codebook: fewer "
             "bits, more computing");
}

// A time in seconds, a tenth to a day.
inline void add_seconds(CLI::App& command, const std::string& name, std::chrono::milliseconds& time,
                        const std::string& help) {
  command.add_option_function<double>(
      name,
      [name, &time](double seconds) {
        if (!(seconds >= 0.1 && seconds <= 86400.0)) {  // refuses NaN too
          throw CLI::ValidationError(name, "a number from 0.1 to 86400 is needed");
        }
        time = std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
      },
      help);
}

inline void add_sampler_options(CLI::App& command, SamplerParams& sampler) {
  command.add_option("--temperature", sampler.temperature, "0 = always the most likely token")
      ->capture_default_str();
  command.add_option("--top-k", sampler.top_k, "Only the K most likely tokens; 0 = all")
      ->capture_default_str();
  command
      .add_option("--top-p", sampler.top_p, "Only the most likely tokens up to this probability")
      ->capture_default_str();
  command
      .add_option("--min-p", sampler.min_p, "Only tokens this likely beside the most likely one")
      ->capture_default_str();
  command.add_option("--repetition-penalty", sampler.repetition_penalty, "1 = none")
      ->capture_default_str();
  command.add_option("--seed", sampler.seed, "The same seed gives the same text")
      ->capture_default_str();
}

}  // namespace kvferry::cli
