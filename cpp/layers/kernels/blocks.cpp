// Convolution of feature maps in blocks. Compiled once per instruction set with SEP_TARGET naming it; no STL, nothing
// inline is shared.
#include "layers/kernels/blocks.h"

#include "base/target.h"
#include "layers/kernels/endings.h"
#include "layers/kernels/winograd.h"

namespace {

using sep::BlockConvArgs;
using sep::BlockDepthwiseArgs;
using sep::Line;
using sep::Segment;

// ---- convolution ---------------------------------------------------------------------------------------------------
// M pixels by NV vectors of results: as many as registers hold, beside the weights and a broadcast sample.

// Weights come from far away, each once: three cache lines are asked for in the time of four channels.
constexpr int kFetched = 3;

template <int NV, int M>
__attribute__((noinline)) const char* conv_tile(const BlockConvArgs& g, const float* src, float* dst, const float* add,
                                                const char* fetch) {
  V acc[NV][M];
  SEP_UNROLL
  for (int j = 0; j < NV; j++) {
    SEP_UNROLL
    for (int i = 0; i < M; i++) acc[j][i] = load<float, W>(g.bias ? g.bias + j * W : dst + j * g.dst_block + i * W);
  }
  constexpr int kPointers =
      (M + 2) / 3;  // to every third pixel: what lies between is reached by the step, and its double
  const ptrdiff_t step = g.step;
  const float* w = g.weights;
  for (const Segment *s = g.segments, *end = s + g.n_segments; s != end; s++) {
    const float* p[kPointers];
    SEP_UNROLL
    for (int i = 0; i < kPointers; i++) {
      p[i] = src + s->at + 3 * i * step;
      __asm__("" : "+r"(p[i]));
    }
    auto channel = [&](ptrdiff_t k) SEP_LAMBDA {
      V x, weights[NV];
      SEP_UNROLL
      for (int j = 0; j < NV; j++) weights[j] = load<float, W>(w + (k * NV + j) * W);
      SEP_UNROLL
      for (int i = 0; i < M; i++) {
        x = splat<float, W>(p[i / 3][k + i % 3 * step]);
        keep(x);  // a broadcast within each product would load twice as often
        SEP_UNROLL
        for (int j = 0; j < NV; j++) acc[j][i] += x * weights[j];
      }
    };
    auto advance = [&](ptrdiff_t n) SEP_LAMBDA {
      w += n * NV * W;
      SEP_UNROLL
      for (int i = 0; i < kPointers; i++) p[i] += n;
    };
    ptrdiff_t left = s->count;
    for (; left >= 4; left -= 4, advance(4)) {
      SEP_UNROLL
      for (int k = 0; k < 4; k++) channel(k);
      if (fetch < g.fetch_end) {
        SEP_UNROLL
        for (int i = 0; i < kFetched; i++) prefetch(fetch + i * 64);
        fetch += kFetched * 64;
      }
    }
    if (left & 2) {
      channel(0), channel(1);
      advance(2);
    }
    if (left & 1) {
      channel(0);
      w += NV * W;
    }
  }
  if (!is_simple(g.end.act) || (add && g.end.add_last && g.end.act != Activation::none)) {
    SEP_UNROLL
    for (int j = 0; j < NV; j++) {
      V held[M];
      SEP_UNROLL
      for (int i = 0; i < M; i++) held[i] = acc[j][i];
      finish(held, M, g.end, add ? add + j * g.add_block : nullptr, dst + j * g.dst_block);
    }
    return fetch;
  }
  SEP_UNROLL
  for (int j = 0; j < NV; j++) {
    if (add) {
      SEP_UNROLL
      for (int i = 0; i < M; i++) acc[j][i] += load<float, W>(add + j * g.add_block + i * W);
    }
    clamp_all<M>(acc[j], g.end);
    SEP_UNROLL
    for (int i = 0; i < M; i++) store<float, W>(dst + j * g.dst_block + i * W, acc[j][i]);
  }
  return fetch;
}

template <int NV, int M>
SEP_INLINE const char* conv_tile_of(const BlockConvArgs& g, const float* src, float* dst, const float* add,
                                    const char* fetch, ptrdiff_t pixels) {
  if constexpr (M > 1)
    if (pixels < M) return conv_tile_of<NV, M - 1>(g, src, dst, add, fetch, pixels);
  return conv_tile<NV, M>(g, src, dst, add, fetch);
}

// Results from a tile of their own to rows with gaps: `column` pixels of the first row lie before them.
template <int NV, int M>
SEP_INLINE void put_apart(const BlockConvArgs& g, const Line& l, const float* tile, ptrdiff_t pixels, ptrdiff_t first) {
  float* dst = g.dst + l.dst + first * W + first / l.row * l.gap;
  for (ptrdiff_t i = 0, column = first % l.row; i < pixels; i++, dst += W) {
    SEP_UNROLL
    for (int j = 0; j < NV; j++) store<float, W>(dst + j * g.dst_block, load<float, W>(tile + (j * M + i) * W));
    if (++column == l.row) column = 0, dst += l.gap;
  }
}

// Lines in groups of nearly equal size, so that no group is small.
template <int NV, int M>
const char* conv_lines(const BlockConvArgs& g) {
  const char* fetch = g.fetch;
  for (const Line *l = g.lines, *end = l + g.n_lines; l != end; l++) {
    const ptrdiff_t groups = (l->pixels + M - 1) / M;
    if (groups == 0) continue;
    const ptrdiff_t shorter = l->pixels / groups, longer = l->pixels % groups;
    const float *src = g.src + l->src, *add = g.add ? g.add + l->add : nullptr;
    float* dst = g.dst + l->dst;
    if (l->row) {
      alignas(64) float tile[NV * M * W];
      BlockConvArgs apart = g;
      apart.dst_block = M * W;
      for (ptrdiff_t i = 0, first = 0; i < groups; i++) {
        const ptrdiff_t n = shorter + (i < longer);
        fetch = conv_tile_of<NV, M>(apart, src, tile, add, fetch, n);
        put_apart<NV, M>(g, *l, tile, n, first);
        src += n * g.step, first += n;
        if (add) add += n * W;
      }
      continue;
    }
    for (ptrdiff_t i = 0; i < groups; i++) {
      const ptrdiff_t n = shorter + (i < longer);
      fetch = conv_tile_of<NV, M>(g, src, dst, add, fetch, n);
      src += n * g.step, dst += n * W;
      if (add) add += n * W;
    }
  }
  return fetch;
}

const char* conv(const BlockConvArgs& g) {
  if constexpr (kManyRegisters)
    if (g.vectors == 4) return conv_lines<4, 7>(g);
  if (g.vectors == 3) return conv_lines<3, kManyRegisters ? 9 : 4>(g);
  if (g.vectors == 2) return conv_lines<2, kManyRegisters ? 14 : 6>(g);
  return conv_lines<1, kManyRegisters ? 14 : 8>(g);
}

// ---- depthwise -----------------------------------------------------------------------------------------------------
// P pixels of one block. S: the stride; 0: any, with any dilation. With S > 0 a sample is loaded once for all results
// of a row of taps to which it contributes. K: the kernel's width; 0: any.

template <int P, int K, int S>
SEP_INLINE void depthwise_row(V (&acc)[P], const BlockDepthwiseArgs& g, const float* src, const float* weights) {
  if constexpr (S > 0) {
    V w[K];
    SEP_UNROLL
    for (int k = 0; k < K; k++) w[k] = load<float, W>(weights + k * W);
#pragma GCC unroll 48
    for (int s = 0; s < (P - 1) * S + K; s++) {
      V v = load<float, W>(src + s * W);
      keep(v);
      SEP_UNROLL
      for (int k = 0; k < K; k++)
        if (s - k >= 0 && (s - k) % S == 0 && (s - k) / S < P) acc[(s - k) / S] += w[k] * v;
    }
  } else {
    for (int k = 0; k < g.width; k++) {
      const V w = load<float, W>(weights + k * W);
      const float* at = src + k * g.tap;
      SEP_UNROLL
      for (int i = 0; i < P; i++) acc[i] += w * load<float, W>(at + i * g.step);
    }
  }
}

struct DepthwiseRow {
  const float* src;
  const ptrdiff_t* rows;
  const float *weights, *bias;
  float* dst;
  const float* add;
  float* sums;
};

template <int P, int K, int S>
SEP_INLINE void depthwise_pixels(const BlockDepthwiseArgs& g, const DepthwiseRow& r, ptrdiff_t first) {
  V acc[P];
  SEP_UNROLL
  for (int i = 0; i < P; i++) acc[i] = load<float, W>(r.bias);
  const float* weights = r.weights;
  const float* src = r.src + first * g.step;
  const int width = K > 0 ? K : g.width;
  for (int u = 0; u < g.height; u++, weights += width * W) depthwise_row<P, K, S>(acc, g, src + r.rows[u], weights);
  float* dst = r.dst + first * W;
  if (is_simple(g.end.act) && !r.add) {
    clamp_all<P>(acc, g.end);
    SEP_UNROLL
    for (int i = 0; i < P; i++) store<float, W>(dst + i * W, acc[i]);
  } else {
    V held[P];
    SEP_UNROLL
    for (int i = 0; i < P; i++) held[i] = acc[i];
    finish(held, P, g.end, r.add ? r.add + first * W : nullptr, dst);
  }
}

template <int K, int S, int P>
SEP_INLINE void depthwise_some(const BlockDepthwiseArgs& g, const DepthwiseRow& r, ptrdiff_t first, ptrdiff_t pixels) {
  if (pixels == P) return depthwise_pixels<P, K, S>(g, r, first);
  if constexpr (P > 1) depthwise_some<K, S, P - 1>(g, r, first, pixels);
}

void add_up(const float* results, ptrdiff_t pixels, float* sums) {
  V sum[4] = {};
  ptrdiff_t i = 0;
  for (; i + 4 <= pixels; i += 4) {
    SEP_UNROLL
    for (int k = 0; k < 4; k++) sum[k] += load<float, W>(results + (i + k) * W);
  }
  for (; i < pixels; i++) sum[0] += load<float, W>(results + i * W);
  store<float, W>(sums, load<float, W>(sums) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
}

template <int K, int S>
__attribute__((noinline)) void depthwise_blocks(const BlockDepthwiseArgs& g) {
  constexpr int P = kManyRegisters ? 14 : 8;
  const ptrdiff_t groups = (g.pixels + P - 1) / P, shorter = g.pixels / groups, longer = g.pixels % groups;
  const ptrdiff_t taps = ptrdiff_t(g.height) * g.width * W;
  for (ptrdiff_t b = 0; b < g.blocks; b++)
    for (ptrdiff_t y = 0; y < g.n_rows; y++) {
      const DepthwiseRow r{g.src + b * g.src_block,
                           g.rows + y * g.rows_step,
                           g.weights + b * taps,
                           g.bias + b * W,
                           g.dst + b * g.dst_block + g.dst_rows[y],
                           g.add ? g.add + b * g.add_block + g.add_rows[y] : nullptr,
                           nullptr};
      for (ptrdiff_t i = 0, first = 0; i < groups; i++) {
        const ptrdiff_t n = shorter + (i < longer);
        depthwise_some<K, S, P>(g, r, first, n);
        first += n;
      }
      if (g.sums) add_up(r.dst, g.pixels, g.sums + b * W);
    }
}

void depthwise(const BlockDepthwiseArgs& g) {
  if (g.pixels <= 0) return;
  const ptrdiff_t stride = g.tap == W ? g.step / W : 0;
  if (stride == 1 && g.width == 3) return depthwise_blocks<3, 1>(g);
  if (stride == 1 && g.width == 5) return depthwise_blocks<5, 1>(g);
  if (stride == 2 && g.width == 3) return depthwise_blocks<3, 2>(g);
  if (stride == 2 && g.width == 5) return depthwise_blocks<5, 2>(g);
  if (stride == 1 && g.width == 7) return depthwise_blocks<7, 1>(g);
  depthwise_blocks<0, 0>(g);
}

void scale(const float* weights, const float* factors, ptrdiff_t n, ptrdiff_t width, float* out) {
  for (ptrdiff_t i = 0; i < n; i++) {
    const V f = splat<float, W>(factors[i]);
    for (ptrdiff_t j = 0; j < width; j += W, weights += W, out += W) store<float, W>(out, load<float, W>(weights) * f);
  }
}

}  // namespace

namespace sep {
extern const BlockTable SEP_OF_TARGET(blocks);
const BlockTable SEP_OF_TARGET(blocks) = {W, kManyRegisters ? 4 : 2, conv, depthwise, scale, winograd_in, winograd_out};
}  // namespace sep
