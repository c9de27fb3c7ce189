#include "builtins.hpp"

#include <algorithm>
#include <limits>

#include "kvferry/core/quoted.hpp"

#include "text_operations.hpp"

namespace kvferry {
namespace jinja {
namespace {

constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

Error unsupported(const std::string& what) {
  return Error(ErrorCode::kUnsupported, what);
}

Result<Value> text_value(Result<Text> text) {
  KVFERRY_ASSIGN(Text value, std::move(text));
  return Value(std::move(value));
}

Result<Value> list_of(std::vector<Text> texts) {
  std::vector<Value> items;
  items.reserve(texts.size());
  for (Text& text : texts) items.emplace_back(std::move(text));
  return Value::make_list(std::move(items));
}

// The count that a third argument gives; Python takes negative ones for "all".
std::size_t limit_of(const Arguments& arguments, std::size_t position, const std::string& name) {
  const Value* value = arguments.get(position, name);
  const auto* count = value == nullptr ? nullptr : value->get<std::int64_t>();
  return count == nullptr || *count < 0 ? kNoLimit : static_cast<std::size_t>(*count);
}

// The text at `position`, or an error that names the method.
Result<Text> text_argument(const Arguments& arguments, std::size_t position,
                           const std::string& name) {
  if (position < arguments.positional.size()) {
    if (const auto* text = arguments.positional[position].get<Text>()) return *text;
  }
  return unsupported(quoted(name) + " without the text that it takes");
}

Result<Value> strip_method(const std::string& name, const Text& text, const Arguments& arguments) {
  const bool given = !arguments.positional.empty() && !arguments.positional[0].is_none();
  std::string characters;
  if (given) {
    KVFERRY_ASSIGN(const Text argument, text_argument(arguments, 0, name));
    characters = argument.bytes();
  }
  return Value(strip(text, given ? &characters : nullptr, name != "rstrip", name != "lstrip"));
}

Result<Value> affix_method(const std::string& name, const Text& text, const Arguments& arguments) {
  const auto matches = [&](const Text& affix) {
    if (affix.size() > text.size()) return false;
    const std::size_t at = name == "startswith" ? 0 : text.size() - affix.size();
    return text.bytes().compare(at, affix.size(), affix.bytes()) == 0;
  };
  const List* several = arguments.positional.empty() ? nullptr : arguments.positional[0].list();
  if (several != nullptr) {
    return Value(std::any_of(several->items.begin(), several->items.end(), [&](const Value& v) {
      const auto* affix = v.get<Text>();
      return affix != nullptr && matches(*affix);
    }));
  }
  KVFERRY_ASSIGN(const Text affix, text_argument(arguments, 0, name));
  return Value(matches(affix));
}

Result<Value> text_method(const std::string& name, const Text& text, const Arguments& arguments) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    return strip_method(name, text, arguments);
  }
  if (name == "startswith" || name == "endswith") return affix_method(name, text, arguments);
  if (name == "split") {
    // One more than a list takes, so that it is refused.
    const std::size_t limit = std::min(limit_of(arguments, 1, "maxsplit"), kMaxItems + 1);
    if (arguments.get(0, "sep") == nullptr || arguments.get(0, "sep")->is_none()) {
      return list_of(split_words(text, limit));
    }
    KVFERRY_ASSIGN(const Text separator, text_argument(arguments, 0, name));
    if (separator.empty()) return unsupported("a split at the empty text");
    return list_of(split(text, separator.bytes(), limit));
  }
  if (name == "replace") {
    KVFERRY_ASSIGN(const Text from, text_argument(arguments, 0, name));
    KVFERRY_ASSIGN(const Text to, text_argument(arguments, 1, name));
    return text_value(replace(text, from.bytes(), to, limit_of(arguments, 2, "count")));
  }
  if (name == "upper") return text_value(to_upper(text));
  if (name == "lower") return text_value(to_lower(text));
  if (name == "title") return text_value(to_title(text, nullptr));
  if (name == "capitalize") return text_value(to_capitalized(text));
  return unsupported("the method " + quoted(name, 40) + " of a text");
}

Result<Value> mapping_method(const std::string& name, const Mapping& mapping,
                             const Arguments& arguments) {
  if (name == "get") {
    KVFERRY_ASSIGN(const Text key, text_argument(arguments, 0, name));
    const Value* value = find(mapping, key.bytes());
    if (value != nullptr) return *value;
    const Value* otherwise = arguments.get(1, "default");
    return otherwise != nullptr ? *otherwise : Value(None{});
  }
  std::vector<Value> items;
  for (const auto& entry : mapping.entries) {
    if (name == "keys") {
      items.emplace_back(Text(entry.first));
    } else if (name == "values") {
      items.push_back(entry.second);
    } else if (name == "items") {
      KVFERRY_ASSIGN(Value pair, Value::make_list({Value(Text(entry.first)), entry.second}));
      items.push_back(std::move(pair));
    } else {
      return unsupported("the method " + quoted(name, 40) + " of a mapping");
    }
  }
  return Value::make_list(std::move(items));
}

Result<Value> join(const List& list, const Arguments& arguments) {
  Text separator;
  if (const Value* given = arguments.get(0, "d")) {
    KVFERRY_ASSIGN(separator, to_text(*given));
  }
  Text out;
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) out.append(separator);
    KVFERRY_ASSIGN(const Text item, to_text(list.items[i]));
    out.append(item);
    if (out.size() > kMaxTemplateText) {
      return Error(ErrorCode::kResourceExhausted, "a text of too many bytes");
    }
  }
  return Value(std::move(out));
}

// selectattr and rejectattr: attribute, then a test and its arguments.
Result<Value> select(const List& list, const Arguments& arguments, bool wanted) {
  KVFERRY_ASSIGN(const Text attribute, text_argument(arguments, 0, "selectattr"));
  std::vector<Value> items;
  for (const Value& item : list.items) {
    const Mapping* mapping = item.mapping();
    const Value* found = mapping == nullptr ? nullptr : find(*mapping, attribute.bytes());
    const Value value = found == nullptr ? Value() : *found;
    bool passes = value.truth();
    if (arguments.positional.size() > 1) {
      KVFERRY_ASSIGN(const Text test, text_argument(arguments, 1, "selectattr"));
      Arguments rest;
      rest.positional.assign(arguments.positional.begin() + 2, arguments.positional.end());
      KVFERRY_ASSIGN(passes, apply_test(test.bytes(), value, rest));
    }
    if (passes == wanted) items.push_back(item);
  }
  return Value::make_list(std::move(items));
}

Result<Value> map_attribute(const List& list, const Arguments& arguments) {
  const Value* attribute = arguments.get(kNoLimit, "attribute");
  const auto* name = attribute == nullptr ? nullptr : attribute->get<Text>();
  if (name == nullptr) return unsupported("the filter \"map\" without an attribute");
  std::vector<Value> items;
  for (const Value& item : list.items) {
    const Mapping* mapping = item.mapping();
    const Value* found = mapping == nullptr ? nullptr : find(*mapping, name->bytes());
    items.push_back(found == nullptr ? Value() : *found);
  }
  return Value::make_list(std::move(items));
}

// Positions begin, begin + step, … of a sequence of `size`, as Python's slices choose them.
std::vector<std::size_t> slice_positions(std::size_t size, const std::int64_t* begin,
                                         const std::int64_t* end, std::int64_t step) {
  const auto count = static_cast<std::int64_t>(size);
  const std::int64_t low = step > 0 ? 0 : -1;
  const std::int64_t high = step > 0 ? count : count - 1;
  const auto bound = [&](const std::int64_t* given, std::int64_t otherwise) {
    if (given == nullptr) return otherwise;
    const std::int64_t from_start = *given >= 0 ? *given : *given < -count ? low : *given + count;
    return std::min(std::max(from_start, low), high);
  };
  std::int64_t at = bound(begin, step > 0 ? low : high);
  const std::int64_t stop = bound(end, step > 0 ? high : low);
  std::vector<std::size_t> positions;
  while (step > 0 ? at < stop : at > stop) {
    positions.push_back(static_cast<std::size_t>(at));
    // The distance left is below 2^63, so that this cannot overflow where the sum could.
    if (step > 0 ? step >= stop - at : step <= stop - at) break;
    at += step;
  }
  return positions;
}

}  // namespace

const Value* Arguments::get(std::size_t position, const std::string& name) const {
  if (position < positional.size()) return &positional[position];
  for (const auto& argument : named) {
    if (argument.first == name) return &argument.second;
  }
  return nullptr;
}

Result<Value> apply_filter(const std::string& name, const Value& value,
                           const Arguments& arguments) {
  const List* list = value.list();
  if (name == "default" || name == "d") {
    const Value* otherwise = arguments.get(0, "default_value");
    const Value* falsy = arguments.get(1, "boolean");
    const bool missing =
        value.is_undefined() || (falsy != nullptr && falsy->truth() && !value.truth());
    if (!missing) return value;
    return otherwise != nullptr ? *otherwise : Value(Text());
  }
  if (name == "length" || name == "count") {
    std::size_t size = 0;
    if (const auto* text = value.get<Text>()) {
      size = character_begins(*text).size() - 1;
    } else if (list != nullptr) {
      size = list->items.size();
    } else if (const Mapping* mapping = value.mapping()) {
      size = mapping->entries.size();
    } else if (!value.is_undefined()) {
      return unsupported(std::string("the length of ") + value.kind());
    }
    return Value(static_cast<std::int64_t>(size));
  }
  if (name == "items" && value.mapping() != nullptr) {
    return mapping_method(name, *value.mapping(), arguments);
  }
  if (list != nullptr) {
    if (name == "list") return value;
    if (name == "first") return item_at(value, 0);
    if (name == "last") return item_at(value, -1);
    if (name == "join") return join(*list, arguments);
    if (name == "selectattr") return select(*list, arguments, true);
    if (name == "rejectattr") return select(*list, arguments, false);
    if (name == "map") return map_attribute(*list, arguments);
  } else if (name == "title") {
    KVFERRY_ASSIGN(const Text text, to_text(value));
    return text_value(to_title(text, "-({[< \t\n\v\f\r"));
  } else {
    const std::string method = name == "trim" ? "strip" : name;
    const bool of_text = method == "strip" || method == "upper" || method == "lower" ||
                         method == "capitalize" || method == "replace";
    if (of_text || name == "string" || name == "safe") {
      KVFERRY_ASSIGN(Text text, to_text(value));
      if (of_text) return text_method(method, text, arguments);
      return Value(std::move(text));
    }
  }
  return unsupported("the filter " + quoted(name, 40) + " of " + value.kind());
}

Result<bool> apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  const bool integer = value.get<std::int64_t>() != nullptr;
  const auto* flag = value.get<bool>();
  const bool text = value.get<Text>() != nullptr;
  const bool mapping = value.mapping() != nullptr;
  const bool sequence = text || value.list() != nullptr || mapping;
  if (name == "defined") return !value.is_undefined();
  if (name == "undefined") return value.is_undefined();
  if (name == "none") return value.is_none();
  if (name == "string") return text;
  if (name == "mapping") return mapping;
  if (name == "sequence") return sequence;
  if (name == "iterable") return sequence || value.is_undefined();
  if (name == "number") return integer || flag != nullptr;
  if (name == "integer") return integer;
  if (name == "float") return false;
  if (name == "boolean") return flag != nullptr;
  if (name == "true") return flag != nullptr && *flag;
  if (name == "false") return flag != nullptr && !*flag;
  if (name == "callable") return value.get<const Statement*>() != nullptr;
  if ((name == "odd" || name == "even") && integer) {
    return (*value.get<std::int64_t>() % 2 != 0) == (name == "odd");
  }
  const bool comparison = name == "equalto" || name == "eq" || name == "ne" || name == "in";
  if (comparison && arguments.positional.size() == 1) {
    const Value& other = arguments.positional[0];
    if (name != "in") {
      KVFERRY_ASSIGN(const bool same, equal(value, other));
      return same == (name != "ne");
    }
    if (const List* list = other.list()) {
      for (const Value& item : list->items) {
        KVFERRY_ASSIGN(const bool same, equal(value, item));
        if (same) return true;
      }
      return false;
    }
    const auto* needle = value.get<Text>();
    if (needle != nullptr && other.mapping() != nullptr) {
      return find(*other.mapping(), needle->bytes()) != nullptr;
    }
    const auto* haystack = other.get<Text>();
    if (needle != nullptr && haystack != nullptr) {
      return haystack->bytes().find(needle->bytes()) != std::string::npos;
    }
    return unsupported(std::string("a search for ") + value.kind() + " in " + other.kind());
  }
  return unsupported("the test " + quoted(name, 40) + " of " + value.kind());
}

Result<Value> call_method(const std::string& name, const Value& value, const Arguments& arguments) {
  if (const auto* text = value.get<Text>()) return text_method(name, *text, arguments);
  if (const Mapping* mapping = value.mapping()) return mapping_method(name, *mapping, arguments);
  return unsupported("the method " + quoted(name, 40) + " of " + value.kind());
}

Result<Value> slice(const Value& value, const std::int64_t* begin, const std::int64_t* end,
                    std::int64_t step) {
  if (step == 0) return unsupported("a slice of step 0");
  if (const List* list = value.list()) {
    std::vector<Value> items;
    for (const std::size_t i : slice_positions(list->items.size(), begin, end, step)) {
      items.push_back(list->items[i]);
    }
    return Value::make_list(std::move(items));
  }
  const auto* text = value.get<Text>();
  if (text == nullptr) return unsupported(std::string("a slice of ") + value.kind());
  const std::vector<std::size_t> begins = character_begins(*text);
  Text out;
  for (const std::size_t i : slice_positions(begins.size() - 1, begin, end, step)) {
    out.append(text->substring(begins[i], begins[i + 1] - begins[i]));
  }
  return Value(std::move(out));
}

Value item_at(const Value& value, std::int64_t index) {
  const auto position = [index](std::size_t size) {
    const auto count = static_cast<std::int64_t>(size);
    const bool inside = index < count && index >= -count;
    return inside ? static_cast<std::size_t>(index < 0 ? index + count : index) : kNoLimit;
  };
  if (const List* list = value.list()) {
    const std::size_t i = position(list->items.size());
    return i == kNoLimit ? Value() : list->items[i];
  }
  if (const auto* text = value.get<Text>()) {
    const std::vector<std::size_t> begins = character_begins(*text);
    const std::size_t i = position(begins.size() - 1);
    return i == kNoLimit ? Value() : Value(text->substring(begins[i], begins[i + 1] - begins[i]));
  }
  return Value();
}

Result<Value> call_function(const std::string& name, const Arguments& arguments) {
  if (name == "dict") return Value::make_mapping(arguments.named);
  if (name == "range") {
    std::int64_t bounds[3] = {0, 0, 1};
    const std::size_t count = arguments.positional.size();
    for (std::size_t i = 0; i < count && i < 3; ++i) {
      const auto* integer = arguments.positional[i].get<std::int64_t>();
      if (integer == nullptr) return unsupported("a range whose bounds are no integers");
      bounds[count == 1 ? 1 : i] = *integer;
    }
    std::vector<Value> items;
    if (bounds[2] == 0) return unsupported("a range of step 0");
    for (std::int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1];) {
      items.emplace_back(i);
      if (items.size() > kMaxItems || __builtin_add_overflow(i, bounds[2], &i)) break;
    }
    return Value::make_list(std::move(items));
  }
  return unsupported("the function " + quoted(name, 40));
}

}  // namespace jinja
}  // namespace kvferry
