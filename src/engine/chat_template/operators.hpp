// Operators of Jinja that take two values.
#pragma once

#include <string>

#include "kvferry/core/result.hpp"

#include "value.hpp"

namespace kvferry {
namespace jinja {

// left name right, for every operator but "and" and "or", which may leave the right side alone.
// kUnsupported for kinds that it does not take, a division by 0 and a number beyond 64 bits,
// kResourceExhausted for a text or a list that gets too long.
Result<Value> apply_operator(const std::string& name, const Value& left, const Value& right);

}  // namespace jinja
}  // namespace kvferry
