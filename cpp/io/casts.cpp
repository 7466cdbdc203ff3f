// The casts: plain loops, which compilers vectorise. Compiled once per instruction set with SEP_TARGET naming it; no
// STL.
#include "io/casts.h"

#include "base/target.h"
#include "base/vec.h"

namespace {

using sep::Casts;
using sep::CastTable;
using sep::Element;
using sep::kSnap;
using sep::Narrow;
using sep::Norm;
using sep::Overflow;
using sep::Rounding;
using sep::Stored;
using sep::Widen;

// Before a loop whose output may be its input, element by element: it may be vectorised.
#if defined(__clang__)
#define SEP_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define SEP_ELEMENTWISE _Pragma("GCC ivdep")
#endif

SEP_INLINE float nearest(float v) { return __builtin_rintf(v); }
SEP_INLINE double nearest(double v) { return __builtin_rint(v); }

// ---- reading -------------------------------------------------------------------------------------------------------

template <class T, class From>
void widen(const void* in, T* __restrict out, ptrdiff_t n) {
  const From* __restrict x = static_cast<const From*>(in);
  for (ptrdiff_t i = 0; i < n; i++) out[i] = static_cast<T>(x[i]);
}

template <class T>
void widen_boolean(const void* in, T* __restrict out, ptrdiff_t n) {
  const uint8_t* __restrict x = static_cast<const uint8_t*>(in);
  for (ptrdiff_t i = 0; i < n; i++) out[i] = static_cast<T>(x[i] != 0);
}

// ---- writing -------------------------------------------------------------------------------------------------------

// The range of an integer type, as a float holds it, for saturation, and its modulus for wrapping around.
template <class To>
struct IntegerRange {
  static constexpr int kBits = 8 * int(sizeof(To));
  static constexpr bool kSigned = To(-1) < To(0);
  static constexpr uint64_t kTop = (uint64_t(1) << (kBits - 1)) - 1 + (kSigned ? 0 : uint64_t(1) << (kBits - 1));
  static constexpr double kModulus = kBits == 64 ? 18446744073709551616.0 : double(uint64_t(1) << (kBits % 64));
  static constexpr double kBelow = kSigned ? -kModulus / 2 : 0.0;
  static constexpr double kAbove = kSigned ? kModulus / 2 : kModulus;  // the first value past the range
};

// The integer register that a vector of T converts to.
template <class T>
struct Register {
  typedef int32_t type;
};
template <>
struct Register<double> {
  typedef int64_t type;
};

template <class T, class To>
SEP_INLINE To saturated(T v) {
  typedef IntegerRange<To> W;
  if constexpr (W::kBits < 8 * int(sizeof(T))) {
    constexpr T low = T(W::kBelow), high = T(W::kAbove) - 1;
    v = v == v ? v : T(0);
    v = v > low ? v : low;
    v = v < high ? v : high;
    if constexpr (sizeof(To) == 4)
      return To(typename Register<T>::type(v));
    else
      return To(int32_t(v));
  } else {
    if (v >= T(W::kAbove)) return To(W::kTop);
    if (!(v > T(W::kBelow))) return v == v ? To(~W::kTop & (W::kSigned ? ~uint64_t(0) : 0)) : To(0);
    return To(v);
  }
}

template <class T, class To>
SEP_INLINE To wrapped(T v) {
  typedef IntegerRange<To> W;
  constexpr T modulus = T(W::kModulus), inverse = T(1) / modulus;
  v -= nearest(v * inverse) * modulus;  // exact, and of magnitude at most half the modulus; not a number for infinity
  v = v == v ? v : T(0);
  if constexpr (W::kBits == 64) v = v < modulus / 2 ? v : -modulus / 2;
  if constexpr (sizeof(To) <= 2)
    return To(int32_t(v));
  else
    return To(int64_t(v));
}

// v moved away from 0 by its possible rounding error, see kSnap; NaN and infinity stay.
template <class T>
SEP_INLINE T snapped(T v, T snap) {
  T d = v * snap;
  d = d < T(kSnap) ? d : T(kSnap);
  d = d > -T(kSnap) ? d : -T(kSnap);
  return v + d;
}

// How values are snapped: not at all; without a bound, where no value in range moves by more than kSnap; or bounded.
enum class Snap { none, small, any };

template <class T, class To, Rounding R, Overflow O, bool Divide, Snap S>
SEP_INLINE void narrow_loop(const T* __restrict in, To* __restrict out, ptrdiff_t n, T divisor, T snap) {
  for (ptrdiff_t i = 0; i < n; i++) {
    T v = in[i];
    if constexpr (Divide) v /= divisor;
    if constexpr (R == Rounding::truncate) {
      if constexpr (S == Snap::small) v += v * snap;
      if constexpr (S == Snap::any) v = snapped(v, snap);
      v = sizeof(T) == 4 ? T(__builtin_truncf(float(v))) : T(__builtin_trunc(double(v)));
    } else {
      v = nearest(v);
    }
    out[i] = O == Overflow::wrap ? wrapped<T, To>(v) : saturated<T, To>(v);
  }
}

// Called from two places, and compiled once.
template <class T, class To, Rounding R, Overflow O, bool Divide>
__attribute__((noinline)) void narrow_all(const T* in, To* out, ptrdiff_t n, T divisor, T snap) {
  if (R == Rounding::nearest || snap == T(0))
    narrow_loop<T, To, R, O, Divide, Snap::none>(in, out, n, divisor, snap);
  else if (O == Overflow::saturate && snap * T(IntegerRange<To>::kAbove) <= T(kSnap))
    narrow_loop<T, To, R, O, Divide, Snap::small>(in, out, n, divisor, snap);
  else
    narrow_loop<T, To, R, O, Divide, Snap::any>(in, out, n, divisor, snap);
}

// Divides, and clamps to the bounds.
template <class T>
SEP_INLINE void bound(const T* __restrict in, T* __restrict out, ptrdiff_t n, const Stored<T>& how) {
  const T low = how.low, high = how.high, divisor = how.divisor;
  for (ptrdiff_t i = 0; i < n; i++) {
    T v = in[i] / divisor;
    v = v < low ? low : v;
    out[i] = v > high ? high : v;
  }
}

// Calls store(in, out, n) for pieces of the values, clamped to the bounds.
template <class T, class Store>
SEP_INLINE void in_bounds(const T* in, char* out, ptrdiff_t item, ptrdiff_t n, const Stored<T>& how, Store store) {
  constexpr ptrdiff_t kPiece = 256;
  T clamped[kPiece];
  for (ptrdiff_t i = 0; i < n; i += kPiece) {
    const ptrdiff_t length = n - i < kPiece ? n - i : kPiece;
    bound(in + i, clamped, length, how);
    store(clamped, out + i * item, length);
  }
}

template <class T, class To, Rounding R, Overflow O>
void narrow(const T* in, void* out, ptrdiff_t n, const Stored<T>& how) {
  const T snap = how.snap;
  if (how.bounded())
    in_bounds(in, static_cast<char*>(out), sizeof(To), n, how, [snap](const T* clamped, void* to, ptrdiff_t length) {
      narrow_all<T, To, R, O, false>(clamped, static_cast<To*>(to), length, T(1), snap);
    });
  else if (how.divisor == T(1))
    narrow_all<T, To, R, O, false>(in, static_cast<To*>(out), n, T(1), snap);
  else
    narrow_all<T, To, R, O, true>(in, static_cast<To*>(out), n, how.divisor, snap);
}

// Saturated: whether the rounded value is positive. Wrapped: whether it differs from 0.
template <class T, Rounding R, Overflow O>
SEP_INLINE void boolean_loop(const T* __restrict in, void* out, ptrdiff_t n, T divisor, T snap) {
  uint8_t* __restrict to = static_cast<uint8_t*>(out);
  for (ptrdiff_t i = 0; i < n; i++) {
    const T v = in[i] / divisor;
    const T w = R == Rounding::truncate ? snapped(v, snap) : v;
    const T past = w < T(0) ? -w : w;  // NaN and infinity: as integers treat them
    const bool one = R == Rounding::truncate ? past >= T(1) : past > T(0.5);
    to[i] = uint8_t(one & (O == Overflow::wrap ? past - past == T(0) : w > T(0)));
  }
}

template <class T, Rounding R, Overflow O>
void narrow_boolean(const T* in, void* out, ptrdiff_t n, const Stored<T>& how) {
  const T snap = how.snap;
  if (how.bounded())
    in_bounds(in, static_cast<char*>(out), 1, n, how, [snap](const T* clamped, void* to, ptrdiff_t length) {
      boolean_loop<T, R, O>(clamped, to, length, T(1), snap);
    });
  else
    boolean_loop<T, R, O>(in, out, n, how.divisor, snap);
}

template <class T, class To>
void narrow_float(const T* __restrict in, void* out, ptrdiff_t n, const Stored<T>& how) {
  To* __restrict to = static_cast<To*>(out);
  const T divisor = how.divisor;
  if (divisor == T(1))
    for (ptrdiff_t i = 0; i < n; i++) to[i] = To(in[i]);
  else
    for (ptrdiff_t i = 0; i < n; i++) to[i] = To(in[i] / divisor);
}

// ---- ranges --------------------------------------------------------------------------------------------------------

template <class From, bool Masked>
SEP_INLINE void extend_loop(const From* __restrict x, const uint8_t* __restrict mask, ptrdiff_t n, double* range) {
  typedef std::numeric_limits<From> L;
  constexpr bool kFloat = L::has_infinity;
  From low = kFloat ? L::infinity() : L::max(), high = kFloat ? From(-L::infinity()) : L::lowest();
  for (ptrdiff_t i = 0; i < n; i++) {
    const bool there = !Masked || mask[i];
    const From least = there ? x[i] : low, most = there ? x[i] : high;
    low = least < low ? least : low;
    high = most > high ? most : high;
  }
  if (!(low <= high)) return;  // nothing but NaN
  range[0] = double(low) < range[0] ? double(low) : range[0];
  range[1] = double(high) > range[1] ? double(high) : range[1];
}

template <class From>
void extend(const void* in, const uint8_t* mask, ptrdiff_t n, double* range) {
  const From* x = static_cast<const From*>(in);
  if (mask)
    extend_loop<From, true>(x, mask, n, range);
  else
    extend_loop<From, false>(x, nullptr, n, range);
}

void extend_boolean(const void* in, const uint8_t* mask, ptrdiff_t n, double* range) {
  double bytes[2] = {__builtin_inf(), -__builtin_inf()};
  extend<uint8_t>(in, mask, n, bytes);
  if (bytes[0] > bytes[1]) return;
  const double low = bytes[0] != 0, high = bytes[1] != 0;
  range[0] = low < range[0] ? low : range[0];
  range[1] = high > range[1] ? high : range[1];
}

// ---- masks ---------------------------------------------------------------------------------------------------------

template <class T, bool Masked, bool Nan>
SEP_INLINE bool sift_loop(const uint8_t* __restrict mask, const T* x, T* out, T* __restrict known, ptrdiff_t n) {
  typedef typename Register<T>::type Int;
  Int count = 0;  // a count, since compilers turn a flag that only becomes false into branches
  SEP_ELEMENTWISE
  for (ptrdiff_t i = 0; i < n; i++) {
    const T v = x[i];
    Int there = 1;
    if constexpr (Masked) there &= Int(mask[i] != 0);
    if constexpr (Nan) there &= Int(v == v);
    out[i] = there ? v : T(0);
    known[i] = there ? T(1) : T(0);
    count += there;
  }
  return count == Int(n);
}

template <class T>
bool sift(const uint8_t* mask, bool nan, const T* x, T* out, T* known, ptrdiff_t n) {
  if (mask && nan) return sift_loop<T, true, true>(mask, x, out, known, n);
  if (mask) return sift_loop<T, true, false>(mask, x, out, known, n);
  return sift_loop<T, false, true>(mask, x, out, known, n);
}

template <class T>
bool clean(const uint8_t* __restrict mask, const T* __restrict x, ptrdiff_t n) {
  typedef typename Register<T>::type Int;
  Int hidden = 0;
  if (mask)
    for (ptrdiff_t i = 0; i < n; i++) hidden += Int(mask[i] == 0);
  if (x && !hidden)
    for (ptrdiff_t i = 0; i < n; i++) hidden += Int(x[i] != x[i]);
  return !hidden;
}

template <class T, bool Snap>
SEP_INLINE bool normalise_loop(const T* x, const T* __restrict known, T* out, ptrdiff_t n, const Norm<T>& norm) {
  typedef typename Register<T>::type Int;
  const T sum = norm.sum, full = norm.full, snap = norm.snap;
  const T least_known = norm.least_known, few_known = norm.few_known, small_result = norm.small_result;
  Int weak = 0;
  SEP_ELEMENTWISE
  for (ptrdiff_t i = 0; i < n; i++) {
    const T k = known[i], v = x[i], size = v < T(0) ? -v : v;
    weak |= Int(k < least_known) | (Int(k > T(0)) & Int(k < few_known) & Int(size < small_result));
    T w = v * (sum / k);  // 0 / 0 where nothing is known
    if constexpr (Snap) w = snapped(w, snap);
    out[i] = k == full ? v : w;
  }
  return weak != 0;
}

template <class T>
bool normalise(const T* x, const T* known, T* out, ptrdiff_t n, const Norm<T>& norm) {
  if (norm.snap > T(0)) return normalise_loop<T, true>(x, known, out, n, norm);
  return normalise_loop<T, false>(x, known, out, n, norm);
}

// ---- the table -----------------------------------------------------------------------------------------------------

// clang-format off
#define SEP_NARROW(to)                                                                                       \
  {{narrow<T, to, Rounding::nearest, Overflow::saturate>, narrow<T, to, Rounding::nearest, Overflow::wrap>}, \
   {narrow<T, to, Rounding::truncate, Overflow::saturate>, narrow<T, to, Rounding::truncate, Overflow::wrap>}}
#define SEP_NARROW_FLOAT(to) \
  {{narrow_float<T, to>, narrow_float<T, to>}, {narrow_float<T, to>, narrow_float<T, to>}}
#define SEP_NARROW_BOOLEAN                                                                                           \
  {{narrow_boolean<T, Rounding::nearest, Overflow::saturate>, narrow_boolean<T, Rounding::nearest, Overflow::wrap>}, \
   {narrow_boolean<T, Rounding::truncate, Overflow::saturate>, narrow_boolean<T, Rounding::truncate, Overflow::wrap>}}
// clang-format on

template <class T>
constexpr Casts<T> table() {
  if constexpr (sizeof(T) == 4)
    return {{widen_boolean<T>, widen<T, int8_t>, widen<T, uint8_t>, widen<T, int16_t>, widen<T, uint16_t>, nullptr,
             nullptr, nullptr, nullptr, nullptr, nullptr},
            {SEP_NARROW_BOOLEAN,
             SEP_NARROW(int8_t),
             SEP_NARROW(uint8_t),
             SEP_NARROW(int16_t),
             SEP_NARROW(uint16_t),
             {},
             {},
             {},
             {},
             SEP_NARROW_FLOAT(float),
             {}},
            sift<T>,
            clean<T>,
            normalise<T>};
  else
    return {{widen_boolean<T>, widen<T, int8_t>, widen<T, uint8_t>, widen<T, int16_t>, widen<T, uint16_t>,
             widen<T, int32_t>, widen<T, uint32_t>, widen<T, int64_t>, widen<T, uint64_t>, widen<T, float>, nullptr},
            {SEP_NARROW_BOOLEAN, SEP_NARROW(int8_t), SEP_NARROW(uint8_t), SEP_NARROW(int16_t), SEP_NARROW(uint16_t),
             SEP_NARROW(int32_t), SEP_NARROW(uint32_t), SEP_NARROW(int64_t), SEP_NARROW(uint64_t),
             SEP_NARROW_FLOAT(float), SEP_NARROW_FLOAT(double)},
            sift<T>,
            clean<T>,
            normalise<T>};
}

}  // namespace

namespace sep {
extern const CastTable SEP_OF_TARGET(casts);
const CastTable SEP_OF_TARGET(casts) = {
    table<float>(),
    table<double>(),
    {extend_boolean, extend<int8_t>, extend<uint8_t>, extend<int16_t>, extend<uint16_t>, extend<int32_t>,
     extend<uint32_t>, extend<int64_t>, extend<uint64_t>, extend<float>, extend<double>}};
}  // namespace sep
