#include "kvferry/compute/cpu/isa.hpp"

#include "reference_kernels.hpp"

namespace kvferry::reference {
namespace {

const Kernels& choose() {
  const Kernels* best = portable_kernels();
  for (const cpu::Isa isa : cpu::available_isas()) {
    const Kernels* table = nullptr;
    if (isa == cpu::Isa::kAvx2) table = avx2_kernels();
    if (isa == cpu::Isa::kAvx512Vnni) table = avx512_kernels();
    if (table != nullptr) best = table;
  }
  return *best;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace kvferry::reference
