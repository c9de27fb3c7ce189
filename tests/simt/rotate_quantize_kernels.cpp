// The instances of rotate_quantize and norm_rope_write, as they are compiled for the device.
#include "src/compute/ampere/norm_rope_write.cu"
#include "src/compute/ampere/rotate_quantize.cu"
