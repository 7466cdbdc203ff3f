// What drivers share in dividing an array into tiles.
#pragma once
#include <cstddef>

namespace sep {

constexpr ptrdiff_t kInnerRow = 64;        // an unfiltered inner extent up to this many elements stays in the row
constexpr ptrdiff_t kSmallWork = 1 << 18;  // multiply-adds below which a second thread costs more than it saves

struct Range {
  ptrdiff_t from, to;
  ptrdiff_t count() const { return to - from; }
};

constexpr ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
constexpr ptrdiff_t round_up(ptrdiff_t a, ptrdiff_t b) { return ceil_div(a, b) * b; }

}  // namespace sep
