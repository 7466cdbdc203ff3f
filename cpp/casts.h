// Rows of other types than the filters compute in: how they are read, written, sifted by a mask and normalised.
// One table per instruction set. Plain data and function pointers only.
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

template <class T>
constexpr Element kOwn = sizeof(T) == 4 ? Element::f32 : Element::f64;

// How integers are stored.
enum class Rounding : int { nearest, truncate };
enum class Overflow : int { saturate, wrap };

// Truncation takes values that a rounding error of `snap` times their magnitude keeps from a whole number for that number.
// The error is never taken for more than this: below half a step.
constexpr double kSnap = 0.25;

// Values are divided by `divisor` and kept within [low, high] before they are stored as another type; see kSnap. NaN becomes
// the integer 0.
template <class T>
struct Stored {
  T divisor = 1, snap = 0, low = -std::numeric_limits<T>::infinity(), high = std::numeric_limits<T>::infinity();
  bool bounded() const { return low > -std::numeric_limits<T>::infinity() || high < std::numeric_limits<T>::infinity(); }
};

// What normalising takes: `sum` of all weights, and `full`, what filters make of ones, to the last bit. Results are weak where
// less than `least` is known, or less than `few` and the sum is smaller than `small`: something may have underflowed. Others
// are snapped as Stored says, by `snap`.
template <class T>
struct Norm {
  T sum = 1, full = 1, least = 0, few = 0, small = 0, snap = 0;
};

template <class T>
using Widen = void (*)(const void* in, T* out, ptrdiff_t n);
template <class T>
using Narrow = void (*)(const T* in, void* out, ptrdiff_t n, const Stored<T>& how);
// The smallest and the largest of n elements whose byte of the mask (null: none) is not 0, and no NaN: `range` is widened.
using Extend = void (*)(const void* in, const uint8_t* mask, ptrdiff_t n, double* range);

template <class T>
struct Casts {  // null where a type is not for filters that compute in T
  Widen<T> widen[kElements];
  Narrow<T> narrow[kElements][2][2];  // [Element][Rounding][Overflow]
  // x[i] is known unless mask[i] is 0, or `nan` and it is one. out[i] is x[i], 0 where that is unknown; known[i] 1 or 0.
  // Returns whether all were known. A null mask hides nothing; out may be x.
  bool (*sift)(const uint8_t* mask, bool nan, const T* x, T* out, T* known, ptrdiff_t n);
  // Whether no byte of the mask (null: none) is 0 and no x (null: none) is NaN.
  bool (*clean)(const uint8_t* mask, const T* x, ptrdiff_t n);
  // out[i] = x[i] * sum / known[i], or x[i] where known[i] is `full`; NaN where known[i] is 0. out may be x. Whether a result
  // is weak.
  bool (*normalise)(const T* x, const T* known, T* out, ptrdiff_t n, const Norm<T>& norm);
  void (*stream_bytes)(char* dst, const char* src, ptrdiff_t n);  // past the cache; any alignment
};

struct CastTable {
  Casts<float> f32;
  Casts<double> f64;
  Extend extend[kElements];
};

}  // namespace sep
