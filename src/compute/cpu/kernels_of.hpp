// The table of one instruction set, from its vector type.
#pragma once

#include "attention_kernels.hpp"
#include "elementwise_kernels.hpp"
#include "product_kernels.hpp"

namespace kvferry::cpu {

template <typename V>
constexpr Kernels kernels_of(Isa isa) {
  return Kernels{isa,
                 ProductKernels<V>::multiply_panel,
                 ProductKernels<V>::quantize_row,
                 ElementwiseKernels<V>::rms_norm_row,
                 ElementwiseKernels<V>::swiglu,
                 ElementwiseKernels<V>::rope_row,
                 ElementwiseKernels<V>::store_values,
                 AttentionKernels<V>::score_partition,
                 AttentionKernels<V>::attend_partition,
                 AttentionKernels<V>::merge_partition,
                 AttentionKernels<V>::add_squares};
}

}  // namespace kvferry::cpu
