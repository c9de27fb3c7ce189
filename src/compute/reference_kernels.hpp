// The inner loops of path::Reference, one table per instruction set.
#pragma once

#include <cstddef>

namespace kvferry::reference {

constexpr int kPanel = 16;    // outputs of a weight panel: the lanes of every kernel
constexpr int kMaxRows = 12;  // most rows of one tile

// Every result is one chain of multiply-adds in ascending order, so that it does not depend on how
// rows are grouped. Kernels of one table round alike; the portable table does not fuse.
struct Kernels {
  int tile_rows;  // rows that `tile` likes best, at most kMaxRows

  // out[r][lane] = sum over k of x[k][r] * panel[k][lane].
  // panel [columns, kPanel], x [columns, rows], out [rows, kPanel]; 1 <= rows <= tile_rows.
  void (*tile)(const float* panel, const float* x, std::size_t columns, int rows, float* out);

  // scores[t] = scale * q · keys[t]. q [width], keys [tokens, width].
  void (*scores)(const float* q, const float* keys, std::size_t tokens, std::size_t width,
                 float scale, float* scores);

  // out += sum over t of weights[t] * values[t]. values [tokens, width], out [width].
  void (*weighted_sum)(const float* weights, const float* values, std::size_t tokens,
                       std::size_t width, float* out);
};

// The table for this processor.
const Kernels& kernels();

// The tables by name: portable always works, the others only where the processor has them (and
// are null in builds for another architecture).
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

}  // namespace kvferry::reference
