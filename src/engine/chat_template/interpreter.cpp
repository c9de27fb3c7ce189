#include "interpreter.hpp"

#include "kvferry/core/quoted.hpp"

#include "operators.hpp"

namespace kvferry {
namespace jinja {
namespace {

constexpr std::size_t kMaxCalls = 8;
constexpr std::uint64_t kBytesPerStep = 32;  // of text, in a step of the budget

Error unsupported(const std::string& what) {
  return Error(ErrorCode::kUnsupported, what);
}

const Value* find_variable(const Interpreter::Variables& variables, const std::string& name) {
  const auto found = variables.find(name);
  return found == variables.end() ? nullptr : &found->second;
}

Result<Value> loop_variable(std::size_t index, const std::vector<Value>& items) {
  const auto number = [](std::size_t n) { return Value(static_cast<std::int64_t>(n)); };
  const std::size_t count = items.size();
  return Value::make_mapping({{"index", number(index + 1)},
                              {"index0", number(index)},
                              {"revindex", number(count - index)},
                              {"revindex0", number(count - index - 1)},
                              {"first", Value(index == 0)},
                              {"last", Value(index + 1 == count)},
                              {"length", number(count)},
                              {"previtem", index > 0 ? items[index - 1] : Value()},
                              {"nextitem", index + 1 < count ? items[index + 1] : Value()}});
}

// Adds where in the template an error came up; the innermost expression names it.
Error located(const Error& error, std::size_t offset) {
  static const std::string mark = ", at byte ";
  if (error.code == ErrorCode::kInvalidArgument || error.message.find(mark) != std::string::npos) {
    return error;
  }
  return Error(error.code, error.message + mark + std::to_string(offset));
}

}  // namespace

Result<Text> Interpreter::run(const Block& block) {
  Text out;
  KVFERRY_TRY(execute(block, out));
  return out;
}

Status Interpreter::execute(const Block& block, Text& out) {
  for (const Statement& statement : block) {
    Status status = execute(statement, out);
    if (!status.ok()) return located(status.error(), statement.offset);
    if (flow_ != Flow::kNext) break;
  }
  return {};
}

Status Interpreter::execute(const Statement& statement, Text& out) {
  KVFERRY_TRY(spend(1));
  switch (statement.kind) {
    case StatementKind::kText:
    case StatementKind::kOutput: {
      Text text = statement.text;
      if (statement.kind == StatementKind::kOutput) {
        KVFERRY_ASSIGN(const Value value, evaluate(*statement.expression));
        KVFERRY_ASSIGN(text, to_text(value));
      }
      KVFERRY_TRY(spend(text.size() / kBytesPerStep));
      if (text.size() > kMaxTemplateText - out.size()) {
        return Error(ErrorCode::kResourceExhausted, "an output of too many bytes");
      }
      out.append(text);
      return {};
    }
    case StatementKind::kIf:
      return execute_if(statement, out);
    case StatementKind::kFor:
      return execute_for(statement, out);
    case StatementKind::kSet:
    case StatementKind::kSetBlock:
      return execute_set(statement);
    case StatementKind::kMacro:
      set(statement.names[0], Value(&statement));
      return {};
    case StatementKind::kBreak:
      flow_ = Flow::kBreak;
      return {};
    case StatementKind::kContinue:
      flow_ = Flow::kContinue;
      return {};
  }
  return {};
}

Status Interpreter::execute_if(const Statement& statement, Text& out) {
  for (const Branch& branch : statement.branches) {
    if (branch.condition) {
      KVFERRY_ASSIGN(const Value condition, evaluate(*branch.condition));
      if (!condition.truth()) continue;
    }
    return execute(branch.body, out);
  }
  return {};
}

Result<std::vector<Value>> Interpreter::items_of(const Value& value) {
  if (const List* list = value.list()) return list->items;
  std::vector<Value> items;
  if (const Mapping* mapping = value.mapping()) {
    for (const auto& entry : mapping->entries) items.emplace_back(Text(entry.first));
  } else if (!value.is_undefined()) {
    return unsupported(std::string("a loop over ") + value.kind());
  }
  return items;
}

Status Interpreter::assign_targets(const Statement& statement, const Value& item) {
  if (statement.names.size() == 1) {
    set(statement.names[0], item);
    return {};
  }
  const List* parts = item.list();
  if (parts == nullptr || parts->items.size() != statement.names.size()) {
    return unsupported("a loop whose items do not have a part for each name");
  }
  for (std::size_t i = 0; i < parts->items.size(); ++i) set(statement.names[i], parts->items[i]);
  return {};
}

Status Interpreter::execute_for(const Statement& statement, Text& out) {
  KVFERRY_ASSIGN(const Value all, evaluate(*statement.expression));
  KVFERRY_ASSIGN(std::vector<Value> items, items_of(all));
  if (statement.condition) {
    std::vector<Value> kept;
    for (const Value& item : items) {
      scopes_.emplace_back();
      KVFERRY_TRY(assign_targets(statement, item));
      KVFERRY_ASSIGN(const Value condition, evaluate(*statement.condition));
      scopes_.pop_back();
      if (condition.truth()) kept.push_back(item);
    }
    items = std::move(kept);
  }
  if (items.empty()) return execute(statement.otherwise, out);
  for (std::size_t i = 0; i < items.size(); ++i) {
    KVFERRY_TRY(spend(1));
    scopes_.emplace_back();
    KVFERRY_ASSIGN(Value loop, loop_variable(i, items));
    set("loop", std::move(loop));
    KVFERRY_TRY(assign_targets(statement, items[i]));
    KVFERRY_TRY(execute(statement.body, out));
    scopes_.pop_back();
    const bool stop = flow_ == Flow::kBreak;
    flow_ = Flow::kNext;
    if (stop) break;
  }
  return {};
}

Status Interpreter::execute_set(const Statement& statement) {
  Value value;
  if (statement.kind == StatementKind::kSetBlock) {
    Text text;
    KVFERRY_TRY(execute(statement.body, text));
    value = Value(std::move(text));
  } else {
    KVFERRY_ASSIGN(value, evaluate(*statement.expression));
  }
  if (statement.names.size() == 1) {
    set(statement.names[0], std::move(value));
    return {};
  }
  const Value* target = lookup(statement.names[0]);
  const auto* ref = target == nullptr ? nullptr : target->get<NamespaceRef>();
  if (ref == nullptr) return unsupported(quoted(statement.names[0]) + ", which is no namespace");
  namespaces_[ref->number][statement.names[1]] = std::move(value);
  return {};
}

Result<Value> Interpreter::evaluate(const Expression& expression) {
  KVFERRY_TRY(spend(1));
  auto result = compute(expression);
  if (!result.ok()) return located(result.error(), expression.offset);
  if (const auto* text = result->get<Text>()) KVFERRY_TRY(spend(text->size() / kBytesPerStep));
  if (const List* list = result->list()) KVFERRY_TRY(spend(list->items.size()));
  if (const Mapping* mapping = result->mapping()) KVFERRY_TRY(spend(mapping->entries.size()));
  return result;
}

Result<Value> Interpreter::compute(const Expression& e) {
  switch (e.kind) {
    case ExpressionKind::kLiteral:
      return e.literal;
    case ExpressionKind::kName: {
      const Value* value = lookup(e.name);
      return value == nullptr ? Value() : *value;
    }
    case ExpressionKind::kList: {
      KVFERRY_ASSIGN(Arguments items, arguments_of(e, 0));
      return Value::make_list(std::move(items.positional));
    }
    case ExpressionKind::kMapping:
      return make_mapping(e);
    case ExpressionKind::kAttribute:
      return attribute(e);
    case ExpressionKind::kItem:
      return item(e);
    case ExpressionKind::kSlice:
      return slice_of(e);
    case ExpressionKind::kCall:
      return call(e);
    case ExpressionKind::kFilter: {
      KVFERRY_ASSIGN(const Value target, evaluate(*e.operands[0]));
      KVFERRY_ASSIGN(const Arguments arguments, arguments_of(e, 1));
      return apply_filter(e.name, target, arguments);
    }
    case ExpressionKind::kTest: {
      KVFERRY_ASSIGN(const Value target, evaluate(*e.operands[0]));
      KVFERRY_ASSIGN(const Arguments arguments, arguments_of(e, 1));
      KVFERRY_ASSIGN(const bool passes, apply_test(e.name, target, arguments));
      return Value(passes);
    }
    case ExpressionKind::kNot: {
      KVFERRY_ASSIGN(const Value value, evaluate(*e.operands[0]));
      return Value(!value.truth());
    }
    case ExpressionKind::kNegate: {
      KVFERRY_ASSIGN(const Value value, evaluate(*e.operands[0]));
      const auto* integer = value.get<std::int64_t>();
      if (integer == nullptr) return unsupported(std::string("minus ") + value.kind());
      return apply_operator("-", Value(std::int64_t{0}), value);
    }
    case ExpressionKind::kBinary:
      return binary(e);
    case ExpressionKind::kChoice: {
      KVFERRY_ASSIGN(const Value condition, evaluate(*e.operands[1]));
      if (condition.truth()) return evaluate(*e.operands[0]);
      if (!e.operands[2]) return Value();
      return evaluate(*e.operands[2]);
    }
  }
  return Value();
}

Result<Value> Interpreter::binary(const Expression& e) {
  KVFERRY_ASSIGN(const Value left, evaluate(*e.operands[0]));
  if (e.name == "and" || e.name == "or") {
    return left.truth() == (e.name == "or") ? Result<Value>(left) : evaluate(*e.operands[1]);
  }
  KVFERRY_ASSIGN(const Value right, evaluate(*e.operands[1]));
  return apply_operator(e.name, left, right);
}

Result<Value> Interpreter::make_mapping(const Expression& e) {
  std::vector<std::pair<std::string, Value>> entries;
  for (std::size_t i = 0; i + 1 < e.operands.size(); i += 2) {
    KVFERRY_ASSIGN(const Value key, evaluate(*e.operands[i]));
    KVFERRY_ASSIGN(Value value, evaluate(*e.operands[i + 1]));
    const auto* text = key.get<Text>();
    if (text == nullptr) return unsupported(key.kind() + std::string(" as a key"));
    entries.emplace_back(text->bytes(), std::move(value));
  }
  return Value::make_mapping(std::move(entries));
}

Result<Value> Interpreter::attribute(const Expression& e) {
  KVFERRY_ASSIGN(const Value target, evaluate(*e.operands[0]));
  if (target.is_undefined()) {
    return unsupported(quoted(e.name, 40) + " of something undefined");
  }
  const Value* found = nullptr;
  if (const Mapping* mapping = target.mapping()) found = find(*mapping, e.name);
  if (const auto* ref = target.get<NamespaceRef>()) {
    found = find_variable(namespaces_[ref->number], e.name);
  }
  return found == nullptr ? Value() : *found;
}

Result<Value> Interpreter::item(const Expression& e) {
  KVFERRY_ASSIGN(const Value target, evaluate(*e.operands[0]));
  KVFERRY_ASSIGN(const Value key, evaluate(*e.operands[1]));
  if (target.is_undefined()) return unsupported("an item of something undefined");
  if (const auto* index = key.get<std::int64_t>()) return item_at(target, *index);
  const Mapping* mapping = target.mapping();
  const auto* text = key.get<Text>();
  if (mapping == nullptr || text == nullptr) return Value();
  const Value* found = find(*mapping, text->bytes());
  return found == nullptr ? Value() : *found;
}

Result<Value> Interpreter::slice_of(const Expression& e) {
  KVFERRY_ASSIGN(const Value target, evaluate(*e.operands[0]));
  std::int64_t bounds[3] = {0, 0, 1};
  bool given[3] = {false, false, false};
  for (std::size_t i = 0; i < 3; ++i) {
    if (!e.operands[i + 1]) continue;
    KVFERRY_ASSIGN(const Value bound, evaluate(*e.operands[i + 1]));
    if (bound.is_none()) continue;
    const auto* integer = bound.get<std::int64_t>();
    if (integer == nullptr) return unsupported("a slice whose bounds are no integers");
    bounds[i] = *integer;
    given[i] = true;
  }
  return slice(target, given[0] ? &bounds[0] : nullptr, given[1] ? &bounds[1] : nullptr, bounds[2]);
}

Result<Arguments> Interpreter::arguments_of(const Expression& e, std::size_t first) {
  Arguments arguments;
  for (std::size_t i = first; i < e.operands.size(); ++i) {
    KVFERRY_ASSIGN(Value value, evaluate(*e.operands[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& keyword : e.keywords) {
    KVFERRY_ASSIGN(Value value, evaluate(*keyword.second));
    arguments.named.emplace_back(keyword.first, std::move(value));
  }
  return arguments;
}

Result<Value> Interpreter::call(const Expression& e) {
  const Expression& callee = *e.operands[0];
  if (callee.kind == ExpressionKind::kAttribute) {
    KVFERRY_ASSIGN(const Value target, evaluate(*callee.operands[0]));
    KVFERRY_ASSIGN(const Arguments arguments, arguments_of(e, 1));
    return call_method(callee.name, target, arguments);
  }
  KVFERRY_ASSIGN(const Value function, evaluate(callee));
  KVFERRY_ASSIGN(const Arguments arguments, arguments_of(e, 1));
  if (const auto* macro = function.get<const Statement*>()) return call_macro(**macro, arguments);
  if (callee.kind == ExpressionKind::kName && function.is_undefined()) {
    return call_global(callee.name, arguments);
  }
  return unsupported(std::string("a call of ") + function.kind());
}

Result<Value> Interpreter::call_global(const std::string& name, const Arguments& arguments) {
  if (name == "raise_exception") {
    const Value* given = arguments.get(0, "message");
    KVFERRY_ASSIGN(const Text text, to_text(given == nullptr ? Value() : *given));
    return Error(ErrorCode::kInvalidArgument,
                 "the model's chat template refuses the messages: " + quoted(text.bytes(), 200));
  }
  if (name == "namespace") {
    KVFERRY_TRY(spend(arguments.named.size()));
    namespaces_.emplace_back(arguments.named.begin(), arguments.named.end());
    return Value(NamespaceRef{namespaces_.size() - 1});
  }
  return call_function(name, arguments);
}

Result<Value> Interpreter::call_macro(const Statement& macro, const Arguments& arguments) {
  if (calls_ == kMaxCalls) {
    return Error(ErrorCode::kResourceExhausted,
                 "macros that call each other more than " + std::to_string(kMaxCalls) + " deep");
  }
  ++calls_;
  const std::size_t outer_frame = frame_;
  frame_ = scopes_.size();
  scopes_.emplace_back();
  for (std::size_t i = 0; i + 1 < macro.names.size(); ++i) {
    const Value* given = arguments.get(i, macro.names[i + 1]);
    Value value;
    if (given != nullptr) {
      value = *given;
    } else if (macro.defaults[i]) {
      KVFERRY_ASSIGN(value, evaluate(*macro.defaults[i]));
    }
    set(macro.names[i + 1], std::move(value));
  }
  Text out;
  KVFERRY_TRY(execute(macro.body, out));
  scopes_.pop_back();
  frame_ = outer_frame;
  --calls_;
  return Value(std::move(out));
}

const Value* Interpreter::lookup(const std::string& name) const {
  for (std::size_t i = scopes_.size(); i > frame_; --i) {
    if (const Value* found = find_variable(scopes_[i - 1], name)) return found;
  }
  return find_variable(scopes_[0], name);
}

void Interpreter::set(const std::string& name, Value value) {
  scopes_.back()[name] = std::move(value);
}

Status Interpreter::spend(std::uint64_t steps) {
  if (steps > budget_) {
    return Error(ErrorCode::kResourceExhausted, "more work than a template may cause");
  }
  budget_ -= steps;
  return {};
}

}  // namespace jinja
}  // namespace kvferry
