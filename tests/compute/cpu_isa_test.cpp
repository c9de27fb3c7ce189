// The choice of the instruction set.
#include <cstdlib>

#include "cpu_fixture.hpp"

using namespace kvferry;
using namespace kvferry::cpu;

TEST_CASE("KVFERRY_ISA chooses, and what is not available is a named error") {
  const char* before = std::getenv("KVFERRY_ISA");
  const std::string kept = before != nullptr ? before : "";

  REQUIRE_FALSE(available_isas().empty());
  CHECK(available_isas().front() == Isa::kPortable);
  for (const Isa isa : available_isas()) {
    setenv("KVFERRY_ISA", name_of(isa), 1);
    CHECK(active_isa().value() == isa);
    CHECK(isa_of(*active_kernels().value()) == isa);
  }
  std::size_t missing = 0;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeon, Isa::kDotProd}) {
    bool available = false;
    for (const Isa a : available_isas()) available |= a == isa;
    if (available) continue;
    ++missing;
    setenv("KVFERRY_ISA", name_of(isa), 1);
    const auto chosen = active_kernels();
    REQUIRE_FALSE(chosen.ok());
    CHECK(chosen.error().code == ErrorCode::kUnsupported);
    CHECK(chosen.error().message.find(name_of(isa)) != std::string::npos);
    CHECK(chosen.error().message.find("portable") != std::string::npos);
  }
  CHECK(missing >= 2);  // no machine is both x86 and Arm
  setenv("KVFERRY_ISA", "avx9000", 1);
  const auto unknown = active_isa();
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.error().code == ErrorCode::kInvalidArgument);
  CHECK(unknown.error().message.find("avx9000") != std::string::npos);
  setenv("KVFERRY_ISA", "", 1);
  CHECK(active_isa().value() == available_isas().back());

  if (before != nullptr) {
    setenv("KVFERRY_ISA", kept.c_str(), 1);
  } else {
    unsetenv("KVFERRY_ISA");
  }
}
