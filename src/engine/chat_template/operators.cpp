#include "operators.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "kvferry/core/quoted.hpp"

#include "builtins.hpp"

namespace kvferry {
namespace jinja {
namespace {

Error unsupported(const std::string& what) {
  return Error(ErrorCode::kUnsupported, what);
}

// Python's // and %, which round down.
Result<Value> divide(const std::string& name, std::int64_t a, std::int64_t b) {
  if (b == 0) return unsupported("a division by 0");
  if (b == -1) {  // where C++ may overflow
    if (name == "%") return Value(std::int64_t{0});
    if (a == std::numeric_limits<std::int64_t>::min())
      return unsupported("a number beyond 64 bits");
    return Value(-a);
  }
  const std::int64_t remainder = a % b;
  const bool adjust = remainder != 0 && (remainder < 0) != (b < 0);
  if (name == "%") return Value(adjust ? remainder + b : remainder);
  return Value(a / b - (adjust ? 1 : 0));
}

Result<Value> arithmetic(const std::string& name, std::int64_t a, std::int64_t b) {
  if (name == "//" || name == "%") return divide(name, a, b);
  std::int64_t result = 0;
  bool overflow = false;
  if (name == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (name == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (name == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (name == "<") {
    return Value(a < b);
  } else if (name == "<=") {
    return Value(a <= b);
  } else if (name == ">") {
    return Value(a > b);
  } else if (name == ">=") {
    return Value(a >= b);
  } else {
    return unsupported("the operator " + quoted(name) + " of integers");
  }
  if (overflow) return unsupported("a number beyond 64 bits");
  return Value(result);
}

Result<Value> concatenate(Text left, const Text& right) {
  if (left.size() > kMaxTemplateText || right.size() > kMaxTemplateText - left.size()) {
    return Error(ErrorCode::kResourceExhausted, "a text of too many bytes");
  }
  left.append(right);
  return Value(std::move(left));
}

}  // namespace

Result<Value> apply_operator(const std::string& name, const Value& left, const Value& right) {
  if (name == "==" || name == "!=") {
    KVFERRY_ASSIGN(const bool same, equal(left, right));
    return Value(same == (name == "=="));
  }
  if (name == "in" || name == "not in") {
    Arguments container;
    container.positional.push_back(right);
    KVFERRY_ASSIGN(const bool inside, apply_test("in", left, container));
    return Value(inside == (name == "in"));
  }
  if (name == "~") {
    KVFERRY_ASSIGN(Text first, to_text(left));
    KVFERRY_ASSIGN(const Text second, to_text(right));
    return concatenate(std::move(first), second);
  }
  const auto* a = left.get<std::int64_t>();
  const auto* b = right.get<std::int64_t>();
  if (a != nullptr && b != nullptr) return arithmetic(name, *a, *b);
  const auto* s = left.get<Text>();
  const auto* t = right.get<Text>();
  if (name == "+" && s != nullptr && t != nullptr) return concatenate(*s, *t);
  const List* l = left.list();
  const List* m = right.list();
  if (name == "+" && l != nullptr && m != nullptr) {
    std::vector<Value> items = l->items;
    items.insert(items.end(), m->items.begin(), m->items.end());
    return Value::make_list(std::move(items));
  }
  return unsupported("the operator " + quoted(name) + " of " + left.kind() + " and " +
                     right.kind());
}

}  // namespace jinja
}  // namespace kvferry
