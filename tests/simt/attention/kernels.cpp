// The kernels and launchers as the library has them.
#include "src/compute/ampere/attention.cu"
#include "src/compute/maxwell/attention.cu"
#include "src/compute/maxwell/token_attention.cu"
