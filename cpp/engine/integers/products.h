// Sums of products of whole numbers: dense, and of each channel alone. Included only by kernel units.
#pragma once
#include "engine/integers/endings.h"

namespace {

using sep::IntegerDepthwiseArgs;
using sep::IntegerProductArgs;

SEP_INLINE B quad_at(const uint8_t* p) {  // four neighbours in every lane of 32 bits
  int32_t quad;
  __builtin_memcpy(&quad, p, sizeof quad);
  return (B)splat<int32_t, W>(quad);
}

template <int P, int M>
SEP_INLINE void multiply_add(I (&acc)[P * M], const uint8_t* const (&at)[P], ptrdiff_t k, const int8_t* w) {
  SEP_UNROLL
  for (int p = 0; p < P; p++) {
    const B x = quad_at(at[p] + k);
    SEP_UNROLL
    for (int m = 0; m < M; m++)
      acc[p * M + m] = quad_sums(acc[p * M + m], x, load<int8_t, 4 * W>(w + 4 * W * m));
  }
}

template <int P, int M>
SEP_INLINE void tile(const IntegerProductArgs& g, ptrdiff_t first) {
  I acc[P * M];
  const uint8_t* at[P];
  SEP_UNROLL
  for (int i = 0; i < P * M; i++) acc[i] = I{};
  SEP_UNROLL
  for (int p = 0; p < P; p++) at[p] = g.a + g.at[first + p];
  const int8_t* w = g.weights;
  for (ptrdiff_t r = 0; r < g.n_runs; r++)
    for (ptrdiff_t k = g.runs[r], end = k + g.length; k < end; k += 4, w += 4 * W * M)
      multiply_add<P, M>(acc, at, k, w);
  w = g.more_weights;
  for (ptrdiff_t e = 0; e < g.n_more; e++, w += 4 * W * M) multiply_add<P, M>(acc, at, g.more[e], w);
  ptrdiff_t to[P], from[P];
  SEP_UNROLL
  for (int p = 0; p < P; p++) to[p] = g.to[first + p], from[p] = g.from[first + p];
  finish_sums<P, M>(acc, g.end, g.dst, to, from);
}

// Pixels whose sums stay in registers. The last ones are taken again with those before them.
constexpr int kPixels = kManyRegisters ? 12 : 6;

template <int M>
void pixels_of(const IntegerProductArgs& g) {
  ptrdiff_t i = 0;
  for (; i + kPixels <= g.pixels; i += kPixels) tile<kPixels, M>(g, i);
  if (i == g.pixels) return;
  const ptrdiff_t left = g.pixels - i;
  if (i && left > 3) return tile<kPixels, M>(g, g.pixels - kPixels);
  for (; i + 3 <= g.pixels; i += 3) tile<3, M>(g, i);
  for (; i < g.pixels; i++) tile<1, M>(g, i);
}

void product(const IntegerProductArgs& g) { g.vectors == 2 ? pixels_of<2>(g) : pixels_of<1>(g); }

// Lane i of the first or the second of two vectors of channels, of the sums of low and high halves.
template <int Second>
SEP_INLINE I channels_in_order(I low, I high) {
  return shuffle<int32_t, W>(low, high, [](int i) {
    const int c = i + Second * W, half = c % 8;
    return c / 8 * 4 + half % 4 + (half < 4 ? 0 : W);
  });
}

template <int P>
SEP_INLINE void depthwise_tile(const IntegerDepthwiseArgs& g, ptrdiff_t first) {
  I low[P], high[P];
  SEP_UNROLL
  for (int p = 0; p < P; p++) low[p] = high[p] = I{};
  const int16_t *a = g.a + first * g.pixel, *w = g.weights;
  for (ptrdiff_t t = 0; t < g.n_pairs; t++, w += 4 * W) {
    const int16_t *one = a + g.taps[2 * t], *other = a + g.taps[2 * t + 1];
    const H b = load<int16_t, 2 * W>(w), c = load<int16_t, 2 * W>(w + 2 * W);
    SEP_UNROLL
    for (int p = 0; p < P; p++) {
      const H x = load<int16_t, 2 * W>(one + p * g.pixel), y = load<int16_t, 2 * W>(other + p * g.pixel);
      low[p] += pair_sums(interleave<int16_t, 2 * W, 1>(x, y, 0), b);
      high[p] += pair_sums(interleave<int16_t, 2 * W, 1>(x, y, 1), c);
    }
  }
  I acc[2 * P];
  SEP_UNROLL
  for (int p = 0; p < P; p++) {
    acc[2 * p] = channels_in_order<0>(low[p], high[p]);
    acc[2 * p + 1] = channels_in_order<1>(low[p], high[p]);
  }
  ptrdiff_t to[P], from[P];
  SEP_UNROLL
  for (int p = 0; p < P; p++) to[p] = (first + p) * g.dst_pixel, from[p] = (first + p) * g.add_pixel;
  finish_sums<P, 2>(acc, g.end, g.dst, to, from);
}

void depthwise(const IntegerDepthwiseArgs& g) {
  ptrdiff_t i = 0;
  for (; i + 4 <= g.pixels; i += 4) depthwise_tile<4>(g, i);
  if (i < g.pixels && i) return depthwise_tile<4>(g, g.pixels - 4);
  for (; i < g.pixels; i++) depthwise_tile<1>(g, i);
}

}  // namespace
