// Sums of products of whole numbers: dense, and of each channel alone. Included only by kernel units.
#pragma once
#include "engine/integers/endings.h"

namespace {

using sep::IntegerDepthwiseArgs;
using sep::IntegerProductArgs;

SEP_INLINE H both_of(const int16_t* p) {  // two neighbours in every lane of 32 bits
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return (H)splat<int32_t, W>(pair);
}

template <int P, int M>
SEP_INLINE void tile(const IntegerProductArgs& g, ptrdiff_t first) {
  I acc[P * M];
  SEP_UNROLL
  for (int i = 0; i < P * M; i++) acc[i] = I{};
  const int16_t *w = g.weights, *a = g.a + first * g.pixel;
  for (ptrdiff_t r = 0; r < g.n_runs; r++) {
    const int16_t* at = a + g.runs[r];
    for (ptrdiff_t k = 0; k < g.length; k += 2, w += 2 * W * M) {
      H b[M];
      SEP_UNROLL
      for (int m = 0; m < M; m++) {
        b[m] = load<int16_t, 2 * W>(w + 2 * W * m);
        keep(b[m]);
      }
      SEP_UNROLL
      for (int p = 0; p < P; p++) {
        const H x = both_of(at + p * g.pixel + k);
        SEP_UNROLL
        for (int m = 0; m < M; m++) acc[p * M + m] += pair_sums(x, b[m]);
      }
    }
  }
  finish_sums<P, M>(acc, g.end, g.dst, first);
}

// Pixels whose sums stay in registers. The last ones are taken again with those before them.
constexpr int kPixels = kManyRegisters ? 12 : 6;

template <int M>
void pixels_of(const IntegerProductArgs& g) {
  ptrdiff_t i = 0;
  for (; i + kPixels <= g.pixels; i += kPixels) tile<kPixels, M>(g, i);
  if (i == g.pixels) return;
  if (i) return tile<kPixels, M>(g, g.pixels - kPixels);
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
  finish_sums<P, 2>(acc, g.end, g.dst, first);
}

void depthwise(const IntegerDepthwiseArgs& g) {
  ptrdiff_t i = 0;
  for (; i + 4 <= g.pixels; i += 4) depthwise_tile<4>(g, i);
  if (i < g.pixels && i) return depthwise_tile<4>(g, g.pixels - 4);
  for (; i < g.pixels; i++) depthwise_tile<1>(g, i);
}

}  // namespace
