#include "ampere_device.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#include "kvferry/compute/device/hadamard_block.hpp"

namespace kvferry::ampere {
namespace {

using cuda::check;

class Event {
 public:
  Event() { status_ = cudaEventCreateWithFlags(&event_, cudaEventDisableTiming); }
  ~Event() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) {
    if (status_ == cudaSuccess) status_ = cudaEventRecord(event_, stream);
  }
  Status wait() const {
    KVFERRY_TRY(check(status_, "record an event"));
    return check(cudaEventSynchronize(event_), "wait for kernels");
  }

 private:
  cudaEvent_t event_ = nullptr;
  cudaError_t status_ = cudaSuccess;
};

}  // namespace

Device::~Device() {
  if (stream == nullptr) return;
  static_cast<void>(cudaStreamSynchronize(stream));
  static_cast<void>(cudaStreamDestroy(stream));
}

Status Device::open() {
  int device = 0, major = 0, minor = 0;
  KVFERRY_TRY(check(cudaGetDevice(&device), "find a device"));
  KVFERRY_TRY(check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
                    "ask for the device's architecture"));
  KVFERRY_TRY(check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
                    "ask for the device's architecture"));
  if (major < 8) {
    return Error(ErrorCode::kUnsupported, std::string("the path `") +
                                              Compute<path::AmpereInt8>::kName +
                                              "` needs a CUDA device of sm_80 or later, this is "
                                              "sm_" +
                                              std::to_string(10 * major + minor));
  }
  return check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
}

Status Device::begin(const Batch& batch, const KvGeometry& geometry) {
  layout = KvBlockLayout(geometry);
  rows = rows_of(batch);
  tokens.clear();
  runs.clear();
  std::vector<const std::uint8_t*> row_bases, table_bases;
  std::vector<std::uint32_t> row_positions;
  std::uint32_t positions_end = 0;
  for (const BatchRun& run : batch) {
    const std::size_t count = run.tokens.size();
    runs.push_back({tokens.size(), tokens.size() + count, run.begin, table_bases.size()});
    tokens.insert(tokens.end(), run.tokens.begin(), run.tokens.end());
    for (std::size_t i = 0; i < count; ++i) {
      row_positions.push_back(run.begin + static_cast<std::uint32_t>(i));
      row_bases.push_back(run.blocks[row_positions.back() / kBlockTokens]);
    }
    positions_end = std::max(positions_end, run.begin + static_cast<std::uint32_t>(count));
    table_bases.insert(table_bases.end(), run.blocks.begin(), run.blocks.end());
  }
  failure = Status();
  KVFERRY_TRY(reserve_rows());
  KVFERRY_TRY(tables.reserve(table_bases.size() * sizeof(void*), "block tables"));
  KVFERRY_TRY(reserve_rotations(positions_end));
  upload(row_blocks, as_bytes(Span<const std::uint8_t* const>(row_bases)));
  upload(tables, as_bytes(Span<const std::uint8_t* const>(table_bases)));
  upload(positions, as_bytes(Span<const std::uint32_t>(row_positions)));
  return failure;
}

Status Device::reserve_rows() {
  const std::size_t q_width = std::size_t{config.heads} * config.head_dim;
  const std::size_t kv_width = std::size_t{config.kv_heads} * config.head_dim;
  const std::size_t widest =
      std::max({std::size_t{config.hidden}, q_width, std::size_t{config.ffn}});
  const auto of_rows = [this](cuda::DeviceBuffer& buffer, std::size_t row_bytes) {
    return buffer.reserve(rows * row_bytes, "a batch of " + std::to_string(rows) + " tokens");
  };
  KVFERRY_TRY(of_rows(row_blocks, sizeof(void*)));
  KVFERRY_TRY(of_rows(positions, sizeof(std::uint32_t)));
  KVFERRY_TRY(of_rows(hidden, config.hidden * sizeof(float)));
  KVFERRY_TRY(of_rows(quants, static_cast<std::size_t>(padded_columns(static_cast<int>(widest)))));
  KVFERRY_TRY(of_rows(scales, sizeof(float)));
  KVFERRY_TRY(of_rows(qkv, (q_width + 2 * kv_width) * sizeof(float)));
  KVFERRY_TRY(of_rows(q, q_width * sizeof(__half)));
  KVFERRY_TRY(of_rows(attended, q_width * sizeof(__half)));
  return of_rows(ffn, config.ffn * sizeof(__half));
}

Status Device::reserve_rotations(std::uint32_t count) {
  if (count <= rotated_positions_) return Status();
  // Twice as many, so that a growing sequence does not come back at every step.
  const auto wanted = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(std::max<std::uint64_t>(2 * std::uint64_t{count}, 1024),
                              std::max(config.context_length, count)));
  const RopeSpec& rope = config.rope;
  std::vector<float> table;
  table.reserve(std::size_t{2} * wanted * rope.inverse_frequency.size());
  for (std::uint32_t position = 0; position < wanted; ++position) {
    for (const float frequency : rope.inverse_frequency) {
      const double angle = static_cast<double>(position) * static_cast<double>(frequency);
      table.push_back(static_cast<float>(std::cos(angle) * rope.attention_scale));
      table.push_back(static_cast<float>(std::sin(angle) * rope.attention_scale));
    }
  }
  rotated_positions_ = 0;
  if (!table.empty()) {
    KVFERRY_TRY(rotations_.reserve(table.size() * sizeof(float), "RoPE's table"));
    upload(rotations_, as_bytes(Span<const float>(table)));
  }
  rotated_positions_ = wanted;
  return failure;
}

void Device::upload(cuda::DeviceBuffer& to, Bytes from) {
  if (!failure.ok() || from.empty()) return;
  note(check(cudaMemcpyAsync(to.data(), from.data(), from.size(), cudaMemcpyHostToDevice, stream),
             "copy to the device"));
}

void Device::download(const cuda::DeviceBuffer& from, MutableBytes to) {
  if (!failure.ok() || to.empty()) return;
  note(check(cudaMemcpyAsync(to.data(), from.data(), to.size(), cudaMemcpyDeviceToHost, stream),
             "copy from the device"));
  note(check(cudaStreamSynchronize(stream), "wait for kernels"));
}

kernels::CacheRows Device::cache_rows(std::uint32_t layer) const {
  return {row_blocks.as<std::uint8_t*>(), positions.as<std::uint32_t>(),
          layout.tile_offset(layer, Plane::kKey, 0), layout.tile_offset(layer, Plane::kValue, 0),
          static_cast<int>(config.head_dim)};
}

kernels::RopeRotation Device::rotation() const {
  return {rotations_.as<float2>(), static_cast<int>(config.rope.rotated()),
          config.rope.layout == RopeLayout::kSplitHalves};
}

kernels::AttentionShape Device::shape(std::uint32_t layer) const {
  return {config.heads,
          config.kv_heads,
          config.head_dim,
          1.0f / std::sqrt(static_cast<float>(config.head_dim)),
          layout.tile_offset(layer, Plane::kKey, 0),
          layout.tile_offset(layer, Plane::kValue, 0)};
}

void Device::attention(std::uint32_t layer, std::size_t first) {
  const std::size_t width = std::size_t{config.heads} * config.head_dim;
  for (const Run& run : runs) {
    const std::size_t begin = std::max(run.begin, first);
    if (begin >= run.end) continue;
    kernels::FlashPrefillParams params;
    params.shape = shape(layer);
    params.q = q.as<__half>() + begin * width;
    params.out = attended.as<__half>() + begin * width;
    params.blocks = table_of(run);
    params.rows = static_cast<std::uint32_t>(run.end - begin);
    params.begin = run.position + static_cast<std::uint32_t>(begin - run.begin);
    note(kernels::launch_flash_prefill(params, stream));
  }
}

void Device::token_attention(std::uint32_t layer, std::size_t queries, Span<float> out) {
  kernels::TokenAttentionParams params;
  params.shape = shape(layer);
  params.q = q.data();
  params.blocks = table_of(runs.front());
  params.rows = static_cast<std::uint32_t>(rows);
  params.begin = runs.front().position;
  params.queries = static_cast<std::uint32_t>(std::min(queries, rows));
  const std::size_t bytes = kernels::token_attention_workspace(params);
  note(token_attention_out.reserve(out.size() * sizeof(float), "token attention"));
  note(token_attention_workspace.reserve(bytes, "token attention"));
  params.out = token_attention_out.as<float>();
  params.workspace = token_attention_workspace.data();
  params.workspace_bytes = token_attention_workspace.bytes();
  note(kernels::launch_token_attention(params, kernels::QueryType::kF16, stream));
  download(token_attention_out,
           MutableBytes(reinterpret_cast<std::uint8_t*>(out.data()), out.size() * sizeof(float)));
}

Fence Device::fence() {
  if (!failure.ok()) return Fence([failed = failure] { return failed; });
  const auto event = std::make_shared<Event>();
  event->record(stream);
  return Fence([event] { return event->wait(); });
}

}  // namespace kvferry::ampere
