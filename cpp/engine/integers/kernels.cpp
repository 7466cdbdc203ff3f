// The kernels of whole numbers put together. Compiled once per instruction set, with SEP_TARGET naming it.
#include "engine/integers/kernels.h"

#include "base/target.h"
#include "engine/integers/products.h"

namespace {

using sep::AddLevelsArgs;
using sep::LevelArgs;
using sep::WidenArgs;

void widen(const WidenArgs& g) {
  for (ptrdiff_t i = 0; i < g.rows; i++) {
    const uint8_t* src = g.src + i * g.src_row;
    int16_t* dst = g.dst + i * g.dst_row;
    ptrdiff_t j = 0;
    for (; j + 2 * W <= g.columns; j += 2 * W)
      store<int16_t, 2 * W>(dst + j, widened_twice(src + j) - int16_t(g.zero));
    for (; j < g.columns; j++) dst[j] = int16_t(src[j] - g.zero);
  }
}

// f(rows' addresses, elements) for vectors along columns that lie next to each other in the source.
template <class Src, class Dst, class F>
SEP_INLINE void in_vectors(const LevelArgs& g, F f) {
  for (ptrdiff_t i = 0; i < g.rows; i++) {
    const Src* src = static_cast<const Src*>(g.src) + i * g.src_row;
    Dst* dst = static_cast<Dst*>(g.dst) + i * g.dst_row;
    ptrdiff_t j = 0;
    if (g.src_column == 1)
      for (; j + W <= g.columns; j += W) f(src + j, dst + j * g.dst_column, W);
    for (; j < g.columns; j++) f(src + j * g.src_column, dst + j * g.dst_column, 1);
  }
}

void quantise(const LevelArgs& g) {
  in_vectors<float, uint8_t>(g, [&](const float* src, uint8_t* dst, int n) SEP_LAMBDA {
    const V x = n == W ? load<float, W>(src) : splat<float, W>(*src);
    const I y = levels_of(x / g.scale, g.zero);
    if (n == 1 || g.dst_column == 1) return store_levels(dst, y, n);
    SEP_UNROLL
    for (int i = 0; i < W; i++) dst[i * g.dst_column] = uint8_t(y[i]);
  });
}

void dequantise(const LevelArgs& g) {
  in_vectors<uint8_t, float>(g, [&](const uint8_t* src, float* dst, int n) SEP_LAMBDA {
    const I x = n == W ? widened(src) : splat<int32_t, W>(*src);
    const V y = __builtin_convertvector(x - g.zero, V) * g.scale;
    if (n == 1 || g.dst_column == 1) return store_words(dst, y, n);
    SEP_UNROLL
    for (int i = 0; i < W; i++) dst[i * g.dst_column] = y[i];
  });
}

void floats(const LevelArgs& g) {
  in_vectors<int32_t, float>(g, [&](const int32_t* src, float* dst, int n) SEP_LAMBDA {
    const V y = __builtin_convertvector(n == W ? load<int32_t, W>(src) : splat<int32_t, W>(*src), V);
    if (n == 1 || g.dst_column == 1) return store_words(dst, y, n);
    SEP_UNROLL
    for (int i = 0; i < W; i++) dst[i * g.dst_column] = y[i];
  });
}

SEP_INLINE V scaled(I levels, int zero, float scale) {
  V y = __builtin_convertvector(levels - zero, V) * scale;
  keep(y);  // rounded before it is added, on every machine
  return y;
}

void add(const AddLevelsArgs& g) {
  ptrdiff_t i = 0;
  const ptrdiff_t to[] = {0, 2 * W};
  for (; i + 4 * W <= g.n; i += 4 * W) {
    V y[4];
    SEP_UNROLL
    for (int k = 0; k < 4; k++) {
      const uint8_t *a = g.a + i + k * W, *b = g.b + i + k * W;
      y[k] = (scaled(widened(a), g.a_zero, g.a_scale) + scaled(widened(b), g.b_zero, g.b_scale)) / g.scale;
    }
    store_all<2, 2>(y, g.zero, g.dst + i, to);
  }
  for (; i < g.n; i++) {
    const V sum = scaled(splat<int32_t, W>(g.a[i]), g.a_zero, g.a_scale) +
                  scaled(splat<int32_t, W>(g.b[i]), g.b_zero, g.b_scale);
    store_levels(g.dst + i, levels_of(sum / g.scale, g.zero), 1);
  }
}

}  // namespace

namespace sep {
extern const IntegerTable SEP_OF_TARGET(integers);
const IntegerTable SEP_OF_TARGET(integers) = {W,         kPairMost, widen,      product, depthwise,
                                              quantise, dequantise, floats, add};
}  // namespace sep
