// Any bytes as a GGUF file: parsed, loaded as a model, described. What is accepted must lie inside
// the file and make sense as a model.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "kvferry/compute/dequantise.hpp"
#include "kvferry/engine/describe.hpp"
#include "kvferry/engine/model_file.hpp"

using namespace kvferry;

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

void check_inside(const GgufFile& file, Bytes part, Bytes whole) {
  if (part.empty()) return;
  require(part.data() >= whole.data(), "memory before the file");
  const std::uint64_t offset = file.offset_of(part);
  require(offset <= whole.size() && part.size() <= whole.size() - offset, "memory past the file");
}

void check_container(const GgufFile& file, Bytes bytes) {
  require(file.data_offset() <= bytes.size(), "data_offset");
  for (const GgufEntry& e : file.metadata()) {
    check_inside(file, e.payload, bytes);
    require(file.find(e.key) == &e, "find");
    // Whatever the type is, these answer with a value or an error.
    static_cast<void>(file.string(e.key));
    static_cast<void>(file.unsigned_integer(e.key));
    static_cast<void>(file.number(e.key));
    static_cast<void>(file.boolean(e.key));
    static_cast<void>(file.integers(e.key));
    static_cast<void>(file.floats(e.key));
    const auto strings = file.strings(e.key);
    if (strings.ok()) require(strings->size() == e.count, "string count");
  }
  for (const GgufTensor& t : file.tensors()) {
    check_inside(file, t.data, bytes);
    require(file.find_tensor(t.name) == &t, "find_tensor");
    require((file.offset_of(t.data) - file.data_offset()) % file.alignment() == 0, "alignment");
  }
}

void check_view(const TensorView& view, std::uint64_t rows, std::uint64_t columns) {
  if (view.empty()) return;
  require(view.rows == rows && view.columns == columns, "shape");
  require(view.data.size() == rows * view.row_bytes(), "size");
  std::vector<float> row(static_cast<std::size_t>(columns));
  dequantise_row(view, rows - 1, row);
}

void check_model(const ModelFile& model) {
  const ModelConfig& c = model.config();
  require(c.layers > 0 && c.layers == model.weights().layers.size(), "layers");
  require(c.kv_heads > 0 && c.heads % c.kv_heads == 0, "heads");
  require(c.head_dim > 0 && c.head_dim % 2 == 0, "head_dim");
  require(c.context_length > 0, "context_length");
  require(c.norm_epsilon >= 0.0f && c.norm_epsilon <= 1.0f, "norm_epsilon");
  require(c.rope.rotated() > 0 && c.rope.rotated() <= c.head_dim, "rotated");
  for (const float f : c.rope.inverse_frequency) require(std::isfinite(f) && f >= 0, "frequency");
  require(std::isfinite(c.rope.attention_scale) && c.rope.attention_scale > 0, "attention_scale");
  const std::uint64_t q = std::uint64_t{c.heads} * c.head_dim;
  const std::uint64_t kv = std::uint64_t{c.kv_heads} * c.head_dim;
  for (const LayerWeights& l : model.weights().layers) {
    require(!l.q.empty() && !l.k.empty() && !l.v.empty() && !l.o.empty(), "attention");
    check_view(l.attn_norm, 1, c.hidden);
    check_view(l.q, q, c.hidden);
    check_view(l.k, kv, c.hidden);
    check_view(l.v, kv, c.hidden);
    check_view(l.q_bias, 1, q);
    check_view(l.k_bias, 1, kv);
    check_view(l.v_bias, 1, kv);
    check_view(l.q_norm, 1, c.head_dim);
    check_view(l.k_norm, 1, c.head_dim);
    check_view(l.o, c.hidden, q);
    check_view(l.ffn_norm, 1, c.hidden);
    check_view(l.gate, c.ffn, c.hidden);
    check_view(l.up, c.ffn, c.hidden);
    check_view(l.down, c.hidden, c.ffn);
  }
  check_view(model.weights().token_embedding, c.vocab, c.hidden);
  check_view(model.weights().output, c.vocab, c.hidden);
  check_view(model.weights().output_norm, 1, c.hidden);
  const ModelIdentity id = identity_of(model);
  require(compare(id, id).ok(), "identity");
  require(id.name.size() <= ModelIdentity::kMaxTextBytes, "name");
  require(id.rope.inverse_frequency.size() <= ModelIdentity::kMaxRopePairs, "pairs");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes bytes(data, size);
  Result<GgufFile> file = GgufFile::parse(bytes);
  if (!file.ok()) {
    require(!file.error().message.empty(), "message");
    return 0;
  }
  check_container(*file, bytes);
  for (const std::string& text : {describe(*file), describe_json(*file)}) {
    for (const char c : text) {
      require(c == '\n' || static_cast<unsigned char>(c) >= 0x20, "control character");
    }
  }
  const Result<ModelFile> model = ModelFile::from(*std::move(file));
  if (!model.ok()) {
    require(!model.error().message.empty(), "message");
    return 0;
  }
  check_model(*model);
  require(!describe(*model).empty() && !describe_json(*model).empty(), "description");
  return 0;
}
