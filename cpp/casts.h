// Rows of other types than the filters compute in: how they are read, written, sifted by a mask and normalised.
// One table per instruction set. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

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

template <class T>
using Widen = void (*)(const void* in, T* out, ptrdiff_t n);
// Values are divided by `divisor`, and before truncation multiplied by `slack`. NaN becomes the integer 0.
template <class T>
using Narrow = void (*)(const T* in, void* out, ptrdiff_t n, T slack, T divisor);

template <class T>
struct Casts {  // null where a type is not for filters that compute in T
  Widen<T> widen[kElements];
  Narrow<T> narrow[kElements][2][2];  // [Element][Rounding][Overflow]
  // x[i] is known unless mask[i] is 0, or `nan` and it is one. out[i] is x[i], 0 where that is unknown; known[i] 1 or 0.
  // Returns whether all were known. A null mask hides nothing; out may be x.
  bool (*sift)(const uint8_t* mask, bool nan, const T* x, T* out, T* known, ptrdiff_t n);
  // Whether no byte of the mask (null: none) is 0 and no x (null: none) is NaN.
  bool (*clean)(const uint8_t* mask, const T* x, ptrdiff_t n);
  // out[i] = x[i] * sum * slack / known[i], or x[i] if known[i] is sum within `tolerance`; NaN where known[i] is 0. out may
  // be x.
  void (*normalise)(const T* x, const T* known, T* out, ptrdiff_t n, T sum, T tolerance, T slack);
  void (*stream_bytes)(char* dst, const char* src, ptrdiff_t n);  // past the cache; any alignment
};

struct CastTable {
  Casts<float> f32;
  Casts<double> f64;
};

}  // namespace sep
