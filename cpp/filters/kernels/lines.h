// The table of line kernels: weighted sums of rows, along rows and over dense kernels. One per instruction set. Plain
// data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sep {

enum class Fold : int { none, symmetric, antisymmetric };

// The taps of one axis as the kernels take them. Folded: w[0] is the centre tap, w[j] the tap j places after it.
template <class T>
struct Taps {
  const T* w;
  ptrdiff_t n;  // number of taps
  Fold fold;
  bool center;  // folded only: an odd, symmetric kernel has a centre tap
};

constexpr int kGroup = 8;  // rows that `along` filters together; also the rows of one `down` block

// dst[r][x] = sum over terms t, taps k of taps[t][k] * rows[source[t] * step + r + k][offset + x], r < count, x < width
template <class T>
struct DownArgs {
  const T* const* rows;
  ptrdiff_t step;
  const int* source;
  const Taps<T>* taps;
  ptrdiff_t terms;
  T* const* dst;
  ptrdiff_t count, width, offset;
  bool stream;      // non-temporal stores: every dst row is aligned to the vector
  ptrdiff_t fresh;  // the last `fresh` rows of the only term come from memory: prefetch
  ptrdiff_t ahead;  // ... this many elements ahead
};

// dst[t * kGroup + r][x] = sum over taps k of taps[t][k] * row[r][from + x + k * step],  r < count <= kGroup.
// rows and dst always have kGroup entries a term: those from `count` on repeat the last one. Rows hold `n` elements;
// beyond their ends (only where can_reach_outside) `before` and `after` name the elements that stand in.
template <class T>
struct AlongArgs {
  const T* const* rows;
  const Taps<T>* taps;
  ptrdiff_t terms;
  T* const* dst;
  ptrdiff_t count, width, step;
  ptrdiff_t from, n;
  const ptrdiff_t *before, *after;  // stand-ins for elements -1, -2, ... and n, n + 1, ...; negative: cval
  T cval;
  ptrdiff_t next;  // the rows needed next lie this many elements after these: prefetched; 0: unknown
  T* scratch;      // along_scratch(taps, width) elements
};

// Neighbouring weights of one column of a dense kernel: for element x of row r of the results, taps.w[k] (whatever the
// fold) multiplies planes[plane][offset + (r + k) * pitch + x].
template <class T>
struct DirectRun {
  Taps<T> taps;
  ptrdiff_t plane, offset;
};

// dst[r * dst_pitch + x] = sum over runs, taps k of taps.w[k] * planes[plane][offset + (row + r + k) * pitch + x],
// r < count, x < width; a width of at least one vector
template <class T>
struct DirectArgs {
  const T* const* planes;
  ptrdiff_t pitch, row;
  const DirectRun<T>* runs;
  ptrdiff_t count_runs;
  T* dst;
  ptrdiff_t dst_pitch, count, width;
  bool stream;  // non-temporal stores: every dst row is aligned to the vector
};

template <class T>
struct Lines {
  void (*down)(const DownArgs<T>&);
  void (*along)(const AlongArgs<T>&);
  void (*direct)(const DirectArgs<T>&);
};

// Shifted loads straddle cache lines, so from a few taps on the contiguous axis is filtered by permutes or in
// transposed blocks (minima measured on Zen 4); both handle the ends of rows themselves.
constexpr ptrdiff_t kReachTaps = 5, kReachTapsByPermutes = 2, kReachWidth = 16;

// Whether `along` may be given whole rows, and the elements that stand in beyond their ends.
static constexpr bool can_reach_outside(ptrdiff_t taps, ptrdiff_t width, ptrdiff_t step, ptrdiff_t n,
                                        int vector_bytes) {
  const ptrdiff_t least = vector_bytes >= 64 ? kReachTapsByPermutes : kReachTaps;
  return step == 1 && taps >= least && width >= kReachWidth && n >= kReachWidth;
}

// `along` works through blocks of this many columns so that its buffers stay in the L1 cache.
constexpr ptrdiff_t kAlongColumns = 256;
static constexpr ptrdiff_t along_scratch(ptrdiff_t taps, ptrdiff_t width) {
  return 16 * (2 * (width < kAlongColumns ? width : kAlongColumns) + taps + 64);
}

struct LineTable {
  Lines<float> f32;
  Lines<double> f64;
};

}  // namespace sep
