// Copies, fills and elementwise operations of rows of columns. Included only by kernel units.
#pragma once
#include "engine/kernels/functions.h"

namespace {

using sep::CopyArgs;
using sep::ElementwiseArgs;
using sep::FillArgs;
using sep::Operation;

SEP_INLINE void copy_line(const float* src, float* dst, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i + kWide <= n; i += kWide) store_v(dst + i, load_v(src + i));
  for (; i < n; i++) dst[i] = src[i];
}
SEP_INLINE void fill_line(float value, float* dst, ptrdiff_t n) {
  ptrdiff_t i = 0;
  for (; i + kWide <= n; i += kWide) store_v(dst + i, all(value));
  for (; i < n; i++) dst[i] = value;
}

// dst[i * dst_row + j] = src[i + j * src_column] for columns from `first` on, as many as whole vectors of N hold.
// Returns where they end.
template <int N>
SEP_INLINE ptrdiff_t transpose_columns(const CopyArgs& g, ptrdiff_t first) {
  ptrdiff_t j = first;
  for (; j + N <= g.columns; j += N) {
    const float* src = g.src + j * g.src_column;
    float* dst = g.dst + j;
    ptrdiff_t i = 0;
    for (; i + 4 <= g.rows; i += 4) {
      vec<float, N> r[4];
      SEP_UNROLL
      for (int q = 0; q < 4; q++)
        r[q] = gather_parts<float, N>([&](int part) { return src + i + (4 * part + q) * g.src_column; });
      transpose_parts<float, N>(r);
      SEP_UNROLL
      for (int q = 0; q < 4; q++) store<float, N>(dst + (i + q) * g.dst_row, r[q]);
    }
    for (; i < g.rows; i++)
      for (int c = 0; c < N; c++) dst[i * g.dst_row + c] = src[i + c * g.src_column];
  }
  return j;
}

void transpose(const CopyArgs& g) {
  ptrdiff_t j = transpose_columns<kWide>(g, 0);
  if constexpr (kWide > 4) j = transpose_columns<4>(g, j);
  for (; j < g.columns; j++)
    for (ptrdiff_t i = 0; i < g.rows; i++) g.dst[i * g.dst_row + j] = g.src[i + j * g.src_column];
}

void copy(const CopyArgs& g) {
  if (g.dst_column == 1 && g.src_column == 1) {
    for (ptrdiff_t i = 0; i < g.rows; i++) copy_line(g.src + i * g.src_row, g.dst + i * g.dst_row, g.columns);
  } else if (g.dst_column == 1 && g.src_column == 0) {
    for (ptrdiff_t i = 0; i < g.rows; i++) fill_line(g.src[i * g.src_row], g.dst + i * g.dst_row, g.columns);
  } else if (g.dst_column == 1 && g.src_row == 1) {
    transpose(g);
  } else if (g.dst_row == 1 && g.src_column == 1) {
    transpose({g.src, g.dst, g.columns, g.rows, g.src_column, g.src_row, g.dst_column, g.dst_row});
  } else {
    for (ptrdiff_t i = 0; i < g.rows; i++)
      for (ptrdiff_t j = 0; j < g.columns; j++)
        g.dst[i * g.dst_row + j * g.dst_column] = g.src[i * g.src_row + j * g.src_column];
  }
}

void fill(const FillArgs& g) {
  for (ptrdiff_t i = 0; i < g.rows; i++) {
    float* dst = g.dst + i * g.dst_row;
    if (g.dst_column == 1)
      fill_line(g.value, dst, g.columns);
    else
      for (ptrdiff_t j = 0; j < g.columns; j++) dst[j * g.dst_column] = g.value;
  }
}

SEP_INLINE V pow_of(V a, V b) {
  for (int i = 0; i < kWide; i++) a[i] = __builtin_powf(a[i], b[i]);
  return a;
}

template <Operation Op>
SEP_INLINE V combined(V a, V b) {
  switch (Op) {
    case Operation::first:
      return a;
    case Operation::add:
      return a + b;
    case Operation::sub:
      return a - b;
    case Operation::mul:
      return a * b;
    case Operation::div:
      return a / b;
    case Operation::pow:
      return pow_of(a, b);
    case Operation::min:
      return min_of(a, b);
    case Operation::max:
      return max_of(a, b);
    case Operation::prelu:
      return a < V{} ? a * b : a;
    case Operation::equal:
      return a == b ? all(1.0f) : V{};
    case Operation::less:
      return a < b ? all(1.0f) : V{};
    case Operation::less_equal:
      return a <= b ? all(1.0f) : V{};
    case Operation::where:
      return a != V{} ? b : V{};
    case Operation::unless:
      return a != V{} ? V{} : b;
  }
}

// Rows whose elements lie next to each other, or are all the same one (A, B: whether they are not).
template <Operation Op, bool A, bool B>
SEP_INLINE void combine_rows(const ElementwiseArgs& g, float low, float high) {
  for (ptrdiff_t i = 0; i < g.rows; i++) {
    const float *a = g.a + i * g.a_row, *b = g.b + i * g.b_row;
    float* dst = g.dst + i * g.dst_row;
    const V same_a = A ? V{} : all(*a), same_b = B ? V{} : all(*b);
    ptrdiff_t j = 0;
    for (; j + kWide <= g.columns; j += kWide)
      store_v(dst + j, between(combined<Op>(A ? load_v(a + j) : same_a, B ? load_v(b + j) : same_b), low, high));
    if (const ptrdiff_t n = g.columns - j; n > 0)
      store_part(
          dst + j,
          between(combined<Op>(A ? load_part(a + j, n, 1) : same_a, B ? load_part(b + j, n, 1) : same_b), low, high),
          n);
  }
}

template <Operation Op>
__attribute__((noinline)) void combine(const ElementwiseArgs& g, float low, float high) {
  if (g.a_column)
    g.b_column ? combine_rows<Op, true, true>(g, low, high) : combine_rows<Op, true, false>(g, low, high);
  else
    g.b_column ? combine_rows<Op, false, true>(g, low, high) : combine_rows<Op, false, false>(g, low, high);
}

void combine_any(const ElementwiseArgs& g, float low, float high) {
  switch (g.operation) {
    case Operation::first: {
      ElementwiseArgs with = g;
      with.b = g.a, with.b_row = g.a_row, with.b_column = g.a_column;
      return combine<Operation::first>(with, low, high);
    }
    case Operation::add:
      return combine<Operation::add>(g, low, high);
    case Operation::sub:
      return combine<Operation::sub>(g, low, high);
    case Operation::mul:
      return combine<Operation::mul>(g, low, high);
    case Operation::div:
      return combine<Operation::div>(g, low, high);
    case Operation::pow:
      return combine<Operation::pow>(g, low, high);
    case Operation::min:
      return combine<Operation::min>(g, low, high);
    case Operation::max:
      return combine<Operation::max>(g, low, high);
    case Operation::prelu:
      return combine<Operation::prelu>(g, low, high);
    case Operation::equal:
      return combine<Operation::equal>(g, low, high);
    case Operation::less:
      return combine<Operation::less>(g, low, high);
    case Operation::less_equal:
      return combine<Operation::less_equal>(g, low, high);
    case Operation::where:
      return combine<Operation::where>(g, low, high);
    case Operation::unless:
      return combine<Operation::unless>(g, low, high);
  }
}

// Clamps are applied while values are in registers; other functions to a group of rows in the L1 cache.
void elementwise_dense(ElementwiseArgs g) {
  const After after = g.after;
  const float endless = __builtin_inff();
  if (g.operation == Operation::first && g.a_column) {
    if (g.a_row == g.columns && g.dst_row == g.columns) g.columns *= g.rows, g.rows = 1;
    for (ptrdiff_t i = 0; i < g.rows; i++) apply_line(g.a + i * g.a_row, g.dst + i * g.dst_row, g.columns, after);
    return;
  }
  switch (after.function) {
    case Function::none:
      return combine_any(g, -endless, endless);
    case Function::relu:
      return combine_any(g, 0, endless);
    case Function::relu6:
      return combine_any(g, 0, 6);
    case Function::clip:
      return combine_any(g, after.alpha, after.beta);
    default:
      break;
  }
  const ptrdiff_t rows = g.rows, group = g.columns < 2048 ? 2048 / g.columns : 1;
  for (ptrdiff_t i = 0; i < rows; i += group) {
    g.rows = rows - i < group ? rows - i : group;
    combine_any(g, -endless, endless);
    if (g.dst_row == g.columns)
      apply_line(g.dst, g.dst, g.rows * g.columns, after);
    else
      for (ptrdiff_t r = 0; r < g.rows; r++) apply_line(g.dst + r * g.dst_row, g.dst + r * g.dst_row, g.columns, after);
    g.a += g.rows * g.a_row, g.b += g.rows * g.b_row, g.dst += g.rows * g.dst_row;
  }
}

SEP_INLINE bool is_dense(ptrdiff_t step) { return step == 0 || step == 1; }

// Other strides: by way of lines that lie next to each other.
void elementwise_strided(const ElementwiseArgs& g) {
  constexpr ptrdiff_t kLine = 256;
  float a[kLine], b[kLine], dst[kLine];
  for (ptrdiff_t i = 0; i < g.rows; i++) {
    for (ptrdiff_t j = 0; j < g.columns; j += kLine) {
      const ptrdiff_t n = g.columns - j < kLine ? g.columns - j : kLine;
      copy({g.a + i * g.a_row + j * g.a_column, a, 1, n, 0, g.a_column, 0, 1});
      if (g.operation != Operation::first) copy({g.b + i * g.b_row + j * g.b_column, b, 1, n, 0, g.b_column, 0, 1});
      elementwise_dense({a, b, dst, 1, n, 0, 1, 0, 1, 0, 1, g.operation, g.after});
      copy({dst, g.dst + i * g.dst_row + j * g.dst_column, 1, n, 0, 1, 0, g.dst_column});
    }
  }
}

// Common powers by a single number, exactly as a multiplication or a square root gives them.
void simplify_power(ElementwiseArgs& g) {
  if (g.operation != Operation::pow || g.b_row || g.b_column) return;
  if (*g.b == 2)
    g.operation = Operation::mul, g.b = g.a, g.b_row = g.a_row, g.b_column = g.a_column;
  else if (*g.b == 0.5f && g.after.function == Function::none)
    g.operation = Operation::first, g.after.function = Function::sqrt;
}

void elementwise(const ElementwiseArgs& args) {
  ElementwiseArgs g = args;
  simplify_power(g);
  const bool one = g.operation == Operation::first;
  if (g.dst_column == 1 && is_dense(g.a_column) && (one || is_dense(g.b_column)))
    elementwise_dense(g);
  else
    elementwise_strided(g);
}

}  // namespace
