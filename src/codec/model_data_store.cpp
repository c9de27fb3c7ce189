#include "kvferry/codec/model_data_store.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <tuple>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvferry/core/atomic_file.hpp"
#include "kvferry/core/quoted.hpp"

namespace kvferry {
namespace {

const char* prefix_of(const Codebook*) {
  return "codebook-";
}
const char* prefix_of(const Predictor*) {
  return "predictor-";
}

// "FOLDER/codebook-0123456789abcdef"
template <typename T>
std::string path_of(const std::string& folder, std::uint64_t id) {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(id));
  return folder + "/" + prefix_of(static_cast<const T*>(nullptr)) + digits;
}

// With the folders above it, for their owner alone.
Status make_folder(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    if (::mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) {
      return Error(ErrorCode::kIo,
                   "cannot make the folder " + quoted(part, 512) + ": " + std::strerror(errno));
    }
    if (slash == std::string::npos) return {};
  }
}

// Removes the files with that prefix that were used longest ago; unfinished ones of a process that
// was killed are among them.
void remove_oldest(const std::string& folder, const std::string& prefix, std::size_t most) {
  struct Closer {
    DIR* directory;
    ~Closer() {
      if (directory != nullptr) ::closedir(directory);
    }
  } const opened{::opendir(folder.c_str())};
  if (opened.directory == nullptr) return;
  using Used = std::tuple<std::int64_t, std::int64_t, std::string>;  // seconds, nanoseconds, path
  std::vector<Used> files;
  while (const dirent* entry = ::readdir(opened.directory)) {
    const std::string name = entry->d_name;
    const std::string path = folder + "/" + name;
    struct stat found;
    if (name.compare(0, prefix.size(), prefix) != 0 || ::lstat(path.c_str(), &found) != 0 ||
        !S_ISREG(found.st_mode)) {
      continue;
    }
    files.emplace_back(found.st_mtim.tv_sec, found.st_mtim.tv_nsec, path);
  }
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i + most < files.size(); ++i) ::unlink(std::get<2>(files[i]).c_str());
}

}  // namespace

template <typename T>
std::shared_ptr<const T> ModelDataStore::load(std::uint64_t id) const {
  const std::string path = path_of<T>(options_.folder, id);
  if (options_.folder.empty() || ::access(path.c_str(), F_OK) != 0) return nullptr;
  auto loaded = T::load(path, identity_);
  if (loaded.ok() && (*loaded)->id() != id) {
    loaded = Error(ErrorCode::kMismatch, quoted(path, 512) + " holds another one than it says");
  }
  if (!loaded.ok()) {
    log(loaded.error().message + "; it is fetched again");
    return nullptr;
  }
  ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now
  return *loaded;
}

template <typename T>
void ModelDataStore::write(const T& item, std::size_t most) const {
  const auto write_file = [&]() -> Status {
    KVFERRY_TRY(make_folder(options_.folder));
    KVFERRY_ASSIGN(AtomicFile file,
                   AtomicFile::create(path_of<T>(options_.folder, item.id()), FileAccess::kOwner));
    KVFERRY_TRY(file.write(item.bytes()));
    return file.commit();
  };
  const Status written = write_file();
  if (!written.ok()) log(written.error().message + "; it will have to be fetched again");
  remove_oldest(options_.folder, prefix_of(&item), most);
}

template <typename T>
std::shared_ptr<const T> ModelDataStore::find(std::uint64_t id, Recent<T>& recent,
                                              std::size_t most) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(recent.begin(), recent.end(),
                                    [id](const auto& item) { return item->id() == id; });
    if (found != recent.end()) {
      recent.splice(recent.begin(), recent, found);
      return recent.front();
    }
  }
  // Reading takes a while, which nobody shall wait for.
  std::shared_ptr<const T> loaded = load<T>(id);
  if (loaded != nullptr) keep(loaded, recent, most);
  return loaded;
}

template <typename T>
void ModelDataStore::keep(const std::shared_ptr<const T>& item, Recent<T>& recent,
                          std::size_t most) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto same = [&item](const auto& other) { return other->id() == item->id(); };
  recent.remove_if(same);
  recent.push_front(item);
  if (recent.size() > most) recent.pop_back();
}

std::shared_ptr<const Codebook> ModelDataStore::codebook(std::uint64_t id) {
  return find(id, codebooks_, options_.codebooks);
}

std::shared_ptr<const Predictor> ModelDataStore::predictor(std::uint64_t id) {
  return find(id, predictors_, options_.predictors);
}

void ModelDataStore::add(std::shared_ptr<const Codebook> item) {
  keep(item, codebooks_, options_.codebooks);
  const std::lock_guard<std::mutex> lock(mutex_);
  unsaved_codebooks_.push_back(std::move(item));
}

void ModelDataStore::add(std::shared_ptr<const Predictor> item) {
  keep(item, predictors_, options_.predictors);
  const std::lock_guard<std::mutex> lock(mutex_);
  unsaved_predictors_.push_back(std::move(item));
}

void ModelDataStore::save() {
  Recent<Codebook> codebooks;
  Recent<Predictor> predictors;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    codebooks.swap(unsaved_codebooks_);
    predictors.swap(unsaved_predictors_);
  }
  if (options_.folder.empty()) return;
  for (const auto& item : codebooks) write(*item, options_.codebooks);
  for (const auto& item : predictors) write(*item, options_.predictors);
}

std::shared_ptr<const void> ModelDataStore::reserve_predictor() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!reserved_.expired()) return nullptr;
  const auto right = std::make_shared<const char>('\0');
  reserved_ = right;
  return right;
}

}  // namespace kvferry
