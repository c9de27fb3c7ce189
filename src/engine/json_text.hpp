#pragma once

#include <string>
#include <string_view>

namespace kvferry {

// `text` as a JSON string with its quotes. Invalid UTF-8 becomes U+FFFD, a byte at a time.
std::string json_string(std::string_view text);

}  // namespace kvferry
