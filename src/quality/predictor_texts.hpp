// What a predictor is trained on.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kvferry/engine/engine.hpp"
#include "kvferry/engine/tokenizer.hpp"

namespace kvferry {

// Pieces of `length` tokens, `count` of them: the text's own first; then what the engine's model
// goes on to write, at temperature 1, from starts all over the text. The same for the same model
// and text. `on_piece` is called after each.
Result<std::vector<std::vector<TokenId>>> predictor_texts(
    Engine& engine, const Tokenizer& tokenizer, const std::string& text, std::uint32_t length,
    std::uint32_t count, const std::atomic<bool>* cancel, const std::function<void()>& on_piece);

}  // namespace kvferry
