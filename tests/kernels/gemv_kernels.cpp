// The product's own sources, for the emulation.
#include "src/compute/maxwell/gemv.cu"
