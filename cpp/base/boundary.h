// Which sample stands beyond the ends of an axis.
#pragma once
#include <cstddef>

namespace sep {

enum class Mode : int { reflect, constant, nearest, mirror, wrap };
constexpr int kModes = int(Mode::wrap) + 1;  // of the last one

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

// One filtered axis: out[i] takes virtual inputs i - shift to i - shift + taps - 1.
struct Reach {
  ptrdiff_t taps = 1, shift = 0;
  Mode mode = Mode::reflect;
  ptrdiff_t extra() const { return taps - 1; }
};

}  // namespace sep
