// Files as the programs read and write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvferry/cache/source_sink.hpp"
#include "kvferry/core/atomic_file.hpp"
#include "kvferry/core/result.hpp"

namespace kvferry::cli {

constexpr std::size_t kMaxInputBytes = std::size_t{64} << 20;

// A whole file, pipe, or standard input for "-". Errors: kIo with the path, kResourceExhausted for
// more than kMaxInputBytes, kCancelled when interrupted.
Result<std::string> read_file(const std::string& path);

// kInvalidArgument when an output would replace one of the command's inputs, kIo when its folder is
// not there or not to be written to: what takes minutes should not fail at its end.
Status check_output(const std::string& path, const std::vector<std::string>& inputs);

// Written files appear together: when one cannot, those before it are removed again.
Status commit_all(std::vector<AtomicFile>& files);

// A JSON array of token ids below `vocab`. Errors name the file and the element.
Result<std::vector<TokenId>> read_ids(const std::string& path, std::uint32_t vocab);

}  // namespace kvferry::cli
