// Kernels for boxes (running sums) and cosines (recursive oscillators). Compiled once per instruction set with
// SEP_TARGET naming it; no STL.
#include "filters/kernels/box_and_cosines.h"

#include "base/target.h"
#include "base/vec.h"

namespace {

using sep::BoxAndCosinesTable;
using sep::BoxArgs;
using sep::Cosines;
using sep::CosinesArgs;
using sep::kPanelRows;
using sep::kPanelStep;
using sep::LineSet;
using sep::Overflow;
using sep::Rounding;
using sep::Storing;

constexpr int kDoubles = kLanes<double>;

// ---- panels from memory and back -----------------------------------------------------------------------------------

template <class T>
constexpr bool kFloats = T(0.5) != T(0);
template <>
constexpr bool kFloats<bool> = false;

// The type as which elements are transposed: float where it holds them exactly.
template <bool Small>
struct CarryOf {
  typedef double type;
};
template <>
struct CarryOf<true> {
  typedef float type;
};
template <class T>
using Carry = typename CarryOf<(sizeof(T) <= 2 || (sizeof(T) == 4 && kFloats<T>))>::type;

// How far prefetch runs ahead: elements along a line, or rows along a strided axis, each of which lies on another page.
constexpr ptrdiff_t kColumnsAhead = 8 * kPanelRows, kRowsAhead = 16;

// rows[x][p] = lines[p][x] for kPanelStep lines of S, side by side in panels `width` wide
template <class S, class D>
__attribute__((noinline)) void to_panel(const S* const* lines, ptrdiff_t count, D* rows, ptrdiff_t width) {
  constexpr int N = (kBytes < 32 ? kBytes : 32) / int(sizeof(S)), P = kPart<S>;
  // Few lines at a time: evenly spaced ones compete for few sets of the cache.
  for (int g = 0; g < kPanelStep; g += N) {
    SEP_UNROLL
    for (int i = 0; i < N; i++) prefetch(lines[g + i] + kColumnsAhead);
    ptrdiff_t x = 0;
    for (; x + P <= count; x += P) {
      vec<S, N> r[P];
      SEP_UNROLL
      for (int i = 0; i < P; i++) r[i] = gather_parts<S, N>([&](int p) { return lines[g + p * P + i] + x; });
      transpose_parts<S, N>(r);
      SEP_UNROLL
      for (int i = 0; i < P; i++) {  // not by `store`: two registers' worth cannot be an argument everywhere
        auto* to = reinterpret_cast<typename Vec<D, N>::loose*>(rows + (x + i) * width + g);
        *to = __builtin_convertvector(r[i], vec<D, N>);
      }
    }
    for (; x < count; x++)
      for (int p = g; p < g + N; p++) rows[x * width + p] = D(lines[p][x]);
  }
}

// lines[p][x] = columns[x][p], kPanelStep lines; count >= the lanes of a vector
template <class S>
SEP_INLINE void from_panel(const S* columns, ptrdiff_t count, S* const* lines) {
  constexpr int N = (kBytes < 32 ? kBytes : 32) / int(sizeof(S)), P = kPart<S>;
  for (int g = 0; g < kPanelStep; g += P) {
    for (ptrdiff_t x = 0; x < count; x += N) {
      const ptrdiff_t at = x + N <= count ? x : count - N;
      vec<S, N> r[P];
      SEP_UNROLL
      for (int i = 0; i < P; i++)
        r[i] = gather_parts<S, N>([&](int p) { return columns + (at + p * P + i) * kPanelStep + g; });
      transpose_parts<S, N>(r);
      SEP_UNROLL
      for (int i = 0; i < P; i++) store<S, N>(lines[g + i] + at, r[i]);
    }
  }
}

template <class T>
void read(const LineSet& from, ptrdiff_t first, ptrdiff_t count, double* rows, ptrdiff_t width) {
  const ptrdiff_t offset = first * from.stride;
  if (from.adjacent) {
    for (ptrdiff_t r = 0; r < count; r++) {
      const char* line = from.at[0] + offset + r * from.stride;
      for (ptrdiff_t b = 0; b < from.lines * ptrdiff_t(sizeof(T)); b += 64)
        prefetch(line + kRowsAhead * from.stride + b);
      const T* __restrict source = reinterpret_cast<const T*>(line);
      double* __restrict out = rows + r * width;
      for (ptrdiff_t p = 0; p < from.lines; p++) out[p] = double(source[p]);
      for (ptrdiff_t p = from.lines; p < width; p++) out[p] = 0;
    }
    return;
  }
  if (from.stride == ptrdiff_t(sizeof(T)) && count >= kPart<float>) {
    typedef Carry<T> S;
    S carried[kFloats<T> ? 1 : kPanelStep * kPanelRows];
    const S* lines[kPanelStep];
    for (ptrdiff_t p = 0; p < kPanelStep; p++) {
      const T* line = reinterpret_cast<const T*>(from.at[p < from.lines ? p : from.lines - 1] + offset);
      if constexpr (kFloats<T>) {
        lines[p] = line;
      } else {
        S* copy = carried + p * kPanelRows;
        for (ptrdiff_t x = 0; x < count; x++) copy[x] = S(line[x]);
        lines[p] = copy;
      }
    }
    to_panel<S, double>(lines, count, rows, width);
    return;
  }
  for (ptrdiff_t r = 0; r < count; r++) {
    for (ptrdiff_t p = 0; p < from.lines; p++)
      rows[r * width + p] = double(*reinterpret_cast<const T*>(from.at[p] + offset + r * from.stride));
    for (ptrdiff_t p = from.lines; p < width; p++) rows[r * width + p] = 0;
  }
}

template <class T>
constexpr double kLowest = kFloats<T> || T(-1) > T(0) ? 0 : -double(uint64_t(1) << (8 * sizeof(T) - 1));
template <class T>  // one past the largest
constexpr double kAbove = (T(-1) > T(0) ? 2 : 1) * double(uint64_t(1) << (8 * sizeof(T) - 1));

// An integer modulo 2**64, as casts through the widest integer give it; NaN gives 0.
SEP_INLINE uint64_t modular(double v) {
  constexpr double kTop = 9223372036854775808.0;
  if (!(v >= -kTop && v < 2 * kTop)) return 0;
  return v < kTop ? uint64_t(int64_t(v)) : uint64_t(v);
}

SEP_INLINE double rounded(double v, const Storing& how) {
  v = v < how.low ? how.low : v;
  v = v > how.high ? how.high : v;
  if (how.rounding == Rounding::nearest) return __builtin_rint(v);
  double d = v * how.snap;
  d = d < sep::kSnap ? d : sep::kSnap;
  d = d > -sep::kSnap ? d : -sep::kSnap;
  return __builtin_trunc(v + d);
}

template <class T>
SEP_INLINE T stored(double v, const Storing& how) {
  if constexpr (kFloats<T>) {
    return T(v);
  } else {
    v = rounded(v, how);
    if (how.overflow == Overflow::wrap) return T(modular(v));
    if (!(v > kLowest<T>)) return v == v ? T(kLowest<T>) : T(0);
    return v < kAbove<T> ? T(v) : T(T(-1) > T(0) ? ~uint64_t(0) : (uint64_t(1) << (8 * sizeof(T) - 1)) - 1);
  }
}
template <>
SEP_INLINE bool stored<bool>(double v, const Storing& how) {
  v = rounded(v, how);
  return how.overflow == Overflow::wrap ? v == v && v - v == 0 && v != 0 : v > 0;
}

template <class T>
SEP_INLINE void narrow(const double* __restrict from, T* __restrict to, ptrdiff_t n, const Storing& how) {
  if constexpr (sizeof(T) == 4 && kFloats<T>) {
    const double factor = how.factor / how.divisor;  // off by less than 2**-52 before it is rounded to 2**-24
    for (ptrdiff_t i = 0; i < n; i++) to[i] = T(from[i] * factor);
  } else if (how.divisor == 1) {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = stored<T>(from[i] * how.factor, how);
  } else {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = stored<T>(from[i] * how.factor / how.divisor, how);
  }
}

template <class T>
void write(const double* rows, ptrdiff_t width, const LineSet& to, ptrdiff_t first, ptrdiff_t count,
           const Storing& how) {
  const ptrdiff_t offset = first * to.stride;
  if (to.adjacent) {
    for (ptrdiff_t r = 0; r < count; r++)
      narrow<T>(rows + r * width, reinterpret_cast<T*>(to.at[0] + offset + r * to.stride), to.lines, how);
    return;
  }
  T columns[kPanelRows * kPanelStep];
  for (ptrdiff_t r = 0; r < count; r++) narrow<T>(rows + r * width, columns + r * kPanelStep, kPanelStep, how);
  if constexpr (kFloats<T>) {
    if (to.stride == ptrdiff_t(sizeof(T)) && count >= 32 / ptrdiff_t(sizeof(T)) && to.lines == kPanelStep) {
      T* lines[kPanelStep];
      for (ptrdiff_t p = 0; p < kPanelStep; p++) lines[p] = reinterpret_cast<T*>(to.at[p] + offset);
      from_panel<T>(columns, count, lines);
      return;
    }
  }
  for (ptrdiff_t p = 0; p < to.lines; p++)
    for (ptrdiff_t r = 0; r < count; r++)
      *reinterpret_cast<T*>(to.at[p] + offset + r * to.stride) = columns[r * kPanelStep + p];
}

void gather(const LineSet& from, ptrdiff_t first, ptrdiff_t count, float* rows) {
  const float* lines[kPanelStep];
  for (ptrdiff_t p = 0; p < kPanelStep; p++) lines[p] = reinterpret_cast<const float*>(from.at[p]) + first;
  to_panel<float, float>(lines, count, rows, kPanelStep);
}

void scatter(const float* rows, const LineSet& to, ptrdiff_t first, ptrdiff_t count) {
  float* lines[kPanelStep];
  for (ptrdiff_t p = 0; p < kPanelStep; p++) lines[p] = reinterpret_cast<float*>(to.at[p]) + first;
  from_panel<float>(rows, count, lines);
}

// ---- boxes: van Herk's sums ----------------------------------------------------------------------------------------

template <class T>
SEP_INLINE vec<double, kDoubles> load_wide(const T* p) {
  return __builtin_convertvector(load<T, kDoubles>(p), vec<double, kDoubles>);
}

template <class In, class Out, int V>
SEP_INLINE void box_columns(const BoxArgs& a, ptrdiff_t column) {
  typedef vec<double, kDoubles> D;
  D prefix[V];
  SEP_UNROLL
  for (int v = 0; v < V; v++) prefix[v] = load<double, kDoubles>(a.prefix + column + v * kDoubles);
  ptrdiff_t at = a.at;
  const In* in = static_cast<const In*>(a.in) + column;
  Out* out = static_cast<Out*>(a.out) + column;
  for (ptrdiff_t r = 0; r < a.count; r++, in += a.in_step, out += a.out_step) {
    double* ring = a.ring + at * a.width + column;
    SEP_UNROLL
    for (int v = 0; v < V; v++) {
      const D x = load_wide(in + v * kDoubles);
      prefix[v] += x;
      const D sum = prefix[v] + load<double, kDoubles>(ring + a.width + v * kDoubles);
      store<Out, kDoubles>(out + v * kDoubles, __builtin_convertvector(sum * a.factor, vec<Out, kDoubles>));
      store<double, kDoubles>(ring + v * kDoubles, x);
    }
    if (sizeof(In) == 4)  // floats are read where they lie: the next block's
      prefetch(in + kPanelRows * a.in_step);
    if (++at < a.n) continue;
    at = 0;
    D suffix[V];
    SEP_UNROLL
    for (int v = 0; v < V; v++) {
      suffix[v] = load<double, kDoubles>(ring + v * kDoubles);
      prefix[v] = D{};
    }
    for (ptrdiff_t k = a.n - 2; k > 0; k--) {
      ring -= a.width;
      SEP_UNROLL
      for (int v = 0; v < V; v++) {
        suffix[v] += load<double, kDoubles>(ring + v * kDoubles);
        store<double, kDoubles>(ring + v * kDoubles, suffix[v]);
      }
    }
  }
  SEP_UNROLL
  for (int v = 0; v < V; v++) store<double, kDoubles>(a.prefix + column + v * kDoubles, prefix[v]);
}

template <class In, class Out>
void box(const BoxArgs& a) {
  constexpr int V = kPanelStep / kDoubles;  // a cache line of floats
  for (ptrdiff_t x = 0; x < a.width; x += kPanelStep) box_columns<In, Out, V>(a, x);
}

// ---- cosines: sums of cosines over a window ------------------------------------------------------------------------
// F(i) = sum over |k| <= radius of x[i + k] f(k) with f a cosine or a sine of frequency w obeys
//   F(i + 1) + F(i - 1) - 2 cos(w) F(i) = f(r) (x[i + r + 1] +- x[i - r - 1]) - f(r + 1) (x[i + r] +- x[i - r]),
// + for the cosine: a second-order recursion (an oscillator) driven by the samples at the ends of the window.

template <int K>
SEP_INLINE void cosine_columns(const CosinesArgs& a, ptrdiff_t column) {
  typedef vec<double, kDoubles> D;
  const Cosines& w = *a.cosines;
  const ptrdiff_t length = 2 * w.radius + 2, width = a.width;
  double* const ring = a.ring + column;
  D now[K], before[K], turn[K];
  SEP_UNROLL
  for (int m = 0; m < K; m++) {
    now[m] = load<double, kDoubles>(a.state + m * width + column);
    before[m] = load<double, kDoubles>(a.state + (K + m) * width + column);
    turn[m] = splat<double, kDoubles>(2 * w.cosine[m]);
  }
  ptrdiff_t at = a.at;
  const D sign = splat<double, kDoubles>(w.odd ? -1.0 : 1.0);
  D entered = load<double, kDoubles>(ring + (at ? at - 1 : length - 1) * width);
  D left = load<double, kDoubles>(ring + at * width);
  double* row = a.rows + column;
  for (ptrdiff_t r = 0; r < a.count; r++, row += width) {
    const D enters = load<double, kDoubles>(row);
    store<double, kDoubles>(ring + at * width, enters);
    if (++at == length) at = 0;
    const D leaves = load<double, kDoubles>(ring + at * width);
    const D outer = enters + sign * left, inner = entered + sign * leaves;
    D sum = D{};
    SEP_UNROLL
    for (int m = 0; m < K; m++) {
      const D next = turn[m] * now[m] + (w.edge[m] * outer - (w.beyond[m] * inner + before[m]));
      before[m] = now[m];
      now[m] = next;
      sum += next;
    }
    store<double, kDoubles>(row, sum);
    entered = enters;
    left = leaves;
  }
  SEP_UNROLL
  for (int m = 0; m < K; m++) {
    store<double, kDoubles>(a.state + m * width + column, now[m]);
    store<double, kDoubles>(a.state + (K + m) * width + column, before[m]);
  }
}

template <int K>
SEP_INLINE void start_columns(const CosinesArgs& a, ptrdiff_t column) {
  typedef vec<double, kDoubles> D;
  const Cosines& w = *a.cosines;
  const ptrdiff_t length = 2 * w.radius + 2;
  auto sample = [&](ptrdiff_t k) {  // x[i + k]
    ptrdiff_t row = a.at + w.radius + 1 + k;
    if (row >= length) row -= length;
    return load<double, kDoubles>(a.ring + row * a.width + column);
  };
  D even[K], odd[K];
  const D centre = sample(0);
  SEP_UNROLL
  for (int m = 0; m < K; m++) even[m] = centre, odd[m] = D{};
  const double* table = w.table + 2 * K;
  for (ptrdiff_t k = 1; k <= w.radius; k++, table += 2 * K) {
    const D after = sample(k), ahead = sample(-k);
    const D sum = after + ahead, difference = after - ahead;
    SEP_UNROLL
    for (int m = 0; m < K; m++) {
      even[m] += table[m] * sum;
      odd[m] += table[K + m] * difference;
    }
  }
  const D oldest = sample(-w.radius - 1), newest = sample(w.radius);
  D total = D{};
  SEP_UNROLL
  for (int m = 0; m < K; m++) {
    const D now = w.amplitude[m] * (w.odd ? odd[m] : even[m]);
    const D turned = w.odd ? w.cosine[m] * odd[m] + w.sine[m] * even[m] : w.cosine[m] * even[m] - w.sine[m] * odd[m];
    const D edges = (w.odd ? -w.edge[m] : w.edge[m]) * oldest - w.beyond[m] * newest;
    store<double, kDoubles>(a.state + m * a.width + column, now);
    store<double, kDoubles>(a.state + (K + m) * a.width + column, w.amplitude[m] * turned + edges);
    total += now;
  }
  store<double, kDoubles>(a.rows + column, total);
}

template <bool Start, int K = 1>
void with_cosines(const CosinesArgs& a) {
  if constexpr (K < sep::kMaxCosines) {
    if (a.cosines->count > K) return with_cosines<Start, K + 1>(a);
  }
  for (ptrdiff_t column = 0; column < a.width; column += kDoubles) {
    if constexpr (Start)
      start_columns<K>(a, column);
    else
      cosine_columns<K>(a, column);
  }
}

bool finite(const double* rows, ptrdiff_t count) {
  typedef vec<double, kDoubles> D;
  D zeros = D{};
  for (ptrdiff_t i = 0; i < count; i += kDoubles) {
    const D x = load<double, kDoubles>(rows + i);
    zeros += x - x;  // NaN where x is not finite
  }
  for (int i = 0; i < kDoubles; i++)
    if (zeros[i] != 0) return false;
  return true;
}

constexpr BoxAndCosinesTable table() {
  return {{read<bool>, read<int8_t>, read<uint8_t>, read<int16_t>, read<uint16_t>, read<int32_t>, read<uint32_t>,
           read<int64_t>, read<uint64_t>, read<float>, read<double>},
          {write<bool>, write<int8_t>, write<uint8_t>, write<int16_t>, write<uint16_t>, write<int32_t>, write<uint32_t>,
           write<int64_t>, write<uint64_t>, write<float>, write<double>},
          gather,
          scatter,
          {{box<double, double>, box<double, float>}, {box<float, double>, box<float, float>}},
          with_cosines<true>,
          with_cosines<false>,
          finite};
}

}  // namespace

namespace sep {
extern const BoxAndCosinesTable SEP_OF_TARGET(box_and_cosines);
const BoxAndCosinesTable SEP_OF_TARGET(box_and_cosines) = table();
}  // namespace sep
