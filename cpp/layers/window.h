// Which samples a depthwise convolution reads, with every kind of padding.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/boundary.h"
#include "base/tiles.h"

namespace sep {

using Shape3 = std::array<ptrdiff_t, 3>;  // depth, height, width; 1 where an axis is missing

// The part of a result that is computed together.
struct Tile {
  ptrdiff_t batch;
  std::array<Range, 3> at;
  ptrdiff_t pixels() const { return at[0].count() * at[1].count() * at[2].count(); }
};

constexpr ptrdiff_t kNowhere = PTRDIFF_MIN;

struct Window {
  Shape3 kernel, stride, dilation, before;  // before: padding at the low end
  Shape3 extents;                           // of the source
  Mode mode;
  // Sample i of an axis lies ((i - origin) mod slots) * pitch elements from the source's first.
  Shape3 pitch, origin, slots;
  // Kernels whose results are added, the elements between their sources, and the vectors between their weights.
  ptrdiff_t planes = 1, plane = 0, plane_weights = 0;

  // The source index that tap k of result o reads: virtual, it may lie beyond the ends.
  ptrdiff_t reads(int axis, ptrdiff_t o, ptrdiff_t k) const {
    return o * stride[axis] - before[axis] + k * dilation[axis];
  }
  // The result to which source sample i contributes with tap k; kNowhere where there is none. It may lie out of range.
  ptrdiff_t result(int axis, ptrdiff_t i, ptrdiff_t k) const {
    const ptrdiff_t at = i + before[axis] - k * dilation[axis];
    return at % stride[axis] == 0 ? at / stride[axis] : kNowhere;
  }
  ptrdiff_t offset(int axis, ptrdiff_t i) const { return (i - origin[axis]) % slots[axis] * pitch[axis]; }

  // The source samples inside the array that results [o.from, o.to) read.
  Range needs(int axis, Range o) const {
    const ptrdiff_t from = reads(axis, o.from, 0), to = reads(axis, o.to - 1, kernel[axis] - 1) + 1;
    return {std::clamp<ptrdiff_t>(from, 0, extents[axis]), std::clamp<ptrdiff_t>(to, 0, extents[axis])};
  }
};

}  // namespace sep
