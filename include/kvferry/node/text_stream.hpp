// TextStream: generated tokens to the text that a client sees, stop strings taken out.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"
#include "kvferry/engine/detokenizer.hpp"

namespace kvferry {

// Holds back text that may be the beginning of a stop string, so that no part of one is ever
// emitted. One generation, one thread.
class TextStream {
 public:
  TextStream(Tokenizer tokenizer, std::vector<std::string> stop_strings)
      : detokenizer_(std::move(tokenizer)), stop_strings_(std::move(stop_strings)) {}

  // The text that `token` releases: whole UTF-8 characters, possibly none.
  Result<std::string> push(TokenId token) {
    KVFERRY_ASSIGN(const std::string text, detokenizer_.push(token));
    return release(text);
  }

  // At the end of the generation: what was still held back.
  std::string flush() {
    std::string text = release(detokenizer_.flush());
    if (!stopped_) text += held_;
    held_.clear();
    return text;
  }

  // True once a stop string appeared: the text before it has been released, the generation is over.
  bool stopped() const { return stopped_; }

 private:
  std::string release(const std::string& text) {
    if (stopped_) return std::string();
    held_ += text;
    std::size_t first = std::string::npos;
    for (const std::string& stop : stop_strings_) {
      if (!stop.empty()) first = std::min(first, held_.find(stop));
    }
    if (first != std::string::npos) {
      stopped_ = true;
      std::string out = held_.substr(0, first);
      held_.clear();
      return out;
    }
    const std::size_t keep = longest_start();
    std::string out = held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return out;
  }

  // Length of the longest end of held_ that begins a stop string.
  std::size_t longest_start() const {
    std::size_t longest = 0;
    for (const std::string& stop : stop_strings_) {
      for (std::size_t n = std::min(held_.size(), stop.size()); n > longest; --n) {
        if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) longest = n;
      }
    }
    return longest;
  }

  StreamingDetokenizer detokenizer_;
  std::vector<std::string> stop_strings_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace kvferry
