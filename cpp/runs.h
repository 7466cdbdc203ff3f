// Runs of pixels with the same taps: what the depthwise kernels work through, for one tile at a time.
#pragma once
#include <vector>

#include "layers.h"
#include "window.h"

namespace sep {

// The runs of one tile.
class Runs {
 public:
  // Result pixel (z, y, x) of the tile goes to (z - z0) * dst_pitch[0] + ... elements. Runs go down the tile in strips, so
  // narrow that samples which several rows read are still in the cache of `samples` vectors. The width axis must not wrap
  // around its slots inside a row.
  void build(const Window& w, const Tile& tile, const Shape3& dst_pitch, ptrdiff_t samples);

  // The other direction: which results each sample of `region` went to, as far as they lie in `results`. Samples go to
  // dst; results are read from (z - results[0].from) * src_pitch[0] + ...
  void build_adjoint(const Window& w, const Tile& region, const std::array<Range, 3>& results, const Shape3& src_pitch,
                     const Shape3& dst_pitch);

  void clear() {
    runs_.clear();
    rows_.clear();
    columns_.clear();
    lines_.clear();
    parts_.clear();
  }
  // One more row, every pixel by itself.
  void copy(ptrdiff_t dst, ptrdiff_t src, ptrdiff_t count, ptrdiff_t dst_step, ptrdiff_t src_step) {
    runs_.push_back({dst, src, count, dst_step, src_step, &kHere, &kHere, 1, 1, false});
  }

  const Run* data() const { return runs_.data(); }
  ptrdiff_t size() const { return ptrdiff_t(runs_.size()); }

 private:
  struct Part {  // columns with the same taps, and the elements from one to the next
    ptrdiff_t dst, count, src, dst_step, src_step, taps, n;
    bool neighbours;
  };
  struct Line {  // a row of results, and its taps
    ptrdiff_t dst, first, n;
  };
  static constexpr ptrdiff_t kNarrowest = 8;  // pixels that the kernel takes together
  static constexpr Tap kHere{0, 0};

  void columns(const Window& w, Range x, ptrdiff_t dst_step, ptrdiff_t strip);

  void border(const Window& w, ptrdiff_t o, ptrdiff_t dst);

  // Samples phase, phase + stride, ... of a row: the same taps reach all of them, results lie next to each other.
  void adjoint_columns(const Window& w, Range x, ptrdiff_t phase, Range results, ptrdiff_t src_step, ptrdiff_t dst_step);

  void line(const Window& w, ptrdiff_t oz, ptrdiff_t oy, ptrdiff_t dst);

  // All parts of all lines, a part at a time. Single pixels go down the column together where they can.
  void emit();

  // Whether the line after line i continues it as the one after line `first` does: same taps, same steps.
  bool follows(size_t i, size_t first) const;

  std::vector<Run> runs_;
  std::vector<Tap> rows_, columns_;
  std::vector<Part> parts_;
  std::vector<Line> lines_;
};

}  // namespace sep
