// Speed of the CPU kernels alone, per instruction set, format and shape. GB/s beside the bandwidth
// that a plain copy reaches in the same run, and GMAC/s. KVFERRY_ISA chooses the instruction set,
// KVFERRY_THREADS the threads (default 1).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "kvferry/compute/cpu/attention.hpp"
#include "kvferry/compute/cpu/elementwise.hpp"
#include "kvferry/compute/cpu/product.hpp"
#include "kvferry/core/half.hpp"
#include "kvferry/core/stopwatch.hpp"

namespace {

using namespace kvferry;
using cpu::ActivationFormat;

ThreadPool& pool() {
  static const char* threads = std::getenv("KVFERRY_THREADS");
  static ThreadPool p(threads != nullptr ? std::strtoul(threads, nullptr, 10) : 1);
  return p;
}

const cpu::Kernels& kernels() {
  static const cpu::Kernels* k = cpu::active_kernels().value();
  return *k;
}

std::vector<float> random_floats(std::size_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(engine);
  return values;
}

// Random weights: every scale 1/64, quants of any value.
cpu::PackedMatrix random_matrix(TensorType type, std::size_t rows, std::size_t columns) {
  std::mt19937 engine(2);
  std::vector<std::uint8_t> bytes(rows * columns / block_values(type) * block_bytes(type));
  for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(engine());
  const std::uint16_t scale = to_half(1.0f / 64).bits;
  const std::size_t block = type == TensorType::kF16 ? 2 : block_bytes(type);
  for (std::size_t i = 0; i < bytes.size(); i += block) {
    std::memcpy(&bytes[i], &scale, 2);
    if (type == TensorType::kQ4_1) std::memcpy(&bytes[i + 2], &scale, 2);
    if (type == TensorType::kQ6_K) std::memcpy(&bytes[i + 208], &scale, 2);
  }
  return cpu::PackedMatrix::pack({type, rows, columns, Bytes(bytes.data(), bytes.size())}, pool())
      .value();
}

// Bytes per second that a copy reads and writes, of buffers larger than any cache.
double copy_bandwidth() {
  static const double bandwidth = [] {
    constexpr std::size_t kBytes = 256u << 20;
    std::vector<std::uint8_t> from(kBytes, 1), to(kBytes, 2);
    double best = 0;
    for (int i = 0; i < 5; ++i) {
      const Stopwatch watch;
      pool().parallel_for(kBytes, 1u << 20, [&](std::size_t b, std::size_t e, std::size_t) {
        std::memcpy(to.data() + b, from.data() + b, e - b);
      });
      benchmark::ClobberMemory();
      best = std::max(best, 2.0 * kBytes / watch.seconds());
    }
    return best;
  }();
  return bandwidth;
}

struct Shape {
  std::size_t outputs;
  std::size_t inputs;
};

// One product of `rows` rows, over as many copies of the matrix as exceed the caches.
void product(benchmark::State& state, TensorType type, Shape shape, std::size_t rows,
             ActivationFormat integers) {
  const std::size_t copies = rows > 8 ? 2 : (96u << 20) / (shape.outputs * shape.inputs / 2) + 1;
  std::vector<cpu::PackedMatrix> matrices;
  for (std::size_t i = 0; i < copies; ++i) {
    matrices.push_back(random_matrix(type, shape.outputs, shape.inputs));
  }
  const std::vector<float> x = random_floats(rows * shape.inputs);
  std::vector<float> out(rows * shape.outputs);
  cpu::Activations input;
  input.resize(rows, shape.inputs, cpu::activation_format_for(matrices[0].format(), integers));
  cpu::quantize(kernels(), pool(), x.data(), shape.inputs, input);
  std::size_t next = 0;
  for (auto _ : state) {
    const cpu::Product p{&matrices[next], &input, out.data(), shape.outputs};
    cpu::multiply(kernels(), pool(), Span<const cpu::Product>(&p, 1));
    benchmark::DoNotOptimize(out.data());
    next = (next + 1) % copies;
  }
  const double iterations = static_cast<double>(state.iterations());
  const double macs = static_cast<double>(rows * shape.outputs * shape.inputs) * iterations;
  state.counters["GMAC/s"] = benchmark::Counter(macs * 1e-9, benchmark::Counter::kIsRate);
  if (rows == 1) {
    const double bytes = static_cast<double>(matrices[0].bytes()) * iterations;
    state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
    state.counters["%copy"] =
        benchmark::Counter(100 * bytes / copy_bandwidth(), benchmark::Counter::kIsRate);
  }
}

void quantise(benchmark::State& state, ActivationFormat format) {
  const std::size_t rows = 64, columns = 1536;
  const std::vector<float> x = random_floats(rows * columns);
  cpu::Activations out;
  out.resize(rows, columns, format);
  for (auto _ : state) cpu::quantize(kernels(), pool(), x.data(), columns, out);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows * columns));
}

void swiglu(benchmark::State& state) {
  const std::size_t rows = 64, columns = 1536;
  const std::vector<float> gate = random_floats(rows * columns);
  std::vector<float> out(rows * columns);
  for (auto _ : state) {
    cpu::swiglu(kernels(), pool(), rows, columns, gate.data(), gate.data(), out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows * columns));
}

// Attention of `queries` consecutive tokens that end at `depth`.
void attention(benchmark::State& state, std::uint32_t heads, std::uint32_t kv_heads,
               std::uint32_t head_dim, std::uint32_t depth, std::uint32_t queries) {
  const std::size_t plane = std::size_t{kv_heads} * kBlockTokens * head_dim * 2;
  const std::vector<float> values = random_floats(plane);
  std::vector<std::vector<std::uint8_t>> memory(depth / kBlockTokens + 1);
  std::vector<const std::uint8_t*> blocks;
  for (auto& m : memory) {
    m.resize(2 * plane);
    cpu::store_values(kernels(), ElementType::kF16, values.data(), plane, m.data());
    blocks.push_back(m.data());
  }
  const cpu::AttentionShape shape{
      heads, kv_heads, head_dim, ElementType::kF16, 1 / std::sqrt(static_cast<float>(head_dim)),
      0,     plane};
  std::vector<cpu::AttentionQuery> rows;
  for (std::uint32_t i = 0; i < queries; ++i) {
    rows.push_back({blocks.data(), depth - queries + i});
  }
  const std::vector<float> q = random_floats(std::size_t{queries} * heads * head_dim);
  std::vector<float> out(q.size());
  cpu::AttentionWorkspace workspace;
  for (auto _ : state) {
    cpu::attention(kernels(), pool(), shape, rows, q.data(), out.data(), workspace);
    benchmark::DoNotOptimize(out.data());
  }
  double keys = 0;
  for (const cpu::AttentionQuery& r : rows) keys += r.position + 1;
  const double macs = keys * 2 * heads * head_dim * static_cast<double>(state.iterations());
  state.counters["GMAC/s"] = benchmark::Counter(macs * 1e-9, benchmark::Counter::kIsRate);
}

void register_all() {
  const Shape gate{1536, 576}, down{576, 1536}, large{4096, 4096}, head{49152, 576};
  const auto add = [](const std::string& name, auto body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseRealTime()->MeasureProcessCPUTime();
  };
  const auto add_product = [&](const std::string& name, TensorType type, Shape shape,
                               std::size_t rows, ActivationFormat format) {
    add(name, [=](benchmark::State& s) { product(s, type, shape, rows, format); });
  };
  for (const std::size_t rows : {1, 4, 256}) {
    const std::string suffix = "/rows:" + std::to_string(rows);
    for (const ActivationFormat f : {ActivationFormat::kInt8, ActivationFormat::kInt16}) {
      const std::string x = f == ActivationFormat::kInt8 ? "int8" : "int16";
      add_product("w4_" + x + "/1536x576" + suffix, TensorType::kQ4_1, gate, rows, f);
      add_product("w4_" + x + "/576x1536" + suffix, TensorType::kQ4_1, down, rows, f);
      add_product("w4_" + x + "/4096x4096" + suffix, TensorType::kQ4_1, large, rows, f);
      add_product("w8_" + x + "/1536x576" + suffix, TensorType::kQ8_0, gate, rows, f);
      add_product("q6k_" + x + "/4096x4096" + suffix, TensorType::kQ6_K, large, rows, f);
    }
    add_product("f16/1536x576" + suffix, TensorType::kF16, gate, rows, ActivationFormat::kF32);
  }
  add_product("w8_int8/49152x576/rows:1", TensorType::kQ8_0, head, 1, ActivationFormat::kInt8);
  add_product("w8_int16/49152x576/rows:1", TensorType::kQ8_0, head, 1, ActivationFormat::kInt16);
  add("quantize_int8", [](benchmark::State& s) { quantise(s, ActivationFormat::kInt8); });
  add("quantize_int16", [](benchmark::State& s) { quantise(s, ActivationFormat::kInt16); });
  add("swiglu", swiglu);
  for (const std::uint32_t depth : {128u, 512u, 2048u}) {
    const std::string suffix = "/depth:" + std::to_string(depth);
    add("attention_decode/9x64" + suffix,
        [=](benchmark::State& s) { attention(s, 9, 3, 64, depth, 1); });
    add("attention_decode/32x128" + suffix,
        [=](benchmark::State& s) { attention(s, 32, 32, 128, depth, 1); });
    add("attention_prefill/9x64" + suffix,
        [=](benchmark::State& s) { attention(s, 9, 3, 64, depth, 128); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const auto isa = cpu::active_isa();
  if (!isa.ok()) {
    std::fprintf(stderr, "error: %s\n", isa.error().message.c_str());
    return 1;
  }
  benchmark::AddCustomContext("instruction set", cpu::name_of(*isa));
  benchmark::AddCustomContext("threads", std::to_string(pool().thread_count()));
  benchmark::AddCustomContext("copy GB/s", std::to_string(copy_bandwidth() * 1e-9));
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
