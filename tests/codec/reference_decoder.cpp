#include "reference_decoder.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <tuple>

#include "kvferry/core/half.hpp"

namespace kvferry::reference {
namespace {

constexpr int kStates = 2048;

// A state: its values (one or two), the bits that follow, and the next state without them.
struct State {
  std::vector<int> values;
  int bits;
  int next;
};
using Table = std::vector<State>;

Table table_of(int most, int most_sum, const std::vector<double>& weights) {
  std::vector<std::vector<int>> symbols;
  std::vector<double> weight;
  for (int a = -most; a <= most; ++a) {
    if (most_sum == 0) {
      symbols.push_back({a});
      weight.push_back(weights[std::abs(a)]);
    }
    for (int b = -most; b <= most && most_sum != 0; ++b) {
      if (std::abs(a) + std::abs(b) > most_sum) continue;
      symbols.push_back({a, b});
      weight.push_back(weights[std::abs(a)] * weights[std::abs(b)]);
    }
  }
  double all = 0;
  for (const double w : weight) all += w;
  std::vector<int> share;
  int left = kStates;
  for (const double w : weight) {
    share.push_back(std::max(1, static_cast<int>(std::floor(w * kStates / all))));
    left -= share.back();
  }
  while (left != 0) {
    const int way = left > 0 ? 1 : -1;
    std::size_t best = symbols.size();
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      if (way < 0 && share[i] == 1) continue;
      if (best == symbols.size()) {
        best = i;
        continue;
      }
      const double here = weight[i] * (2 * share[best] + way);
      const double there = weight[best] * (2 * share[i] + way);
      if (way > 0 ? here > there : here < there) best = i;
    }
    share[best] += way;
    left -= way;
  }
  std::vector<std::size_t> symbol_at(kStates);
  int at = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    for (int n = 0; n < share[i]; ++n, at = (at + 1283) % kStates)
      symbol_at[static_cast<std::size_t>(at)] = i;
  }
  Table table;
  std::vector<int> next = share;
  for (const std::size_t i : symbol_at) {
    const int x = next[i]++;
    int bits = 0;
    while ((x << bits) < kStates) ++bits;
    table.push_back({symbols[i], bits, (x << bits) - kStates});
  }
  return table;
}

const std::vector<Table>& tables() {
  static const std::vector<Table> all = [] {
    std::ifstream in(std::string(KVFERRY_GOLDEN_DIR) + "/../../docs/symbol-weights.txt");
    std::vector<Table> made;
    for (std::string line; std::getline(in, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream fields(line);
      int number = 0, most = 0, most_sum = 0;
      fields >> number >> most >> most_sum;
      std::vector<double> weights;
      for (double w = 0; fields >> w;) weights.push_back(w);
      made.push_back(table_of(most, most_sum, weights));
    }
    return made;
  }();
  return all;
}

// Bits from the last one to the first.
class Stream {
 public:
  explicit Stream(Bytes bytes) : bytes_(bytes), left_(8 * static_cast<long>(bytes.size())) {
    while (take(1) == 0) {
    }
    state_ = take(11);
  }
  int take(int count) {
    int value = 0;
    for (; count > 0; --count) {
      --left_;
      const int bit =
          left_ < 0 ? 0 : bytes_[static_cast<std::size_t>(left_ / 8)] >> (left_ % 8) & 1;
      value = 2 * value + bit;
    }
    return value;
  }
  std::vector<int> symbol(const Table& table) {
    const State& s = table[static_cast<std::size_t>(state_)];
    state_ = s.next + take(s.bits);
    return s.values;
  }
  bool used_up() const { return left_ == 0 && state_ == 0; }

 private:
  Bytes bytes_;
  long left_;
  int state_ = 0;
};

class Decoder {
 public:
  Decoder(Bytes block, std::size_t channels, const Codebook* codebook) : block_(block) {
    const std::size_t tokens = static_cast<std::size_t>(number(12, 2));
    const auto features = number(14, 2);
    std::size_t at = 20;
    const CodebookPlane* plane = nullptr;
    if ((features & 1) != 0) {
      at += 8;
      plane = &codebook->layers()[number(6, 2)].plane(static_cast<Plane>(block[4]));
    }
    std::vector<int> classes(tokens, 0);
    if ((features & 2) != 0) {
      for (std::size_t t = 0; t < tokens; ++t) classes[t] = block[at + t / 4] >> (t % 4 * 2) & 3;
    }
    at_ = 20 + number(18, 2);
    const bool skips = number(8, 4) == 0;
    if (skips) classes.erase(classes.begin());

    const int step = static_cast<std::int16_t>(number(at_, 2));
    const int flags = block[at_ + 2];
    at_ += 3;
    const std::size_t coded = classes.size();
    const int bias = coded == 0 ? 0 : static_cast<std::int8_t>(block[at_++]);
    const int id_of_ids = (flags & 2) != 0 ? block[at_++] : 0;
    const int id_of_means = (flags & 4) != 0 ? block[at_++] : 0;
    std::vector<std::size_t> lengths;
    if (coded != 0) {
      for (int i = 0; i < ((flags & 1) != 0 ? 4 : 1); ++i) lengths.push_back(varint());
      std::size_t next = 0;
      out_.escapes = varint();
      for (std::size_t i = 0; i < out_.escapes; ++i) {
        next += varint();
        const std::size_t z = varint();
        escapes_[next++] = z % 2 == 0 ? static_cast<int>(z / 2) : -static_cast<int>((z + 1) / 2);
      }
    }
    for (std::size_t c = 0; skips && c < channels; ++c, at_ += 2) {
      out_.first_row.push_back(
          static_cast<double>(to_float(Half{static_cast<std::uint16_t>(number(at_, 2))})));
    }
    std::size_t end = block.size();
    for (std::size_t i = lengths.size(); i > 0; --i) {
      streams_.insert(streams_.begin(),
                      Stream(block.subspan(end - lengths[i - 1], lengths[i - 1])));
      end -= lengths[i - 1];
    }
    if (coded == 0) return;

    std::vector<int> exponents;
    std::vector<int> ids;
    for (std::size_t c = 0; c < channels; ++c) {
      exponents.push_back(step + (plane == nullptr ? 0 : plane->weights[c]));
      int id = 0;
      if (plane != nullptr) {
        const int eighths = 2 * plane->spreads[c] - exponents[c] + 28;
        id = std::min(2 * std::max(0, (eighths + 1) / 2), 100);
      }
      ids.push_back(id + bias);
    }
    if ((flags & 2) != 0) {
      const auto differences = segment(id_of_ids, channels);
      for (std::size_t c = 0; c < channels; ++c) ids[c] += differences[c];
    }
    std::vector<float> means;
    for (std::size_t c = 0; c < channels; ++c)
      means.push_back(plane == nullptr ? 0.0f : to_float(plane->means[c]));
    if ((flags & 4) != 0) {
      const auto corrections = segment(id_of_means, channels);
      for (std::size_t c = 0; c < channels; ++c) {
        const float mean_step = power(exponents[c] - 16);
        means[c] = static_cast<float>(corrections[c]) * mean_step + means[c];
      }
    }

    // (id, class, channel) -> the run's tokens
    std::map<std::tuple<int, int, std::size_t>, std::vector<std::size_t>> runs;
    for (std::size_t c = 0; c < channels; ++c) {
      for (std::size_t t = 0; t < coded; ++t) {
        const int id = ids[c] + 8 * classes[t];
        runs[{id < 102 ? id : 100 + id % 2, classes[t], c}].push_back(t);
      }
    }
    out_.quantised.resize(coded * channels);
    out_.values.resize(coded * channels);
    out_.steps.resize(coded * channels);
    for (auto run = runs.begin(); run != runs.end();) {
      const int id = std::get<0>(run->first);
      auto last = run;
      std::size_t count = 0;
      for (; last != runs.end() && std::get<0>(last->first) == id; ++last)
        count += last->second.size();
      const auto values = segment(id, count);
      std::size_t i = 0;
      for (; run != last; ++run) {
        const std::size_t c = std::get<2>(run->first);
        const float s = power(exponents[c] - 8 * std::get<1>(run->first));
        for (const std::size_t t : run->second) {
          const std::size_t to = t * channels + c;
          out_.quantised[to] = values[i++];
          out_.steps[to] = s;
          out_.values[to] = static_cast<float>(out_.quantised[to]) * s + means[c];
        }
      }
    }
    out_.used_up = at_ == end;
    for (const Stream& s : streams_) out_.used_up = out_.used_up && s.used_up();
  }

  QuantisedBlock take() { return std::move(out_); }

 private:
  std::size_t number(std::size_t at, int bytes) const {
    std::size_t value = 0;
    for (int i = bytes; i > 0; --i)
      value = value << 8 | block_[at + static_cast<std::size_t>(i) - 1];
    return value;
  }
  std::size_t varint() {
    std::size_t value = 0;
    int shift = 0;
    while (block_[at_] >= 0x80) {
      value |= static_cast<std::size_t>(block_[at_++] & 0x7f) << shift;
      shift += 7;
    }
    return value | static_cast<std::size_t>(block_[at_++]) << shift;
  }
  static float power(int eighths) { return static_cast<float>(std::pow(2.0, eighths / 8.0)); }

  std::vector<int> segment(int id, std::size_t count) {
    const int raw_bits = id < 54 ? 0 : (id - 54) / 8 + 1;
    const Table& table = tables()[static_cast<std::size_t>(id - 8 * raw_bits)];
    const std::size_t width = table[0].values.size();
    const std::size_t symbols = (count + width - 1) / width;
    std::vector<int> values;
    for (std::size_t lane = 0; lane < streams_.size(); ++lane) {
      const std::size_t share =
          symbols / streams_.size() + (lane < symbols % streams_.size() ? 1 : 0);
      for (std::size_t i = 0; i < share; ++i) {
        for (const int v : streams_[lane].symbol(table)) values.push_back(v);
      }
    }
    values.resize(count);
    for (std::size_t i = 0; i < count && raw_bits != 0; ++i) {
      int low = 0;
      for (int b = raw_bits - 1; b >= 0; --b) {
        const std::size_t plane = at_ + static_cast<std::size_t>(b) * ((count + 7) / 8);
        low = 2 * low + (block_[plane + i / 8] >> (i % 8) & 1);
      }
      values[i] = values[i] * (1 << raw_bits) + low - (1 << raw_bits) / 2;
    }
    at_ += static_cast<std::size_t>(raw_bits) * ((count + 7) / 8);
    for (std::size_t i = 0; i < count; ++i) {
      const auto escape = escapes_.find(index_ + i);
      if (escape != escapes_.end()) values[i] = escape->second;
    }
    index_ += count;
    return values;
  }

  Bytes block_;
  std::size_t at_ = 0;  // in the block: first of what is parsed, then of the raw bits
  std::size_t index_ = 0;
  std::map<std::size_t, int> escapes_;
  std::vector<Stream> streams_;
  QuantisedBlock out_;
};

}  // namespace

QuantisedBlock decode_quantised(Bytes block, std::size_t channels, const Codebook* codebook) {
  return Decoder(block, channels, codebook).take();
}

}  // namespace kvferry::reference
