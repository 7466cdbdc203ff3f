// The line kernels. Compiled once per instruction set with SEP_TARGET naming it; no STL, nothing inline is shared.
#include "filters/kernels/lines.h"

#include "base/target.h"
#include "base/vec.h"

namespace {

using sep::AlongArgs;
using sep::DirectArgs;
using sep::DownArgs;
using sep::Fold;
using sep::kGroup;
using sep::Lines;
using sep::Taps;

constexpr int wrap(int i, int n) { return (i % n + n) % n; }

// ---- down: weighted sums of rows -----------------------------------------------------------------------------------
// A block is R output rows of one vector. Rows slide through a window held in registers (slots are taken modulo R and
// the tap loop is unrolled by R, so that every index is a constant): each step loads one row, not R.
// Rows is any i -> pointer to input row i.

template <class T, int N, int R, class Rows>
SEP_INLINE void down_plain(vec<T, N> (&acc)[R], const Rows& rows, const Taps<T>& taps) {
  vec<T, N> window[R];
  SEP_UNROLL
  for (int r = 0; r < R - 1; r++) window[r] = load<T, N>(rows(r));
  for (ptrdiff_t k = 0; k < taps.n; k += R) {
    SEP_UNROLL
    for (int s = 0; s < R; s++) {
      if (k + s >= taps.n) break;
      const vec<T, N> w = splat<T, N>(taps.w[k + s]);
      window[wrap(R - 1 + s, R)] = load<T, N>(rows(R - 1 + k + s));
      SEP_UNROLL
      for (int r = 0; r < R; r++) acc[r] += w * window[wrap(r + s, R)];
    }
  }
}

// Taps that are equal (Sign 1) or opposite (-1) about the centre: one addition and one FMA serve two taps. Two windows
// move apart from the centre row; an even number of taps has none.
template <class T, int N, int R, int Sign, bool Even, class Rows>
SEP_INLINE void down_folded(vec<T, N> (&acc)[R], const Rows& rows, const Taps<T>& taps) {
  typedef vec<T, N> V;
  const ptrdiff_t half = taps.n / 2;
  V lo[R], hi[R];
  SEP_UNROLL
  for (int r = 0; r < R; r++) {
    lo[r] = load<T, N>(rows(half + r));
    hi[r] = Even ? load<T, N>(rows(half - 1 + r)) : lo[r];
  }
  if constexpr (Sign > 0 && !Even) {
    const V w = splat<T, N>(taps.w[0]);
    SEP_UNROLL
    for (int r = 0; r < R; r++) acc[r] += w * lo[r];
  }
  for (ptrdiff_t j = 1; j <= half; j += R) {
    SEP_UNROLL
    for (int s = 0; s < R; s++) {
      if (j + s > half) break;
      const V w = splat<T, N>(taps.w[j + s]);
      lo[wrap(-1 - s, R)] = load<T, N>(rows(half - j - s));
      hi[wrap(R + s, R)] = load<T, N>(rows(half + j + s + (Even ? R - 2 : R - 1)));
      SEP_UNROLL
      for (int r = 0; r < R; r++) {
        const V a = lo[wrap(r - 1 - s, R)], b = hi[wrap(r + 1 + s, R)];
        acc[r] += w * (Sign > 0 ? b + a : b - a);
      }
    }
  }
}

// What a block sums: one term with a known fold and parity, or several of any.
enum class Sum { plain, symmetric_odd, symmetric_even, antisymmetric_odd, antisymmetric_even, terms };

template <class T>
SEP_INLINE Sum sum_of(const Taps<T>& taps) {
  if (taps.fold == Fold::none) return Sum::plain;
  if (taps.fold == Fold::symmetric) return taps.n % 2 ? Sum::symmetric_odd : Sum::symmetric_even;
  return taps.n % 2 ? Sum::antisymmetric_odd : Sum::antisymmetric_even;
}

template <class T, int N, int R, Sum S, class Rows>
SEP_INLINE void down_term(vec<T, N> (&acc)[R], const Rows& rows, const Taps<T>& taps) {
  if constexpr (S == Sum::plain) down_plain<T, N, R>(acc, rows, taps);
  if constexpr (S == Sum::symmetric_odd) down_folded<T, N, R, 1, false>(acc, rows, taps);
  if constexpr (S == Sum::symmetric_even) down_folded<T, N, R, 1, true>(acc, rows, taps);
  if constexpr (S == Sum::antisymmetric_odd) down_folded<T, N, R, -1, false>(acc, rows, taps);
  if constexpr (S == Sum::antisymmetric_even) down_folded<T, N, R, -1, true>(acc, rows, taps);
}

// Calls f with the Sum as a type: the one place that dispatches on a list of taps.
template <Sum S>
struct Form {
  static constexpr Sum value = S;
};
template <class T, class F>
SEP_INLINE void with_form(const Taps<T>& taps, F f) {
  switch (sum_of(taps)) {
    case Sum::symmetric_odd:
      return f(Form<Sum::symmetric_odd>{});
    case Sum::symmetric_even:
      return f(Form<Sum::symmetric_even>{});
    case Sum::antisymmetric_odd:
      return f(Form<Sum::antisymmetric_odd>{});
    case Sum::antisymmetric_even:
      return f(Form<Sum::antisymmetric_even>{});
    default:
      return f(Form<Sum::plain>{});
  }
}

template <class T, int N, int R, Sum S>
SEP_INLINE void down_block(const DownArgs<T>& a, ptrdiff_t row, ptrdiff_t x) {
  vec<T, N> acc[R];
  SEP_UNROLL
  for (int r = 0; r < R; r++) acc[r] = vec<T, N>{};
  const ptrdiff_t at = a.offset + x;
  const T* const* table = a.rows + a.source[0] * a.step + row;
  auto rows = [&](ptrdiff_t i) { return table[i] + at; };
  if constexpr (S != Sum::terms) {
    down_term<T, N, R, S>(acc, rows, a.taps[0]);
  } else {
    for (ptrdiff_t t = 0; t < a.terms; t++) {
      table = a.rows + a.source[t] * a.step + row;
      with_form(a.taps[t], [&](auto form) __attribute__((always_inline)) {
        down_term<T, N, R, decltype(form)::value>(acc, rows, a.taps[t]);
      });
    }
  }
  T* const* dst = a.dst + row;
  if (kBytes >= 32 && a.stream) {  // 16-byte pieces of many rows overflow the write-combining buffers
    SEP_UNROLL
    for (int r = 0; r < R; r++) stream<T, N>(dst[r] + x, acc[r]);
  } else {
    SEP_UNROLL
    for (int r = 0; r < R; r++) store<T, N>(dst[r] + x, acc[r]);
  }
}

// Calls block(row, rows as a type) over `count` rows; the last block overlaps the one before it.
template <int R, class Block>
SEP_INLINE void in_blocks(ptrdiff_t count, Block block) {
  ptrdiff_t row = 0;
  for (; row + R <= count; row += R) block.template run<R>(row);
  if (row == count) return;
  if (count >= R) {
    block.template run<R>(count - R);
    return;
  }
  for (; row < count; row++) block.template run<1>(row);
}

template <class T>
constexpr int kRows = kManyRegisters ? kGroup : kGroup / 2;

template <class T, int N, Sum S>
struct DownBlock {
  const DownArgs<T>& a;
  ptrdiff_t from, to;
  template <int R>
  SEP_INLINE void run(ptrdiff_t row) const {
    for (ptrdiff_t x = from; x < to; x += N) down_block<T, N, R, S>(a, row, x);
  }
};

template <class T, int N, Sum S>
void down_lanes(const DownArgs<T>& a) {
  if constexpr (N > 1) {
    if (a.width < N) {  // rows this short are not worth code of their own for each fold: terms takes any
      down_lanes<T, N / 2, Sum::terms>(a);
      return;
    }
  }
  constexpr ptrdiff_t kLine = 64 / sizeof(T), kStrip = 4 * kLine;
  const T* const* fresh = a.rows + a.count + a.taps[0].n - 1 - a.fresh;
  DownArgs<T> last = a;  // a vector that overlaps the one before it, so its rows are not aligned
  last.stream = false;
  for (ptrdiff_t x = 0; x < a.width;) {  // a strip of columns at a time: rows are written in runs of several vectors
    const ptrdiff_t full = (a.width - x) / N * N, strip = full < kStrip ? full : kStrip;
    for (ptrdiff_t i = 0; i < a.fresh; i++)
      for (ptrdiff_t p = 0; p < strip; p += kLine) prefetch(fresh[i] + a.offset + x + p + a.ahead);
    const ptrdiff_t from = strip ? x : a.width - N, to = strip ? x + strip : a.width;
    // Scalars are contracted in one way in a block of rows, and in another in a single row.
    in_blocks<N == 1 ? 1 : kRows<T>>(a.count, DownBlock<T, N, S>{strip ? a : last, from, to});
    x = to;
  }
}

template <class T>
void down(const DownArgs<T>& a) {
  constexpr int N = kLanes<T>;
  if (a.terms > 1)
    down_lanes<T, N, Sum::terms>(a);
  else
    with_form(a.taps[0], [&](auto form) { down_lanes<T, N, decltype(form)::value>(a); });
}

// ---- along: the contiguous axis ------------------------------------------------------------------------------------
// Shifted loads straddle cache lines (two cycles each), so longer kernels go through a transposed block: kGroup rows
// become the lanes, the axis becomes `down`'s. Wide vectors hold several stretches of columns side by side.

template <class T>
constexpr int kWide = kLanes<T> > kGroup ? kLanes<T> : kGroup;  // elements of one transposed row
template <class T>
constexpr int kStretches = kWide<T> / kGroup;
template <class T>
constexpr int kTranspose = (kBytes < 32 ? kBytes : 32) / int(sizeof(T));  // lanes of the vectors that transpose

// kGroup rows: evenly spaced ones need few registers for their addresses, others a table.
template <class T>
struct EvenRows {
  T* base;
  ptrdiff_t step;
  SEP_INLINE T* at(int row, ptrdiff_t x) const {
    T* four = base + x + (row & 4) * step;
    const int r = row & 3;
    return r == 0 ? four : r == 1 ? four + step : r == 2 ? four + 2 * step : four + 3 * step;
  }
};
template <class T>
struct AnyRows {
  T* const* rows;
  SEP_INLINE T* at(int row, ptrdiff_t x) const { return rows[row] + x; }
};

// Calls f with the rows as EvenRows or AnyRows.
template <class T, class F>
SEP_INLINE void with_rows(T* const* rows, F f) {
  const ptrdiff_t step = rows[1] - rows[0];
  bool even = true;
  for (int g = 2; g < kGroup; g++) even = even && rows[g] - rows[g - 1] == step;
  if (even)
    f(EvenRows<T>{rows[0], step});
  else
    f(AnyRows<T>{rows});
}

// A stretch of columns of kGroup rows, transposed: buffer[x * kWide + r] = rows[r][from + x], 0 <= x < length. Elements
// beyond the ends are copies of the columns that stand in for them.
template <class T, class Rows>
SEP_INLINE void to_columns(const AlongArgs<T>& a, const Rows& rows, ptrdiff_t from, ptrdiff_t length, T* buffer) {
  constexpr int N = kTranspose<T>, P = kPart<T>, W = kWide<T>;
  const ptrdiff_t lo = from < 0 ? 0 : from, hi = from + length > a.n ? a.n : from + length;  // really in the rows
  T* to = buffer - from * W;
  for (ptrdiff_t x = lo; x < hi; x += P) {
    const ptrdiff_t at = x + P <= hi ? x : hi - P;
    if (a.next && (x - lo) % (64 / sizeof(T)) == 0) {
      SEP_UNROLL
      for (int g = 0; g < kGroup; g++) prefetch(rows.at(g, at + a.next));
    }
    SEP_UNROLL
    for (int g = 0; g < kGroup; g += N) {
      vec<T, N> r[P];
      SEP_UNROLL
      for (int i = 0; i < P; i++) r[i] = gather_parts<T, N>([&](int p) { return rows.at(g + p * P + i, at); });
      transpose_parts<T, N>(r);
      SEP_UNROLL
      for (int i = 0; i < P; i++) store<T, N>(to + (at + i) * W + g, r[i]);
    }
  }
  auto stand_in = [&](ptrdiff_t x, ptrdiff_t s) {
    T* column = to + x * W;
    for (int g = 0; g < kGroup; g++) column[g] = s < 0 ? a.cval : s >= lo && s < hi ? to[s * W + g] : *rows.at(g, s);
  };
  for (ptrdiff_t x = from; x < lo; x++) stand_in(x, a.before[-1 - x]);
  for (ptrdiff_t x = hi; x < from + length; x++) stand_in(x, a.after[x - a.n]);
}

// rows[r][x] = buffer[x * kWide + r], 0 <= x < length.
template <class T, class Rows>
SEP_INLINE void from_columns(const T* buffer, const Rows& rows, ptrdiff_t start, ptrdiff_t length) {
  constexpr int N = kTranspose<T>, P = kPart<T>, W = kWide<T>;
  for (ptrdiff_t x = 0; x < length; x += N) {
    const ptrdiff_t at = x + N <= length ? x : length - N;
    SEP_UNROLL
    for (int g = 0; g < kGroup; g += P) {
      vec<T, N> r[P];
      SEP_UNROLL
      for (int i = 0; i < P; i++) r[i] = gather_parts<T, N>([&](int p) { return buffer + (at + p * P + i) * W + g; });
      transpose_parts<T, N>(r);
      SEP_UNROLL
      for (int i = 0; i < P; i++) store<T, N>(rows.at(g + i, start + at), r[i]);
    }
  }
}

// `down` over transposed columns: rows kWide apart, one vector (or the few that make kWide) each.
template <class T, Sum S>
struct ColumnsBlock {
  const T* in;
  T* out;
  const Taps<T>& taps;
  template <int R>
  SEP_INLINE void run(ptrdiff_t row) const {
    constexpr int N = kLanes<T>, W = kWide<T>;
    SEP_UNROLL
    for (int g = 0; g < W; g += N) {
      vec<T, N> acc[R];
      SEP_UNROLL
      for (int r = 0; r < R; r++) acc[r] = vec<T, N>{};
      const T* base = in + row * W + g;
      down_term<T, N, R, S>(acc, [base](ptrdiff_t i) { return base + i * W; }, taps);
      SEP_UNROLL
      for (int r = 0; r < R; r++) store<T, N>(out + (row + r) * W + g, acc[r]);
    }
  }
};

template <class T>
void along_transposed(const AlongArgs<T>& a) {
  constexpr int S = kStretches<T>, W = kWide<T>;
  const ptrdiff_t extra = a.taps[0].n - 1;
  const ptrdiff_t blocks = (a.width + sep::kAlongColumns - 1) / sep::kAlongColumns;
  const ptrdiff_t length = (a.width + blocks * S - 1) / (blocks * S);  // columns of one stretch
  T* in = a.scratch;
  T* out = in + (length + extra + 4) * W;
  for (ptrdiff_t x = 0; x < a.width; x += length * S) {
    ptrdiff_t at[S];
    SEP_UNROLL
    for (int s = 0; s < S; s++) {  // stretches beyond the end overlap the ones before
      at[s] = x + s * length;
      if (at[s] > a.width - length) at[s] = a.width - length;
      with_rows(a.rows, [&](auto rows) { to_columns<T>(a, rows, a.from + at[s], length + extra, in + s * kGroup); });
    }
    for (ptrdiff_t t = 0; t < a.terms; t++) {
      with_form(a.taps[t], [&](auto form) {
        in_blocks<kRows<T>>(length, ColumnsBlock<T, decltype(form)::value>{in, out, a.taps[t]});
      });
      SEP_UNROLL
      for (int s = 0; s < S; s++)
        with_rows(a.dst + t * kGroup, [&](auto rows) { from_columns<T>(out + s * kGroup, rows, at[s], length); });
    }
  }
}

template <class T, int N, int C>
SEP_INLINE void along_block(const T* x, const Taps<T>& taps, ptrdiff_t step, T* y) {
  typedef vec<T, N> V;
  V acc[C];
  SEP_UNROLL
  for (int c = 0; c < C; c++) acc[c] = V{};
  if (taps.fold == Fold::none) {
    for (ptrdiff_t k = 0; k < taps.n; k++) {
      V w = splat<T, N>(taps.w[k]);
      SEP_UNROLL
      for (int c = 0; c < C; c++) acc[c] += w * load<T, N>(x + k * step + c * N);
    }
  } else {
    const ptrdiff_t half = taps.n / 2;
    if (taps.center) {
      V w = splat<T, N>(taps.w[0]);
      SEP_UNROLL
      for (int c = 0; c < C; c++) acc[c] += w * load<T, N>(x + half * step + c * N);
    }
    const T *lo = x + (half - 1) * step, *hi = x + (taps.n - half) * step;
    const bool plus = taps.fold == Fold::symmetric;
    for (ptrdiff_t j = 1; j <= half; j++, lo -= step, hi += step) {
      V w = splat<T, N>(taps.w[j]);
      SEP_UNROLL
      for (int c = 0; c < C; c++) {
        V p = load<T, N>(lo + c * N), q = load<T, N>(hi + c * N);
        acc[c] += w * (plus ? q + p : q - p);
      }
    }
  }
  SEP_UNROLL
  for (int c = 0; c < C; c++) store<T, N>(y + c * N, acc[c]);
}

#if defined(__AVX512F__)
// ---- along by permutes: few taps, 512-bit vectors
// Shifted vectors are two-input permutes of neighbouring ones (one cycle); away from borders every fourth is a load
// that straddles cache lines (two cycles), so that both units are busy.

// A row whose elements beyond the ends are copies of elements among its first or last 2N.
template <class T>
struct Bordered {
  static constexpr int N = kLanes<T>;
  typedef typename MaskInt<sizeof(T)>::type Int;
  typedef vec<Int, N> Index;

  ptrdiff_t from, n;
  T cval;
  Int left[2 * N];   // where element from + t is, counted from element 0; negative: cval
  Int right[4 * N];  // where element n - N + t is, counted from element n - 2N

  // False if an element that stands in lies too far from the end.
  SEP_INLINE bool prepare(const AlongArgs<T>& a) {
    from = a.from, n = a.n, cval = a.cval;
    bool near = true;
    auto place = [&](ptrdiff_t element, ptrdiff_t origin) {
      near = near && (element < 0 || (element >= origin && element < origin + 2 * N));
      return Int(element < 0 ? -1 : element - origin);
    };
    for (ptrdiff_t t = 0; t < 2 * N; t++) left[t] = from + t < 0 ? place(a.before[-1 - from - t], 0) : Int(from + t);
    const ptrdiff_t last = from + a.width + a.taps[0].n - 1 - n;  // elements read beyond the end
    for (ptrdiff_t t = 0; t < 4 * N; t++)
      right[t] = t >= N && t - N < last ? place(a.after[t - N], n - 2 * N) : Int(t < N ? t + N : 0);
    return near;
  }
  SEP_INLINE bool inside(ptrdiff_t x, ptrdiff_t length) const { return from + x >= 0 && from + x + length <= n; }
  SEP_INLINE vec<T, N> load_at(const T* row, ptrdiff_t x) const {
    const ptrdiff_t e = from + x;
    if (e >= 0 && e + N <= n) return load<T, N>(row + e);
    const T* base = e < 0 ? row : row + n - 2 * N;
    const Index at = load<Int, N>(e < 0 ? left + x : right + (e - n + N));
    const vec<T, N> v = permute<T, N>(load<T, N>(base), load<T, N>(base + N), at);
    return at < 0 ? splat<T, N>(cval) : v;
  }
};

// Taps that do not fold: each multiplies a shifted vector of its own, which is a permute and a load by turns.
template <class T, int C, bool Inside>
SEP_INLINE void permuted_plain(const vec<T, kLanes<T>> (&b)[C + 1], const T* straddling, const Taps<T>& taps,
                               typename Bordered<T>::Index at, vec<T, kLanes<T>> (&acc)[C]) {
  constexpr int N = kLanes<T>;
  for (ptrdiff_t k = 0; k < taps.n; k += 2, at += 2) {
    const vec<T, N> w = splat<T, N>(taps.w[k]);
    SEP_UNROLL
    for (int c = 0; c < C; c++) acc[c] += w * permute<T, N>(b[c], b[c + 1], at);
    if (k + 1 == taps.n) break;
    const vec<T, N> u = splat<T, N>(taps.w[k + 1]);
    SEP_UNROLL
    for (int c = 0; c < C; c++)
      acc[c] += u * (Inside ? load<T, N>(straddling + k + 1 + c * N) : permute<T, N>(b[c], b[c + 1], at + 1));
  }
}

// Sign: 1 for symmetric taps, -1 for antisymmetric ones, 0 for others.
template <class T, int C, int Sign, bool Inside>
SEP_INLINE void permuted_block(const Bordered<T>& row, const T* p, const Taps<T>& taps, ptrdiff_t x, T* y) {
  constexpr int N = kLanes<T>;
  typedef vec<T, N> V;
  typename Bordered<T>::Index lo, hi;
  const ptrdiff_t half = Sign ? taps.n / 2 : 0;
  SEP_UNROLL
  for (int i = 0; i < N; i++) lo[i] = i;
  hi = lo + int(taps.n - half);
  const T* straddling = p + row.from + x;
  V b[C + 1], acc[C];
  SEP_UNROLL
  for (int c = 0; c <= C; c++) b[c] = Inside ? load<T, N>(straddling + c * N) : row.load_at(p, x + c * N);
  SEP_UNROLL
  for (int c = 0; c < C; c++) acc[c] = V{};
  if constexpr (Sign == 0) permuted_plain<T, C, Inside>(b, straddling, taps, lo, acc);
  if (taps.center) {
    const V w = splat<T, N>(taps.w[0]);
    SEP_UNROLL
    for (int c = 0; c < C; c++)
      acc[c] += w * (Inside ? load<T, N>(straddling + half + c * N) : permute<T, N>(b[c], b[c + 1], lo + int(half)));
  }
  lo += int(half - 1);
  ptrdiff_t j = 1;
  for (; j <= half; j += 2, lo -= 2, hi += 2) {
    const V w = splat<T, N>(taps.w[j]);
    SEP_UNROLL
    for (int c = 0; c < C; c++) {
      const V l = permute<T, N>(b[c], b[c + 1], lo), h = permute<T, N>(b[c], b[c + 1], hi);
      acc[c] += w * (Sign > 0 ? h + l : h - l);
    }
    if (j == half) break;
    const V u = splat<T, N>(taps.w[j + 1]);
    SEP_UNROLL
    for (int c = 0; c < C; c++) {
      const V l = permute<T, N>(b[c], b[c + 1], lo - 1);
      const V h = Inside ? load<T, N>(straddling + taps.n - half + j + c * N) : permute<T, N>(b[c], b[c + 1], hi + 1);
      acc[c] += u * (Sign > 0 ? h + l : h - l);
    }
  }
  SEP_UNROLL
  for (int c = 0; c < C; c++) store<T, N>(y + x + c * N, acc[c]);
}

template <class T, int C, int Sign>
SEP_INLINE void permuted_row(const Bordered<T>& row, const T* p, const Taps<T>& taps, T* y, ptrdiff_t width,
                             ptrdiff_t next) {
  constexpr int N = kLanes<T>;
  for (ptrdiff_t x = 0; x < width; x += C * N) {
    const ptrdiff_t at = x + C * N <= width ? x : width - C * N;
    if (next) {
      SEP_UNROLL
      for (int c = 0; c < C; c++) prefetch(p + row.from + at + next + c * N);
    }
    if (row.inside(at, (C + 1) * N))
      permuted_block<T, C, Sign, true>(row, p, taps, at, y);
    else
      permuted_block<T, C, Sign, false>(row, p, taps, at, y);
  }
}

// False where permutes are not the faster way, or cannot reach the elements that stand in.
template <class T>
bool along_permuted(const AlongArgs<T>& a) {
  constexpr int N = kLanes<T>, C = 4;
  // Longer kernels are as fast in transposed blocks, and several terms faster; short rows consist mostly of ends.
  if (a.taps[0].n > N / 2 + 1 || a.width < 16 * N) return false;
  Bordered<T> row;
  if (!row.prepare(a)) return false;
  for (ptrdiff_t r = 0; r < a.count; r++)
    for (ptrdiff_t t = 0; t < a.terms; t++) {
      T* y = a.dst[t * kGroup + r];
      if (a.taps[t].fold == Fold::none)
        permuted_row<T, C, 0>(row, a.rows[r], a.taps[t], y, a.width, t ? 0 : a.next);
      else if (a.taps[t].fold == Fold::symmetric)
        permuted_row<T, C, 1>(row, a.rows[r], a.taps[t], y, a.width, t ? 0 : a.next);
      else
        permuted_row<T, C, -1>(row, a.rows[r], a.taps[t], y, a.width, t ? 0 : a.next);
    }
  return true;
}
#else
template <class T>
bool along_permuted(const AlongArgs<T>&) {
  return false;
}
#endif

template <class T, int N>
void along_row(const T* x, const Taps<T>& taps, ptrdiff_t step, T* y, ptrdiff_t width, ptrdiff_t next) {
  if constexpr (N > 1) {
    if (width < N) {
      along_row<T, N / 2>(x, taps, step, y, width, next);
      return;
    }
  }
  ptrdiff_t i = 0;
  if constexpr (N == kLanes<T>)
    for (; i + 4 * N <= width; i += 4 * N) {
      if (next)
        for (ptrdiff_t p = 0; p < 4 * kBytes; p += 64) prefetch(x + i + next + p / ptrdiff_t(sizeof(T)));
      along_block<T, N, 4>(x + i, taps, step, y + i);
    }
  for (; i < width; i += N) {
    const ptrdiff_t at = i + N <= width ? i : width - N;
    along_block<T, N, 1>(x + at, taps, step, y + at);
  }
}

template <class T>
void along(const AlongArgs<T>& a) {
  if (sep::can_reach_outside(a.taps[0].n, a.width, a.step, a.n, kBytes)) {
    if (!along_permuted<T>(a)) along_transposed<T>(a);
    return;
  }
  for (ptrdiff_t t = 0; t < a.terms; t++)
    for (ptrdiff_t r = 0; r < a.count; r++)
      along_row<T, kLanes<T>>(a.rows[r] + a.from, a.taps[t], a.step, a.dst[t * kGroup + r], a.width, t ? 0 : a.next);
}

// ---- direct: dense correlation -------------------------------------------------------------------------------------
// A kernel comes as runs down its columns. Each is a `down` over rows shifted by the column's position; a block of R
// rows of C vectors stays in registers (acc[r * C + c]) for all runs.

// As down_plain, but the oldest row of the window is used before the newest is loaded: C registers fewer.
template <class T, int N, int R, int C>
SEP_INLINE void direct_plain(vec<T, N> (&acc)[R * C], const T* x, ptrdiff_t pitch, const Taps<T>& taps) {
  vec<T, N> window[R][C];
  SEP_UNROLL
  for (int r = 0; r < R - 1; r++, x += pitch) {
    SEP_UNROLL
    for (int c = 0; c < C; c++) window[r][c] = load<T, N>(x + c * N);
  }
  for (ptrdiff_t k = 0; k < taps.n; k += R) {
    SEP_UNROLL
    for (int s = 0; s < R; s++, x += pitch) {
      if (k + s >= taps.n) break;
      const vec<T, N> w = splat<T, N>(taps.w[k + s]);
      SEP_UNROLL
      for (int c = 0; c < C; c++) {
        if constexpr (R > 1) acc[c] += w * window[s][c];
        window[wrap(s - 1, R)][c] = load<T, N>(x + c * N);
        SEP_UNROLL
        for (int r = R > 1; r < R; r++) acc[r * C + c] += w * window[wrap(r + s, R)][c];
      }
    }
  }
}

// Runs fold where there are registers for the two windows that folding takes. Every block shape adds in the same order:
// results do not depend on how the rows were divided.
template <class T, int N, int R, int C>
SEP_INLINE void direct_run(vec<T, N> (&acc)[R * C], const T* x, ptrdiff_t pitch, const Taps<T>& taps) {
  if (!kManyRegisters || taps.fold == Fold::none) {
    direct_plain<T, N, R, C>(acc, x, pitch, taps);
    return;
  }
  const Taps<T> folded = {taps.w + (taps.n - 1) / 2, taps.n, taps.fold, false};
  with_form(folded, [&](auto form) __attribute__((always_inline)) {
    SEP_UNROLL
    for (int c = 0; c < C; c++) {
      vec<T, N> sum[R];
      SEP_UNROLL
      for (int r = 0; r < R; r++) sum[r] = acc[r * C + c];
      down_term<T, N, R, decltype(form)::value>(sum, [=](ptrdiff_t i) { return x + i * pitch + c * N; }, folded);
      SEP_UNROLL
      for (int r = 0; r < R; r++) acc[r * C + c] = sum[r];
    }
  });
}

template <class T, int N, int R, int C>
SEP_INLINE void direct_block(const DirectArgs<T>& a, ptrdiff_t row, ptrdiff_t x, bool streamed) {
  vec<T, N> acc[R * C];
  SEP_UNROLL
  for (int i = 0; i < R * C; i++) acc[i] = vec<T, N>{};
  const ptrdiff_t at = (a.row + row) * a.pitch + x;
  for (ptrdiff_t i = 0; i < a.count_runs; i++)
    direct_run<T, N, R, C>(acc, a.planes[a.runs[i].plane] + a.runs[i].offset + at, a.pitch, a.runs[i].taps);
  T* dst = a.dst + row * a.dst_pitch + x;
  if (streamed) {
    SEP_UNROLL
    for (int i = 0; i < R * C; i++) stream<T, N>(dst + i / C * a.dst_pitch + i % C * N, acc[i]);
  } else {
    SEP_UNROLL
    for (int i = 0; i < R * C; i++) store<T, N>(dst + i / C * a.dst_pitch + i % C * N, acc[i]);
  }
}

template <class T>
struct DirectBlock {
  const DirectArgs<T>& a;
  template <int R>
  SEP_INLINE void run(ptrdiff_t row) const {
    constexpr int N = kLanes<T>, C = R == 1 ? 8 : kManyRegisters ? 1 : 2;
    ptrdiff_t x = 0;
    if constexpr (C > 1)
      for (; x + C * N <= a.width; x += C * N) direct_block<T, N, R, C>(a, row, x, a.stream);
    for (; x < a.width; x += N) {
      const bool whole = x + N <= a.width;  // or it overlaps what came before, and is not aligned
      direct_block<T, N, R, 1>(a, row, whole ? x : a.width - N, whole && a.stream);
    }
  }
};

template <class T>
void direct(const DirectArgs<T>& a) {
  in_blocks<kRows<T>>(a.count, DirectBlock<T>{a});
}

// ---- the table -----------------------------------------------------------------------------------------------------

template <class T>
constexpr Lines<T> table() {
  return {down<T>, along<T>, direct<T>};
}

}  // namespace

namespace sep {
extern const LineTable SEP_OF_TARGET(lines);
const LineTable SEP_OF_TARGET(lines) = {table<float>(), table<double>()};
}  // namespace sep
