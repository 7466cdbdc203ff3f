// Software prefetch beside arithmetic. Included only by kernel units.
#pragma once
#include "base/vec.h"
#include "layers/kernels/layers.h"

namespace {

using sep::Fetch;

// Spreads prefetches over the arithmetic: processors drop them when they come in bursts (measured: half of the gain on
// Zen 4).
struct Prefetcher {
  Prefetcher(const Fetch& f, ptrdiff_t steps)
      : line(f.at), a_row((f.bytes + 63) / 64), in_row(a_row), rows(f.rows), skip(f.pitch - a_row * 64) {
    lines_a_step = (rows * a_row + steps - 1) / (steps > 0 ? steps : 1);
  }
  SEP_INLINE void step() {
    for (ptrdiff_t i = 0; i < lines_a_step; i++) {
      prefetch(line);
      line += 64;
      if (--in_row == 0) {
        line += skip;
        in_row = a_row;
        if (--rows == 0) lines_a_step = 0;
      }
    }
  }
  const char* line;
  ptrdiff_t a_row, in_row, rows;  // cache lines of a row, those left in this row, rows left
  ptrdiff_t skip, lines_a_step;   // bytes from the end of a row to the next; cache lines fetched a step
};

}  // namespace
