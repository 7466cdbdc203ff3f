// Source rows of any strides and boundary mode, as the contiguous memory with a halo that the line kernels take.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>

#include "base/boundary.h"
#include "io/exchange.h"

namespace sep {

// The contiguous axis: n pixels of `pixel.step` elements each.
template <class T>
struct RowShape {
  ptrdiff_t n;
  PixelStrides pixel;
  Reach reach;
  T cval;
  bool plain = true;  // elements are T

  bool contiguous() const { return plain && (pixel.stride == ptrdiff_t(pixel.step * sizeof(T)) || n == 1); }

  // Pixels [from, to) of the row at `row` (virtual: they may lie beyond its ends) as contiguous memory: the row itself
  // where possible, else copied into `buffer`; unless `known` is null, their mask goes there. *whole: whether none is
  // masked.
  const T* get(const Reader<T>& reader, Place row, ptrdiff_t from, ptrdiff_t to, T* buffer, T* known,
               bool* whole) const {
    *whole = true;
    if (from >= 0 && to <= n && contiguous() && !known)
      return reinterpret_cast<const T*>(row.values) + from * pixel.step;
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
      } else if (s >= lo && s < hi) {  // among those read above
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

}  // namespace sep
