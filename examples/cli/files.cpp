#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include <nlohmann/json.hpp>

namespace kvferry::cli {
namespace {

Error io_error(const std::string& doing, const std::string& path) {
  return Error(ErrorCode::kIo, "cannot " + doing + " " + path + ": " + std::strerror(errno));
}

}  // namespace

Result<std::string> read_file(const std::string& path) {
  std::ostringstream text;
  if (path == "-") {
    text << std::cin.rdbuf();
    return text.str();
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return io_error("read", path);
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (file.bad() || text.fail()) return io_error("read", path);
  return text.str();
}

Result<std::vector<TokenId>> read_ids(const std::string& path, std::uint32_t vocab) {
  KVFERRY_ASSIGN(const std::string text, read_file(path));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_array()) {
    return Error(ErrorCode::kMalformed, path + ": expected a JSON array of token ids");
  }
  if (json.empty())
    return Error(ErrorCode::kInvalidArgument, path + ": there is no token id in it");
  std::vector<TokenId> ids;
  ids.reserve(json.size());
  for (const auto& element : json) {
    if (!element.is_number_unsigned() || element.get<std::uint64_t>() >= vocab) {
      return Error(ErrorCode::kInvalidArgument, path + ": element " + std::to_string(ids.size()) +
                                                    " is not a token id of this model (0 to " +
                                                    std::to_string(vocab - 1) + ")");
    }
    ids.push_back(element.get<TokenId>());
  }
  return ids;
}

}  // namespace kvferry::cli
