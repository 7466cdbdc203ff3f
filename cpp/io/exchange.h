// What a filter reads and writes: elements of other types than it computes in, a mask, NaN that counts as masked. Rows
// are converted a piece at a time, when they are staged as contiguous T and when results are stored.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/machine.h"
#include "io/casts.h"

namespace sep {

// The casts for the instruction set in use.
template <class T>
const Casts<T>& casts() {
  if constexpr (std::is_same_v<T, float>)
    return target().casts->f32;
  else
    return target().casts->f64;
}

// Strides in bytes, an entry for each axis of the job.
struct Input {
  const char* values;
  const ptrdiff_t* strides;
  Element type;
  const char* mask = nullptr;  // bytes, 0 where a sample is masked
  const ptrdiff_t* mask_strides = nullptr;
  bool nan_unknown = false;      // NaN counts as masked
  bool outside_unknown = false;  // so does what `constant` pads with
  bool masked() const { return mask || nan_unknown || outside_unknown; }
};

struct Output {
  char* values;
  const ptrdiff_t* strides;
  Element type;
  Rounding rounding = Rounding::nearest;
  Overflow overflow = Overflow::saturate;
  double snap = 0, divisor = 1;  // see Stored
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  double normalised_snap = 0;  // `snap` of normalised results: exact ones are not exact any more after the division
  double least_known = 0, small_result = 0;  // see Norm
  std::atomic<bool>* weak = nullptr;         // set if a result is weak, see Norm
  ptrdiff_t step = 0;                        // bytes from one output to the next, of a job that has several
};

// A sample of the source, and its byte of the mask.
struct Place {
  const char* values;
  const char* mask;
  Place moved(ptrdiff_t n, ptrdiff_t values_stride, ptrdiff_t mask_stride) const {
    return {values + n * values_stride, mask ? mask + n * mask_stride : nullptr};
  }
};

// How the pixels of a row lie: `step` elements each.
struct PixelStrides {
  ptrdiff_t step = 1, stride = 0, inner = 0, mask_stride = 0, mask_inner = 0;
};

// Copies pixels of any layout to contiguous ones (Gather), or back.
template <class Item, bool Gather>
void move_items(char* strided, char* packed, ptrdiff_t n, const PixelStrides& p) {
  Item* row = reinterpret_cast<Item*>(packed);
  auto move = [](char* there, Item* here) {
    if constexpr (Gather)
      std::memcpy(here, there, sizeof(Item));
    else
      std::memcpy(there, here, sizeof(Item));
  };
  if (p.step == 1)
    for (ptrdiff_t i = 0; i < n; i++) move(strided + i * p.stride, row + i);
  else
    for (ptrdiff_t i = 0; i < n; i++, row += p.step)
      for (ptrdiff_t c = 0; c < p.step; c++) move(strided + i * p.stride + c * p.inner, row + c);
}

template <bool Gather>
void move_pixels(char* strided, char* packed, ptrdiff_t n, const PixelStrides& p, ptrdiff_t item) {
  if (item == 1) return move_items<uint8_t, Gather>(strided, packed, n, p);
  if (item == 2) return move_items<uint16_t, Gather>(strided, packed, n, p);
  if (item == 4) return move_items<uint32_t, Gather>(strided, packed, n, p);
  move_items<uint64_t, Gather>(strided, packed, n, p);
}

inline void gather(const char* from, char* to, ptrdiff_t n, const PixelStrides& p, ptrdiff_t item) {
  move_pixels<true>(const_cast<char*>(from), to, n, p, item);
}
inline void spread(const char* from, char* to, ptrdiff_t n, const PixelStrides& p, ptrdiff_t item) {
  move_pixels<false>(to, const_cast<char*>(from), n, p, item);
}

// Norm::few_known, as a fraction of the sum of weights: normalising magnifies the rounding of subnormal numbers by at
// most its inverse where more is known.
constexpr double kFewKnown = 1.0 / 1024;
constexpr ptrdiff_t kPiece = 512;  // elements converted at a time where they are gathered, spread or streamed
// The same in pixels, which have at most that many elements.
inline ptrdiff_t piece_pixels(const PixelStrides& p) { return kPiece / p.step; }

// Reads pixels into contiguous T.
template <class T>
struct Reader {
  explicit Reader(const Input& in)
      : item(size_of(in.type)),
        widen(in.type == kOwn<T> ? nullptr : casts<T>().widen[int(in.type)]),
        masked(in.masked()),
        nan_unknown(in.nan_unknown),
        outside_unknown(in.outside_unknown) {}

  bool plain() const { return !widen && !masked; }

  // Reads n pixels into `out` and, unless `known` is null, their mask (1 or 0) into `known`; returns whether none is
  // masked.
  bool read(Place at, ptrdiff_t n, const PixelStrides& p, T* out, T* known) const {
    const ptrdiff_t count = n * p.step, piece = piece_pixels(p);
    if (packed(n, p.step, p.stride, p.inner, item)) {
      if (widen)
        widen(at.values, out, count);
      else if (known)
        return sift(at.mask, n, p, reinterpret_cast<const T*>(at.values), out, known);
      else
        std::memcpy(out, at.values, size_t(count) * sizeof(T));
    } else if (!widen) {
      gather(at.values, reinterpret_cast<char*>(out), n, p, sizeof(T));
    } else {
      alignas(64) char buffer[kPiece * 8];
      for (ptrdiff_t i = 0; i < n; i += piece) {
        gather(at.values + i * p.stride, buffer, std::min(piece, n - i), p, item);
        widen(buffer, out + i * p.step, std::min(piece, n - i) * p.step);
      }
    }
    return !known || sift(at.mask, n, p, out, out, known);
  }

  // True: none of n pixels is masked. False: this was not checked, or one is.
  bool clean(Place at, ptrdiff_t n, const PixelStrides& p) const {
    if (at.mask && !packed(n, p.step, p.mask_stride, p.mask_inner, 1)) return false;
    if (nan_unknown && (widen || !packed(n, p.step, p.stride, p.inner, item))) return false;
    return casts<T>().clean(reinterpret_cast<const uint8_t*>(at.mask),
                            nan_unknown ? reinterpret_cast<const T*>(at.values) : nullptr, n * p.step);
  }

  ptrdiff_t item;
  Widen<T> widen;  // null: the elements are T
  bool masked, nan_unknown, outside_unknown;

 private:
  static bool packed(ptrdiff_t n, ptrdiff_t step, ptrdiff_t stride, ptrdiff_t inner, ptrdiff_t item) {
    return (n == 1 || stride == step * item) && (step == 1 || inner == item);
  }
  bool sift(const char* mask, ptrdiff_t n, const PixelStrides& p, const T* x, T* out, T* known) const {
    const auto sift = casts<T>().sift;
    auto bytes = [](const char* at) { return reinterpret_cast<const uint8_t*>(at); };
    if (!mask || packed(n, p.step, p.mask_stride, p.mask_inner, 1))
      return sift(bytes(mask), nan_unknown, x, out, known, n * p.step);
    const PixelStrides layout{p.step, p.mask_stride, p.mask_inner, 0, 0};
    const ptrdiff_t piece = piece_pixels(p);
    char buffer[kPiece];
    bool all = true;
    for (ptrdiff_t i = 0; i < n; i += piece) {
      const ptrdiff_t length = std::min(piece, n - i), at = i * p.step;
      gather(mask + i * p.mask_stride, buffer, length, layout, 1);
      all &= sift(bytes(buffer), nan_unknown, x + at, out + at, known + at, length * p.step);
    }
    return all;
  }
};

// Writes contiguous T into pixels of another type.
template <class T>
struct Writer {
  explicit Writer(const Output& out)
      : item(size_of(out.type)),
        narrow(out.type == kOwn<T> && out.divisor == 1
                   ? nullptr
                   : casts<T>().narrow[int(out.type)][int(out.rounding)][int(out.overflow)]),
        how{T(out.divisor), T(out.snap), T(out.low), T(out.high)},
        normalised_snap(T(out.normalised_snap)),
        least_known(T(out.least_known)),
        small_result(T(out.small_result)),
        weak(out.weak) {}

  bool plain() const { return !narrow; }

  // `count` elements; `stream`: with non-temporal stores.
  void write(const T* from, char* to, ptrdiff_t count, bool stream) const {
    if (!stream) return narrow(from, to, count, how);
    alignas(64) char piece[kPiece * 8];
    for (ptrdiff_t i = 0; i < count; i += kPiece) {
      const ptrdiff_t length = std::min(kPiece, count - i);
      narrow(from + i, piece, length, how);
      target().stream_bytes(to + i * item, piece, length * item);
    }
  }
  // n pixels of p.step elements, to any layout.
  void scatter(const T* from, char* to, ptrdiff_t n, const PixelStrides& p) const {
    alignas(64) char buffer[kPiece * 8];
    const ptrdiff_t piece = piece_pixels(p);
    for (ptrdiff_t i = 0; i < n; i += piece) {
      const ptrdiff_t length = std::min(piece, n - i);
      narrow(from + i * p.step, buffer, length * p.step, how);
      spread(buffer, to + i * p.stride, length, p, item);
    }
  }

  // How results are normalised: the weights add up to `sum`, and the response to ones is `full`.
  Norm<T> norm(double sum, T full) const {
    return {T(sum), full, least_known, T(sum * kFewKnown), small_result, normalised_snap};
  }
  // n results, from `row` to `out`, which may be the same.
  void normalise(const T* row, const T* known, T* out, ptrdiff_t n, const Norm<T>& norm) const {
    if (casts<T>().normalise(row, known, out, n, norm)) weak->store(true, std::memory_order_relaxed);
  }

  ptrdiff_t item;
  Narrow<T> narrow;  // null: T as it is
  Stored<T> how;
  T normalised_snap, least_known, small_result;
  std::atomic<bool>* weak;
};

}  // namespace sep
