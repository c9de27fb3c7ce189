// CUDA's half and half2 on the CPU, as far as the kernels use them. C++14.
#pragma once

#include "simt/half.hpp"
