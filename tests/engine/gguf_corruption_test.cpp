// Damaged files: truncated at every byte, bits flipped in every byte of the header. Each is either
// refused with a message or gives a model that lies inside the file; memory stays in proportion to
// the file.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "kvferry/engine/model_file.hpp"

#include "tests/engine/gguf_builder.hpp"

using namespace kvferry;
using namespace kvferry_test;

namespace {

std::atomic<std::size_t> allocated{0};  // bytes asked for since it was last reset

void* counted(std::size_t size) {
  allocated += size;
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(size);
}
void* operator new[](std::size_t size) {
  return counted(size);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  allocated += size;
  return std::malloc(size);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  allocated += size;
  return std::malloc(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace {

bool inside(Bytes part, Bytes whole) {
  return part.data() >= whole.data() && part.size() <= whole.size() &&
         static_cast<std::size_t>(part.data() - whole.data()) <= whole.size() - part.size();
}

// Loads `bytes` as a model and returns whether it was accepted; checks what must hold either way.
bool load(Bytes bytes) {
  allocated = 0;
  Result<GgufFile> file = GgufFile::parse(bytes);
  std::string message;
  bool accepted = false;
  if (!file.ok()) {
    message = file.error().message;
  } else {
    for (const GgufTensor& t : file->tensors()) REQUIRE(inside(t.data, bytes));
    const Result<ModelFile> model = ModelFile::from(*std::move(file));
    accepted = model.ok();
    if (!accepted) {
      message = model.error().message;
    } else {
      const ModelConfig& c = model->config();
      REQUIRE(c.layers == model->weights().layers.size());
      REQUIRE(c.heads % c.kv_heads == 0);
      REQUIRE(c.rope.rotated() <= c.head_dim);
      for (const TensorView* v : {&model->weights().token_embedding, &model->weights().output}) {
        REQUIRE(v->data.size() == v->rows * v->row_bytes());
      }
    }
  }
  // All memory ever asked for, freed or not.
  REQUIRE(allocated <= 4 * bytes.size() + 20000);
  if (!accepted) {
    REQUIRE(message.size() > 10);
    REQUIRE(message.size() < 1000);
  }
  return accepted;
}

const std::vector<std::uint8_t>& ok_base() {
  static const std::vector<std::uint8_t> bytes =
      read_file(KVFERRY_GOLDEN_DIR "/tiny/bad/ok_base.gguf");
  return bytes;
}

}  // namespace

TEST_CASE("the control file loads") {
  REQUIRE(ok_base().size() == 14688);
  CHECK(load(ok_base()));
}

TEST_CASE("a file truncated at any byte is refused") {
  // Copied each time, so that a sanitizer sees a read past the end.
  for (std::size_t size = 0; size < ok_base().size(); ++size) {
    const std::vector<std::uint8_t> part(ok_base().begin(),
                                         ok_base().begin() + static_cast<std::ptrdiff_t>(size));
    INFO("truncated to " << size << " bytes");
    REQUIRE_FALSE(load(part));
  }
}

TEST_CASE("a file with damage in any byte of its header is refused or loads") {
  const std::size_t header = static_cast<std::size_t>(GgufFile::parse(ok_base())->data_offset());
  REQUIRE(header == 5408);
  std::vector<std::uint8_t> bytes = ok_base();
  std::size_t refused = 0;
  for (std::size_t i = 0; i < header; ++i) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      INFO("byte " << i << " xor " << flip);
      bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ flip);
      if (!load(bytes)) ++refused;
      bytes[i] = ok_base()[i];
    }
  }
  // Most of the header is the vocabulary's text, where any byte will do.
  CHECK(refused > header / 2);
}

TEST_CASE("whole fields of the header set to extremes") {
  std::vector<std::uint8_t> bytes = ok_base();
  for (std::size_t i = 0; i + 8 <= 5408; ++i) {
    for (const std::uint64_t value :
         {std::uint64_t{0}, ~std::uint64_t{0}, std::uint64_t{1} << 63, std::uint64_t{1} << 32,
          std::uint64_t{0x7fffffffffffffff}, ~std::uint64_t{31}}) {
      INFO("64 bits at byte " << i << " set to " << value);
      std::memcpy(&bytes[i], &value, sizeof value);
      load(bytes);
      std::copy_n(ok_base().begin() + static_cast<std::ptrdiff_t>(i), 8,
                  bytes.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

TEST_CASE("each corrupt file of the golden set is refused by name") {
  struct Bad {
    const char* file;
    ErrorCode code;
    const char* part;
  };
  const Bad cases[] = {
      {"trunc_header", ErrorCode::kIncomplete, "tensor count"},
      {"trunc_kv", ErrorCode::kIncomplete, "\"tokenizer.ggml.tokens\""},
      {"trunc_tensor_info", ErrorCode::kIncomplete, "11 tensors"},
      {"trunc_data", ErrorCode::kIncomplete, "\"blk.0.ffn_up.weight\""},
      {"huge_tensor_count", ErrorCode::kIncomplete, "4611686018427387904 tensors"},
      {"huge_key_length", ErrorCode::kMalformed, "9223372036854775808 bytes"},
      {"offset_beyond_file", ErrorCode::kIncomplete, "\"blk.0.ffn_up.weight\""},
      {"tensor_type_9999", ErrorCode::kUnsupported, "tensor type 9999"},
      {"dims_overflow", ErrorCode::kMalformed, "\"token_embd.weight\""},
      {"missing_tensor", ErrorCode::kMalformed, "\"blk.0.ffn_up.weight\" is missing"},
      {"missing_key", ErrorCode::kMalformed, "\"llama.attention.head_count\" is missing"},
      {"version_1", ErrorCode::kUnsupported, "version 1"},
  };
  for (const Bad& bad : cases) {
    const std::string path = std::string(KVFERRY_GOLDEN_DIR "/tiny/bad/") + bad.file + ".gguf";
    INFO(path);
    const Result<ModelFile> model = ModelFile::open(path);
    REQUIRE_FALSE(model.ok());
    CHECK(name_of(model.error().code) == std::string(name_of(bad.code)));
    CHECK_THAT(model.error().message, Catch::Contains(bad.part) && Catch::Contains(path));
    CHECK_FALSE(load(read_file(path)));
  }
}
