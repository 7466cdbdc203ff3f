// Products of a few rows with a panel of a matrix, and with a matrix as it lies, whose rows are the columns. Included
// only by kernel units.
#pragma once
#include "engine/kernels/functions.h"
#include "engine/kernels/lines.h"

namespace {

using sep::ProductArgs;

constexpr int kPanel = kManyRegisters ? 4 : 2;  // vectors
constexpr int kRows = 6;                        // whose sums the registers hold beside a panel's vectors
constexpr int kDotRows = 4, kDotColumns = kManyRegisters ? 4 : 3;  // whose dot products the registers hold
constexpr int kAhead = 4096;                    // bytes fetched ahead of a panel that lies in memory

// M rows of N vectors. S terms at a time have sums of their own, where M rows alone would wait for each other.
template <int M, int N>
__attribute__((noinline)) void product_of(const ProductArgs& g, const float* x, float* dst) {
  constexpr int S = M * N >= 8 ? 1 : M * N >= 4 ? 2 : 4;
  V sums[S][M][N];
  SEP_UNROLL
  for (int s = 0; s < S; s++) SEP_UNROLL
  for (int m = 0; m < M; m++) SEP_UNROLL
  for (int n = 0; n < N; n++) sums[s][m][n] = V{};
  const float* w = g.w;
  auto term = [&](V(&sum)[M][N], ptrdiff_t c) SEP_LAMBDA {
    V values[N];
    SEP_UNROLL
    for (int n = 0; n < N; n++) values[n] = load_v(w + n * kWide);
    SEP_UNROLL
    for (int m = 0; m < M; m++) {
      V value = all(x[m * g.x_row + c * g.x_column]);
      keep(value);
      SEP_UNROLL
      for (int n = 0; n < N; n++) sum[m][n] += value * values[n];
    }
    if (M == 1 && g.far) {
      SEP_UNROLL
      for (int b = 0; b < N * kBytes; b += 64) prefetch(reinterpret_cast<const char*>(w) + kAhead + b);
    }
    w += g.w_row;
  };
  ptrdiff_t c = 0;
  for (; c + S <= g.inner; c += S) {
    SEP_UNROLL
    for (int s = 0; s < S; s++) term(sums[s], c + s);
  }
  for (; c < g.inner; c++) term(sums[0], c);
  const ptrdiff_t rest = g.columns - (N - 1) * kWide;
  SEP_UNROLL
  for (int m = 0; m < M; m++) {
    SEP_UNROLL
    for (int n = 0; n < N; n++) {
      float* p = dst + m * g.dst_row + n * kWide;
      const bool whole = n < N - 1 || rest == kWide;
      V sum = sums[0][m][n];
      SEP_UNROLL
      for (int s = 1; s < S; s++) sum += sums[s][m][n];
      if (g.accumulate)
        sum += whole ? load_v(p) : load_part(p, rest);
      else if (g.start)
        sum += load_v(g.start + n * kWide);
      whole ? store_v(p, sum) : store_part(p, sum, rest);
    }
  }
}

template <int N, int M = kRows>
SEP_INLINE void product_rows(const ProductArgs& g, ptrdiff_t rows, const float* x, float* dst) {
  if (rows == M) return product_of<M, N>(g, x, dst);
  if constexpr (M > 1) product_rows<N, M - 1>(g, rows, x, dst);
}

template <int N = kPanel>
SEP_INLINE void product_panel(const ProductArgs& g, int vectors, ptrdiff_t rows, const float* x, float* dst) {
  if (vectors == N) return product_rows<N>(g, rows, x, dst);
  if constexpr (N > 1) product_panel<N - 1>(g, vectors, rows, x, dst);
}

// Rows in groups of nearly equal size, so that no group is small.
void product(const ProductArgs& g) {
  const ptrdiff_t groups = (g.rows + kRows - 1) / kRows;
  const int vectors = int((g.columns + kWide - 1) / kWide);
  for (ptrdiff_t group = 0, row = 0; group < groups; group++) {
    const ptrdiff_t rows = g.rows / groups + (group < g.rows % groups);
    float* dst = g.dst + row * g.dst_row;
    product_panel(g, vectors, rows, g.x + row * g.x_row, dst);
    if (g.after.function != Function::none)
      for (ptrdiff_t r = 0; r < rows; r++) apply_line(dst + r * g.dst_row, dst + r * g.dst_row, g.columns, g.after);
    row += rows;
  }
}

// M rows with N rows of the matrix. S vectors of terms at a time have sums of their own, as above.
template <int M, int N>
__attribute__((noinline)) void dots_of(const ProductArgs& g, const float* x, const float* w, float* dst,
                                       const float* start) {
  constexpr int S = M * N >= 8 ? 1 : M * N >= 4 ? 2 : 4;
  V sums[S][M][N];
  SEP_UNROLL
  for (int s = 0; s < S; s++) SEP_UNROLL
  for (int m = 0; m < M; m++) SEP_UNROLL
  for (int n = 0; n < N; n++) sums[s][m][n] = V{};
  auto term = [&](V(&sum)[M][N], auto read, ptrdiff_t c) SEP_LAMBDA {
    V values[N];
    SEP_UNROLL
    for (int n = 0; n < N; n++) values[n] = read(w + n * g.w_row + c);
    SEP_UNROLL
    for (int m = 0; m < M; m++) {
      const V value = read(x + m * g.x_row + c);
      SEP_UNROLL
      for (int n = 0; n < N; n++) sum[m][n] += value * values[n];
    }
  };
  const auto whole = [](const float* p) SEP_LAMBDA { return load_v(p); };
  ptrdiff_t c = 0;
  for (; c + S * kWide <= g.inner; c += S * kWide) {
    SEP_UNROLL
    for (int s = 0; s < S; s++) term(sums[s], whole, c + s * kWide);
  }
  for (; c + kWide <= g.inner; c += kWide) term(sums[0], whole, c);
  const ptrdiff_t rest = g.inner - c;
  if (rest) term(sums[0], [rest](const float* p) SEP_LAMBDA { return load_part(p, rest); }, c);
  SEP_UNROLL
  for (int m = 0; m < M; m++) {
    SEP_UNROLL
    for (int n = 0; n < N; n++) {
      V sum = sums[0][m][n];
      SEP_UNROLL
      for (int s = 1; s < S; s++) sum += sums[s][m][n];
      dst[m * g.dst_row + n] = Reducer<Reduction::sum>::across(sum) + (start ? start[n] : 0.0f);
    }
  }
}

template <int N, int M = kDotRows>
SEP_INLINE void dots_rows(const ProductArgs& g, ptrdiff_t rows, const float* x, const float* w, float* dst,
                          const float* start) {
  if (rows == M) return dots_of<M, N>(g, x, w, dst, start);
  if constexpr (M > 1) dots_rows<N, M - 1>(g, rows, x, w, dst, start);
}

// Groups of rows and columns follow from the arguments alone.
void dots(const ProductArgs& g) {
  for (ptrdiff_t j = 0; j < g.columns;) {
    const ptrdiff_t columns = g.columns - j < kDotColumns ? 1 : kDotColumns;
    const float* start = g.start ? g.start + j : nullptr;
    for (ptrdiff_t i = 0; i < g.rows; i += kDotRows) {
      const ptrdiff_t rows = g.rows - i < kDotRows ? g.rows - i : kDotRows;
      const float *x = g.x + i * g.x_row, *w = g.w + j * g.w_row;
      float* dst = g.dst + i * g.dst_row + j;
      if (columns == kDotColumns)
        dots_rows<kDotColumns>(g, rows, x, w, dst, start);
      else
        dots_rows<1>(g, rows, x, w, dst, start);
    }
    j += columns;
  }
  if (g.after.function != Function::none)
    for (ptrdiff_t r = 0; r < g.rows; r++) apply_line(g.dst + r * g.dst_row, g.dst + r * g.dst_row, g.columns, g.after);
}

}  // namespace
