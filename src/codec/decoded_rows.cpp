#include "kvferry/codec/decoded_rows.hpp"

#include <algorithm>

namespace kvferry {

std::size_t DecodedRows::bytes_for(const Predictor& predictor, std::uint32_t tokens) {
  const std::size_t row = 2 * std::size_t{predictor.kv_heads()} * predictor.head_dim();
  const std::size_t planes = std::size_t{2} * (predictor.depth() + 1);
  return 2 * planes * row * tokens + (std::size_t{1} << 20);
}

DecodedRows::Rows DecodedRows::find(const KvRange& range, KvPlane plane) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = entries_.find({range.begin, range.end});
  if (found == entries_.end() || plane.layer >= layers_) return nullptr;
  return found->second.rows[index_of(plane.layer, plane.plane)];
}

DecodedRows::Entry& DecodedRows::begin(const Tokens& tokens) {
  Entry& entry = entries_[tokens];
  entry.rows.resize(std::size_t{2} * layers_);
  entry.came.resize(std::size_t{2} * layers_);
  entry.coming = entry.came.size();
  entry.bytes = sizeof(Entry) + entry.rows.size() * sizeof(Rows) + entry.came.size() / 8;
  entry.begun = ++begun_;
  by_age_[entry.begun] = tokens;
  bytes_ += entry.bytes;
  return entry;
}

void DecodedRows::erase(const Tokens& tokens) {
  const auto found = entries_.find(tokens);
  by_age_.erase(found->second.begun);
  bytes_ -= found->second.bytes;
  entries_.erase(found);
}

void DecodedRows::add(const KvRange& range, Rows rows) {
  if (range.layer >= layers_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  const Tokens tokens{range.begin, range.end};
  const std::size_t index = index_of(range.layer, range.plane);
  auto found = entries_.find(tokens);
  if (found != entries_.end() && found->second.came[index]) {
    erase(tokens);
    found = entries_.end();
  }
  Entry& entry = found == entries_.end() ? begin(tokens) : found->second;
  entry.came[index] = true;
  --entry.coming;
  if (rows != nullptr) {
    const std::size_t bytes = rows->size() * sizeof(Half);
    entry.bytes += bytes;
    bytes_ += bytes;
    entry.rows[index] = std::move(rows);
  }
  drop_unneeded(entry, range.layer);
  if (entry.coming == 0) erase(tokens);
  while (bytes_ > most_bytes_ && entries_.size() > 1) erase(Tokens(by_age_.begin()->second));
}

// After a block of `layer` came: the rows of the layers that it may have been predicted from go
// when nothing is left that could be.
void DecodedRows::drop_unneeded(Entry& entry, std::uint32_t layer) {
  const std::uint32_t first = layer - std::min(layer, depth_);
  for (std::size_t i = index_of(first, Plane::kKey); i <= index_of(layer, Plane::kValue); ++i) {
    if (entry.rows[i] == nullptr) continue;
    const auto from_layer = static_cast<std::uint32_t>(i / 2);
    const std::size_t end =
        std::min<std::size_t>(entry.came.size(), index_of(from_layer + depth_ + 1, Plane::kKey));
    // All that follows in the order of the layers, K before V, up to the depth.
    const auto came = entry.came.begin();
    if (!std::all_of(came + static_cast<std::ptrdiff_t>(i) + 1,
                     came + static_cast<std::ptrdiff_t>(end), [](bool c) { return c; })) {
      continue;
    }
    const std::size_t bytes = entry.rows[i]->size() * sizeof(Half);
    entry.rows[i] = nullptr;
    entry.bytes -= bytes;
    bytes_ -= bytes;
  }
}

}  // namespace kvferry
