// Filters, tests, methods and functions of Jinja that chat templates use.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"

#include "value.hpp"

namespace kvferry {
namespace jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // By position or by name; nullptr when it is not there.
  const Value* get(std::size_t position, const std::string& name) const;
};

// Longest text that any operation makes.
constexpr std::size_t kMaxTemplateText = std::size_t{1} << 26;

// value | name(arguments). kUnsupported for a name that is not known or a value it does not take.
Result<Value> apply_filter(const std::string& name, const Value& value, const Arguments& arguments);

// value is name(arguments); "defined" included.
Result<bool> apply_test(const std::string& name, const Value& value, const Arguments& arguments);

// value.name(arguments), of texts and mappings.
Result<Value> call_method(const std::string& name, const Value& value, const Arguments& arguments);

// name(arguments), of functions that need nothing of the template that runs.
Result<Value> call_function(const std::string& name, const Arguments& arguments);

// value[begin:end:step] of texts (in characters) and lists; nullptr for a bound that is left out.
Result<Value> slice(const Value& value, const std::int64_t* begin, const std::int64_t* end,
                    std::int64_t step);

// value[index] of texts and lists, from the end for negative ones; undefined outside.
Value item_at(const Value& value, std::int64_t index);

}  // namespace jinja
}  // namespace kvferry
