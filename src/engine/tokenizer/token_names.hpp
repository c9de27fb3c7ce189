// Tokens that model families know by their text.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

namespace kvferry {

// After these a generation stops, whatever the file's metadata says.
inline bool is_end_of_generation_name(std::string_view text) {
  static constexpr std::string_view kNames[] = {
      "<|eot_id|>",    "<|eom_id|>",      "<|im_end|>", "<|end|>", "<|endoftext|>",
      "<end_of_turn>", "<|end_of_text|>", "<EOT>",      "_<EOT>",  "[EOT]",
      "</s>",          "[EOS]",           "<|return|>", "<eos>",   "<end_of_utterance>",
      "<|call|>",      "<|flush|>",       "<|calls|>",
  };
  return std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames);
}

// Some files give the type "normal" or "user defined" to tokens that are control tokens in all but
// name. llama.cpp treats the ones above and the fill-in-the-middle tokens as control tokens.
inline bool is_control_name(std::string_view text) {
  static constexpr std::string_view kNames[] = {
      "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>",      "\xe2\x96\x81<PRE>",
      "<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>",      "\xe2\x96\x81<SUF>",
      "<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>",      "\xe2\x96\x81<MID>",
      "<|fim_pad|>",    "<fim-pad>",    "<fim_pad>",    "<PAD>",      "[PAD]",
      "<|fim_repo|>",   "<fim-repo>",   "<REPO>",       "<reponame>", "<|repo_name|>",
      "<|file_sep|>",
  };
  return is_end_of_generation_name(text) ||
         std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames);
}

}  // namespace kvferry
