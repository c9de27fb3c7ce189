#include "kvferry/quality/baselines.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kvferry/core/half.hpp"

namespace kvferry {
namespace {

constexpr std::size_t kGroup = 32;  // values that share a scale in llama.cpp's formats

// Calls round(first, size) for every group of every head's row; gives the number of groups.
template <typename Round>
std::uint64_t for_each_group(const PlaneRows& rows, Round&& round) {
  std::uint64_t groups = 0;
  for (std::size_t head = 0; head < rows.tokens * rows.kv_heads; ++head) {
    for (std::size_t d = 0; d < rows.head_dim; d += kGroup, ++groups)
      round(rows.values.data() + head * rows.head_dim + d, std::min(kGroup, rows.head_dim - d));
  }
  return groups;
}

std::size_t hadamard_size(std::size_t head_dim) {
  return head_dim & (~head_dim + 1);
}

// A function of PlaneRows as a CacheCodec.
class Baseline final : public CacheCodec {
 public:
  using Round = std::uint64_t (*)(const PlaneRows&);
  Baseline(std::string name, Round round) : name_(std::move(name)), round_(round) {}

  const std::string& name() const override { return name_; }
  bool is_baseline() const override { return true; }

  Result<std::uint64_t> recode(const ContextCache& cache, ThreadPool& threads,
                               Span<float> out) const override {
    std::copy(cache.values.begin(), cache.values.end(), out.begin());
    std::atomic<std::uint64_t> bits{0};
    threads.parallel_for(cache.planes(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
      for (std::size_t p = begin; p < end; ++p) {
        PlaneRows rows;
        rows.values = out.subspan(p * cache.plane_values(), cache.plane_values());
        rows.tokens = cache.tokens.size();
        rows.kv_heads = cache.geometry.kv_heads;
        rows.head_dim = cache.geometry.head_dim;
        rows.plane = cache.range(p).plane;
        rows.layer = p / 2;
        rows.layers = cache.geometry.layers;
        bits += round_(rows);
      }
    });
    return bits.load();
  }

 private:
  const std::string name_;
  const Round round_;
};

}  // namespace

std::uint64_t round_q8_0(const PlaneRows& rows) {
  const std::uint64_t groups = for_each_group(rows, [](float* x, std::size_t n) {
    float largest = 0.0f;
    for (std::size_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const float stored = to_float(to_half(scale));
    for (std::size_t i = 0; i < n; ++i) x[i] = std::round(x[i] * inverse) * stored;
  });
  return 16 * groups + 8 * rows.values.size();
}

std::uint64_t round_q4_0(const PlaneRows& rows) {
  const std::uint64_t groups = for_each_group(rows, [](float* x, std::size_t n) {
    float largest = 0.0f;  // with its sign, so that it becomes -8 exactly
    for (std::size_t i = 0; i < n; ++i)
      if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
    const float scale = largest / -8.0f;
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    const float stored = to_float(to_half(scale));
    for (std::size_t i = 0; i < n; ++i) {
      const float level = std::floor(x[i] * inverse + 8.5f);
      x[i] = (std::min(level, 15.0f) - 8.0f) * stored;
    }
  });
  return 16 * groups + 4 * rows.values.size();
}

void hadamard(Span<float> values, std::size_t size) {
  for (std::size_t width = 1; width < size; width *= 2) {
    for (std::size_t i = 0; i < values.size(); i += 2 * width) {
      for (std::size_t j = i; j < i + width; ++j) {
        const float a = values[j], b = values[j + width];
        values[j] = a + b;
        values[j + width] = a - b;
      }
    }
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  for (float& v : values) v *= scale;
}

std::uint64_t round_q4_0_hadamard(const PlaneRows& rows) {
  hadamard(rows.values, hadamard_size(rows.head_dim));
  const std::uint64_t bits = round_q4_0(rows);
  hadamard(rows.values, hadamard_size(rows.head_dim));
  return bits;
}

std::vector<std::unique_ptr<CacheCodec>> baselines() {
  std::vector<std::unique_ptr<CacheCodec>> all;
  const auto add = [&all](const char* name, Baseline::Round round) {
    all.push_back(std::make_unique<Baseline>(name, round));
  };
  add("q8_0", round_q8_0);
  add("q4_0", round_q4_0);
  add("q4_0h", round_q4_0_hadamard);
  add("kvarn4", [](const PlaneRows& rows) { return round_kvarn(rows, 4); });
  add("kvarn3", [](const PlaneRows& rows) { return round_kvarn(rows, 3); });
  add("cachegen", round_cachegen);
  return all;
}

}  // namespace kvferry
