// The host's side: copies, streams, events, capture and graphs; misuse is answered and noted.
#include <cstring>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/simt/block_sum.cuh"
#include "tests/simt/device_array.hpp"

namespace kvferry_test {
namespace {

TEST_CASE("copies check both ends") {
  const DeviceArray<int> device(std::vector<int>{1, 2, 3});
  int host[3] = {};
  CHECK(cudaMemcpy(host, device.data(), 12, cudaMemcpyDeviceToHost) == cudaSuccess);
  CHECK(host[2] == 3);
  CHECK(cudaMemcpy(host, device.data(), 16, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("the source leaves its allocation"));
  CHECK(cudaMemcpy(device.data(), host, 12, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("the destination is device memory"));
  CHECK(cudaMemcpy(host, device.data(), 12, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("the destination is not device memory"));
  CHECK(cudaMemset(device.data(), 0, 13) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("leaves its allocation"));
  CHECK(cudaMemset(device.data() + 1, 0, 8) == cudaSuccess);
  CHECK(device.values() == std::vector<int>{1, 0, 0});
  CHECK(cudaMemcpy(host, device.data(), 12, cudaMemcpyDefault) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("what was written past an allocation is found when it is freed") {
#if !defined(__SANITIZE_ADDRESS__)
  char* memory = nullptr;
  REQUIRE(cudaMallocHost(&memory, 100) == cudaSuccess);
  std::memset(memory, 0, 101);
  CHECK(cudaFree(memory) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("the other kind"));
  CHECK(cudaFreeHost(memory) == cudaErrorInvalidValue);
  CHECK_THAT(simt::take_errors(), Catch::Contains("past whose end something was written"));
  cudaGetLastError();
#endif
}

TEST_CASE("streams and events that do not exist") {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaEventQuery(event) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(stream, event, 0) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaSuccess);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(simt::take_errors() == "");
  CHECK(cudaStreamDestroy(stream) == cudaErrorInvalidResourceHandle);
  CHECK_THAT(simt::take_errors(), Catch::Contains("cudaStreamDestroy: the handle"));
  CHECK(cudaEventDestroy(event) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(event, nullptr) == cudaErrorInvalidResourceHandle);
  CHECK(launch_block_sum({nullptr, nullptr, 0}, 1, stream) == cudaErrorInvalidResourceHandle);
  CHECK(std::string(cudaGetErrorName(cudaGetLastError())) == "cudaErrorInvalidResourceHandle");
  simt::take_errors();
}

TEST_CASE("a graph replays launches and copies with the parameters of its capture") {
  const DeviceArray<float> in(std::vector<float>{1, 2, 3, 4});
  const DeviceArray<float> out(std::vector<float>{0});
  float on_host = 0;
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  BlockSumParams params = {in.data(), out.data(), 4};
  CHECK(launch_block_sum(params, 1, stream) == cudaSuccess);
  CHECK(cudaMemcpyAsync(&on_host, out.data(), 4, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  params.row = 2;  // too late for the graph
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  std::size_t nodes = 0;
  CHECK(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
  CHECK(nodes == 2);
  CHECK(out.values()[0] == 0.0f);  // nothing ran yet

  cudaGraphExec_t executable = nullptr;
  REQUIRE(cudaGraphInstantiate(&executable, graph, nullptr, nullptr, 0) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
  CHECK(on_host == 10.0f);
  const float changed[4] = {10, 20, 30, 40};
  CHECK(cudaMemcpy(in.data(), changed, 16, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream) == cudaSuccess);
  CHECK(on_host == 100.0f);
  CHECK(cudaGraphExecDestroy(executable) == cudaSuccess);
  CHECK(cudaGraphLaunch(executable, stream) == cudaErrorInvalidResourceHandle);
  CHECK_THAT(simt::take_errors(), Catch::Contains("cudaGraphLaunch"));
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("what a capture forbids spoils it") {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
  const auto spoilt_by = [&](cudaError_t (*call)(cudaStream_t)) {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    const cudaError_t answered = call(stream);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
    CHECK(graph == nullptr);
    return answered;
  };
  CHECK(spoilt_by([](cudaStream_t captured) { return cudaStreamSynchronize(captured); }) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(spoilt_by([](cudaStream_t) { return cudaDeviceSynchronize(); }) ==
        cudaErrorStreamCaptureUnsupported);
  CHECK(spoilt_by([](cudaStream_t) {
          void* memory = nullptr;
          return cudaMalloc(&memory, 16);
        }) == cudaErrorStreamCaptureUnsupported);
  CHECK(spoilt_by([](cudaStream_t) { return launch_block_sum({}, 1, nullptr); }) ==
        cudaErrorStreamCaptureImplicit);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("the device is what the test says it is") {
  const simt::Settings before = simt::settings();
  simt::settings().multiprocessors = 8;
  simt::settings().compute_major = 8;
  simt::settings().compute_minor = 7;
  cudaDeviceProp properties;
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  CHECK(properties.multiProcessorCount == 8);
  CHECK(properties.major * 10 + properties.minor == 87);
  int value = 0;
  CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMinor, 0) == cudaSuccess);
  CHECK(value == 7);
  CHECK(cudaGetDeviceProperties(&properties, 1) == cudaErrorInvalidDevice);
  simt::settings() = before;
  cudaGetLastError();
}

}  // namespace
}  // namespace kvferry_test
