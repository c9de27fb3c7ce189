// The instruction sets that the CPU kernels are written for, and the choice among them at run time.
#pragma once

#include <cstdint>
#include <vector>

#include "kvferry/core/result.hpp"

namespace kvferry::cpu {

enum class Isa : std::uint8_t {
  kPortable = 0,    // plain C++
  kAvx2 = 1,        // AVX2 + FMA + F16C
  kAvx512Vnni = 2,  // AVX-512 F, BW, VL, DQ, VNNI
  kNeon = 3,        // AArch64
  kDotProd = 4,     // AArch64 with the dot-product extension
};

// "portable", "avx2", "avx512vnni", "neon", "dotprod": what KVFERRY_ISA takes.
const char* name_of(Isa isa);

// Those that this build has kernels for and this machine can run, best last; never empty.
std::vector<Isa> available_isas();

// The kernels of one instruction set. Objects of static lifetime; immutable, shared by all threads.
struct Kernels;

Isa isa_of(const Kernels& kernels);

// kUnsupported when the build or the machine lacks it.
Result<const Kernels*> kernels_for(Isa isa);

// The kernels that the environment variable KVFERRY_ISA names, else the best available. Reads the
// environment at every call. kInvalidArgument for an unknown name, kUnsupported as above.
Result<const Kernels*> active_kernels();

// The instruction set of active_kernels().
Result<Isa> active_isa();

}  // namespace kvferry::cpu
