// Random operations on several sequences of one pool, against plain vectors of rows.
#include <algorithm>
#include <random>
#include <set>

#include <catch2/catch.hpp>

#include "kvferry/cache/sequence_adapters.hpp"

#include "marked_rows.hpp"

using namespace kvferry;

namespace {

const KvGeometry kGeometry = small_geometry(ElementType::kF16);

// What a sequence should hold: ids, and the stamp of the computation behind each row.
struct Model {
  std::vector<TokenId> ids;
  std::vector<std::uint32_t> stamps;
};

struct Import {
  std::shared_ptr<KvStage> stage;
  KvImportPlan plan;
  std::vector<std::uint32_t> stamps;
  std::vector<KvRange> missing;
};

struct Entry {
  std::shared_ptr<KvSequence> sequence;
  Model model;
  std::vector<Import> imports;
};

class Play {
 public:
  explicit Play(std::uint32_t seed) : random_(seed) { add(); }

  void step() {
    Entry& e = entries_[below(entries_.size())];
    switch (below(10)) {
      case 0:
      case 1:
      case 2:
        return append(e, below(3) == 0);
      case 3:
        return truncate(e);
      case 4:
        return fork(e);
      case 5:
        return begin(e);
      case 6:
      case 7:
        return write(e);
      case 8:
        return finish(e);
      default:
        return below(4) == 0 ? remove() : append(e, false);
    }
  }

  void check() const {
    for (const Entry& e : entries_) {
      REQUIRE(e.sequence->tokens() == e.model.ids);
      REQUIRE(holds_rows(*e.sequence, 0, e.model.stamps));
    }
  }

  // With everything dropped, every block is free again.
  void end() {
    entries_.clear();
    REQUIRE(pool_->free_blocks() == pool_->capacity_blocks());
  }

 private:
  std::uint32_t below(std::size_t n) { return static_cast<std::uint32_t>(random_() % n); }
  void add() { entries_.push_back(Entry{KvSequence::create(pool_), {}, {}}); }

  void append(Entry& e, bool drop) {
    const std::uint32_t count = 1 + below(45);
    auto append = e.sequence->append(std::vector<TokenId>(count, 3));
    if (!append.ok()) {
      REQUIRE(append.error().code == ErrorCode::kResourceExhausted);
      return;
    }
    const auto stamps = numbers(stamp_, count);
    stamp_ += count;
    write_append(kGeometry, *append, stamps);
    if (drop) return;
    append->publish();
    e.model.ids.insert(e.model.ids.end(), count, 3);
    e.model.stamps.insert(e.model.stamps.end(), stamps.begin(), stamps.end());
  }
  void truncate(Entry& e) {
    if (below(3) != 0) return;
    const std::uint32_t length = below(e.model.ids.size() + 1);
    REQUIRE(e.sequence->truncate(length).ok());
    e.model.ids.resize(length);
    e.model.stamps.resize(length);
  }
  void fork(Entry& e) {
    if (entries_.size() >= 5) return;
    const std::uint32_t length = below(e.model.ids.size() + 1);
    Entry other{e.sequence->fork(length).value(), e.model, {}};
    other.model.ids.resize(length);
    other.model.stamps.resize(length);
    entries_.push_back(std::move(other));
  }
  void begin(Entry& e) {
    Import i;
    i.plan.generation = e.sequence->generation();
    i.plan.base_length = e.sequence->length();
    i.plan.begin = below(i.plan.base_length + 1);
    i.plan.end = i.plan.begin + below(70);
    // Mostly the ids that all tokens have, at times others.
    i.plan.tokens.assign(i.plan.end - i.plan.begin, below(4) == 0 ? 4 : 3);
    i.stamps = numbers(stamp_, i.plan.end - i.plan.begin);
    stamp_ += i.plan.end - i.plan.begin;
    auto stage = KvStage::create(e.sequence, i.plan);
    if (!stage.ok()) return;
    i.stage = *stage;
    for (std::uint32_t l = 2; l < 5; ++l) {
      for (const Plane p : {Plane::kKey, Plane::kValue}) {
        for (std::uint32_t at = i.plan.begin; at < i.plan.end;) {
          const std::uint32_t end = std::min(i.plan.end, at + 1 + below(40));
          i.missing.push_back({l, p, at, end});
          at = end;
        }
      }
    }
    std::shuffle(i.missing.begin(), i.missing.end(), random_);
    e.imports.push_back(std::move(i));
  }
  void write(Entry& e) {
    for (Import& i : e.imports) {
      for (std::uint32_t n = below(12); n > 0 && !i.missing.empty(); --n) {
        const KvRange r = i.missing.back();
        i.missing.pop_back();
        const std::vector<std::uint32_t> stamps(i.stamps.begin() + (r.begin - i.plan.begin),
                                                i.stamps.begin() + (r.end - i.plan.begin));
        REQUIRE(i.stage->write(r, marked_rows(kGeometry, r.layer, r.plane, stamps)).ok());
      }
    }
  }
  void finish(Entry& e) {
    if (e.imports.empty()) return;
    Import i = std::move(e.imports.back());
    e.imports.pop_back();
    if (below(8) == 0) return i.stage->abort();
    const auto done = i.stage->commit();
    if (!i.missing.empty()) {
      REQUIRE(done.error().code == ErrorCode::kIncomplete);
      return;
    }
    Model after = e.model;
    bool fits = i.plan.generation == e.sequence->generation() - (done.ok() ? 1 : 0);
    for (std::uint32_t t = i.plan.begin; t < i.plan.end; ++t) {
      const bool stays =
          t < e.model.ids.size() && (t >= i.plan.base_length || e.model.ids.size() > i.plan.end);
      if (stays && e.model.ids[t] != i.plan.tokens[t - i.plan.begin]) fits = false;
      if (t >= after.ids.size()) {
        after.ids.resize(t + 1);
        after.stamps.resize(t + 1);
      }
      after.ids[t] = i.plan.tokens[t - i.plan.begin];
      after.stamps[t] = i.stamps[t - i.plan.begin];
    }
    REQUIRE(done.ok() == fits);
    if (done.ok()) e.model = after;
  }
  void remove() {
    const std::uint32_t which = below(entries_.size());
    entries_.erase(entries_.begin() + which);
    if (entries_.empty()) add();
  }

  std::mt19937 random_;
  std::shared_ptr<KvPool> pool_ = make_pool(kGeometry, 40);
  std::vector<Entry> entries_;
  std::uint32_t stamp_ = 1;
};

}  // namespace

TEST_CASE("sequences behave as vectors of rows under random operations") {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Play play(seed);
    for (int i = 0; i < 150; ++i) {
      play.step();
      if (i % 5 == 0) play.check();
    }
    play.check();
    play.end();
  }
}
