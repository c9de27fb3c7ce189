// Writes GGUF files for tests, field by field, right or deliberately wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/core/span.hpp"
#include "kvferry/engine/gguf.hpp"

namespace kvferry_test {

using kvferry::GgufType;

// The little-endian bytes of a number.
template <typename T>
std::string le(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(&out[0], &value, sizeof value);
  return out;
}

inline std::string gguf_string(const std::string& s) {
  return le<std::uint64_t>(s.size()) + s;
}

class GgufBuilder {
 public:
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;  // used for placing; written only by entry("general.alignment", …)

  // One entry with its payload as raw bytes; replaces an earlier one of the same key.
  GgufBuilder& entry(const std::string& key, GgufType type, const std::string& payload) {
    for (auto& e : entries_) {
      if (e.first == key) {
        e.second = le(static_cast<std::uint32_t>(type)) + payload;
        return *this;
      }
    }
    return duplicate_entry(key, type, payload);
  }
  GgufBuilder& duplicate_entry(const std::string& key, GgufType type, const std::string& payload) {
    entries_.emplace_back(key, le(static_cast<std::uint32_t>(type)) + payload);
    return *this;
  }
  GgufBuilder& remove_entry(const std::string& key) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].first == key) {
        entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
    }
    return *this;
  }
  GgufBuilder& text(const std::string& key, const std::string& value) {
    return entry(key, GgufType::kString, gguf_string(value));
  }
  GgufBuilder& u32(const std::string& key, std::uint32_t value) {
    return entry(key, GgufType::kUint32, le(value));
  }
  GgufBuilder& f32(const std::string& key, float value) {
    return entry(key, GgufType::kFloat32, le(value));
  }
  GgufBuilder& boolean(const std::string& key, bool value) {
    return entry(key, GgufType::kBool, std::string(1, value ? '\1' : '\0'));
  }
  GgufBuilder& array(const std::string& key, GgufType element, std::uint64_t count,
                     const std::string& payload) {
    return entry(key, GgufType::kArray,
                 le(static_cast<std::uint32_t>(element)) + le(count) + payload);
  }
  GgufBuilder& strings(const std::string& key, const std::vector<std::string>& values) {
    std::string payload;
    for (const std::string& v : values) payload += gguf_string(v);
    return array(key, GgufType::kString, values.size(), payload);
  }

  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> dimensions;
    std::uint32_t type = 0;
    std::string data;
    std::int64_t shift = 0;  // added to the offset that is written
  };
  // Replaces an earlier tensor of the same name.
  GgufBuilder& tensor(Tensor t) {
    for (Tensor& other : tensors_) {
      if (other.name == t.name) {
        other = std::move(t);
        return *this;
      }
    }
    tensors_.push_back(std::move(t));
    return *this;
  }
  GgufBuilder& duplicate_tensor(Tensor t) {
    tensors_.push_back(std::move(t));
    return *this;
  }
  // F32 values 0.25, 0.5, 0.75, …
  GgufBuilder& f32_tensor(const std::string& name, const std::vector<std::uint64_t>& dimensions) {
    std::uint64_t values = 1;
    for (const std::uint64_t d : dimensions) values *= d;
    std::string data;
    for (std::uint64_t i = 0; i < values; ++i) data += le(0.25f * static_cast<float>(i % 16 + 1));
    return tensor({name, dimensions, 0, data, 0});
  }
  GgufBuilder& remove_tensor(const std::string& name) {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].name == name) {
        tensors_.erase(tensors_.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
    }
    return *this;
  }

  std::vector<std::uint8_t> build() const {
    std::string out = "GGUF" + le(version) + le<std::uint64_t>(tensors_.size()) +
                      le<std::uint64_t>(entries_.size());
    for (const auto& e : entries_) out += gguf_string(e.first) + e.second;
    std::uint64_t offset = 0;
    for (const Tensor& t : tensors_) {
      out += gguf_string(t.name) + le(static_cast<std::uint32_t>(t.dimensions.size()));
      for (const std::uint64_t d : t.dimensions) out += le(d);
      out +=
          le(t.type) + le(static_cast<std::uint64_t>(static_cast<std::int64_t>(offset) + t.shift));
      offset += padded(t.data.size());
    }
    out.resize(padded(out.size()));
    for (const Tensor& t : tensors_) {
      out += t.data;
      out.resize(out.size() + padded(t.data.size()) - t.data.size());
    }
    return std::vector<std::uint8_t>(out.begin(), out.end());
  }

 private:
  std::size_t padded(std::size_t n) const {
    const auto a = static_cast<std::size_t>(alignment);
    return (n + a - 1) / a * a;
  }

  std::vector<std::pair<std::string, std::string>> entries_;
  std::vector<Tensor> tensors_;
};

// A complete model of one layer in F32: 4 query heads over 2 KV heads of 8 values, hidden 32,
// ffn 64, vocabulary 10.
inline GgufBuilder model_builder(const std::string& architecture) {
  GgufBuilder b;
  b.text("general.architecture", architecture).text("general.name", "Test Model");
  b.u32(architecture + ".block_count", 1).u32(architecture + ".context_length", 128);
  b.u32(architecture + ".embedding_length", 32).u32(architecture + ".feed_forward_length", 64);
  b.u32(architecture + ".attention.head_count", 4)
      .u32(architecture + ".attention.head_count_kv", 2);
  b.f32(architecture + ".attention.layer_norm_rms_epsilon", 1e-5f);
  b.f32_tensor("token_embd.weight", {32, 10}).f32_tensor("output_norm.weight", {32});
  b.f32_tensor("blk.0.attn_norm.weight", {32}).f32_tensor("blk.0.ffn_norm.weight", {32});
  b.f32_tensor("blk.0.attn_q.weight", {32, 32}).f32_tensor("blk.0.attn_k.weight", {32, 16});
  b.f32_tensor("blk.0.attn_v.weight", {32, 16}).f32_tensor("blk.0.attn_output.weight", {32, 32});
  b.f32_tensor("blk.0.ffn_gate.weight", {32, 64}).f32_tensor("blk.0.ffn_up.weight", {32, 64});
  b.f32_tensor("blk.0.ffn_down.weight", {64, 32});
  if (architecture == "qwen2") {
    b.f32_tensor("blk.0.attn_q.bias", {32}).f32_tensor("blk.0.attn_k.bias", {16});
    b.f32_tensor("blk.0.attn_v.bias", {16});
  }
  if (architecture == "qwen3") {
    b.f32_tensor("blk.0.attn_q_norm.weight", {8}).f32_tensor("blk.0.attn_k_norm.weight", {8});
  }
  return b;
}

inline std::vector<std::uint8_t> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::vector<std::uint8_t>((std::istreambuf_iterator<char>(in)),
                                   std::istreambuf_iterator<char>());
}

}  // namespace kvferry_test
