// Files as the programs read them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry::cli {

// A whole file, or standard input for "-". Error kIo with the path.
Result<std::string> read_file(const std::string& path);

// A JSON array of token ids below `vocab`. Errors name the file and the element.
Result<std::vector<TokenId>> read_ids(const std::string& path, std::uint32_t vocab);

}  // namespace kvferry::cli
