// The table of line kernels: one per instruction set, chosen at import. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "casts.h"
#include "layers.h"
#include "running.h"
#include "sums.h"

namespace sep {

enum class Fold : int { none, symmetric, antisymmetric };

// One axis' taps as the kernels want them. Folded: w[0] the centre, w[j] the tap j places after it.
template <class T>
struct Taps {
  const T* w;
  ptrdiff_t n;   // number of taps
  Fold fold;
  bool center;   // folded only: an odd, symmetric kernel has a centre tap
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
  ptrdiff_t fresh;  // that many rows at the end of the only term's come from memory: fetch
  ptrdiff_t ahead;  // what lies so many elements after them
};

// dst[t * kGroup + r][x] = sum over taps k of taps[t][k] * row[r][from + x + k * step],  r < count <= kGroup.
// rows and dst have kGroup entries a term all the same: those from `count` on repeat the one before.
// Rows hold `n` elements; where from + x + k leaves them (only where can_reach_outside), another
// element stands in.
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
  ptrdiff_t next;  // the rows needed next lie that many elements after these: fetch them meanwhile; 0: unknown
  T* scratch;      // along_scratch(taps, width) elements
};

// Neighbouring weights of one column of a dense kernel: taps.w[k], whatever the fold, meets element x of row r of the
// results in planes[plane][offset + (r + k) * pitch + x].
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
  void (*copy_stream)(T* dst, const T* src, ptrdiff_t n);  // any alignment of T
  void (*fence)();  // a thread that streamed calls it before others may read
};

// Shifted loads straddle cache lines, so from a few taps on the contiguous axis is filtered by permutes or in transposed
// blocks (measured on Zen 4); both take borders in their stride.
constexpr ptrdiff_t kReachTaps = 5, kReachTapsByPermutes = 2, kReachWidth = 16;

// Whether `along` may be given whole rows and stand-ins for what lies outside.
static constexpr bool can_reach_outside(ptrdiff_t taps, ptrdiff_t width, ptrdiff_t step, ptrdiff_t n, int vector_bytes) {
  const ptrdiff_t least = vector_bytes >= 64 ? kReachTapsByPermutes : kReachTaps;
  return step == 1 && taps >= least && width >= kReachWidth && n >= kReachWidth;
}

// `along` works through blocks of this many columns so that its buffers stay in the L1 cache.
constexpr ptrdiff_t kAlongColumns = 256;
static constexpr ptrdiff_t along_scratch(ptrdiff_t taps, ptrdiff_t width) {
  return 16 * (2 * (width < kAlongColumns ? width : kAlongColumns) + taps + 64);
}

struct Target {
  const char* name;
  int vector_bytes;
  Lines<float> f32;
  Lines<double> f64;
  const LayerTable* layers;
  const CastTable* casts;
  const RunningTable* running;
  const SumsTable* sums;
  double (*fma_flops)(int64_t rounds);  // runs that many rounds of independent float32 FMAs, returns FLOPs done
};

#define SEP_TARGETS_X86(X) X(v2) X(v3) X(v4)
#define SEP_TARGETS_ARM(X) X(neon)
#define SEP_TARGETS_ANY(X) X(base)

}  // namespace sep
