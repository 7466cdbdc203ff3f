#include "io/extent.h"

#include <algorithm>
#include <cstdlib>

#include "base/pool.h"
#include "base/tiles.h"

namespace sep {
namespace {

struct Line {  // an axis: strides in bytes
  ptrdiff_t n = 1, stride = 0, mask = 0;
};

// The axes of more than one sample as they lie in memory, outermost first; those whose strides are those of one are
// merged.
std::vector<Line> lines_of(const std::vector<ptrdiff_t>& shape, const Input& in) {
  std::vector<Line> all, merged;
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] > 1) all.push_back({shape[i], in.strides[i], in.mask ? in.mask_strides[i] : 0});
  std::stable_sort(all.begin(), all.end(),
                   [](const Line& a, const Line& b) { return std::abs(a.stride) > std::abs(b.stride); });
  for (const Line& a : all)
    if (!merged.empty() && merged.back().stride == a.stride * a.n && merged.back().mask == a.mask * a.n)
      merged.back() = {merged.back().n * a.n, a.stride, a.mask};
    else
      merged.push_back(a);
  return merged;
}

// Extends `range` by n samples of a row.
void extend(const Input& in, Place at, ptrdiff_t n, const Line& row, double* range) {
  const ptrdiff_t item = size_of(in.type);
  const Extend extend = target().casts->extend[int(in.type)];
  const bool packed = n == 1 || (row.stride == item && (!at.mask || row.mask == 1));
  if (packed) return extend(at.values, reinterpret_cast<const uint8_t*>(at.mask), n, range);
  alignas(64) char buffer[kPiece * 8];
  char known[kPiece];
  for (ptrdiff_t i = 0; i < n; i += kPiece) {
    const ptrdiff_t length = std::min(kPiece, n - i);
    const Place piece = at.moved(i, row.stride, row.mask);
    gather(piece.values, buffer, length, {1, row.stride, 0, 0, 0}, item);
    if (piece.mask) gather(piece.mask, known, length, {1, row.mask, 0, 0, 0}, 1);
    extend(buffer, piece.mask ? reinterpret_cast<const uint8_t*>(known) : nullptr, length, range);
  }
}

}  // namespace

Extent extent_of(const std::vector<ptrdiff_t>& shape, const Input& in, int threads) {
  Extent all;
  if (std::count(shape.begin(), shape.end(), 0)) return all;
  std::vector<Line> axes = lines_of(shape, in);
  Line row;
  if (!axes.empty()) {
    row = axes.back();
    axes.pop_back();
  }
  constexpr ptrdiff_t kTask = 1 << 16;  // samples
  ptrdiff_t rows = 1;
  for (const Line& a : axes) rows *= a.n;
  const ptrdiff_t length = std::min(row.n, kTask), across = ceil_div(row.n, length),
                  rows_a_task = ceil_div(kTask, length);
  const ptrdiff_t tasks = across * ceil_div(rows, rows_a_task);
  threads = int(std::min<ptrdiff_t>(threads, tasks));
  std::vector<Extent> extents{size_t(threads)};
  parallel(tasks, threads, [&](ptrdiff_t task, int worker) {
    double range[2] = {extents[size_t(worker)].low, extents[size_t(worker)].high};
    const ptrdiff_t first = task / across * rows_a_task, x = task % across * length;
    for (ptrdiff_t r = first; r < std::min(rows, first + rows_a_task); r++) {
      Place at{in.values, in.mask};
      ptrdiff_t rest = r;
      for (size_t i = axes.size(); i-- > 0; rest /= axes[i].n)
        at = at.moved(rest % axes[i].n, axes[i].stride, axes[i].mask);
      extend(in, at.moved(x, row.stride, row.mask), std::min(length, row.n - x), row, range);
    }
    extents[size_t(worker)] = {range[0], range[1]};
  });
  for (const Extent& e : extents) all = {std::min(all.low, e.low), std::max(all.high, e.high)};
  return all;
}

}  // namespace sep
