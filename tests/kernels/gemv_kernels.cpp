// The kernels' own sources, for the emulation.
#include "src/compute/maxwell/gemv.cu"
#include "src/compute/maxwell/norm_rope_append.cu"
