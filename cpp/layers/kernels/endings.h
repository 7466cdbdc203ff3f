// What follows a sum before it is stored, for feature maps in blocks. Included only by kernel units.
#pragma once
#include "base/vec.h"
#include "layers/kernels/activations.h"
#include "layers/kernels/blocks.h"

namespace {

using sep::Ending;

constexpr int W = kLanes<float>;
typedef vec<float, W> V;

// Those that are a maximum and a minimum at most, and are taken in registers.
constexpr bool is_simple(Activation act) { return is_clamp(act) || act == Activation::clip; }

template <int M>
SEP_INLINE void clamp_all(V (&acc)[M], const Ending& end) {
  if (end.act == Activation::none) return;
  if (end.act == Activation::relu) {
    SEP_UNROLL
    for (int i = 0; i < M; i++) acc[i] = at_least<float, W>(acc[i], 0.0f);
    return;
  }
  const float low = end.act == Activation::clip ? end.low : 0.0f, high = end.act == Activation::clip ? end.high : 6.0f;
  SEP_UNROLL
  for (int i = 0; i < M; i++) acc[i] = at_most<float, W>(at_least<float, W>(acc[i], low), high);
}

// Results in memory, one after the other: sums in `held`, residuals in `add` (or null).
template <class Act>
SEP_INLINE void finish_each(const V* held, int n, const Ending& end, const float* add, float* dst, Act act) {
  if (!add) {
    for (int i = 0; i < n; i++) store<float, W>(dst + i * W, act(held[i]));
  } else if (end.add_last) {
    for (int i = 0; i < n; i++) store<float, W>(dst + i * W, act(held[i]) + load<float, W>(add + i * W));
  } else {
    for (int i = 0; i < n; i++) store<float, W>(dst + i * W, act(held[i] + load<float, W>(add + i * W)));
  }
}

__attribute__((noinline)) void finish(const V* held, int n, const Ending& end, const float* add, float* dst) {
  switch (end.act) {
    case Activation::silu:
      return finish_each(held, n, end, add, dst, [](V v) SEP_LAMBDA { return fast_silu<W>(v); });
    case Activation::hard_swish:
      return finish_each(held, n, end, add, dst,
                         [](V v) SEP_LAMBDA { return activated<float, W>(v, Activation::hard_swish); });
    case Activation::sigmoid:
      return finish_each(held, n, end, add, dst, [](V v) SEP_LAMBDA { return fast_sigmoid<W>(v); });
    default:
      return finish_each(held, n, end, add, dst, [&](V v) { return ended<W>(v, end); });
  }
}

}  // namespace
