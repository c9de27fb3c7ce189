// bench_codec: speed of the codec, F16 rows of a real model's cache to a block's bytes and back,
// everything included, beside zstd and LZ4 on the same rows.
//
// Every round measures every coder once, encoding and decoding the whole cache on one thread and on
// several, so that what else the machine does meets all of them. KVFERRY_ISA, portable or avx2,
// chooses other loops than the best ones; the model's run obeys it as well.
#include <algorithm>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "kvferry/core/stopwatch.hpp"

#include "cache_rows.hpp"
#include "coders.hpp"
#include "src/codec/row_kernels.hpp"

namespace {

using namespace kvferry;
using namespace kvferry::bench;

struct Options {
  std::string model;
  std::string codebook;
  std::string predictor;
  std::uint32_t tokens = 1024;
  std::size_t threads = 2;
  std::size_t rounds = 9;
  std::vector<std::string> only;
};

// Seconds of each round.
struct Times {
  std::vector<double> seconds;

  double at(double part) const {
    std::vector<double> sorted = seconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
  }
};

// One coder's work on the whole cache, dealt to threads in chunks of tokens: a predicted block
// needs the layers before of its tokens.
class Measured {
 public:
  Measured(const NamedCoder& coder, const CacheRows& cache, std::size_t threads)
      : name_(coder.name), cache_(cache), coded_(cache.blocks.size()) {
    for (std::size_t t = 0; t < threads; ++t) {
      Worker worker;
      worker.coder = coder.make();
      const std::size_t room = maximum_encoded_size(cache.geometry, kMaxBlockTokens);
      worker.room.resize(2 * room);
      workers_.push_back(std::move(worker));
    }
  }

  void run_round() {
    encode_[0].seconds.push_back(run(1, &Measured::encode_block));
    decode_[0].seconds.push_back(run(1, &Measured::decode_block));
    encode_[1].seconds.push_back(run(workers_.size(), &Measured::encode_block));
    decode_[1].seconds.push_back(run(workers_.size(), &Measured::decode_block));
  }

  // What warms up, and fails where a coder does not work.
  bool check() {
    run(1, &Measured::encode_block);
    run(1, &Measured::decode_block);
    return !failed();
  }
  bool failed() const {
    return std::any_of(workers_.begin(), workers_.end(), [](const Worker& w) { return w.failed; });
  }

  const std::string& name() const { return name_; }

  void print() const {
    std::size_t bytes = 0;
    for (const auto& c : coded_) bytes += c.size();
    const auto values = static_cast<double>(cache_.values());
    std::printf("%-14s %6.2f", name_.c_str(), 8 * static_cast<double>(bytes) / values);
    for (const Times* times : {encode_, decode_}) {
      const double median = times[0].at(0.5);
      std::printf("  |%7.0f %6.0f %6.2f %4.0f%% %6.2f", values / median / 1e6,
                  values / times[0].at(0) / 1e6, 2 * values / median / 1e9,
                  100 * (times[0].at(0.75) - times[0].at(0.25)) / median,
                  times[0].at(0) / times[1].at(0));
    }
    std::printf("\n");
  }

 private:
  struct Worker {
    std::unique_ptr<Coder> coder;
    std::vector<std::uint8_t> room;
    bool failed = false;
  };

  void encode_block(Worker& worker, std::size_t i) {
    const BlockRows& block = cache_.blocks[i];
    const std::size_t size = worker.coder->encode(block, worker.room);
    if (size == 0) worker.failed = true;
    // Once: the bytes are the same each time.
    if (coded_[i].empty())
      coded_[i].assign(worker.room.begin(),
                       worker.room.begin() + static_cast<std::ptrdiff_t>(size));
  }
  void decode_block(Worker& worker, std::size_t i) {
    const BlockRows& block = cache_.blocks[i];
    if (worker.coder->decode(block, coded_[i], worker.room) != block.rows.size())
      worker.failed = true;
  }

  double run(std::size_t threads, void (Measured::*step)(Worker&, std::size_t)) {
    const auto work = [&](std::size_t thread) {
      for (std::size_t i = 0; i < cache_.blocks.size(); ++i) {
        if (cache_.blocks[i].range.begin / kMaxBlockTokens % threads == thread)
          (this->*step)(workers_[thread], i);
      }
    };
    const Stopwatch watch;
    std::vector<std::thread> others;
    for (std::size_t t = 1; t < threads; ++t) others.emplace_back(work, t);
    work(0);
    for (std::thread& other : others) other.join();
    return watch.seconds();
  }

  std::string name_;
  const CacheRows& cache_;
  std::vector<std::vector<std::uint8_t>> coded_;
  std::vector<Worker> workers_;
  Times encode_[2];  // on one thread, on several
  Times decode_[2];
};

Status run(const Options& options) {
  KVFERRY_ASSIGN(const ModelFile file, ModelFile::open(options.model));
  std::shared_ptr<const Codebook> codebook;
  std::shared_ptr<const Predictor> predictor;
  if (!options.codebook.empty()) {
    KVFERRY_ASSIGN(codebook, Codebook::load(options.codebook, identity_of(file)));
  }
  if (!options.predictor.empty()) {
    KVFERRY_ASSIGN(predictor, Predictor::load(options.predictor, identity_of(file)));
  }
  KVFERRY_ASSIGN(const CacheRows cache, prefill_cache(file, options.tokens));
  if (predictor != nullptr) KVFERRY_TRY(predictor->serves(cache.geometry, codebook.get()));

  std::vector<Measured> measured;
  for (const NamedCoder& coder : coders_for(cache.geometry, codebook, predictor)) {
    if (options.only.empty() ||
        std::find(options.only.begin(), options.only.end(), coder.name) != options.only.end()) {
      measured.emplace_back(coder, cache, options.threads);
    }
  }
  for (Measured& m : measured) {
    if (!m.check()) return Error(ErrorCode::kInternal, m.name() + " does not work on these rows");
  }
  for (std::size_t round = 0; round < options.rounds; ++round) {
    for (Measured& m : measured) {
      m.run_round();
      if (m.failed()) return Error(ErrorCode::kInternal, m.name() + " failed");
    }
  }

  std::printf("%s, %u tokens, %.1f M values of F16, %s, loops: %s; %zu rounds\n",
              options.model.c_str(), options.tokens, static_cast<double>(cache.values()) / 1e6,
              codebook == nullptr ? "no codebook" : "with codebook", row_kernels().name,
              options.rounds);
  std::printf("%-14s %6s", "", "");
  for (const char* what : {"encode", "decode"}) std::printf("  | %-33s", what);
  std::printf("\n%-14s %6s", "", "b/v");
  for (int i = 0; i < 2; ++i) {
    std::printf("  |%7s %6s %6s %5s  x%zu thr", "M val/s", "best", "GB/s", "iqr", options.threads);
  }
  std::printf("\n");
  for (const Measured& m : measured) m.print();
  if (predictor == nullptr) std::printf("predict: not measured; name a --predictor\n");
#if !defined(KVFERRY_BENCH_LZ4)
  std::printf("lz4: not built in; on Debian: apt-get install liblz4-dev\n");
#endif
  return Status();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Speed of the codec on one thread and several, F16 rows of a model's cache to bytes and "
      "back, beside zstd and LZ4. Columns: bits a value; of encoding and decoding the median and "
      "the best of all rounds in M values/s, the median in GB/s of F16 rows, the quartiles' "
      "distance in percent of it, and how much faster several threads are, best to best");
  Options options;
  app.add_option("--model", options.model, "GGUF file")->required();
  app.add_option("--codebook", options.codebook, "Its codebook (.kvfc)");
  app.add_option("--predictor", options.predictor, "Its predictor (.kvfp), for rows with predict");
  app.add_option("--tokens", options.tokens, "Length of the cache")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096));
  app.add_option("--threads", options.threads, "The several threads")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--rounds", options.rounds, "Rounds")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  app.add_option("--only", options.only, "Rows of the table; without it all");
  CLI11_PARSE(app, argc, argv);
  const Status done = run(options);
  if (!done.ok()) std::fprintf(stderr, "error: %s\n", done.error().message.c_str());
  return done.ok() ? 0 : 1;
}
