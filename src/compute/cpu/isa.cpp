#include "kvferry/compute/cpu/isa.hpp"

#include <cstdlib>
#include <string>

#include "kernel_table.hpp"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace kvferry::cpu {
namespace {

constexpr Isa kAll[] = {Isa::kPortable, Isa::kAvx2, Isa::kAvx512Vnni, Isa::kNeon, Isa::kDotProd};

// Null when the build has none.
const Kernels* built_kernels(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return &portable_kernels();
#if defined(KVFERRY_CPU_AVX2)
    case Isa::kAvx2:
      return &avx2_kernels();
#endif
#if defined(KVFERRY_CPU_AVX512VNNI)
    case Isa::kAvx512Vnni:
      return &avx512vnni_kernels();
#endif
#if defined(KVFERRY_CPU_NEON)
    case Isa::kNeon:
      return &neon_kernels();
#endif
#if defined(KVFERRY_CPU_DOTPROD)
    case Isa::kDotProd:
      return &dotprod_kernels();
#endif
    default:
      return nullptr;
  }
}

#if defined(KVFERRY_CPU_AVX2)
// __builtin_cpu_supports() knows F16C only from gcc 11 and clang 15 on.
bool has_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

bool machine_runs(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return true;
#if defined(KVFERRY_CPU_AVX2)
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#endif
#if defined(KVFERRY_CPU_AVX512VNNI)
    case Isa::kAvx512Vnni:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
#endif
#if defined(KVFERRY_CPU_NEON)
    case Isa::kNeon:
      return true;
#endif
#if defined(KVFERRY_CPU_DOTPROD) && defined(__linux__)
    case Isa::kDotProd:
      return (getauxval(AT_HWCAP) & (1ul << 20)) != 0;  // HWCAP_ASIMDDP
#endif
    default:
      return false;
  }
}

std::string names(const std::vector<Isa>& isas) {
  std::string all;
  for (const Isa isa : isas) all += (all.empty() ? "" : ", ") + std::string(name_of(isa));
  return all;
}

}  // namespace

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kNeon:
      return "neon";
    case Isa::kDotProd:
      return "dotprod";
  }
  return "unknown";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> available;
  for (const Isa isa : kAll) {
    if (built_kernels(isa) != nullptr && machine_runs(isa)) available.push_back(isa);
  }
  return available;
}

Isa isa_of(const Kernels& kernels) {
  return kernels.isa;
}

Result<const Kernels*> kernels_for(Isa isa) {
  const Kernels* kernels = built_kernels(isa);
  if (kernels == nullptr || !machine_runs(isa)) {
    return Error(ErrorCode::kUnsupported,
                 std::string("instruction set ") + name_of(isa) + " is not available " +
                     (kernels == nullptr ? "in this build" : "on this machine") +
                     "; available: " + names(available_isas()));
  }
  return kernels;
}

Result<const Kernels*> active_kernels() {
  const char* chosen = std::getenv("KVFERRY_ISA");
  if (chosen == nullptr || *chosen == '\0') return kernels_for(available_isas().back());
  for (const Isa isa : kAll) {
    if (std::string(chosen) == name_of(isa)) return kernels_for(isa);
  }
  return Error(ErrorCode::kInvalidArgument, "KVFERRY_ISA names no instruction set: \"" +
                                                std::string(chosen) +
                                                "\"; available: " + names(available_isas()));
}

Result<Isa> active_isa() {
  KVFERRY_ASSIGN(const Kernels* kernels, active_kernels());
  return kernels->isa;
}

}  // namespace kvferry::cpu
