// How a result is divided into tiles.
#pragma once
#include <algorithm>
#include <cstddef>

#include "base/tiles.h"
#include "layers/window.h"

namespace sep {

// Tiles of at most about `pixels` pixels, ordered along the first axis that is longer than one tile (`march`): what
// neighbouring tiles both read is then still in the cache.
struct Cut {
  Cut() = default;
  Cut(ptrdiff_t n, const Shape3& shape, ptrdiff_t pixels, ptrdiff_t least) : batch(n), extents(shape) {
    size[2] = even(2, extents[2] > pixels && extents[0] * extents[1] > 1 ? kStrip : pixels);
    size[1] = even(1, pixels / size[2]);
    size[0] = even(0, pixels / (size[2] * size[1]));
    // Few results: smaller tiles until every thread has one, as long as there are rows to divide.
    for (int axis = 0; axis < 2; axis++)
      while (tiles() < least && size[axis] > 1) size[axis] = even(axis, size[axis] / 2);
    march = size[0] < extents[0] ? 0 : size[1] < extents[1] ? 1 : 2;
    // No last tile for which all threads but one wait.
    const ptrdiff_t others = tiles() / along(march);
    if (least > 1 && tiles() < 8 * least && others % least)
      size[march] = even(march, extents[march] / round_up(along(march), least));
  }
  ptrdiff_t along(int axis) const { return ceil_div(extents[axis], size[axis]); }
  ptrdiff_t tiles() const { return batch * along(0) * along(1) * along(2); }
  Tile tile(ptrdiff_t i) const {
    Tile t{};
    auto take = [&](int axis) {
      const ptrdiff_t from = i % along(axis) * size[axis];
      i /= along(axis);
      t.at[axis] = {from, std::min(from + size[axis], extents[axis])};
    };
    take(march);
    for (int axis = 2; axis >= 0; axis--)
      if (axis != march) take(axis);
    t.batch = i;
    return t;
  }

  ptrdiff_t batch = 0;
  Shape3 extents{}, size{};
  int march = 2;

 private:
  static constexpr ptrdiff_t kStrip = 64;  // pixels of a row, where a whole one is too long
  ptrdiff_t even(int axis, ptrdiff_t at_most) const {
    const ptrdiff_t n = std::max<ptrdiff_t>(extents[axis], 1);
    return ceil_div(n, ceil_div(n, std::clamp<ptrdiff_t>(at_most, 1, n)));
  }
};

}  // namespace sep
