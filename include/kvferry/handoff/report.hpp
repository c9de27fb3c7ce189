// HandoffTimeouts and HandoffReport: how long a hand-off may wait, and what it took.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "kvferry/cache/source_sink.hpp"

namespace kvferry {

// Every state of a hand-off ends by itself. All are counted in whole ticks of the caller.
struct HandoffTimeouts {
  using Duration = std::chrono::milliseconds;
  Duration accept{30000};   // from the offer to its answer
  Duration ping{3000};      // after so long without anything to send a PING is sent
  Duration silence{12000};  // without a byte from the peer it is taken for dead
  Duration stall{300000};   // a living peer that makes no progress: no block, no credit, no end
  Duration commit{60000};   // from the sender's END to COMMITTED
};

// What a hand-off took, as one end saw it. Seconds are summed over threads; stages overlap.
struct HandoffReport {
  std::uint64_t wire_bytes = 0;     // both directions, frames and all
  std::uint64_t sent_bytes = 0;     // by this end alone, frames and all
  std::uint64_t payload_bytes = 0;  // coded blocks
  std::uint64_t side_bytes = 0;     // of them: scales and lengths (the sender knows)
  std::uint64_t symbol_bytes = 0;   // of them: the values themselves (the sender knows)
  std::uint64_t raw_bytes = 0;      // the same rows as stored at this end
  std::uint64_t blocks = 0;
  std::uint64_t model_data_bytes =
      0;                        // of the codebook and the predictor, as far as they travelled
  bool used_codebook = false;   // blocks were made with one
  bool used_predictor = false;  // likewise
  double read_seconds = 0;      // KvSource
  double encode_seconds = 0;    // codec
  double send_seconds = 0;      // blocks given to the channel
  double receive_seconds = 0;   // waiting for and reading frames
  double decode_seconds = 0;    // codec
  double write_seconds = 0;     // KvSink
  double commit_seconds = 0;    // sender: from END to COMMITTED; receiver: KvSink::commit
  double total_seconds = 0;     // from the offer to the end

  // How many times smaller the coded blocks are than the rows; 1 when nothing travelled.
  double ratio() const {
    return payload_bytes == 0 ? 1.0
                              : static_cast<double>(raw_bytes) / static_cast<double>(payload_bytes);
  }
};

class PredictorFetch;

// A hand-off that took effect.
struct HandoffReceipt {
  KvCommit commit;  // of the receiver's sequence
  HandoffReport report;
  // The receiver's: takes the predictor if the sender sends it now, on the same connection. Null:
  // nothing is to come.
  std::shared_ptr<PredictorFetch> predictor_fetch = nullptr;
};

}  // namespace kvferry
