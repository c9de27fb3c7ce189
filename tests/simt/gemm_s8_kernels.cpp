// The instances of gemm_s8, as they are compiled for the device.
#include "src/compute/ampere/gemm_s8_residual.cu"
#include "src/compute/ampere/gemm_s8_rope.cu"
#include "src/compute/ampere/gemm_s8_store.cu"
#include "src/compute/ampere/gemm_s8_swiglu.cu"
