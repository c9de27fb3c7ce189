#include "kvferry/quality/context_cache.hpp"

#include <algorithm>

#include "kvferry/cache/sequence_adapters.hpp"
#include "kvferry/codec/element_rows.hpp"

namespace kvferry {

Result<ContextCache> ContextCache::read(const KvSequence& sequence) {
  ContextCache cache;
  cache.geometry = sequence.geometry();
  cache.tokens = sequence.tokens();
  cache.chunk_tokens = std::max(1u, cache.length());
  cache.values.resize(cache.planes() * cache.plane_values());
  std::vector<std::uint8_t> rows(cache.plane_values() * size_of(cache.geometry.type));
  for (std::size_t p = 0; p < cache.planes(); ++p) {
    KVFERRY_TRY(sequence.read(cache.range(p), sequence.generation(), rows));
    load_rows(cache.geometry.type, rows,
              Span<float>(cache.values).subspan(p * cache.plane_values(), cache.plane_values()));
  }
  return cache;
}

Result<std::shared_ptr<KvSequence>> ContextCache::write(const std::shared_ptr<KvPool>& pool) const {
  const std::shared_ptr<KvSequence> sequence = KvSequence::create(pool);
  SequenceSink sink(sequence);
  KvImportPlan plan;
  plan.end = length();
  plan.tokens = tokens;
  KVFERRY_TRY(sink.begin(plan));
  std::vector<std::uint8_t> rows(plane_values() * size_of(pool->geometry().type));
  for (std::size_t p = 0; p < planes(); ++p) {
    store_rows(pool->geometry().type,
               Span<const float>(values).subspan(p * plane_values(), plane_values()), rows);
    KVFERRY_TRY(sink.write(range(p), rows));
  }
  KVFERRY_ASSIGN(const KvCommit done, sink.commit());
  static_cast<void>(done);
  return sequence;
}

}  // namespace kvferry
