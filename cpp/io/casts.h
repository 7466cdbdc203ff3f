// Rows of other types than the filters compute in: reading, storing, applying a mask, normalising. One table per
// instruction set. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>

namespace sep {

enum class Element : int { boolean, i8, u8, i16, u16, i32, u32, i64, u64, f32, f64 };
constexpr int kElements = 11;

constexpr ptrdiff_t size_of(Element e) {
  constexpr ptrdiff_t sizes[kElements] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};
  return sizes[int(e)];
}

template <class T>  // the type that T is
constexpr Element kOwn = sizeof(T) == 4 ? Element::f32 : Element::f64;

// How results become integers.
enum class Rounding : int { nearest, truncate };
enum class Overflow : int { saturate, wrap };

// Before truncation, a value is moved away from 0 by its possible rounding error, `snap` times its magnitude: what
// rounding left just below an integer still becomes that integer. The error is taken for at most this: less than half a
// step.
constexpr double kSnap = 0.25;

// Values are divided by `divisor`; for integers also clamped to [low, high], and snapped before truncation (see kSnap).
// NaN becomes the integer 0.
template <class T>
struct Stored {
  T divisor = 1, snap = 0, low = -std::numeric_limits<T>::infinity(), high = std::numeric_limits<T>::infinity();
  bool bounded() const {
    return low > -std::numeric_limits<T>::infinity() || high < std::numeric_limits<T>::infinity();
  }
};

// How results are divided by the filtered mask (`known`): `sum` is that of all weights, `full` the response to ones, to
// the last bit. A result is weak where known < least_known, or known < few_known and the result is smaller than
// small_result: something may have underflowed. Other results are snapped by `snap`, as in Stored.
template <class T>
struct Norm {
  T sum = 1, full = 1, least_known = 0, few_known = 0, small_result = 0, snap = 0;
};

template <class T>
using Widen = void (*)(const void* in, T* out, ptrdiff_t n);
template <class T>
using Narrow = void (*)(const T* in, void* out, ptrdiff_t n, const Stored<T>& how);
// Extends `range` {lowest, highest} by n elements, without NaN and those whose byte of the mask (null: no mask) is 0.
using Extend = void (*)(const void* in, const uint8_t* mask, ptrdiff_t n, double* range);

template <class T>
struct Casts {  // null for types that filters which compute in T do not take, and for reading T itself
  Widen<T> widen[kElements];
  Narrow<T> narrow[kElements][2][2];  // [Element][Rounding][Overflow]
  // known[i] is 0 where mask[i] is 0, or `nan` is set and x[i] is NaN; else 1. out[i] is x[i], or 0 where known[i] is.
  // Returns whether all are known. A null mask masks nothing; out may be x.
  bool (*sift)(const uint8_t* mask, bool nan, const T* x, T* out, T* known, ptrdiff_t n);
  // Whether no byte of the mask (null: no mask) is 0 and no x (null: not looked at) is NaN.
  bool (*clean)(const uint8_t* mask, const T* x, ptrdiff_t n);
  // out[i] = x[i] * sum / known[i], or x[i] where known[i] is `full`; NaN where known[i] is 0. out may be x. Returns
  // whether a result is weak.
  bool (*normalise)(const T* x, const T* known, T* out, ptrdiff_t n, const Norm<T>& norm);
};

struct CastTable {
  Casts<float> f32;
  Casts<double> f64;
  Extend extend[kElements];
};

}  // namespace sep
