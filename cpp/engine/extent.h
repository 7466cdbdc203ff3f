// The elements that a step touches: what is checked before it becomes part of a program.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/image.h"

namespace sep {

// The lowest and the highest element, counted from the array's place; none where an axis is empty.
struct Extent {
  ptrdiff_t low = 0, high = -1;
  bool empty() const { return high < low; }
};

// a * b + c
inline ptrdiff_t multiply_add(ptrdiff_t a, ptrdiff_t b, ptrdiff_t c) {
  ptrdiff_t product, sum;
  if (__builtin_mul_overflow(a, b, &product) || __builtin_add_overflow(product, c, &sum))
    throw std::invalid_argument("an array larger than any memory");
  return sum;
}

inline Extent extent_of(const std::vector<ptrdiff_t>& lengths, const std::vector<ptrdiff_t>& strides) {
  if (lengths.size() != strides.size()) throw std::invalid_argument("as many strides as lengths, please");
  Extent e{0, 0};
  bool empty = false;
  for (size_t i = 0; i < lengths.size(); i++) {
    if (lengths[i] < 0) throw std::invalid_argument("a negative length");
    if (lengths[i] == 0) {
      empty = true;
      continue;
    }
    ptrdiff_t& end = strides[i] < 0 ? e.low : e.high;
    end = multiply_add(lengths[i] - 1, strides[i], end);
  }
  return empty ? Extent{} : e;
}

// Throws where two indices may lie at the same place: results would depend on who comes last.
inline void check_apart(const std::vector<ptrdiff_t>& lengths, const std::vector<ptrdiff_t>& strides) {
  if (extent_of(lengths, strides).empty()) return;
  std::vector<std::pair<ptrdiff_t, ptrdiff_t>> axes;  // stride, length
  for (size_t i = 0; i < lengths.size(); i++)
    if (lengths[i] > 1) axes.emplace_back(std::abs(strides[i]), lengths[i]);
  std::sort(axes.begin(), axes.end());
  ptrdiff_t reach = 0;
  for (const auto& [stride, length] : axes) {
    if (stride <= reach) throw std::invalid_argument("results that lie on top of each other");
    reach = multiply_add(length - 1, stride, reach);
  }
}

// The elements of an image, and the zeros around it.
inline Extent extent_of(const Image& image) {
  const ptrdiff_t positive[] = {image.batch, image.channels, image.height, image.width, image.block};
  const ptrdiff_t around[] = {image.top, image.left, image.bottom, image.right};
  for (ptrdiff_t length : positive)
    if (length < 1 || length >> 40) throw std::invalid_argument("an image without pixels, or larger than any memory");
  for (ptrdiff_t length : around)
    if (length < 0 || length >> 40) throw std::invalid_argument("negative room around an image, or far too much");
  Extent e = extent_of({image.batch, image.blocks(), image.height + image.top + image.bottom,
                        image.width + image.left + image.right, image.block},
                       {image.batch_pitch, image.block_pitch, image.row_pitch, image.pixel_pitch, 1});
  const ptrdiff_t first = multiply_add(-image.top, image.row_pitch, multiply_add(-image.left, image.pixel_pitch, 0));
  return {multiply_add(1, first, e.low), multiply_add(1, first, e.high)};
}

}  // namespace sep
