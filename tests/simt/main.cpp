// The main of programs that test kernels: Catch2's, and a test case fails that leaves an error of
// the emulation unasked for, or device memory allocated.
#define CATCH_CONFIG_RUNNER
#include <cstdio>
#include <string>

#include <catch2/catch.hpp>

#include "simt/device_memory.hpp"
#include "simt/launch.hpp"

namespace {

int failed_cases = 0;

class Leftovers : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;

  void testCaseStarting(const Catch::TestCaseInfo&) override {
    used_bytes_ = simt::DeviceMemory::instance().used_bytes();
  }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    const std::string errors = simt::take_errors();
    const std::size_t used = simt::DeviceMemory::instance().used_bytes();
    if (errors.empty() && used == used_bytes_) return;
    ++failed_cases;
    std::printf("\nerror: test case '%s' leaves %zu bytes of device memory and these errors:\n%s\n",
                stats.testInfo.name.c_str(), used - used_bytes_, errors.c_str());
  }

 private:
  std::size_t used_bytes_ = 0;
};

}  // namespace

CATCH_REGISTER_LISTENER(Leftovers)

int main(int argc, char** argv) {
  const int failed = Catch::Session().run(argc, argv);
  return failed == 0 && failed_cases == 0 ? 0 : 1;
}
