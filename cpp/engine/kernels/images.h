// Pooling of blocked feature maps. Included only by kernel units.
#pragma once
#include "engine/kernels/functions.h"

namespace {

using sep::PoolArgs;
using sep::Window;

// Vectors of P pixels whose windows have as many taps: they do not wait for each other.
template <bool Max, int P, class Load>
SEP_INLINE void pooled(const PoolArgs& g, const Window* columns, ptrdiff_t first, V (&sums)[P], Load read) {
  const float* src[P];
  SEP_UNROLL
  for (int i = 0; i < P; i++) {
    src[i] = g.src + g.rows.at + columns[i].at + first;
    sums[i] = Max ? all(-__builtin_inff()) : V{};
  }
  const ptrdiff_t end = columns->taps * g.column_step;
  for (ptrdiff_t y = 0, row = 0; y < g.rows.taps; y++, row += g.row_step) {
    for (ptrdiff_t at = row; at < row + end; at += g.column_step) {
      SEP_UNROLL
      for (int i = 0; i < P; i++) {
        const V value = read(src[i] + at);
        sums[i] = Max ? max_of(sums[i], value) : sums[i] + value;
      }
    }
  }
  SEP_UNROLL
  for (int i = 0; i < P; i++) sums[i] = Max ? sums[i] : sums[i] * (g.rows.share * columns[i].share);
}

template <bool Max, int P>
SEP_INLINE void pool_pixels(const PoolArgs& g, const Window* columns, float* dst) {
  V sums[P];
  ptrdiff_t c = 0;
  for (; c + kWide <= g.block; c += kWide) {
    pooled<Max>(g, columns, c, sums, [](const float* p) SEP_LAMBDA { return load_v(p); });
    SEP_UNROLL
    for (int i = 0; i < P; i++) store_v(dst + i * g.dst_pixel + c, sums[i]);
  }
  if (const ptrdiff_t n = g.block - c; n > 0) {
    pooled<Max>(g, columns, c, sums, [n](const float* p) SEP_LAMBDA { return load_part(p, n); });
    SEP_UNROLL
    for (int i = 0; i < P; i++) store_part(dst + i * g.dst_pixel + c, sums[i], n);
  }
}

template <bool Max>
SEP_INLINE void pool_row(const PoolArgs& g) {
  constexpr int P = 4;
  ptrdiff_t i = 0;
  while (i < g.width) {
    const Window* columns = g.columns + i;
    bool alike = i + P <= g.width;
    for (int k = 1; alike && k < P; k++) alike = columns[k].taps == columns->taps;
    if (alike)
      pool_pixels<Max, P>(g, columns, g.dst + i * g.dst_pixel);
    else
      pool_pixels<Max, 1>(g, columns, g.dst + i * g.dst_pixel);
    i += alike ? P : 1;
  }
}

void pool(const PoolArgs& g) { g.maximum ? pool_row<true>(g) : pool_row<false>(g); }

}  // namespace
