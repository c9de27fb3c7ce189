// Runs a parsed Jinja template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"

#include "builtins.hpp"
#include "syntax.hpp"
#include "value.hpp"

namespace kvferry {
namespace jinja {

// One run. A template comes with a model file and may be hostile: every step and every byte that it
// makes is paid for out of a budget, so that it ends.
class Interpreter {
 public:
  using Variables = std::unordered_map<std::string, Value>;

  Interpreter(Variables globals, std::uint64_t budget) : budget_(budget) {
    scopes_.push_back(std::move(globals));
  }

  // What the template writes. kUnsupported for what this subset of Jinja has not,
  // kInvalidArgument for raise_exception(…), kResourceExhausted when the budget is used up.
  Result<Text> run(const Block& block);

 private:
  enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

  Status execute(const Block& block, Text& out);
  Status execute(const Statement& statement, Text& out);
  Status execute_if(const Statement& statement, Text& out);
  Status execute_for(const Statement& statement, Text& out);
  Status execute_set(const Statement& statement);
  Status assign_targets(const Statement& statement, const Value& item);
  Result<std::vector<Value>> items_of(const Value& value);

  Result<Value> evaluate(const Expression& expression);
  Result<Value> compute(const Expression& expression);
  Result<Value> binary(const Expression& expression);
  Result<Value> attribute(const Expression& expression);
  Result<Value> item(const Expression& expression);
  Result<Value> slice_of(const Expression& expression);
  Result<Value> call(const Expression& expression);
  Result<Value> call_global(const std::string& name, const Arguments& arguments);
  Result<Value> call_macro(const Statement& macro, const Arguments& arguments);
  Result<Value> make_mapping(const Expression& expression);
  // The operands from `first` on, and the keywords.
  Result<Arguments> arguments_of(const Expression& expression, std::size_t first);

  const Value* lookup(const std::string& name) const;
  void set(const std::string& name, Value value);
  Status spend(std::uint64_t steps);

  std::vector<Variables> scopes_;  // [0] is the template's own
  std::size_t frame_ = 0;          // the macro that runs sees scopes_[0] and those from here on
  std::vector<Variables> namespaces_;
  std::size_t calls_ = 0;  // macros that run
  Flow flow_ = Flow::kNext;
  std::uint64_t budget_;
};

}  // namespace jinja
}  // namespace kvferry
