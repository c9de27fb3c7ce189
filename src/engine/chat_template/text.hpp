// Text: a string that knows which of its bytes came from a message and which from the template.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace kvferry {
namespace jinja {

// Where a byte came from.
constexpr char kFromTemplate = 't';
constexpr char kFromMessage = 'm';

class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, char origin = kFromTemplate)
      : bytes_(std::move(bytes)), origins_(bytes_.size(), origin) {}

  const std::string& bytes() const { return bytes_; }
  const std::string& origins() const { return origins_; }  // one a byte
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  void append(const Text& other) {
    bytes_ += other.bytes_;
    origins_ += other.origins_;
  }
  Text substring(std::size_t begin, std::size_t count = std::string::npos) const {
    Text out;
    out.bytes_ = bytes_.substr(begin, count);
    out.origins_ = origins_.substr(begin, count);
    return out;
  }
  // Replaces each byte by change(byte).
  template <typename Change>
  Text mapped(const Change& change) const {
    Text out = *this;
    for (char& c : out.bytes_) c = change(c);
    return out;
  }

 private:
  std::string bytes_;
  std::string origins_;
};

}  // namespace jinja
}  // namespace kvferry
