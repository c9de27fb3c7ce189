// ModelIdentity: what two ends must share before one may decode from the other's KV cache.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "kvferry/core/bytes.hpp"
#include "kvferry/core/hash.hpp"
#include "kvferry/core/quoted.hpp"
#include "kvferry/core/result.hpp"
#include "kvferry/model/config.hpp"

namespace kvferry {

// Independent of how the matrices are quantised: an INT8 prefill and a 4-bit decode of one
// checkpoint are equal. Plain data; it travels on the wire, within the caps below.
struct ModelIdentity {
  static constexpr std::size_t kMaxArchitectureBytes = 64;
  static constexpr std::size_t kMaxTextBytes = 256;  // of each string of descriptive metadata
  static constexpr std::size_t kMaxRopePairs = 512;  // of rope.inverse_frequency

  // What computes with the weights: "llama", "qwen2", "gemma3", a name of your own. Printable ASCII
  // without spaces, to be set (is_architecture()); compared byte by byte.
  std::string architecture;
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t hidden = 0;
  std::uint32_t ffn = 0;
  std::uint32_t vocab = 0;
  float norm_epsilon = 0.0f;
  RopeSpec rope;
  std::uint64_t tokenizer = 0;  // hash of the vocabulary and of what splits text into it
  std::uint64_t norms = 0;      // hash of all RMSNorm weights as F32

  // Descriptive metadata, empty when the model file has none. A merged fine-tune can share all of
  // the above with its base model, hence these count, each only when both ends have it. They are
  // free text that different converters spell differently and some extend by the quantisation, so
  // that letter case, punctuation and a trailing quantisation name ("-Q4_K_M", ".f16") do not
  // count. Whoever knows that two names mean one model clears the field before comparing.
  std::string name;      // general.name
  std::string basename;  // general.basename
  std::string finetune;  // general.finetune
  std::string version;   // general.version

  // Equal fingerprints mean that compare() succeeds. The reverse does not hold when one end lacks
  // descriptive metadata that the other has.
  std::uint64_t fingerprint() const;
};

// Whether `name` can travel as ModelIdentity::architecture.
inline bool is_architecture(const std::string& name) {
  return !name.empty() && name.size() <= ModelIdentity::kMaxArchitectureBytes &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

// `text` in lower case without spaces and punctuation and without a trailing quantisation name:
// the form in which descriptive metadata is compared. Bytes above 0x7f stay.
inline std::string comparable_name(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c >= 'A' && c <= 'Z') {
      out.push_back(static_cast<char>(c - 'A' + 'a'));
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c & 0x80) != 0) {
      out.push_back(c);
    }
  }
  // A suffix that ends in another one comes before it.
  static constexpr const char* kSuffixes[] = {
      "gguf", "bf16", "f32",  "f16",  "fp32", "fp16", "q80", "q40",   "q41",  "q50",
      "q51",  "q2k",  "q3k",  "q3ks", "q3km", "q3kl", "q4k", "q4ks",  "q4km", "q4kl",
      "q5k",  "q5ks", "q5km", "q5kl", "q6k",  "q6kl", "q8",  "iq4xs", "iq4nl"};
  bool stripped = true;
  while (stripped) {
    stripped = false;
    for (const char* const s : kSuffixes) {
      const std::string suffix(s);
      if (out.size() > suffix.size() &&
          out.compare(out.size() - suffix.size(), suffix.size(), suffix) == 0) {
        out.resize(out.size() - suffix.size());
        stripped = true;
      }
    }
  }
  return out;
}

inline std::uint64_t ModelIdentity::fingerprint() const {
  std::vector<std::uint8_t> bytes;
  ByteWriter w(bytes);
  w.string(architecture);
  for (const std::uint32_t v : {layers, heads, kv_heads, head_dim, hidden, ffn, vocab}) w.u32(v);
  w.f32(norm_epsilon);
  w.u8(static_cast<std::uint8_t>(rope.layout));
  w.u32(static_cast<std::uint32_t>(rope.inverse_frequency.size()));
  for (const float f : rope.inverse_frequency) w.f32(f);
  w.f32(rope.attention_scale);
  w.u64(tokenizer);
  w.u64(norms);
  for (const std::string* s : {&name, &basename, &finetune, &version})
    w.string(comparable_name(*s));
  return hash64(Bytes(bytes));
}

namespace detail {

inline Error identity_mismatch(const std::string& field, const std::string& ours,
                               const std::string& theirs) {
  return Error(ErrorCode::kMismatch, "the models differ in " + field + ": " + ours + " here, " +
                                         theirs + " at the peer; both ends must load one model");
}
inline std::string identity_text(float v) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(v));
  return buffer;
}
inline std::string identity_text(std::uint64_t fingerprint) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(fingerprint));
  return buffer;
}
inline Status compare_rope(const RopeSpec& ours, const RopeSpec& theirs) {
  if (ours.layout != theirs.layout) {
    const auto text = [](RopeLayout l) {
      return std::string(l == RopeLayout::kInterleaved ? "interleaved" : "split halves");
    };
    return identity_mismatch("rope.layout", text(ours.layout), text(theirs.layout));
  }
  if (ours.rotated() != theirs.rotated()) {
    return identity_mismatch("rope.rotated", std::to_string(ours.rotated()),
                             std::to_string(theirs.rotated()));
  }
  for (std::size_t i = 0; i < ours.inverse_frequency.size(); ++i) {
    if (float_bits(ours.inverse_frequency[i]) != float_bits(theirs.inverse_frequency[i])) {
      return identity_mismatch("rope.inverse_frequency[" + std::to_string(i) + "]",
                               identity_text(ours.inverse_frequency[i]),
                               identity_text(theirs.inverse_frequency[i]));
    }
  }
  if (float_bits(ours.attention_scale) != float_bits(theirs.attention_scale)) {
    return identity_mismatch("rope.attention_scale", identity_text(ours.attention_scale),
                             identity_text(theirs.attention_scale));
  }
  return Status();
}

}  // namespace detail

// Success when a cache made by one end can serve the other, else kMismatch: the first field that
// differs, with both values.
inline Status compare(const ModelIdentity& ours, const ModelIdentity& theirs) {
  if (ours.architecture != theirs.architecture) {
    return detail::identity_mismatch("architecture", kvferry::quoted(ours.architecture),
                                     kvferry::quoted(theirs.architecture));
  }
  struct Count {
    const char* field;
    std::uint32_t ours;
    std::uint32_t theirs;
  };
  for (const Count& c :
       {Count{"layers", ours.layers, theirs.layers}, Count{"heads", ours.heads, theirs.heads},
        Count{"kv_heads", ours.kv_heads, theirs.kv_heads},
        Count{"head_dim", ours.head_dim, theirs.head_dim},
        Count{"hidden", ours.hidden, theirs.hidden}, Count{"ffn", ours.ffn, theirs.ffn},
        Count{"vocab", ours.vocab, theirs.vocab}}) {
    if (c.ours != c.theirs) {
      return detail::identity_mismatch(c.field, std::to_string(c.ours), std::to_string(c.theirs));
    }
  }
  if (float_bits(ours.norm_epsilon) != float_bits(theirs.norm_epsilon)) {
    return detail::identity_mismatch("norm_epsilon", detail::identity_text(ours.norm_epsilon),
                                     detail::identity_text(theirs.norm_epsilon));
  }
  KVFERRY_TRY(detail::compare_rope(ours.rope, theirs.rope));
  if (ours.tokenizer != theirs.tokenizer) {
    return detail::identity_mismatch("tokenizer", detail::identity_text(ours.tokenizer),
                                     detail::identity_text(theirs.tokenizer));
  }
  if (ours.norms != theirs.norms) {
    return detail::identity_mismatch("norms", detail::identity_text(ours.norms),
                                     detail::identity_text(theirs.norms));
  }
  struct Text {
    const char* field;
    const std::string* ours;
    const std::string* theirs;
  };
  for (const Text& t :
       {Text{"name", &ours.name, &theirs.name}, Text{"basename", &ours.basename, &theirs.basename},
        Text{"finetune", &ours.finetune, &theirs.finetune},
        Text{"version", &ours.version, &theirs.version}}) {
    if (t.ours->empty() || t.theirs->empty()) continue;
    if (comparable_name(*t.ours) != comparable_name(*t.theirs)) {
      return detail::identity_mismatch(t.field, kvferry::quoted(*t.ours),
                                       kvferry::quoted(*t.theirs));
    }
  }
  return Status();
}

}  // namespace kvferry
