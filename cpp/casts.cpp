// The casts. Compiled once per instruction set with SEP_TARGET naming it: plain loops, which compilers turn into vectors.
#include "casts.h"

#include "vec.h"

namespace {

using sep::Casts;
using sep::CastTable;
using sep::Element;
using sep::Narrow;
using sep::Overflow;
using sep::Rounding;
using sep::Widen;

// Of a loop whose output may be its input, but element by element.
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

// What integers of a size are: the range that saturation keeps, as T holds it, and the modulus of wrapping around.
template <class To>
struct Whole {
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
  typedef Whole<To> W;
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
  typedef Whole<To> W;
  constexpr T modulus = T(W::kModulus), inverse = T(1) / modulus;
  v -= nearest(v * inverse) * modulus;  // exact, and of magnitude at most half the modulus; not a number for infinity
  v = v == v ? v : T(0);
  if constexpr (W::kBits == 64) v = v < modulus / 2 ? v : -modulus / 2;
  if constexpr (sizeof(To) <= 2)
    return To(int32_t(v));
  else
    return To(int64_t(v));
}

template <class T, class To, Rounding R, Overflow O, bool Divide>
SEP_INLINE void narrow_loop(const T* __restrict in, To* __restrict out, ptrdiff_t n, T slack, T divisor) {
  for (ptrdiff_t i = 0; i < n; i++) {
    T v = in[i];
    if constexpr (Divide) v /= divisor;
    if constexpr (R == Rounding::truncate)
      v = sizeof(T) == 4 ? T(__builtin_truncf(float(v * slack))) : T(__builtin_trunc(double(v * slack)));
    else
      v = nearest(v);
    out[i] = O == Overflow::wrap ? wrapped<T, To>(v) : saturated<T, To>(v);
  }
}

template <class T, class To, Rounding R, Overflow O>
void narrow(const T* in, void* out, ptrdiff_t n, T slack, T divisor) {
  if (divisor == T(1))
    narrow_loop<T, To, R, O, false>(in, static_cast<To*>(out), n, slack, divisor);
  else
    narrow_loop<T, To, R, O, true>(in, static_cast<To*>(out), n, slack, divisor);
}

// Clamped to 0 and 1; or, where integers would wrap around, whether it differs from 0.
template <class T, Rounding R, Overflow O>
void narrow_boolean(const T* __restrict in, void* out, ptrdiff_t n, T slack, T divisor) {
  uint8_t* __restrict to = static_cast<uint8_t*>(out);
  for (ptrdiff_t i = 0; i < n; i++) {
    const T v = in[i] / divisor;
    const T w = R == Rounding::truncate ? v * slack : v;
    const T past = w < T(0) ? -w : w;  // NaN and infinity: as integers treat them
    const bool one = R == Rounding::truncate ? past >= T(1) : past > T(0.5);
    to[i] = uint8_t(one & (O == Overflow::wrap ? past - past == T(0) : w > T(0)));
  }
}

template <class T, class To>
void narrow_float(const T* __restrict in, void* out, ptrdiff_t n, T, T divisor) {
  To* __restrict to = static_cast<To*>(out);
  if (divisor == T(1))
    for (ptrdiff_t i = 0; i < n; i++) to[i] = To(in[i]);
  else
    for (ptrdiff_t i = 0; i < n; i++) to[i] = To(in[i] / divisor);
}

// ---- masks ---------------------------------------------------------------------------------------------------------

template <class T, bool Masked, bool Nan>
SEP_INLINE bool sift_loop(const uint8_t* __restrict mask, const T* x, T* out, T* __restrict known, ptrdiff_t n) {
  typedef typename Register<T>::type Int;
  Int count = 0;  // compilers make branches of a flag that only ever becomes false
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

template <class T>
void normalise(const T* x, const T* __restrict known, T* out, ptrdiff_t n, T sum, T tolerance, T slack) {
  const T top = sum * slack;
  SEP_ELEMENTWISE
  for (ptrdiff_t i = 0; i < n; i++) {
    const T k = known[i], off = k < sum ? sum - k : k - sum, v = x[i];
    out[i] = off <= tolerance ? v : v * (top / k);  // 0 / 0 where nothing is known
  }
}

// ---- streaming -----------------------------------------------------------------------------------------------------

SEP_INLINE vec<float, kLanes<float>> bytes_at(const char* p) {
  typedef float Bytes __attribute__((vector_size(kBytes), aligned(1), may_alias));
  return *reinterpret_cast<const Bytes*>(p);
}

void stream_bytes(char* dst, const char* src, ptrdiff_t n) {
  constexpr int N = kLanes<float>;
  const ptrdiff_t head = ptrdiff_t(-reinterpret_cast<uintptr_t>(dst) % kBytes), first = head < n ? head : n;
  __builtin_memcpy(dst, src, size_t(first));
  ptrdiff_t i = first;
  for (; i + kBytes <= n; i += kBytes)
    stream<float, N>(reinterpret_cast<float*>(dst + i), bytes_at(src + i));
  __builtin_memcpy(dst + i, src + i, size_t(n - i));
}

// ---- the table -----------------------------------------------------------------------------------------------------

#define SEP_NARROW(to)                                                                                            \
  {{narrow<T, to, Rounding::nearest, Overflow::saturate>, narrow<T, to, Rounding::nearest, Overflow::wrap>},      \
   {narrow<T, to, Rounding::truncate, Overflow::saturate>, narrow<T, to, Rounding::truncate, Overflow::wrap>}}
#define SEP_NARROW_FLOAT(to) \
  {{narrow_float<T, to>, narrow_float<T, to>}, {narrow_float<T, to>, narrow_float<T, to>}}
#define SEP_NARROW_BOOLEAN                                                                                       \
  {{narrow_boolean<T, Rounding::nearest, Overflow::saturate>, narrow_boolean<T, Rounding::nearest, Overflow::wrap>}, \
   {narrow_boolean<T, Rounding::truncate, Overflow::saturate>, narrow_boolean<T, Rounding::truncate, Overflow::wrap>}}

template <class T>
constexpr Casts<T> table() {
  if constexpr (sizeof(T) == 4)
    return {{widen_boolean<T>, widen<T, int8_t>, widen<T, uint8_t>, widen<T, int16_t>, widen<T, uint16_t>, nullptr, nullptr,
             nullptr, nullptr, widen<T, float>, nullptr},
            {SEP_NARROW_BOOLEAN, SEP_NARROW(int8_t), SEP_NARROW(uint8_t), SEP_NARROW(int16_t), SEP_NARROW(uint16_t),
             {}, {}, {}, {}, SEP_NARROW_FLOAT(float), {}},
            sift<T>, clean<T>, normalise<T>, stream_bytes};
  else
    return {{widen_boolean<T>, widen<T, int8_t>, widen<T, uint8_t>, widen<T, int16_t>, widen<T, uint16_t>,
             widen<T, int32_t>, widen<T, uint32_t>, widen<T, int64_t>, widen<T, uint64_t>, widen<T, float>,
             widen<T, double>},
            {SEP_NARROW_BOOLEAN, SEP_NARROW(int8_t), SEP_NARROW(uint8_t), SEP_NARROW(int16_t), SEP_NARROW(uint16_t),
             SEP_NARROW(int32_t), SEP_NARROW(uint32_t), SEP_NARROW(int64_t), SEP_NARROW(uint64_t),
             SEP_NARROW_FLOAT(float), SEP_NARROW_FLOAT(double)},
            sift<T>, clean<T>, normalise<T>, stream_bytes};
}

#define SEP_CAT_(a, b) a##b
#define SEP_CAT(a, b) SEP_CAT_(a, b)

}  // namespace

namespace sep {
extern const CastTable SEP_CAT(casts_, SEP_TARGET);
const CastTable SEP_CAT(casts_, SEP_TARGET) = {table<float>(), table<double>()};
}  // namespace sep
