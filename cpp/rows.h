// Source rows: any strides, any boundary mode, handed to the line kernels as contiguous memory with its halo.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

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

// The contiguous axis: n pixels of `step` elements each, pixels `stride` bytes apart.
template <class T>
struct RowShape {
  ptrdiff_t n, step, stride;
  Reach reach;
  T cval;

  bool contiguous() const { return stride == ptrdiff_t(step * sizeof(T)) || n == 1; }

  // Pixels [from, to) of the row at `row` (virtual: they may lie outside) as contiguous memory: the row itself where
  // possible, else copied into `buffer`.
  const T* get(const char* row, ptrdiff_t from, ptrdiff_t to, T* buffer) const {
    if (from >= 0 && to <= n && contiguous()) return reinterpret_cast<const T*>(row) + from * step;
    const ptrdiff_t lo = std::clamp<ptrdiff_t>(0, from, to), hi = std::clamp<ptrdiff_t>(n, lo, to);
    T* out = halo(row, from, lo, buffer);
    if (contiguous()) {
      std::memcpy(out, reinterpret_cast<const T*>(row) + lo * step, size_t(hi - lo) * step * sizeof(T));
      out += (hi - lo) * step;
    } else if (step == 1) {
      for (ptrdiff_t i = lo; i < hi; i++) *out++ = *reinterpret_cast<const T*>(row + i * stride);
    } else {
      for (ptrdiff_t i = lo; i < hi; i++, out += step) std::memcpy(out, row + i * stride, step * sizeof(T));
    }
    halo(row, hi, to, out);
    return buffer;
  }

 private:
  T* halo(const char* row, ptrdiff_t from, ptrdiff_t to, T* out) const {
    if (step == 1) {
      for (ptrdiff_t i = from; i < to; i++) {
        const ptrdiff_t s = source_index(i, n, reach.mode);
        *out++ = s == kOutside ? cval : *reinterpret_cast<const T*>(row + s * stride);
      }
      return out;
    }
    for (ptrdiff_t i = from; i < to; i++, out += step) {
      const ptrdiff_t s = source_index(i, n, reach.mode);
      if (s == kOutside)
        std::fill_n(out, step, cval);
      else
        std::memcpy(out, row + s * stride, step * sizeof(T));
    }
    return out;
  }
};

// Where a result goes: rows of contiguous pixels, or strided ones that need scattering.
template <class T>
void scatter(const T* from, char* row, ptrdiff_t pixels, ptrdiff_t step, ptrdiff_t stride) {
  for (ptrdiff_t i = 0; i < pixels; i++, from += step) std::memcpy(row + i * stride, from, step * sizeof(T));
}

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
