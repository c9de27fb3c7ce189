// The clean-up of spaces with which some BPE vocabularies are detokenised.
#pragma once

#include <string>

namespace kvferry {

// Drops the space before ? ! . and , then the ones around a lone apostrophe, then the one before
// the contractions 's 'm 're 've. Exactly what llama.cpp does (and for most of it Transformers'
// clean_up_tokenization_spaces), as texts are compared with theirs.
std::string clean_spaces(const std::string& text);

}  // namespace kvferry
