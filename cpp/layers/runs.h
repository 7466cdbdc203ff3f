// Runs of pixels with the same taps, the unit of work of the depthwise kernels, for one tile at a time.
#pragma once
#include <vector>

#include "layers/kernels/layers.h"
#include "layers/window.h"

namespace sep {

// The runs of one tile.
class Runs {
 public:
  // Result pixel (z, y, x) of the tile goes to element (z - z0) * dst_pitch[0] + ... Runs go down the tile in strips,
  // narrow enough that samples which several rows read are still in a cache of `samples` vectors. The width axis must
  // not wrap around its slots within a row.
  void build(const Window& w, const Tile& tile, const Shape3& dst_pitch, ptrdiff_t samples);

  // The adjoint: for each sample of `region`, the results in `results` that it contributes to. Samples go to dst;
  // results are read from element (z - results[0].from) * src_pitch[0] + ...
  void build_adjoint(const Window& w, const Tile& region, const std::array<Range, 3>& results, const Shape3& src_pitch,
                     const Shape3& dst_pitch);

  void clear() {
    runs_.clear();
    rows_.clear();
    columns_.clear();
    lines_.clear();
    parts_.clear();
  }
  // Appends a row of pixels that are copied.
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

  // Samples phase, phase + stride, ... of a row: they have the same taps, and neighbouring results.
  void adjoint_columns(const Window& w, Range x, ptrdiff_t phase, Range results, ptrdiff_t src_step,
                       ptrdiff_t dst_step);

  void line(const Window& w, ptrdiff_t oz, ptrdiff_t oy, ptrdiff_t dst);

  // Makes the runs: every part of every line, a part at a time. Single pixels become runs down a column where they can.
  void emit();

  // Whether the line after line i continues it as the one after line `first` does: same taps, same steps.
  bool follows(size_t i, size_t first) const;

  std::vector<Run> runs_;
  std::vector<Tap> rows_, columns_;
  std::vector<Part> parts_;
  std::vector<Line> lines_;
};

}  // namespace sep
