// The layer kernels. Compiled once per instruction set with SEP_TARGET naming it; no STL, nothing inline is shared.
#include "layers/kernels/layers.h"

#include "base/target.h"
#include "base/vec.h"
#include "layers/kernels/activations.h"
#include "layers/kernels/gradients.h"
#include "layers/kernels/prefetch.h"

namespace {

using sep::Channels;
using sep::DepthwiseArgs;
using sep::Layers;
using sep::Panel;
using sep::PointwiseArgs;
using sep::Run;
using sep::Tap;
using sep::Width;

// ---- depthwise -----------------------------------------------------------------------------------------------------
// P neighbouring pixels of one slice. K taps that are neighbours along the row are taken together: a sample is loaded
// once for all of the K results that it contributes to.

template <class T, int N, int P, int K>
SEP_INLINE void depthwise_taps(vec<T, N> (&acc)[P], const T* src, ptrdiff_t step, const T* weights,
                               ptrdiff_t weight_step) {
  vec<T, N> w[K];
  SEP_UNROLL
  for (int k = 0; k < K; k++) w[k] = load<T, N>(weights + k * weight_step);
  SEP_UNROLL
  for (int i = 0; i < P + K - 1; i++) {
    vec<T, N> v = load<T, N>(src + i * step);
    if constexpr (K > 1) keep(v);
    SEP_UNROLL
    for (int k = 0; k < K; k++)
      if (i - k >= 0 && i - k < P) acc[i - k] += w[k] * v;
  }
}

// All taps: K neighbouring columns, or if K is 0 any.
template <class T, int N, int P, int K>
SEP_INLINE void depthwise_rows(vec<T, N> (&acc)[P], const DepthwiseArgs<T>& g, const Run& run, const T* src) {
  const ptrdiff_t step = run.src_step, n = run.n_columns;
  const ptrdiff_t next = n > 1 ? (run.columns[1].weight - run.columns[0].weight) * g.weight_step : 0;
  for (const Tap *row = run.rows, *last = row + run.n_rows; row != last; row++) {
    const T* at = src + row->at;
    const T* weights = g.weights + row->weight * g.weight_step;
    if constexpr (K > 0) {
      const Tap& tap = run.columns[0];
      depthwise_taps<T, N, P, K>(acc, at + tap.at, step, weights + tap.weight * g.weight_step, next);
    } else {
      const Tap* tap = run.columns;
      ptrdiff_t left = n;
      if (run.neighbours)
        for (; left >= 3; left -= 3, tap += 3)
          depthwise_taps<T, N, P, 3>(acc, at + tap->at, step, weights + tap->weight * g.weight_step, next);
      for (; left > 0; left--, tap++)
        depthwise_taps<T, N, P, 1>(acc, at + tap->at, step, weights + tap->weight * g.weight_step, next);
    }
  }
}

template <class T, int N, int P>
SEP_INLINE void depthwise_pixels(const DepthwiseArgs<T>& g, const Run& run, ptrdiff_t first, bool neighbours) {
  const T* src = g.src + run.src + first * run.src_step;
  vec<T, N> acc[P];
  SEP_UNROLL
  for (int i = 0; i < P; i++) acc[i] = load<T, N>(g.accumulate ? g.dst + run.dst + (first + i) * run.dst_step : g.bias);
  if (neighbours && run.n_columns == 3)
    depthwise_rows<T, N, P, 3>(acc, g, run, src);
  else if (neighbours && run.n_columns == 5)
    depthwise_rows<T, N, P, 5>(acc, g, run, src);
  else
    depthwise_rows<T, N, P, 0>(acc, g, run, src);
  T* dst = g.dst + run.dst + first * run.dst_step;
  SEP_UNROLL
  for (int i = 0; i < P; i++) store<T, N>(dst + i * run.dst_step, clamp<T, N>(acc[i], g.act));
}

// Activations that are not clamps, and residuals, on pixels that were just stored.
template <class T, int N>
__attribute__((noinline)) void depthwise_finish(const DepthwiseArgs<T>& g, const Run& run) {
  T* dst = g.dst + run.dst;
  if (!is_clamp(g.act))
    for (ptrdiff_t i = 0; i < run.count; i++)
      store<T, N>(dst + i * run.dst_step, activated<T, N>(load<T, N>(dst + i * run.dst_step), g.act));
  if (g.residual)
    for (ptrdiff_t i = 0; i < run.count; i++)
      store<T, N>(dst + i * run.dst_step,
                  load<T, N>(dst + i * run.dst_step) + load<T, N>(g.residual + run.dst + i * run.dst_step));
}

template <class T, int N, int P = 8>
SEP_INLINE void depthwise_choose(const DepthwiseArgs<T>& g, const Run& run, ptrdiff_t first, ptrdiff_t pixels) {
  if (pixels == P) return depthwise_pixels<T, N, P>(g, run, first, run.neighbours);
  if constexpr (P > 1) depthwise_choose<T, N, P - 1>(g, run, first, pixels);
}

template <class T, int N>
__attribute__((noinline)) void depthwise_some(const DepthwiseArgs<T>& g, const Run& run, ptrdiff_t first,
                                              ptrdiff_t pixels) {
  depthwise_choose<T, N>(g, run, first, pixels);
}

template <class T, int N>
__attribute__((noinline)) void depthwise_slice(const DepthwiseArgs<T>& args) {
  DepthwiseArgs<T> g = args;
  const bool more = !is_clamp(g.act) || g.residual;
  if (!is_clamp(g.act)) g.act = Activation::none;
  for (const Run *run = g.runs, *end = run + g.n; run != end; run++) {
    ptrdiff_t i = 0, left = run->count;
    for (; left == 8 || left >= 16; i += 8, left -= 8) depthwise_pixels<T, N, 8>(g, *run, i, run->neighbours);
    if (left > 8) {  // two equal groups: a small one would be bound by the latency of its additions
      const ptrdiff_t half = (left + 1) / 2;
      depthwise_some<T, N>(g, *run, i, half);
      i += half, left -= half;
    }
    if (left > 0) depthwise_some<T, N>(g, *run, i, left);
    if (more) depthwise_finish<T, N>(args, *run);
  }
}

template <class T, int N = kLanes<T>>
void depthwise(const DepthwiseArgs<T>& g) {
  if (g.lanes == N) return depthwise_slice<T, N>(g);
  if constexpr (N > 1) depthwise<T, N / 2>(g);
}

// ---- pointwise -----------------------------------------------------------------------------------------------------
// M pixels by a vector of N0 and one of N1 (or no) lanes.

template <class T>
struct Micro {
  const PointwiseArgs<T>& g;
  const Panel<T>& panel;
  ptrdiff_t first;  // pixel
  Prefetcher& prefetcher;
};

// Stores results with a residual, or fewer lanes than a vector has, one after the other.
template <class T, int N>
__attribute__((noinline)) void put_slowly(const Micro<T>& m, int part, const vec<T, N>* v, int pixels) {
  const PointwiseArgs<T>& g = m.g;
  for (int i = 0; i < pixels; i++) {
    const ptrdiff_t at = g.offsets[m.first + i] + m.panel.at[part];
    const T* lanes = reinterpret_cast<const T*>(v + i);
    if (m.panel.valid < N)
      for (int lane = 0; lane < m.panel.valid; lane++)
        g.dst[at + lane] = g.residual ? lanes[lane] + g.residual[at + lane] : lanes[lane];
    else
      store<T, N>(g.dst + at, g.residual ? v[i] + load<T, N>(g.residual + at) : v[i]);
  }
}

template <class T, int N, int M>
SEP_INLINE void put(const Micro<T>& m, int part, const vec<T, N> (&v)[M]) {
  const PointwiseArgs<T>& g = m.g;
  const ptrdiff_t* offsets = g.offsets + m.first;
  T* dst = g.dst + m.panel.at[part];
  if (__builtin_expect(g.residual || m.panel.valid < N, 0)) {
    vec<T, N> held[M];
    SEP_UNROLL
    for (int i = 0; i < M; i++) held[i] = v[i];
    put_slowly<T, N>(m, part, held, M);
  } else if (g.stream) {
    SEP_UNROLL
    for (int i = 0; i < M; i++) stream<T, N>(dst + offsets[i], v[i]);
  } else {
    SEP_UNROLL
    for (int i = 0; i < M; i++) store<T, N>(dst + offsets[i], v[i]);
  }
}

// Activations that are not clamps, on accumulators in memory.
template <class T, int N>
__attribute__((noinline)) void activate(vec<T, N>* v, int n, Activation act) {
  for (int i = 0; i < n; i++) v[i] = activated<T, N>(v[i], act);
}

template <class T, int N0, int N1, int M>
__attribute__((noinline)) void micro(const Micro<T>& m) {
  constexpr int W = kLanes<T>;
  typedef vec<T, N0> V0;
  typedef vec<T, N1 ? N1 : 1> V1;
  const PointwiseArgs<T>& g = m.g;
  V0 acc0[M];
  V1 acc1[M];
  SEP_UNROLL
  for (int i = 0; i < M; i++) {
    acc0[i] = load<T, N0>(m.panel.bias);
    if constexpr (N1 > 0) acc1[i] = load<T, N1>(m.panel.bias + N0);
  }
  const T* w = m.panel.weights;
  for (const Channels *c = g.channels, *end = c + g.n; c != end; c++) {
    m.prefetcher.step();
    const T* a = g.a + m.first * W + c->at;
    auto channel = [&](const T* p, const T* weights) __attribute__((always_inline)) {
      const V0 w0 = load<T, N0>(weights);
      V1 w1;
      if constexpr (N1 > 0) w1 = load<T, N1>(weights + N0);
      SEP_UNROLL
      for (int i = 0; i < M; i++) {
        acc0[i] += splat<T, N0>(p[i * W]) * w0;
        if constexpr (N1 > 0) acc1[i] += splat<T, N1>(p[i * W]) * w1;
      }
    };
    const T* stop = a + c->count;
    for (; stop - a >= 4; a += 4, w += 4 * (N0 + N1)) {
      SEP_UNROLL
      for (int k = 0; k < 4; k++) channel(a + k, w + k * (N0 + N1));
    }
    for (; a != stop; a++, w += N0 + N1) channel(a, w);
  }
  if (is_clamp(g.act)) {
    SEP_UNROLL
    for (int i = 0; i < M; i++) {
      acc0[i] = clamp<T, N0>(acc0[i], g.act);
      if constexpr (N1 > 0) acc1[i] = clamp<T, N1>(acc1[i], g.act);
    }
  } else {
    V0 held0[M];
    SEP_UNROLL
    for (int i = 0; i < M; i++) held0[i] = acc0[i];
    activate<T, N0>(held0, M, g.act);
    SEP_UNROLL
    for (int i = 0; i < M; i++) acc0[i] = held0[i];
    if constexpr (N1 > 0) {
      V1 held1[M];
      SEP_UNROLL
      for (int i = 0; i < M; i++) held1[i] = acc1[i];
      activate<T, N1>(held1, M, g.act);
      SEP_UNROLL
      for (int i = 0; i < M; i++) acc1[i] = held1[i];
    }
  }
  put<T, N0, M>(m, 0, acc0);
  if constexpr (N1 > 0) put<T, N1, M>(m, 1, acc1);
}

// Pixels of one call: as many as registers hold two accumulators for, beside two vectors of weights and a broadcast.
constexpr int kPixels = kManyRegisters ? 14 : 6;

template <class T, int N0, int N1, int M = kPixels>
SEP_INLINE void micro_of(const Micro<T>& m, ptrdiff_t pixels) {
  if (pixels == M) return micro<T, N0, N1, M>(m);
  if constexpr (M > 1) micro_of<T, N0, N1, M - 1>(m, pixels);
}

// The tile's pixels in groups of nearly equal size, so that no group is small.
template <class T>
void pointwise(const PointwiseArgs<T>& g) {
  constexpr int W = kLanes<T>;
  const ptrdiff_t groups = (g.pixels + kPixels - 1) / kPixels, shorter = g.pixels / groups, longer = g.pixels % groups;
  Prefetcher prefetcher(g.fetch, groups * g.n_panels * g.n);
  for (ptrdiff_t p = 0; p < g.n_panels; p++) {
    Micro<T> m{g, g.panels[p], 0, prefetcher};
    for (ptrdiff_t group = 0; group < groups; group++) {
      const ptrdiff_t pixels = shorter + (group < longer);
      switch (m.panel.width) {
        case Width::two:
          micro_of<T, W, W>(m, pixels);
          break;
        case Width::one_and_half:
          if constexpr (W > 1) micro_of<T, W, W / 2>(m, pixels);
          break;
        case Width::one:
          micro_of<T, W, 0>(m, pixels);
          break;
        case Width::half:
          if constexpr (W > 1) micro_of<T, W / 2, 0>(m, pixels);
          break;
      }
      m.first += pixels;
    }
  }
  if (g.stream) stream_fence();
}

template <class T>
constexpr Layers<T> layers() {
  return {kLanes<T>, depthwise<T>, pointwise<T>, tap_sums<T>, outer<T>, lane_sums<T>, derive<T>, apply<T>};
}

}  // namespace

namespace sep {
extern const LayerTable SEP_OF_TARGET(layers);
const LayerTable SEP_OF_TARGET(layers) = {layers<float>(), layers<double>()};
}  // namespace sep
