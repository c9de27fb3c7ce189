// ModelDataStore: codebooks and predictors that came from peers, so that they come once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "kvferry/codec/codebook.hpp"
#include "kvferry/codec/predictor.hpp"
#include "kvferry/model/identity.hpp"

namespace kvferry {

struct ModelDataStoreOptions {
  // Where they are kept over a restart, in files that are named after their ids; made when it is
  // not there. Empty: only in memory.
  std::string folder;
  // How many are kept, in memory and in the folder; beyond, the one used longest ago goes.
  std::size_t codebooks = 8;
  std::size_t predictors = 2;
  // Gets a line for each file that cannot be read or written: what is in it comes again.
  std::function<void(const std::string& line)> log;
};

// Of one model. Any thread may call.
class ModelDataStore {
 public:
  explicit ModelDataStore(const ModelIdentity& identity, ModelDataStoreOptions options = {})
      : identity_(identity), options_(std::move(options)) {}

  // The one with that id, null when it is not here.
  std::shared_ptr<const Codebook> codebook(std::uint64_t id);
  std::shared_ptr<const Predictor> predictor(std::uint64_t id);

  // Keeps it in memory, and in the folder once save() is called.
  void add(std::shared_ptr<const Codebook> codebook);
  void add(std::shared_ptr<const Predictor> predictor);

  // Writes to the folder what was added since; takes as long as a disk takes.
  void save();

  // Predictors are large, so that one comes at a time. Null while another one has the right; it
  // ends when the last copy is dropped.
  std::shared_ptr<const void> reserve_predictor();

 private:
  // The most recently used first.
  template <typename T>
  using Recent = std::list<std::shared_ptr<const T>>;

  template <typename T>
  std::shared_ptr<const T> find(std::uint64_t id, Recent<T>& recent, std::size_t most);
  template <typename T>
  void keep(const std::shared_ptr<const T>& item, Recent<T>& recent, std::size_t most);
  template <typename T>
  std::shared_ptr<const T> load(std::uint64_t id) const;
  template <typename T>
  void write(const T& item, std::size_t most) const;
  void log(const std::string& line) const {
    if (options_.log) options_.log(line);
  }

  const ModelIdentity identity_;
  const ModelDataStoreOptions options_;
  std::mutex mutex_;  // of what follows
  Recent<Codebook> codebooks_;
  Recent<Predictor> predictors_;
  Recent<Codebook> unsaved_codebooks_;
  Recent<Predictor> unsaved_predictors_;
  std::weak_ptr<const void> reserved_;
};

}  // namespace kvferry
