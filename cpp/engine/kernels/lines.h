// Reductions, softmax and weighted sums along one axis. Included only by kernel units.
#pragma once
#include "engine/kernels/maps.h"

namespace {

using sep::ReduceArgs;
using sep::Reduction;
using sep::SoftmaxArgs;
using sep::WeighArgs;

template <Reduction R>
struct Reducer {
  static constexpr float identity = R == Reduction::max    ? -__builtin_inff()
                                    : R == Reduction::min  ? __builtin_inff()
                                    : R == Reduction::prod ? 1.0f
                                                           : 0.0f;
  static SEP_INLINE V of(V x) {
    if constexpr (R == Reduction::l1) return abs_of(x);
    if constexpr (R == Reduction::l2 || R == Reduction::sum_square) return x * x;
    return x;
  }
  static SEP_INLINE V join(V a, V b) {
    if constexpr (R == Reduction::max) return max_of(a, b);
    if constexpr (R == Reduction::min) return min_of(a, b);
    if constexpr (R == Reduction::prod) return a * b;
    return a + b;
  }
  static SEP_INLINE V finish(V x, ptrdiff_t count) {
    if constexpr (R == Reduction::mean) return x / float(count);
    if constexpr (R == Reduction::l2) return sqrt_of(x);
    return x;
  }
  static SEP_INLINE float across(V x) {  // halves joined with each other, in this order on every call
    float held[2 * kWide] = {};
    store_v(held, x);
    for (int width = kWide / 2; width; width /= 2) {
      store_v(held, join(load_v(held), load_v(held + width)));
    }
    return held[0];
  }
};

// Terms are added up in blocks, and these in blocks of blocks: the rounding error grows as slowly as if they were added
// in pairs, and the order is always the same.
constexpr ptrdiff_t kTerms = 64;
template <Reduction R>
struct Total {
  V blocks = all(Reducer<R>::identity), whole = all(Reducer<R>::identity);
  ptrdiff_t count = 0;
  SEP_INLINE void add(V block) {
    blocks = Reducer<R>::join(blocks, block);
    if (++count % kTerms == 0) whole = Reducer<R>::join(whole, blocks), blocks = all(Reducer<R>::identity);
  }
  SEP_INLINE V value() const { return Reducer<R>::join(whole, blocks); }
};

// The results of M neighbouring vectors; a single one takes turns with four sums, which do not wait for each other.
template <Reduction R, int M, class Load>
SEP_INLINE void reduce_vectors(const ReduceArgs& g, ptrdiff_t first, V (&results)[M], Load read) {
  typedef Reducer<R> Op;
  constexpr int S = M == 1 ? 4 : 1;
  Total<R> totals[M];
  for (ptrdiff_t o = 0; o < g.n_offsets; o++) {
    const float* p = g.src + first + g.offsets[o];
    for (ptrdiff_t j = 0; j < g.count; j += kTerms * S) {
      const ptrdiff_t stop = j + kTerms * S < g.count ? j + kTerms * S : g.count;
      V sums[M * S];
      SEP_UNROLL
      for (int i = 0; i < M * S; i++) sums[i] = all(Op::identity);
      ptrdiff_t t = j;
      for (; t + S <= stop; t += S) {
        SEP_UNROLL
        for (int i = 0; i < M * S; i++)
          sums[i] = Op::join(sums[i], Op::of(read(p + (t + i / M) * g.step + i % M * kWide)));
      }
      for (; t < stop; t++) sums[0] = Op::join(sums[0], Op::of(read(p + t * g.step)));
      SEP_UNROLL
      for (int i = 0; i < M; i++)
        totals[i].add(S == 4 ? Op::join(Op::join(sums[0], sums[S / 4]), Op::join(sums[S / 2], sums[S - 1])) : sums[i]);
    }
  }
  SEP_UNROLL
  for (int i = 0; i < M; i++) results[i] = Op::finish(totals[i].value(), g.n_offsets * g.count);
}

// Results that lie next to each other in src.
template <Reduction R>
__attribute__((noinline)) void reduce_neighbours(const ReduceArgs& g) {
  auto put = [&](ptrdiff_t first, V v, ptrdiff_t n) {
    float held[kWide];
    store_v(held, v);
    copy({held, g.dst + first * g.dst_step, 1, n, 0, 1, 0, g.dst_step});
  };
  ptrdiff_t i = 0;
  for (; i + 4 * kWide <= g.n; i += 4 * kWide) {
    V results[4];
    reduce_vectors<R, 4>(g, i, results, [](const float* p) { return load_v(p); });
    for (int v = 0; v < 4; v++) put(i + v * kWide, results[v], kWide);
  }
  V result[1];
  for (; i + kWide <= g.n; i += kWide) {
    reduce_vectors<R, 1>(g, i, result, [](const float* p) { return load_v(p); });
    put(i, result[0], kWide);
  }
  if (const ptrdiff_t n = g.n - i; n > 0) {
    reduce_vectors<R, 1>(g, i, result, [n](const float* p) { return load_part(p, n); });
    put(i, result[0], n);
  }
}

// One result at a time, of lines that lie next to each other or are brought to do so.
template <Reduction R>
__attribute__((noinline)) void reduce_lines(const ReduceArgs& g) {
  typedef Reducer<R> Op;
  constexpr ptrdiff_t kLine = kTerms * 4 * kWide;
  float held[kLine];
  for (ptrdiff_t i = 0; i < g.n; i++) {
    Total<R> total;
    for (ptrdiff_t o = 0; o < g.n_offsets; o++) {
      for (ptrdiff_t j = 0; j < g.count; j += kLine) {
        const ptrdiff_t n = g.count - j < kLine ? g.count - j : kLine;
        const float* p = g.src + i * g.src_step + g.offsets[o] + j * g.step;
        if (g.step != 1) copy({p, held, 1, n, 0, g.step, 0, 1}), p = held;
        V sums[4] = {all(Op::identity), all(Op::identity), all(Op::identity), all(Op::identity)};
        ptrdiff_t t = 0;
        for (; t + 4 * kWide <= n; t += 4 * kWide) {
          SEP_UNROLL
          for (int s = 0; s < 4; s++) sums[s] = Op::join(sums[s], Op::of(load_v(p + t + s * kWide)));
        }
        for (; t + kWide <= n; t += kWide) sums[0] = Op::join(sums[0], Op::of(load_v(p + t)));
        if (t < n) sums[1] = Op::join(sums[1], Op::of(load_part(p + t, n - t, Op::identity)));
        total.add(Op::join(Op::join(sums[0], sums[1]), Op::join(sums[2], sums[3])));
      }
    }
    const float whole = Op::across(total.value());
    g.dst[i * g.dst_step] = Op::finish(all(whole), g.n_offsets * g.count)[0];
  }
}

template <Reduction R>
SEP_INLINE void reduce_as(const ReduceArgs& g) {
  g.src_step == 1 && (g.step != 1 || g.n >= kWide) ? reduce_neighbours<R>(g) : reduce_lines<R>(g);
}

// Whether a number is better than the best one so far: one that is none is better than all, as in NumPy.
template <bool Max>
SEP_INLINE I is_better(V value, V best) {
  const I more = Max ? value > best : value < best;
  return more | ((value != value) & (best == best));
}

// The index of the first maximum or minimum along the one axis that is reduced.
template <bool Max>
__attribute__((noinline)) void reduce_to_index(const ReduceArgs& g) {
  ptrdiff_t i = 0;
  for (; g.src_step == 1 && i + kWide <= g.n; i += kWide) {
    V best = load_v(g.src + i), index = V{};
    for (ptrdiff_t j = 1; j < g.count; j++) {
      const V value = load_v(g.src + i + j * g.step);
      const I better = is_better<Max>(value, best);
      best = better ? value : best, index = better ? all(float(j)) : index;
    }
    float held[kWide];
    store_v(held, index);
    copy({held, g.dst + i * g.dst_step, 1, kWide, 0, 1, 0, g.dst_step});
  }
  for (; i < g.n; i++) {
    const float* p = g.src + i * g.src_step;
    float best = *p;
    ptrdiff_t index = 0;
    for (ptrdiff_t j = 1; j < g.count; j++) {
      const float value = p[j * g.step];
      if ((Max ? value > best : value < best) || (value != value && best == best)) best = value, index = j;
    }
    g.dst[i * g.dst_step] = float(index);
  }
}

void reduce(const ReduceArgs& g) {
  switch (g.reduction) {
    case Reduction::argmax:
      return reduce_to_index<true>(g);
    case Reduction::argmin:
      return reduce_to_index<false>(g);
    case Reduction::sum:
      return reduce_as<Reduction::sum>(g);
    case Reduction::mean:
      return reduce_as<Reduction::mean>(g);
    case Reduction::max:
      return reduce_as<Reduction::max>(g);
    case Reduction::min:
      return reduce_as<Reduction::min>(g);
    case Reduction::prod:
      return reduce_as<Reduction::prod>(g);
    case Reduction::l1:
      return reduce_as<Reduction::l1>(g);
    case Reduction::l2:
      return reduce_as<Reduction::l2>(g);
    case Reduction::sum_square:
      return reduce_as<Reduction::sum_square>(g);
  }
}

// ---------------------------------------------------------------- softmax

void softmax_line(const float* src, float* dst, ptrdiff_t n, bool log) {
  typedef Reducer<Reduction::max> Max;
  typedef Reducer<Reduction::sum> Sum;
  V high = all(Max::identity);  // that of the numbers: one that is none makes the sum none
  ptrdiff_t i = 0;
  for (; i + kWide <= n; i += kWide) high = larger<float, kWide>(load_v(src + i), high);
  const ptrdiff_t whole = i, rest = n - i;
  if (rest) high = larger<float, kWide>(load_part(src + i, rest, Max::identity), high);
  const V largest = all(Max::across(high));
  Total<Reduction::sum> total;
  for (i = 0; i < whole; i += kWide) {
    const V x = load_v(src + i) - largest, e = exp_or_zero(x);
    store_v(dst + i, log ? x : e);
    total.add(e);
  }
  if (rest) {
    const V x = load_part(src + i, rest) - largest;
    float e[kWide];
    store_v(e, exp_or_zero(x));
    total.add(load_part(e, rest));
    store_part(dst + i, log ? x : load_v(e), rest);
  }
  const V sum = all(Sum::across(total.value())), by = log ? log_of(sum) : 1.0f / sum;
  auto finish = [&](V v) SEP_LAMBDA { return log ? v - by : v * by; };
  each(dst, dst, n, finish);
}

// Rows that lie next to each other: M vectors of them at a time.
template <int M>
SEP_INLINE void softmax_columns(const SoftmaxArgs& g, ptrdiff_t first) {
  const float* src = g.src + first;
  float* dst = g.dst + first;
  V high[M], by[M];
  Total<Reduction::sum> totals[M];
  SEP_UNROLL
  for (int v = 0; v < M; v++) high[v] = all(-__builtin_inff());
  for (ptrdiff_t i = 0; i < g.n; i++) {
    SEP_UNROLL
    for (int v = 0; v < M; v++) high[v] = larger<float, kWide>(load_v(src + i * g.src_step + v * kWide), high[v]);
  }
  for (ptrdiff_t i = 0; i < g.n; i++) {
    SEP_UNROLL
    for (int v = 0; v < M; v++) {
      const V x = load_v(src + i * g.src_step + v * kWide) - high[v], e = exp_or_zero(x);
      totals[v].add(e);
      store_v(dst + i * g.dst_step + v * kWide, g.log ? x : e);
    }
  }
  SEP_UNROLL
  for (int v = 0; v < M; v++) by[v] = g.log ? log_of(totals[v].value()) : 1.0f / totals[v].value();
  for (ptrdiff_t i = 0; i < g.n; i++) {
    SEP_UNROLL
    for (int v = 0; v < M; v++) {
      float* p = dst + i * g.dst_step + v * kWide;
      store_v(p, g.log ? load_v(p) - by[v] : load_v(p) * by[v]);
    }
  }
}

void softmax(const SoftmaxArgs& g) {
  ptrdiff_t row = 0;
  if (g.src_row == 1 && g.dst_row == 1 && g.src_step != 1) {
    for (; row + 2 * kWide <= g.rows; row += 2 * kWide) softmax_columns<2>(g, row);
    for (; row + kWide <= g.rows; row += kWide) softmax_columns<1>(g, row);
  }
  for (; row < g.rows; row++) {
    const float* src = g.src + row * g.src_row;
    float* dst = g.dst + row * g.dst_row;
    if (g.src_step == 1 && g.dst_step == 1) {
      softmax_line(src, dst, g.n, g.log);
    } else {
      copy({src, g.line, 1, g.n, 0, g.src_step, 0, 1});
      softmax_line(g.line, g.line, g.n, g.log);
      copy({g.line, dst, 1, g.n, 0, 1, 0, g.dst_step});
    }
  }
}

// ---------------------------------------------------------------- weighted sums

// The axis is not the innermost one: vectors along the columns.
void weigh_columns(const WeighArgs& g) {
  for (ptrdiff_t o = g.first; o < g.last; o++) {
    float* dst = g.dst + o * g.dst_step;
    ptrdiff_t j = 0;
    auto sum = [&](auto read) SEP_LAMBDA {
      V s = V{};
      for (ptrdiff_t k = 0, w = o; k < g.taps; k++, w += g.results) s += g.weights[w] * read(g.src + g.at[w] + j);
      return s;
    };
    if (g.taps == 2) {
      const float *p = g.src + g.at[o], *q = g.src + g.at[o + g.results];
      const V a = all(g.weights[o]), b = all(g.weights[o + g.results]);
      for (; j + kWide <= g.columns; j += kWide) store_v(dst + j, a * load_v(p + j) + b * load_v(q + j));
    }
    for (; j + kWide <= g.columns; j += kWide) store_v(dst + j, sum([](const float* p) { return load_v(p); }));
    if (const ptrdiff_t n = g.columns - j; n > 0)
      store_part(dst + j, sum([n](const float* p) { return load_part(p, n); }), n);
  }
}

// Vectors along the axis itself, whose samples are gathered.
void weigh_along(const WeighArgs& g, ptrdiff_t column) {
  const float* src = g.src + column * g.src_column;
  float* dst = g.dst + column * g.dst_column;
  for (ptrdiff_t o = g.first; o < g.last; o += kWide) {
    const ptrdiff_t n = g.last - o < kWide ? g.last - o : kWide;
    V s = V{};
    for (ptrdiff_t k = 0; k < g.taps; k++) {
      const ptrdiff_t* at = g.at + k * g.results + o;
      const float* w = g.weights + k * g.results + o;
      V x = V{};
      if (n == kWide) {
        SEP_UNROLL
        for (int i = 0; i < kWide; i++) x[i] = src[at[i]];
        s += x * load_v(w);
      } else {
        for (int i = 0; i < n; i++) x[i] = src[at[i]];
        s += x * load_part(w, n);
      }
    }
    float held[kWide];
    store_v(held, s);
    for (int i = 0; i < n; i++) dst[(o + i) * g.dst_step] = held[i];
  }
}

void weigh(const WeighArgs& g) {
  if (g.src_column == 1 && g.dst_column == 1 && g.columns > 1) return weigh_columns(g);
  for (ptrdiff_t j = 0; j < g.columns; j++) weigh_along(g, j);
}

}  // namespace
