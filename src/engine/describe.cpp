#include "kvferry/engine/describe.hpp"

#include <cmath>
#include <cstdio>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/quoted.hpp"

#include "gguf_types.hpp"
#include "json_text.hpp"

namespace kvferry {
namespace {

constexpr std::uint64_t kTextValues = 4;   // of an array, on a line for people
constexpr std::uint64_t kJsonValues = 16;  // of an array, in JSON
constexpr std::size_t kTextBytes = 100;    // of a string, on a line for people

std::string decimal(double v) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", v);
  return buffer;
}

std::string hexadecimal(std::uint64_t v) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(v));
  return buffer;
}

// The next value of `type` as text; strings through `text`, numbers that JSON cannot hold (NaN,
// infinities) through it too.
template <typename Text>
std::string next_value(ByteReader& r, GgufType type, Text text) {
  const auto real = [&](double v) { return std::isfinite(v) ? decimal(v) : text(decimal(v)); };
  switch (type) {
    case GgufType::kUint8:
      return std::to_string(r.u8());
    case GgufType::kInt8:
      return std::to_string(static_cast<std::int8_t>(r.u8()));
    case GgufType::kUint16:
      return std::to_string(r.u16());
    case GgufType::kInt16:
      return std::to_string(static_cast<std::int16_t>(r.u16()));
    case GgufType::kUint32:
      return std::to_string(r.u32());
    case GgufType::kInt32:
      return std::to_string(r.i32());
    case GgufType::kUint64:
      return std::to_string(r.u64());
    case GgufType::kInt64:
      return std::to_string(r.i64());
    case GgufType::kFloat32:
      return real(static_cast<double>(r.f32()));
    case GgufType::kFloat64:
      return real(r.f64());
    case GgufType::kBool:
      return r.u8() != 0 ? "true" : "false";
    case GgufType::kString: {
      const Bytes b = r.raw(r.u64());
      return text(std::string_view(reinterpret_cast<const char*>(b.data()), b.size()));
    }
    case GgufType::kArray:
      break;
  }
  return std::string();
}

template <typename Text>
std::string first_values(const GgufEntry& entry, std::uint64_t limit, Text text) {
  ByteReader r(entry.payload);
  std::string out;
  for (std::uint64_t i = 0; i < entry.count && i < limit; ++i) {
    if (i > 0) out += ", ";
    out += next_value(r, entry.element, text);
  }
  return out;
}

// A key or name, in quotes only when something in it had to be escaped or cut.
std::string label(std::string_view name) {
  const std::string safe = quoted(name, kTextBytes);
  return safe.size() == name.size() + 2 ? std::string(name) : safe;
}

std::string text_line(const GgufEntry& entry) {
  const auto text = [](std::string_view s) { return quoted(s, kTextBytes); };
  const std::string key = label(entry.key);
  if (entry.type != GgufType::kArray) return "  " + key + " = " + first_values(entry, 1, text);
  const char* const more = entry.count > kTextValues ? ", …" : "";
  return "  " + key + " = [" + first_values(entry, kTextValues, text) + more + "] (" +
         std::to_string(entry.count) + " of " + name_of(entry.element) + ")";
}

std::string text_line(const GgufTensor& tensor) {
  std::string shape;
  for (std::uint32_t d = 0; d < tensor.dimension_count; ++d) {
    shape += (d == 0 ? "" : " x ") + std::to_string(tensor.dimensions[d]);
  }
  char columns[128];
  std::snprintf(columns, sizeof columns, "  %-8s %-20s %12llu  ", find_ggml_type(tensor.type)->name,
                shape.c_str(), static_cast<unsigned long long>(tensor.data.size()));
  return columns + label(tensor.name);
}

std::string layout_name(RopeLayout layout) {
  return layout == RopeLayout::kInterleaved ? "interleaved" : "split_halves";
}

std::string gguf_json(const GgufFile& file) {
  std::string out = "{\"version\": " + std::to_string(file.version()) +
                    ", \"alignment\": " + std::to_string(file.alignment()) +
                    ", \"bytes\": " + std::to_string(file.size()) +
                    ", \"data_offset\": " + std::to_string(file.data_offset()) +
                    ", \"metadata\": {";
  const char* separator = "";
  for (const GgufEntry& e : file.metadata()) {
    out += separator + json_string(e.key) + ": ";
    separator = ", ";
    const std::string values = first_values(e, kJsonValues, json_string);
    if (e.type != GgufType::kArray) {
      out += values;
    } else if (e.count <= kJsonValues) {
      out += "[" + values + "]";
    } else {
      out += std::string("{\"type\": \"") + name_of(e.element) +
             "\", \"count\": " + std::to_string(e.count) + ", \"first\": [" + values + "]}";
    }
  }
  out += "}, \"tensors\": [";
  separator = "";
  for (const GgufTensor& t : file.tensors()) {
    out += separator + std::string("{\"name\": ") + json_string(t.name) + ", \"type\": \"" +
           find_ggml_type(t.type)->name + "\", \"dimensions\": [";
    separator = ", ";
    for (std::uint32_t d = 0; d < t.dimension_count; ++d) {
      out += (d == 0 ? "" : ", ") + std::to_string(t.dimensions[d]);
    }
    out += "], \"offset\": " + std::to_string(file.offset_of(t.data)) +
           ", \"bytes\": " + std::to_string(t.data.size()) + "}";
  }
  return out + "]}";
}

std::string identity_json(const ModelIdentity& id) {
  std::string out =
      "{\"fingerprint\": \"" + hexadecimal(id.fingerprint()) + "\", \"tokenizer\": \"" +
      hexadecimal(id.tokenizer) + "\", \"norms\": \"" + hexadecimal(id.norms) +
      "\", \"rope\": {\"layout\": \"" + layout_name(id.rope.layout) +
      "\", \"rotated\": " + std::to_string(id.rope.rotated()) +
      ", \"attention_scale\": " + decimal(static_cast<double>(id.rope.attention_scale)) +
      ", \"inverse_frequency\": [";
  const char* separator = "";
  for (const float f : id.rope.inverse_frequency) {
    out += separator + decimal(static_cast<double>(f));
    separator = ", ";
  }
  return out + "]}, \"name\": " + json_string(id.name) +
         ", \"basename\": " + json_string(id.basename) +
         ", \"finetune\": " + json_string(id.finetune) +
         ", \"version\": " + json_string(id.version) + "}";
}

struct Field {
  const char* name;
  std::uint64_t value;
};
std::vector<Field> shape_of(const ModelConfig& c) {
  return {{"layers", c.layers},     {"heads", c.heads},
          {"kv_heads", c.kv_heads}, {"head_dim", c.head_dim},
          {"hidden", c.hidden},     {"ffn", c.ffn},
          {"vocab", c.vocab},       {"context_length", c.context_length}};
}

}  // namespace

std::string describe(const GgufFile& file) {
  std::string out = "GGUF version " + std::to_string(file.version()) + ", " +
                    std::to_string(file.size()) + " bytes, tensor data from byte " +
                    std::to_string(file.data_offset()) + ", alignment " +
                    std::to_string(file.alignment()) + "\n";
  out += "metadata (" + std::to_string(file.metadata().size()) + ")\n";
  for (const GgufEntry& e : file.metadata()) out += text_line(e) + "\n";
  out += "tensors (" + std::to_string(file.tensors().size()) + "): type, shape, bytes, name\n";
  for (const GgufTensor& t : file.tensors()) out += text_line(t) + "\n";
  return out;
}

std::string describe(const ModelFile& model) {
  const ModelConfig& c = model.config();
  const ModelIdentity id = identity_of(model);
  std::string out = std::string("architecture ") + name_of(c.architecture);
  for (const Field& f : shape_of(c)) {
    out += std::string(", ") + f.name + " " + std::to_string(f.value);
  }
  out += ", norm_epsilon " + decimal(static_cast<double>(c.norm_epsilon)) +
         (model.weights().tied ? ", output tied to the embedding" : "") + "\n";
  out += "identity " + hexadecimal(id.fingerprint()) + ": tokenizer " + hexadecimal(id.tokenizer) +
         ", norms " + hexadecimal(id.norms) + ", RoPE " + layout_name(id.rope.layout) + " over " +
         std::to_string(id.rope.rotated()) + " values, attention scale " +
         decimal(static_cast<double>(id.rope.attention_scale)) + "\n";
  return out + describe(model.gguf());
}

std::string describe_json(const GgufFile& file) {
  return "{\"gguf\": " + gguf_json(file) + "}";
}

std::string describe_json(const ModelFile& model) {
  const ModelConfig& c = model.config();
  std::string out = std::string("{\"config\": {\"architecture\": \"") + name_of(c.architecture);
  out += "\"";
  for (const Field& f : shape_of(c)) {
    out += std::string(", \"") + f.name + "\": " + std::to_string(f.value);
  }
  return out + ", \"norm_epsilon\": " + decimal(static_cast<double>(c.norm_epsilon)) +
         ", \"tied\": " + (model.weights().tied ? "true" : "false") +
         "}, \"identity\": " + identity_json(identity_of(model)) +
         ", \"gguf\": " + gguf_json(model.gguf()) + "}";
}

}  // namespace kvferry
