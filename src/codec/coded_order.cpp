#include "coded_order.hpp"

namespace kvferry {

void CodedOrder::arrange(const std::vector<std::uint8_t>& ids, const ClassCounts& counts) {
  channels_ = ids.size();
  begins_.resize(counts.size() * channels_);
  std::array<std::size_t, kIds> values{};
  for (std::uint32_t token_class = 0; token_class < counts.size(); ++token_class) {
    for (const std::uint8_t id : ids) values[id_of_class(id, token_class)] += counts[token_class];
  }
  segments_.clear();
  std::array<std::size_t, kIds> next{};
  std::size_t begin = 0;
  for (std::uint32_t id = 0; id < kIds; ++id) {
    next[id] = begin;
    if (values[id] != 0) segments_.push_back({id, begin, values[id]});
    begin += values[id];
  }
  for (std::uint32_t token_class = 0; token_class < counts.size(); ++token_class) {
    std::size_t* begins = begins_.data() + token_class * channels_;
    for (std::size_t c = 0; c < channels_; ++c) {
      std::size_t& at = next[id_of_class(ids[c], token_class)];
      begins[c] = at;
      at += counts[token_class];
    }
  }
}

}  // namespace kvferry
