// Source rows: any strides, any boundary mode, handed to the line kernels as contiguous memory with its halo.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

#include "exchange.h"

namespace sep {

enum class Mode : int { reflect, constant, nearest, mirror, wrap };

constexpr ptrdiff_t kOutside = -1;

// The sample that virtual index i of an axis of n stands for; kOutside where `constant` pads. Periodic extensions
// repeat as often as needed, so a kernel may be longer than the axis.
inline ptrdiff_t source_index(ptrdiff_t i, ptrdiff_t n, Mode mode) {
  if (i >= 0 && i < n) return i;
  auto modulo = [](ptrdiff_t a, ptrdiff_t m) { return (a %= m) < 0 ? a + m : a; };
  switch (mode) {
    case Mode::constant:
      return kOutside;
    case Mode::nearest:
      return i < 0 ? 0 : n - 1;
    case Mode::wrap:
      return modulo(i, n);
    case Mode::reflect:
      i = modulo(i, 2 * n);
      return i < n ? i : 2 * n - 1 - i;
    case Mode::mirror:
      if (n == 1) return 0;
      i = modulo(i, 2 * n - 2);
      return i < n ? i : 2 * n - 2 - i;
  }
  return kOutside;
}

// One filtered axis of a sweep as the drivers see it: out[i] takes virtual inputs i - shift .. i - shift + taps - 1.
struct Reach {
  ptrdiff_t taps = 1, shift = 0;
  Mode mode = Mode::reflect;
  ptrdiff_t extra() const { return taps - 1; }
};

// The contiguous axis: n pixels of `pixel.step` elements each.
template <class T>
struct RowShape {
  ptrdiff_t n;
  PixelStrides pixel;
  Reach reach;
  T cval;
  bool plain = true;  // elements are T

  bool contiguous() const { return plain && (pixel.stride == ptrdiff_t(pixel.step * sizeof(T)) || n == 1); }

  // Pixels [from, to) of the row at `row` (virtual: they may lie outside) as contiguous memory: the row itself where
  // possible, else copied into `buffer`; unless `known` is null, what is known of them goes there. Whether all are: *whole.
  const T* get(const Reader<T>& reader, Place row, ptrdiff_t from, ptrdiff_t to, T* buffer, T* known, bool* whole) const {
    *whole = true;
    if (from >= 0 && to <= n && contiguous() && !known) return reinterpret_cast<const T*>(row.values) + from * pixel.step;
    const ptrdiff_t lo = std::clamp<ptrdiff_t>(0, from, to), hi = std::clamp<ptrdiff_t>(n, lo, to);
    auto at = [&](T* rows, ptrdiff_t i) { return rows ? rows + (i - from) * pixel.step : nullptr; };
    auto read = [&](ptrdiff_t s, ptrdiff_t count, ptrdiff_t i) {
      *whole &= reader.read(row.moved(s, pixel.stride, pixel.mask_stride), count, pixel, at(buffer, i), at(known, i));
    };
    read(lo, hi - lo, lo);
    for (ptrdiff_t i = from; i < to; i++) {
      if (i == lo) i = hi;
      if (i == to) break;
      const ptrdiff_t s = source_index(i, n, reach.mode);
      if (s == kOutside) {
        std::fill_n(at(buffer, i), pixel.step, cval);
        if (known) std::fill_n(at(known, i), pixel.step, T(!reader.outside_unknown));
        if (reader.outside_unknown) *whole = false;
      } else if (s >= lo && s < hi) {  // it has been read
        copy(at(buffer, s), at(buffer, i));
        if (known) copy(at(known, s), at(known, i));
      } else {
        read(s, 1, i);
      }
    }
    return buffer;
  }

 private:
  void copy(const T* from, T* to) const {
    if (pixel.step == 1)
      *to = *from;
    else
      std::memcpy(to, from, pixel.step * sizeof(T));
  }
};

constexpr size_t kAlign = 64;

// A block of aligned scratch memory, carved into arrays.
class Scratch {
 public:
  template <class T>
  static size_t bytes(ptrdiff_t count) {
    return (size_t(count) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
  }
  explicit Scratch(size_t size)
      : memory_(static_cast<char*>(::operator new(size + kAlign, std::align_val_t(kAlign)))), next_(memory_.get()) {}
  template <class T>
  T* take(ptrdiff_t count) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += bytes<T>(count);
    return p;
  }

 private:
  struct Free {
    void operator()(char* p) const { ::operator delete(p, std::align_val_t(kAlign)); }
  };
  std::unique_ptr<char, Free> memory_;
  char* next_;
};

}  // namespace sep
