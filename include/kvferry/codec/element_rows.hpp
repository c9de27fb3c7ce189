// Rows of F16, BF16 or F32 as little-endian bytes: to and from float, and from one type to another.
#pragma once

#include "kvferry/cache/geometry.hpp"
#include "kvferry/core/span.hpp"

namespace kvferry {

// values[i] = the i-th value of `rows`, exactly. `rows` has values.size() * size_of(type) bytes, at
// any alignment.
void load_rows(ElementType type, Bytes rows, Span<float> values);

// The inverse; rounds to nearest, ties to even. NaN becomes a quiet NaN.
void store_rows(ElementType type, Span<const float> values, MutableBytes rows);

// Rows of `from` as rows of `to`: the same bytes when the types are equal, else rounded as by
// store_rows. The two do not overlap.
void convert_rows(ElementType from, Bytes rows, ElementType to, MutableBytes out);

}  // namespace kvferry
