// Value: what a template's expressions work on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kvferry/core/result.hpp"

#include "text.hpp"

namespace kvferry {
namespace jinja {

class Value;
struct Statement;

constexpr std::size_t kMaxItems = 100'000;

struct Undefined {};
struct None {};

// Lists and mappings never change once made; nesting is limited, so that taking one apart needs
// little stack.
struct List {
  std::vector<Value> items;
  std::size_t depth = 1;
};
struct Mapping {
  std::vector<std::pair<std::string, Value>> entries;
  std::size_t depth = 1;
};
// A namespace(…) object: its number in the interpreter, which owns it.
struct NamespaceRef {
  std::size_t number = 0;
};

class Value {
 public:
  using Variant =
      std::variant<Undefined, None, bool, std::int64_t, Text, std::shared_ptr<const List>,
                   std::shared_ptr<const Mapping>, NamespaceRef, const Statement*>;

  Value() = default;
  template <typename T>
  Value(T value) : variant_(std::move(value)) {}  // NOLINT: implicit by design

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&variant_);
  }
  const List* list() const {
    const auto* p = get<std::shared_ptr<const List>>();
    return p == nullptr ? nullptr : p->get();
  }
  const Mapping* mapping() const {
    const auto* p = get<std::shared_ptr<const Mapping>>();
    return p == nullptr ? nullptr : p->get();
  }

  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  // Python's truth: everything but undefined, none, false, 0 and what is empty.
  bool truth() const;
  // "something undefined", "a text", … for messages.
  const char* kind() const;

  // kResourceExhausted when it would nest too deep or hold more than kMaxItems.
  static Result<Value> make_list(std::vector<Value> items);
  static Result<Value> make_mapping(std::vector<std::pair<std::string, Value>> entries);

 private:
  std::size_t depth() const;

  Variant variant_;
};

// Python's ==. Values of different kinds differ, but true is 1 and false is 0. kUnsupported for two
// lists or mappings that both hold something: shared parts could make the comparison endless.
Result<bool> equal(const Value& a, const Value& b);

// The entry of a mapping, or nullptr.
const Value* find(const Mapping& mapping, const std::string& key);

// What {{ }} writes. kUnsupported for lists and mappings.
Result<Text> to_text(const Value& value);

}  // namespace jinja
}  // namespace kvferry
