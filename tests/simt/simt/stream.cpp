#include "simt/stream.hpp"

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "simt/errors.hpp"

namespace simt {
namespace {

// The objects of one kind that exist.
template <typename T>
class Registry {
 public:
  T* add(std::unique_ptr<T> object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    objects_.push_back(std::move(object));
    return objects_.back().get();
  }
  bool has(const T* object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return find(object) != objects_.end();
  }
  bool remove(const T* object) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = find(object);
    if (found == objects_.end()) return false;
    objects_.erase(found);
    return true;
  }
  template <typename Do>
  void for_each(const Do& action) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& object : objects_) action(*object);
  }

 private:
  typename std::vector<std::unique_ptr<T>>::iterator find(const T* object) {
    return std::find_if(objects_.begin(), objects_.end(),
                        [object](const auto& held) { return held.get() == object; });
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> objects_;
};

Registry<Stream>& streams() {
  static Registry<Stream> registry;
  return registry;
}
Registry<Event>& events() {
  static Registry<Event> registry;
  return registry;
}
Registry<Graph>& graphs() {
  static Registry<Graph> registry;
  return registry;
}
Registry<GraphExecutable>& executables() {
  static Registry<GraphExecutable> registry;
  return registry;
}

// Null is the default stream.
bool exists(Stream* stream) {
  return stream == nullptr || streams().has(stream);
}
bool is_captured(const Stream* stream) {
  return stream != nullptr && stream->capture != nullptr;
}

cudaError_t refuse_handle(const char* what) {
  return refuse(cudaErrorInvalidResourceHandle,
                std::string(what) + ": the handle is not one that exists");
}

cudaError_t spoil(Stream* stream) {
  stream->is_capture_invalid = true;
  return answer(cudaErrorStreamCaptureUnsupported);
}

}  // namespace

cudaError_t submit(Stream* stream, const char* what, const Work& work) {
  if (!exists(stream)) return refuse_handle(what);
  if (!is_captured(stream)) {
    // The default stream waits for the others, which a captured one cannot grant.
    if (stream == nullptr) {
      const cudaError_t status = leave_captures_alone();
      if (status != cudaSuccess) return answer(cudaErrorStreamCaptureImplicit);
    }
    return work();
  }
  if (stream->is_capture_invalid) return answer(cudaErrorStreamCaptureInvalidated);
  stream->capture->nodes.push_back(GraphNode{work});
  return cudaSuccess;
}

cudaError_t leave_captures_alone() {
  bool any = false;
  streams().for_each([&any](Stream& stream) {
    if (stream.capture == nullptr) return;
    stream.is_capture_invalid = true;
    any = true;
  });
  return any ? answer(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

}  // namespace simt

using simt::answer;
using simt::refuse_handle;

cudaError_t cudaDeviceSynchronize() {
  return simt::leave_captures_alone();
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = simt::streams().add(std::make_unique<simt::Stream>());
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags > cudaStreamNonBlocking) return answer(cudaErrorInvalidValue);
  return cudaStreamCreate(stream);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr || !simt::streams().has(stream)) return refuse_handle("cudaStreamDestroy");
  if (stream->capture != nullptr) {
    simt::graphs().remove(stream->capture);
    simt::record_error("cudaStreamDestroy: the stream is being captured");
  }
  simt::streams().remove(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (!simt::exists(stream)) return refuse_handle("cudaStreamSynchronize");
  if (stream == nullptr) return simt::leave_captures_alone();
  return simt::is_captured(stream) ? simt::spoil(stream) : cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (!simt::exists(stream)) return refuse_handle("cudaStreamQuery");
  return simt::is_captured(stream) ? simt::spoil(stream) : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
  if (!simt::exists(stream)) return refuse_handle("cudaStreamWaitEvent");
  if (!simt::events().has(event)) return refuse_handle("cudaStreamWaitEvent");
  if (flags != 0) return answer(cudaErrorInvalidValue);
  return simt::is_captured(stream) ? simt::spoil(stream) : cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = simt::events().add(std::make_unique<simt::Event>());
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if ((flags & ~3u) != 0) return answer(cudaErrorInvalidValue);
  return cudaEventCreate(event);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return simt::events().remove(event) ? cudaSuccess : refuse_handle("cudaEventDestroy");
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!simt::events().has(event)) return refuse_handle("cudaEventRecord");
  return simt::submit(stream, "cudaEventRecord", [event] {
    event->was_recorded = true;
    return cudaSuccess;
  });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return simt::events().has(event) ? cudaSuccess : refuse_handle("cudaEventSynchronize");
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return simt::events().has(event) ? cudaSuccess : refuse_handle("cudaEventQuery");
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (!simt::events().has(start) || !simt::events().has(end)) {
    return refuse_handle("cudaEventElapsedTime");
  }
  if (!start->was_recorded || !end->was_recorded) return answer(cudaErrorInvalidResourceHandle);
  *milliseconds = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (stream == nullptr) return answer(cudaErrorStreamCaptureUnsupported);
  if (!simt::exists(stream)) return refuse_handle("cudaStreamBeginCapture");
  if (stream->capture != nullptr) return answer(cudaErrorIllegalState);
  stream->capture = simt::graphs().add(std::make_unique<simt::Graph>());
  stream->is_capture_invalid = false;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream == nullptr || !simt::exists(stream)) return refuse_handle("cudaStreamEndCapture");
  if (stream->capture == nullptr) return answer(cudaErrorIllegalState);
  *graph = std::exchange(stream->capture, nullptr);
  if (!stream->is_capture_invalid) return cudaSuccess;
  simt::graphs().remove(*graph);
  *graph = nullptr;
  return answer(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (!simt::exists(stream)) return refuse_handle("cudaStreamIsCapturing");
  *status = !simt::is_captured(stream)   ? cudaStreamCaptureStatusNone
            : stream->is_capture_invalid ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 cudaGraphNode_t* error_node, char* log, std::size_t log_size) {
  if (!simt::graphs().has(graph)) return refuse_handle("cudaGraphInstantiate");
  if (error_node != nullptr) *error_node = nullptr;
  if (log != nullptr && log_size > 0) *log = '\0';
  auto copy = std::make_unique<simt::GraphExecutable>();
  copy->nodes = graph->nodes;
  *executable = simt::executables().add(std::move(copy));
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
  if (!simt::graphs().has(graph)) return refuse_handle("cudaGraphGetNodes");
  if (nodes != nullptr) {
    *count = std::min(*count, graph->nodes.size());
    for (std::size_t i = 0; i < *count; ++i) nodes[i] = &graph->nodes[i];
  } else {
    *count = graph->nodes.size();
  }
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!simt::executables().has(executable)) return refuse_handle("cudaGraphLaunch");
  return simt::submit(stream, "cudaGraphLaunch", [executable] {
    for (const simt::GraphNode& node : executable->nodes) {
      const cudaError_t status = node.work();
      if (status != cudaSuccess) return status;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return simt::graphs().remove(graph) ? cudaSuccess : refuse_handle("cudaGraphDestroy");
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return simt::executables().remove(executable) ? cudaSuccess
                                                : refuse_handle("cudaGraphExecDestroy");
}
