// The syntax tree of a Jinja template.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/result.hpp"

#include "value.hpp"

namespace kvferry {
namespace jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

enum class ExpressionKind : std::uint8_t {
  kLiteral,    // literal
  kName,       // name
  kList,       // operands
  kMapping,    // operands: key, value, key, value, …
  kAttribute,  // operands[0].name
  kItem,       // operands[0][operands[1]]
  kSlice,      // operands[0][operands[1]:operands[2]:operands[3]], nullptr where left out
  kCall,       // operands[0](operands[1], …)
  kFilter,     // operands[0] | name(operands[1], …)
  kTest,       // operands[0] is name(operands[1], …)
  kNot,        // not operands[0]
  kNegate,     // -operands[0]
  kBinary,     // operands[0] name operands[1]; "and" and "or" included
  kChoice,     // operands[0] if operands[1] else operands[2], which may be nullptr
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kLiteral;
  std::size_t offset = 0;  // in the template
  std::size_t depth = 1;   // of the tree below
  std::string name;
  Value literal;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> keywords;  // of calls, filters and tests
};

struct Statement;
using Block = std::vector<Statement>;

enum class StatementKind : std::uint8_t {
  kText,      // text
  kOutput,    // {{ expression }}
  kIf,        // branches, the last may have no condition
  kFor,       // names in expression if condition: body, else `otherwise`
  kSet,       // names[0] = expression, or names[0].names[1] = expression
  kSetBlock,  // names[0] = what body writes
  kMacro,     // names[0](names[1], …), defaults by position
  kBreak,
  kContinue,
};

struct Branch {
  ExpressionPtr condition;
  Block body;
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  std::size_t offset = 0;
  Text text;
  std::vector<std::string> names;
  ExpressionPtr expression;
  ExpressionPtr condition;
  std::vector<ExpressionPtr> defaults;  // [names - 1], nullptr for a parameter without
  std::vector<Branch> branches;
  Block body;
  Block otherwise;
};

// Expressions and blocks nest at most this deep, so that walking them needs little stack.
constexpr std::size_t kMaxSyntaxDepth = 64;

// kUnsupported names what the template has and this subset of Jinja has not, and where.
Result<Block> parse_template(const std::string& source);

}  // namespace jinja
}  // namespace kvferry
