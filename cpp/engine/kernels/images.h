// Pooling of blocked feature maps. Included only by kernel units.
#pragma once
#include "engine/kernels/functions.h"

namespace {

using sep::PoolArgs;
using sep::Window;

template <bool Max, class Load>
SEP_INLINE V pooled(const PoolArgs& g, const float* src, const Window& column, Load read) {
  V sum = Max ? all(-__builtin_inff()) : V{};
  auto join = [](V a, V b) SEP_LAMBDA { return Max ? max_of(a, b) : a + b; };
  const ptrdiff_t step = g.column_step;
  for (ptrdiff_t y = 0; y < g.rows.taps; y++) {
    const float* p = src + y * g.row_step;
    if (column.taps == 2) {
      sum = join(sum, join(read(p), read(p + step)));
    } else if (column.taps == 3) {
      sum = join(sum, join(join(read(p), read(p + step)), read(p + 2 * step)));
    } else {
      for (ptrdiff_t x = 0; x < column.taps; x++, p += step) sum = join(sum, read(p));
    }
  }
  return Max ? sum : sum * (g.rows.share * column.share);
}

template <bool Max>
SEP_INLINE void pool_row(const PoolArgs& g) {
  for (ptrdiff_t i = 0; i < g.width; i++) {
    const Window& column = g.columns[i];
    const float* src = g.src + g.rows.at + column.at;
    float* dst = g.dst + i * g.dst_pixel;
    ptrdiff_t c = 0;
    for (; c + kWide <= g.block; c += kWide)
      store_v(dst + c, pooled<Max>(g, src + c, column, [](const float* p) { return load_v(p); }));
    if (const ptrdiff_t n = g.block - c; n > 0)
      store_part(dst + c, pooled<Max>(g, src + c, column, [n](const float* p) { return load_part(p, n); }), n);
  }
}

void pool(const PoolArgs& g) { g.maximum ? pool_row<true>(g) : pool_row<false>(g); }

}  // namespace
