#include "kvferry/engine/engine.hpp"

#include <mutex>
#include <utility>

#include "kvferry/compute/cpu_path.hpp"
#include "kvferry/compute/reference.hpp"

namespace kvferry {
namespace {

template <typename Path>
class PathEngine final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> load(const ModelFile& file, const EngineOptions& options) {
    std::unique_ptr<PathEngine> engine(new PathEngine(options.threads));
    KVFERRY_ASSIGN(Model<Path> model, Model<Path>::load(file, engine->pool_, options.layers));
    engine->model_ = std::make_unique<Model<Path>>(std::move(model));
    KVFERRY_ASSIGN(Compute<Path> compute,
                   Compute<Path>::create(engine->model_->config(), engine->pool_));
    engine->compute_ = std::make_unique<Compute<Path>>(std::move(compute));
    return std::unique_ptr<Engine>(std::move(engine));
  }

  const ModelConfig& config() const override { return model_->config(); }
  const char* path() const override { return Compute<Path>::kName; }
  LayerRange layers() const override { return model_->layers(); }
  KvGeometry geometry() const override { return model_->geometry(Compute<Path>::kCacheType); }
  std::shared_ptr<KvMemory> cache_memory() const override { return Compute<Path>::cache_memory(); }

  Status prefill(const PrefillRequest& request, KvSequence& sequence) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return Prefill<Path>(*model_, *compute_).run(request, sequence);
  }
  Status step(Span<const DecodeInput> inputs, Span<float> logits) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return Decode<Path>(*model_, *compute_).step(inputs, logits);
  }

 private:
  explicit PathEngine(std::size_t threads) : pool_(threads) {}

  ThreadPool pool_;
  std::unique_ptr<const Model<Path>> model_;
  std::unique_ptr<Compute<Path>> compute_;
  std::mutex mutex_;
};

struct NamedPath {
  const char* name;
  Result<std::unique_ptr<Engine>> (*load)(const ModelFile&, const EngineOptions&);
};

constexpr NamedPath kPaths[] = {
    {Compute<path::Cpu>::kName, &PathEngine<path::Cpu>::load},
    {Compute<path::Reference>::kName, &PathEngine<path::Reference>::load},
};

}  // namespace

std::vector<std::string> engine_paths() {
  std::vector<std::string> names;
  for (const NamedPath& p : kPaths) names.emplace_back(p.name);
  return names;
}

Result<std::unique_ptr<Engine>> Engine::load(const ModelFile& file, const EngineOptions& options) {
  std::string known;
  for (const NamedPath& p : kPaths) {
    if (options.path == p.name) return p.load(file, options);
    known += (known.empty() ? "" : ", ") + std::string(p.name);
  }
  return Error(ErrorCode::kNotFound,
               "no compute path is named '" + options.path + "'; this build has: " + known);
}

}  // namespace kvferry
