#include "row_kernels.hpp"

#include "row_loops.hpp"

namespace kvferry {

const RowKernels* portable_row_kernels() {
  static constexpr RowKernels kKernels = {"portable",   load,        store,    rotate,
                                          add,          add_squares, quantise, dequantise,
                                          tile_to_runs, runs_to_tile};
  return &kKernels;
}

const RowKernels& row_kernels() {
  return *portable_row_kernels();
}

}  // namespace kvferry
