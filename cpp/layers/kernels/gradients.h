// Kernels of the backward pass: sums over pixels of products. Included only by layers.cpp.
#pragma once
#include "base/vec.h"
#include "layers/kernels/activations.h"
#include "layers/kernels/layers.h"
#include "layers/kernels/prefetch.h"

namespace {

using sep::OuterArgs;
using sep::Run;
using sep::Tap;
using sep::TapSumsArgs;

// ---- gradients of depthwise weights --------------------------------------------------------------------------------
// K taps of one row at a time: a pixel's gradient is loaded once for all of them.

template <class T, int N, int K>
SEP_INLINE void tap_sums_of(const TapSumsArgs<T>& g, const Run& run, const Tap& row, const Tap* columns) {
  vec<T, N> acc[K];
  const T* b[K];
  SEP_UNROLL
  for (int k = 0; k < K; k++) {
    acc[k] = vec<T, N>{};
    b[k] = g.b + run.src + row.at + columns[k].at;
  }
  const T* a = g.a + run.dst;
  ptrdiff_t at = 0;
  for (ptrdiff_t i = 0; i < run.count; i++, a += run.dst_step, at += run.src_step) {
    vec<T, N> v = load<T, N>(a);
    keep(v);
    SEP_UNROLL
    for (int k = 0; k < K; k++) acc[k] += v * load<T, N>(b[k] + at);
  }
  SEP_UNROLL
  for (int k = 0; k < K; k++) {
    T* sum = g.sums + (row.weight + columns[k].weight) * g.weight_step;
    store<T, N>(sum, load<T, N>(sum) + acc[k]);
  }
}

template <class T, int N>
__attribute__((noinline)) void tap_sums_slice(const TapSumsArgs<T>& g) {
  for (const Run *run = g.runs, *end = run + g.n; run != end; run++)
    for (const Tap *row = run->rows, *last = row + run->n_rows; row != last; row++) {
      ptrdiff_t k = 0;
      for (; k + 5 <= run->n_columns; k += 5) tap_sums_of<T, N, 5>(g, *run, *row, run->columns + k);
      for (; k + 3 <= run->n_columns; k += 3) tap_sums_of<T, N, 3>(g, *run, *row, run->columns + k);
      for (; k < run->n_columns; k++) tap_sums_of<T, N, 1>(g, *run, *row, run->columns + k);
    }
}

template <class T, int N = kLanes<T>>
void tap_sums(const TapSumsArgs<T>& g) {
  if (g.lanes == N) return tap_sums_slice<T, N>(g);
  if constexpr (N > 1) tap_sums<T, N / 2>(g);
}

// ---- gradients of pointwise weights --------------------------------------------------------------------------------
// R rows by C vectors of sums stay in registers during the loop over the tile's pixels.

template <class T>
constexpr int kOuterRows = kManyRegisters ? (kLanes<T> < 8 ? kLanes<T> : 8) : (kLanes<T> < 4 ? kLanes<T> : 4);
constexpr ptrdiff_t kPrefetchPixels = 16;  // between steps of the prefetchers
constexpr int kOuterVectors = kManyRegisters ? 3 : 2;

template <class T, int R, int C>
__attribute__((noinline)) void outer_block(const OuterArgs<T>& g, const T* a, const T* b, T* sums,
                                           Prefetcher (&prefetchers)[2]) {
  constexpr int W = kLanes<T>;
  typedef vec<T, W> V;
  V acc[R * C];
  SEP_UNROLL
  for (int i = 0; i < R * C; i++) acc[i] = V{};
  for (ptrdiff_t p = 0; p < g.pixels; p++, a += W, b += W) {
    if (p % kPrefetchPixels == 0)
      for (Prefetcher& prefetcher : prefetchers) prefetcher.step();
    V v[C];
    SEP_UNROLL
    for (int c = 0; c < C; c++) v[c] = load<T, W>(b + c * g.block);
    SEP_UNROLL
    for (int r = 0; r < R; r++) {
      const V s = splat<T, W>(a[r]);
      SEP_UNROLL
      for (int c = 0; c < C; c++) acc[r * C + c] += s * v[c];
    }
  }
  SEP_UNROLL
  for (int i = 0; i < R * C; i++) {
    T* sum = sums + i / C * g.pitch + i % C * W;
    store<T, W>(sum, load<T, W>(sum) + acc[i]);
  }
}

template <class T>
void outer(const OuterArgs<T>& g) {
  constexpr int W = kLanes<T>, R = kOuterRows<T>, C = kOuterVectors;
  const ptrdiff_t calls = (g.b_blocks + C - 1) / C * g.a_blocks * (W / R);
  const ptrdiff_t steps = calls * ((g.pixels + kPrefetchPixels - 1) / kPrefetchPixels);
  Prefetcher prefetchers[2] = {{g.fetch[0], steps}, {g.fetch[1], steps}};
  for (ptrdiff_t j = 0; j < g.b_blocks; j += C)
    for (ptrdiff_t i = 0; i < g.a_blocks; i++)
      for (int r = 0; r < W; r += R) {
        const T *a = g.a + i * g.block + r, *b = g.b + j * g.block;
        T* sums = g.sums + (i * W + r) * g.pitch + j * W;
        const ptrdiff_t left = g.b_blocks - j;
        if (left >= C)
          outer_block<T, R, C>(g, a, b, sums, prefetchers);
        else if (left == 1)
          outer_block<T, R, 1>(g, a, b, sums, prefetchers);
        else
          outer_block<T, R, 2>(g, a, b, sums, prefetchers);
      }
}

template <class T>
void lane_sums(const T* p, ptrdiff_t n, T* sums) {
  constexpr int W = kLanes<T>;
  vec<T, W> even = vec<T, W>{}, odd = vec<T, W>{};
  ptrdiff_t i = 0;
  for (; i + 2 <= n; i += 2) {
    even += load<T, W>(p + i * W);
    odd += load<T, W>(p + (i + 1) * W);
  }
  if (i < n) even += load<T, W>(p + i * W);
  store<T, W>(sums, load<T, W>(sums) + (even + odd));
}

template <class T>
void derive(T* g, const T* z, ptrdiff_t n, Activation act) {
  constexpr int W = kLanes<T>;
  if (act == Activation::none) return;
  for (ptrdiff_t i = 0; i < n; i += W) store<T, W>(g + i, load<T, W>(g + i) * slope<T, W>(load<T, W>(z + i), act));
}

template <class T>
void apply(T* z, ptrdiff_t n, Activation act) {
  constexpr int W = kLanes<T>;
  for (ptrdiff_t i = 0; i < n; i += W) store<T, W>(z + i, activated<T, W>(load<T, W>(z + i), act));
}

}  // namespace
