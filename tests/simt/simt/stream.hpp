// Streams, and how work reaches them: at once, or into a graph while they are captured.
#pragma once

#include <functional>
#include <vector>

#include "simt/runtime_api.hpp"

namespace simt {

using Work = std::function<cudaError_t()>;

struct GraphNode {
  Work work;
};

struct Graph {
  std::vector<GraphNode> nodes;
};

struct GraphExecutable {
  std::vector<GraphNode> nodes;
};

struct Stream {
  Graph* capture = nullptr;  // owned, while it is captured
  bool is_capture_invalid = false;
};

struct Event {
  bool was_recorded = false;
};

// Does the work now, or makes it a node of the graph that the stream is captured into.
// `what` is for the message about a stream that does not exist.
cudaError_t submit(Stream* stream, const char* what, const Work& work);
// For calls that a capture forbids: cudaSuccess while none is going on; otherwise it is spoilt.
cudaError_t leave_captures_alone();

}  // namespace simt
