// What follows the products of a recurrent layer's step. Included only by kernel units.
#pragma once
#include "engine/kernels/functions.h"

namespace {

using sep::CellArgs;

// f(first element, elements) for each vector of a row, and for what is left of it.
template <class F>
SEP_INLINE void each_vector(ptrdiff_t width, F f) {
  ptrdiff_t i = 0;
  for (; i + kWide <= width; i += kWide) f(i, ptrdiff_t(kWide));
  if (i < width) f(i, width - i);
}

SEP_INLINE V load_some(const float* p, ptrdiff_t n) { return n == kWide ? load_v(p) : load_part(p, n); }
SEP_INLINE void store_some(float* p, V v, ptrdiff_t n) { n == kWide ? store_v(p, v) : store_part(p, v, n); }

void lstm(const CellArgs& g) {
  const ptrdiff_t w = g.width;
  for (ptrdiff_t row = 0; row < g.rows; row++) {
    const float *gates = g.gates + row * g.gates_row, *state = g.state + row * g.state_row;
    float *next = g.next + row * g.state_row, *dst = g.dst + row * g.dst_row;
    each_vector(w, [&](ptrdiff_t i, ptrdiff_t n) SEP_LAMBDA {
      const V in = sigmoid<float, kWide>(load_some(gates + i, n));
      const V forget = sigmoid<float, kWide>(load_some(gates + 2 * w + i, n));
      const V cell = forget * load_some(state + i, n) + in * tanh_of(load_some(gates + 3 * w + i, n));
      store_some(next + i, cell, n);
      store_some(dst + i, sigmoid<float, kWide>(load_some(gates + w + i, n)) * tanh_of(cell), n);
    });
  }
}

void gru(const CellArgs& g) {
  const ptrdiff_t w = g.width;
  for (ptrdiff_t row = 0; row < g.rows; row++) {
    const float *gates = g.gates + row * g.gates_row, *more = g.more + row * g.more_row,
                *state = g.state + row * g.state_row;
    float* dst = g.dst + row * g.dst_row;
    each_vector(w, [&](ptrdiff_t i, ptrdiff_t n) SEP_LAMBDA {
      const V update = sigmoid<float, kWide>(load_some(gates + i, n) + load_some(more + i, n));
      const V reset = sigmoid<float, kWide>(load_some(gates + w + i, n) + load_some(more + w + i, n));
      const V fresh = tanh_of(load_some(gates + 2 * w + i, n) + reset * load_some(more + 2 * w + i, n));
      store_some(dst + i, (1.0f - update) * fresh + update * load_some(state + i, n), n);
    });
  }
}

}  // namespace
