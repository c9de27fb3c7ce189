#include "value.hpp"

#include <algorithm>

namespace kvferry {
namespace jinja {
namespace {

constexpr std::size_t kMaxNesting = 32;

Status check_size(std::size_t items, std::size_t depth) {
  if (items > kMaxItems) {
    return Error(ErrorCode::kResourceExhausted,
                 "a list of more than " + std::to_string(kMaxItems) + " items");
  }
  if (depth > kMaxNesting) {
    return Error(ErrorCode::kResourceExhausted,
                 "values that nest deeper than " + std::to_string(kMaxNesting));
  }
  return {};
}

bool as_number(const Value& v, std::int64_t& out) {
  if (const auto* i = v.get<std::int64_t>()) {
    out = *i;
    return true;
  }
  const auto* flag = v.get<bool>();
  if (flag != nullptr) out = *flag ? 1 : 0;
  return flag != nullptr;
}

}  // namespace

bool Value::truth() const {
  if (const auto* b = get<bool>()) return *b;
  if (const auto* i = get<std::int64_t>()) return *i != 0;
  if (const auto* t = get<Text>()) return !t->empty();
  if (const List* l = list()) return !l->items.empty();
  if (const Mapping* m = mapping()) return !m->entries.empty();
  return !is_undefined() && !is_none();
}

const char* Value::kind() const {
  static constexpr const char* kNames[] = {"something undefined", "none",        "a boolean",
                                           "an integer",          "a text",      "a list",
                                           "a mapping",           "a namespace", "a macro"};
  return kNames[variant_.index()];
}

std::size_t Value::depth() const {
  if (const List* l = list()) return l->depth;
  if (const Mapping* m = mapping()) return m->depth;
  return 0;
}

Result<Value> Value::make_list(std::vector<Value> items) {
  auto out = std::make_shared<List>();
  for (const Value& item : items) out->depth = std::max(out->depth, item.depth() + 1);
  KVFERRY_TRY(check_size(items.size(), out->depth));
  out->items = std::move(items);
  return Value(std::shared_ptr<const List>(std::move(out)));
}

Result<Value> Value::make_mapping(std::vector<std::pair<std::string, Value>> entries) {
  auto out = std::make_shared<Mapping>();
  for (const auto& entry : entries) out->depth = std::max(out->depth, entry.second.depth() + 1);
  KVFERRY_TRY(check_size(entries.size(), out->depth));
  out->entries = std::move(entries);
  return Value(std::shared_ptr<const Mapping>(std::move(out)));
}

Result<bool> equal(const Value& a, const Value& b) {
  std::int64_t x = 0;
  std::int64_t y = 0;
  if (as_number(a, x) && as_number(b, y)) return x == y;
  if (std::string(a.kind()) != b.kind()) return false;
  if (const auto* text = a.get<Text>()) return text->bytes() == b.get<Text>()->bytes();
  if (a.is_none() || a.is_undefined()) return true;
  if (a.list() != nullptr || a.mapping() != nullptr) {
    if (!a.truth() || !b.truth()) return a.truth() == b.truth();
    return Error(ErrorCode::kUnsupported, std::string("a comparison of ") + a.kind());
  }
  return false;
}

const Value* find(const Mapping& mapping, const std::string& key) {
  for (const auto& entry : mapping.entries) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

Result<Text> to_text(const Value& value) {
  if (const auto* text = value.get<Text>()) return *text;
  if (const auto* integer = value.get<std::int64_t>()) return Text(std::to_string(*integer));
  if (const auto* flag = value.get<bool>()) return Text(*flag ? "True" : "False");
  if (value.is_none()) return Text("None");
  if (value.is_undefined()) return Text();
  return Error(ErrorCode::kUnsupported, value.kind() + std::string(" as text"));
}

}  // namespace jinja
}  // namespace kvferry
