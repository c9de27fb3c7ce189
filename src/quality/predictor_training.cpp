#include "kvferry/quality/predictor_training.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <utility>

#include "kvferry/codec/rotation.hpp"
#include "kvferry/engine/engine.hpp"

#include "predictor_texts.hpp"

namespace kvferry {
namespace {

// The step of `low`, in eighths of an octave above the codebook's.
constexpr std::int32_t kTrainingStep = 2;
// Added to the diagonal, as a share of its mean.
constexpr double kRidge = 1e-3;
// Rows that are multiplied at a time.
constexpr std::size_t kRows = 512;
// Of the pieces of text that are trained on, and of all of them unless the caller says how many.
constexpr std::uint32_t kPieceTokens = 512;
constexpr std::uint32_t kLeastTokens = 16384;

using Matrix = Eigen::MatrixXd;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// A plane in units of its channels' steps, about the codebook's means.
struct Scale {
  Scale(const CodebookPlane& plane, std::size_t channels) : steps(channels), means(channels) {
    for (std::size_t c = 0; c < channels; ++c) {
      steps[c] = exp2_eighths(plane.step + plane.weights[c]);
      means[c] = to_float(plane.means[c]);
    }
  }
  std::vector<float> steps;
  std::vector<float> means;
};

// Column `column` on of `out` = rows [begin, begin + count) of a plane, scaled; with `quantise` as
// the receiver of `low` has them.
void put_plane(const std::vector<Half>& plane, const Scale& scale, std::size_t begin,
               std::size_t count, bool quantise, Rows& out, std::size_t column) {
  const float step = exp2_eighths(kTrainingStep);
  const std::size_t channels = scale.steps.size();
  for (std::size_t t = 0; t < count; ++t) {
    for (std::size_t c = 0; c < channels; ++c) {
      float x = (to_float(plane[(begin + t) * channels + c]) - scale.means[c]) / scale.steps[c];
      if (quantise) x = std::nearbyint(x / step) * step;
      out(static_cast<Eigen::Index>(t), static_cast<Eigen::Index>(column + c)) = x;
    }
  }
}

Eigen::Index index(std::size_t i) {
  return static_cast<Eigen::Index>(i);
}

// Fits targets to the first `inputs` columns and the constant, given the sums of products of
// [inputs, constant] with themselves, with the targets, and of the targets with themselves; all
// in steps. `in` and `out` turn that into rows as they are.
Result<PredictorPlane> fit(const Matrix& products, const Matrix& cross, const Matrix& squares,
                           double tokens, const std::vector<float>& in,
                           const std::vector<float>& out) {
  const std::size_t inputs = in.size();
  const std::size_t channels = out.size();
  Matrix regular = products;
  regular.diagonal().array() += kRidge * products.diagonal().mean();
  const Matrix map = regular.llt().solve(cross);
  const Matrix left = squares - cross.transpose() * map - map.transpose() * cross +
                      map.transpose() * products * map;
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(left / tokens);
  if (!map.allFinite() || solver.info() != Eigen::Success) {
    return Error(ErrorCode::kInvalidArgument,
                 "the rows cannot be fitted; is there enough text of more than one kind?");
  }
  PredictorPlane plane;
  plane.map.reserve((inputs + 1) * channels);
  for (std::size_t i = 0; i <= inputs; ++i) {
    for (std::size_t c = 0; c < channels; ++c) {
      const double unit = i < inputs ? static_cast<double>(out[c]) / in[i] : out[c];
      plane.map.push_back(to_half(static_cast<float>(unit * map(index(i), index(c)))));
    }
  }
  plane.basis.reserve(channels * channels);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t k = 0; k < channels; ++k) {
      const double component = solver.eigenvectors()(index(c), index(channels - 1 - k));
      plane.basis.push_back(to_half(static_cast<float>(component)));
    }
  }
  for (std::size_t k = 0; k < channels; ++k) {
    const double variance = std::max(solver.eigenvalues()(index(channels - 1 - k)), 1e-12);
    plane.spreads.push_back(static_cast<std::int8_t>(
        std::max(-128.0, std::min(127.0, std::nearbyint(2.0 * std::log2(variance))))));
  }
  return plane;
}

}  // namespace

Status PredictorTraining::add(const ContextCache& cache) {
  KVFERRY_TRY(codebook_->fits(cache.geometry));
  const std::size_t channels = cache.geometry.row_values();
  RopeTable rope(cache.geometry.rope, cache.geometry.head_dim);
  planes_.resize(cache.geometry.layers);
  std::vector<float> rows;
  for (std::size_t p = 0; p < cache.planes(); ++p) {
    const float* from = cache.values.data() + p * cache.plane_values();
    rows.assign(from, from + cache.plane_values());
    if (p % 2 == 0) rope.unrotate(rows.data(), 0, cache.length(), cache.geometry.kv_heads);
    std::vector<Half>& to = p % 2 == 0 ? planes_[p / 2].key : planes_[p / 2].value;
    to.reserve(to.size() + rows.size() - channels);
    for (std::size_t i = channels; i < rows.size(); ++i) to.push_back(to_half(rows[i]));
  }
  tokens_ += cache.length() - 1;
  return {};
}

Result<PredictorLayer> PredictorTraining::solve_layer(std::size_t layer) const {
  const std::size_t channels = std::size_t{codebook_->kv_heads()} * codebook_->head_dim();
  // Planes in the order of Predictor::inputs() of V, then V itself and the constant.
  struct Input {
    const std::vector<Half>& rows;
    Scale scale;
  };
  std::vector<Input> planes;
  for (std::size_t l = layer - std::min<std::size_t>(layer, depth_); l <= layer; ++l) {
    planes.push_back({planes_[l].key, Scale(codebook_->layers()[l].key, channels)});
    planes.push_back({planes_[l].value, Scale(codebook_->layers()[l].value, channels)});
  }
  const std::size_t count = planes.size();
  const std::size_t width = channels * count;
  const std::size_t key_inputs = width - 2 * channels;

  // Columns: the inputs of K, the constant, the quantised K, then K and V as they are.
  const std::size_t columns = width + channels + 1;
  Matrix sums = Matrix::Zero(index(columns), index(columns));
  Rows rows;
  for (std::size_t begin = 0; begin < tokens_; begin += kRows) {
    const std::size_t n = std::min(kRows, tokens_ - begin);
    rows.resize(index(n), index(columns));
    for (std::size_t p = 0; p + 2 < count; ++p)
      put_plane(planes[p].rows, planes[p].scale, begin, n, true, rows, p * channels);
    rows.col(index(key_inputs)).setOnes();
    const Input& key = planes[count - 2];
    const Input& value = planes[count - 1];
    put_plane(key.rows, key.scale, begin, n, true, rows, key_inputs + 1);
    put_plane(key.rows, key.scale, begin, n, false, rows, key_inputs + 1 + channels);
    put_plane(value.rows, value.scale, begin, n, false, rows, key_inputs + 1 + 2 * channels);
    const Eigen::MatrixXf products = rows.transpose() * rows;
    sums += products.cast<double>();
  }

  const double tokens = static_cast<double>(tokens_);
  const auto block = [&](std::size_t row, std::size_t height, std::size_t column,
                         std::size_t wide) -> Matrix {
    return sums.block(index(row), index(column), index(height), index(wide));
  };
  std::vector<float> in;
  for (std::size_t p = 0; p + 2 < count; ++p)
    in.insert(in.end(), planes[p].scale.steps.begin(), planes[p].scale.steps.end());
  PredictorLayer out;
  const std::size_t key_at = key_inputs + 1 + channels;
  if (key_inputs > 0) {
    KVFERRY_ASSIGN(
        out.key,
        fit(block(0, key_inputs + 1, 0, key_inputs + 1), block(0, key_inputs + 1, key_at, channels),
            block(key_at, channels, key_at, channels), tokens, in, planes[count - 2].scale.steps));
  }
  // The constant goes behind K.
  Eigen::PermutationMatrix<Eigen::Dynamic> order(index(key_at));
  order.setIdentity();
  for (std::size_t i = 0; i <= channels; ++i) {
    order.indices()(index(key_inputs + i)) =
        static_cast<int>(i == 0 ? key_inputs + channels : key_inputs + i - 1);
  }
  in.insert(in.end(), planes[count - 2].scale.steps.begin(), planes[count - 2].scale.steps.end());
  const std::size_t value_at = key_at + channels;
  KVFERRY_ASSIGN(out.value, fit(order * block(0, key_at, 0, key_at) * order.transpose(),
                                order * block(0, key_at, value_at, channels),
                                block(value_at, channels, value_at, channels), tokens, in,
                                planes[count - 1].scale.steps));
  return out;
}

Result<std::shared_ptr<const Predictor>> PredictorTraining::solve(
    ThreadPool& threads, const std::function<void(std::size_t done)>& on_layer,
    const std::atomic<bool>* cancel) const {
  const std::size_t channels = std::size_t{codebook_->kv_heads()} * codebook_->head_dim();
  const std::size_t inputs = (2 * std::size_t{depth_} + 1) * channels;
  if (tokens_ < 2 * inputs) {
    return Error(ErrorCode::kInvalidArgument, "a predictor of depth " + std::to_string(depth_) +
                                                  " needs at least " + std::to_string(2 * inputs) +
                                                  " tokens of text, there are " +
                                                  std::to_string(tokens_));
  }
  std::vector<PredictorLayer> layers(planes_.size());
  std::mutex mutex;
  Status failure;
  std::size_t done = 0;
  threads.parallel_for(layers.size(), 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t l = begin; l < end; ++l) {
      if (cancel != nullptr && *cancel) return;
      auto solved = solve_layer(l);
      const std::lock_guard<std::mutex> lock(mutex);
      if (solved.ok()) {
        layers[l] = *std::move(solved);
        if (on_layer) on_layer(++done);
      } else {
        failure = Error(solved.error().code,
                        "layer " + std::to_string(l) + ": " + solved.error().message);
      }
    }
  });
  if (cancel != nullptr && *cancel) return Error(ErrorCode::kCancelled, "cancelled");
  if (!failure.ok()) return failure.error();
  return Predictor::create(codebook_->model(), codebook_->id(), codebook_->kv_heads(),
                           codebook_->head_dim(), depth_, std::move(layers));
}

Result<std::shared_ptr<const Predictor>> train_predictor(const ModelFile& file,
                                                         const Tokenizer& tokenizer,
                                                         const std::string& text,
                                                         std::shared_ptr<const Codebook> codebook,
                                                         const PredictorOptions& options) {
  EngineOptions engine_options;
  engine_options.threads = static_cast<unsigned>(options.threads);
  engine_options.path = "cpu";
  KVFERRY_ASSIGN(std::unique_ptr<Engine> engine, Engine::load(file, engine_options));
  const KvGeometry geometry = engine->geometry();
  const std::uint64_t bytes =
      Predictor::bytes_for(geometry.layers, geometry.row_values(), options.depth);
  if (bytes > Predictor::kMaxBytes) {
    return Error(ErrorCode::kUnsupported, "a predictor of depth " + std::to_string(options.depth) +
                                              " would take " + std::to_string(bytes >> 20) +
                                              " MiB for this model, and may take " +
                                              std::to_string(Predictor::kMaxBytes >> 20) +
                                              (options.depth > 1 ? "; take a smaller depth" : ""));
  }
  const std::uint32_t length = std::min(kPieceTokens, engine->config().context_length);
  const std::uint32_t inputs =
      (2 * options.depth + 1) * engine->geometry().kv_heads * engine->geometry().head_dim;
  const std::uint32_t tokens =
      options.tokens != 0 ? options.tokens : std::max(kLeastTokens, 12 * inputs);
  const std::uint32_t count = std::max(1u, tokens / length);
  const std::size_t total = 2 * std::size_t{count} + engine->config().layers;
  std::size_t done = 0;
  const auto progress = [&] {
    ++done;
    if (options.on_progress) options.on_progress(done, total);
  };
  KVFERRY_ASSIGN(const auto texts, predictor_texts(*engine, tokenizer, text, length, count,
                                                   options.cancel, progress));

  engine_options.path = "reference";
  KVFERRY_ASSIGN(engine, Engine::load(file, engine_options));
  KVFERRY_ASSIGN(const auto pool, KvPool::create(engine->geometry(), KvPool::blocks_for(length)));
  PredictorTraining training(std::move(codebook), options.depth);
  for (const std::vector<TokenId>& piece : texts) {
    if (options.cancel != nullptr && *options.cancel)
      return Error(ErrorCode::kCancelled, "cancelled");
    const std::shared_ptr<KvSequence> sequence = KvSequence::create(pool);
    PrefillRequest request;
    request.tokens = piece;
    KVFERRY_TRY(engine->prefill(request, *sequence));
    KVFERRY_ASSIGN(const ContextCache cache, ContextCache::read(*sequence));
    KVFERRY_TRY(training.add(cache));
    progress();
  }
  ThreadPool threads(options.threads);
  return training.solve(
      threads, [&](std::size_t) { progress(); }, options.cancel);
}

}  // namespace kvferry
