// Running sums of rows, and weighted sums of integers modulo 2**32. Compiled once per instruction set with SEP_TARGET
// naming it; no STL. Integer sums may wrap around on the way: the results fit, and are exact.
#include "filters/kernels/differences.h"

#include "base/target.h"
#include "base/vec.h"

namespace {

using sep::DifferencesTable;
using sep::IntegerArgs;
using sep::IntegerRun;

constexpr ptrdiff_t kMostStep = 64;  // elements of a pixel: `kInnerRow` of base/tiles.h

// ---- running sums --------------------------------------------------------------------------------------------------
// Rows are padded to a cache line: whole vectors are read and written, whatever lies past the last element.

struct Doubles {
  typedef double In;
  typedef double Sum;
  static constexpr int N = kLanes<double>;
  static SEP_INLINE vec<double, N> take(const double* row, float) { return load<double, N>(row); }
  static SEP_INLINE double take_one(double value, float) { return value; }
};

// 1.5 * 2**23: added to a float it rounds it to an integer, which is then in the low bits.
constexpr float kShift = 12582912.0f;
constexpr uint32_t kShiftBits = 0x4B400000;

struct Integers {
  typedef float In;
  typedef uint32_t Sum;
  static constexpr int N = kLanes<float>;
  static SEP_INLINE vec<uint32_t, N> take(const float* row, float scale) {
    return (vec<uint32_t, N>)(load<float, N>(row) * scale + kShift) - kShiftBits;
  }
  static SEP_INLINE uint32_t take_one(float value, float scale) {
    const float shifted = value * scale + kShift;
    uint32_t bits;
    __builtin_memcpy(&bits, &shifted, sizeof(bits));
    return bits - kShiftBits;
  }
};

// Lane i of the result is lane i - Lanes, or 0.
template <int Lanes, class T, int N>
SEP_INLINE vec<T, N> shifted(vec<T, N> x) {
  return shuffle<T, N>(vec<T, N>{}, x, [](int i) { return i < Lanes ? i : N + i - Lanes; });
}

template <class T, int N, int Lanes = 1>
SEP_INLINE vec<T, N> scanned(vec<T, N> x) {
  if constexpr (Lanes < N)
    return scanned<T, N, 2 * Lanes>(x + shifted<Lanes, T, N>(x));
  else
    return x;
}

template <class Kind>
SEP_INLINE void scan_row(typename Kind::In* row, ptrdiff_t n, float scale) {
  typedef typename Kind::Sum S;
  constexpr int N = Kind::N;
  vec<S, N> before = vec<S, N>{};  // sum of all vectors so far, in every lane
  for (ptrdiff_t x = 0; x < n; x += N) {
    const vec<S, N> sums = scanned<S, N>(Kind::take(row + x, scale));
    store<S, N>(reinterpret_cast<S*>(row + x), before + shifted<1, S, N>(sums));
    before += shuffle<S, N>(sums, sums, [](int) { return N - 1; });
  }
}

template <class Kind>
void along(typename Kind::In* row, ptrdiff_t n, ptrdiff_t step, float scale) {
  typedef typename Kind::Sum S;
  if (step == 1) return scan_row<Kind>(row, n, scale);
  S sums[kMostStep];
  for (ptrdiff_t c = 0; c < step; c++) sums[c] = S(0);
  for (ptrdiff_t i = 0; i < n; i++, row += step)
    for (ptrdiff_t c = 0; c < step; c++) {
      const S value = Kind::take_one(row[c], scale);
      __builtin_memcpy(row + c, sums + c, sizeof(S));
      sums[c] += value;
    }
}

template <class Kind>
void down(typename Kind::In* row, typename Kind::Sum* sum, ptrdiff_t n, float scale) {
  typedef typename Kind::Sum S;
  constexpr int N = Kind::N;
  for (ptrdiff_t x = 0; x < n; x += N) {
    const vec<S, N> value = Kind::take(row + x, scale), before = load<S, N>(sum + x);
    store<S, N>(reinterpret_cast<S*>(row + x), before);
    store<S, N>(sum + x, before + value);
  }
}

bool finite(const double* row, ptrdiff_t n) {
  double zero = 0;
  for (ptrdiff_t i = 0; i < n; i++) zero += row[i] - row[i];  // NaN where one is not finite
  return zero == 0;
}

uint32_t peak(const float* row, ptrdiff_t n) {
  uint32_t most = 0;
  for (ptrdiff_t i = 0; i < n; i++) {
    uint32_t bits;
    __builtin_memcpy(&bits, row + i, sizeof(bits));
    bits &= 0x7FFFFFFF;
    most = bits > most ? bits : most;
  }
  return most;
}

// ---- weighted sums of integers -------------------------------------------------------------------------------------
// Blocks of R rows of C vectors stay in registers (acc[r * C + c]) for all runs.

constexpr int kRows = kManyRegisters ? 8 : 4, kColumns = kManyRegisters ? 1 : 2;
constexpr int kLane = kLanes<uint32_t>;
typedef vec<uint32_t, kLane> V;

// Calls put(r, the sum of Length rows from row r on), r < R.
template <int R, int Length, class Put>
SEP_INLINE void short_sums(const uint32_t* x, ptrdiff_t pitch, Put put) {
  V rows[R + Length - 1];
  SEP_UNROLL
  for (int r = 0; r < R + Length - 1; r++, x += pitch) rows[r] = load<uint32_t, kLane>(x);
  SEP_UNROLL
  for (int r = 0; r < R; r++) {
    V sum = rows[r];
    SEP_UNROLL
    for (int k = 1; k < Length; k++) sum += rows[r + k];
    put(r, sum);
  }
}

// The same for n rows, as a sliding sum: one row enters and one leaves. Integers: nothing is rounded.
template <int R, class Put>
SEP_INLINE void long_sums(const uint32_t* x, ptrdiff_t pitch, ptrdiff_t n, Put put) {
  V sum = load<uint32_t, kLane>(x);
  const uint32_t* enters = x + pitch;
  for (ptrdiff_t k = 1; k < n; k++, enters += pitch) sum += load<uint32_t, kLane>(enters);
  put(0, sum);
  SEP_UNROLL
  for (int r = 1; r < R; r++, x += pitch, enters += pitch) {
    sum += load<uint32_t, kLane>(enters) - load<uint32_t, kLane>(x);
    put(r, sum);
  }
}

template <int R, class Put>
SEP_INLINE void sums_of(const uint32_t* x, ptrdiff_t pitch, ptrdiff_t n, Put put) {
  if (n == 1)
    short_sums<R, 1>(x, pitch, put);
  else if (n == 2)
    short_sums<R, 2>(x, pitch, put);
  else if (n == 3)
    short_sums<R, 3>(x, pitch, put);
  else
    long_sums<R>(x, pitch, n, put);
}

template <int R, int C>
SEP_INLINE void integer_block(const IntegerArgs& a, ptrdiff_t row, ptrdiff_t x) {
  V acc[R * C];
  SEP_UNROLL
  for (int i = 0; i < R * C; i++) acc[i] = V{};
  const ptrdiff_t at = (a.row + row) * a.pitch + x;
  for (ptrdiff_t i = 0; i < a.count_runs; i++) {
    const IntegerRun& run = a.runs[i];
    const uint32_t* from = a.planes[run.plane] + run.offset + at;
    SEP_UNROLL
    for (int c = 0; c < C; c++, from += kLane) {
      // Additions cost less than multiplications, and kernels of one constant need no other.
      if (run.value == 1)
        sums_of<R>(from, a.pitch, run.n, [&](int r, V sum) __attribute__((always_inline)) { acc[r * C + c] += sum; });
      else if (run.value == ~uint32_t(0))
        sums_of<R>(from, a.pitch, run.n, [&](int r, V sum) __attribute__((always_inline)) { acc[r * C + c] -= sum; });
      else
        sums_of<R>(from, a.pitch, run.n,
                   [&](int r, V sum) __attribute__((always_inline)) { acc[r * C + c] += run.value * sum; });
    }
  }
  SEP_UNROLL
  for (int i = 0; i < R * C; i++)
    store<uint32_t, kLane>(a.dst + (row + i / C) * a.dst_pitch + x + i % C * kLane, acc[i]);
}

template <int R>
void integer_rows(const IntegerArgs& a, ptrdiff_t row) {
  constexpr int C = R == 1 ? 1 : kColumns;
  ptrdiff_t x = 0;
  for (; x + C * kLane <= a.width; x += C * kLane) integer_block<R, C>(a, row, x);
  if constexpr (C > 1)
    for (; x + kLane <= a.width; x += kLane) integer_block<R, 1>(a, row, x);
  if (x < a.width) integer_block<R, 1>(a, row, a.width - kLane);  // overlaps what came before
}

void integers(const IntegerArgs& a) {
  ptrdiff_t row = 0;
  for (; row + kRows <= a.count; row += kRows) integer_rows<kRows>(a, row);
  for (; row < a.count; row++) integer_rows<1>(a, row);
}

void widen(const uint32_t* __restrict row, double* __restrict out, ptrdiff_t n, double factor) {
  for (ptrdiff_t i = 0; i < n; i++) out[i] = double(int32_t(row[i])) * factor;
}

}  // namespace

namespace sep {
extern const DifferencesTable SEP_OF_TARGET(differences);
const DifferencesTable SEP_OF_TARGET(differences) = {along<Doubles>, along<Integers>, down<Doubles>, down<Integers>,
                                                     integers,       widen,           finite,        peak};
}  // namespace sep
