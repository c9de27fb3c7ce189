// The kernels of path::AmpereInt8, as they are compiled for the device.
#include "src/compute/ampere/attention.cu"
#include "src/compute/ampere/gemm_s8_residual.cu"
#include "src/compute/ampere/gemm_s8_rope.cu"
#include "src/compute/ampere/gemm_s8_store.cu"
#include "src/compute/ampere/gemm_s8_swiglu.cu"
#include "src/compute/ampere/norm_rope_write.cu"
#include "src/compute/ampere/rotate_quantize.cu"
#include "src/compute/maxwell/token_attention.cu"
