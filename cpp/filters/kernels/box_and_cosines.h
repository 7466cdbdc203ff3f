// The table of kernels for boxes (running sums) and cosines (recursive oscillators): one per instruction set. Plain
// data and function pointers only. Lines are filtered side by side as the columns of a panel of doubles: row r of a
// panel is element r of each line.
#pragma once
#include <cstddef>

#include "io/casts.h"

namespace sep {

constexpr ptrdiff_t kPanelLines = 64;  // of the widest panel
constexpr ptrdiff_t kPanelStep = 16;   // the width of a panel is a multiple of this
constexpr ptrdiff_t kPanelRows = 32;   // rows filtered at a time
constexpr ptrdiff_t kScatterRows = 8;  // minimum rows that `scatter` takes: a vector of floats
constexpr int kMaxCosines = 12;        // in one sum

// Lines in memory, `stride` bytes from element to element. adjacent: line p lies p items after line 0.
struct LineSet {
  char* const* at;  // element 0 of each
  ptrdiff_t lines, stride;
  bool adjacent;
};

// How a sum is stored: sum * factor / divisor; as an integer then clamped to [low, high], rounded (see kSnap), and
// saturated or wrapped.
struct Storing {
  double factor = 1, divisor = 1;
  Rounding rounding = Rounding::nearest;
  Overflow overflow = Overflow::saturate;
  double snap = 0, low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

// Sums of n rows, x[t - n + 1] + ... + x[t], by additions only (nothing is subtracted, so rounding errors do not build
// up): blocks of n rows, a suffix sum of the block before plus the prefix sum of the current one (van Herk's scheme).
// ring[k] is the sum of rows k to n - 1 of the block before; rows k < `at` hold the samples of the current block
// instead.
struct BoxArgs {
  const void* in;  // x[t], rows of floats or doubles; the sums that go to `out` are multiplied by factor
  ptrdiff_t in_step;
  void* out;
  ptrdiff_t out_step;
  double factor;
  ptrdiff_t count, width;
  double* ring;    // n + 1 rows, the last one zeros
  double* prefix;  // one row: the prefix sum of the current block
  ptrdiff_t n, at;
};

// f(k) = sum over m of amplitude[m] * cos(frequency[m] * k), or sin, |k| <= radius.
struct Cosines {
  int count;
  ptrdiff_t radius;
  bool odd;                                 // sines
  const double* table;                      // for each k <= radius, cos(frequency[m] * k) for all m, then sin
  const double *amplitude, *cosine, *sine;  // of the frequency
  const double *edge, *beyond;              // amplitude * f(radius), amplitude * f(radius + 1)
};

struct CosinesArgs {
  const Cosines* cosines;
  double* rows;  // in: x[i + radius + 1], ...; out: results i + 1, ..., where i is the last result so far
  ptrdiff_t count, width;
  double* ring;  // x[i - radius - 1] to x[i + radius]; the oldest at row `at`
  ptrdiff_t at;
  double* state;  // 2 * count rows: result i of each cosine, and result i - 1
};

// At most kPanelRows rows at a time are read and written; columns without a line are read as zeros or as copies.
struct BoxAndCosinesTable {
  void (*read[kElements])(const LineSet& from, ptrdiff_t first, ptrdiff_t count, double* rows, ptrdiff_t width);
  void (*write[kElements])(const double* rows, ptrdiff_t width, const LineSet& to, ptrdiff_t first, ptrdiff_t count,
                           const Storing& how);
  // The same between kPanelStep lines of contiguous floats and panels of floats.
  void (*gather)(const LineSet& from, ptrdiff_t first, ptrdiff_t count, float* rows);
  void (*scatter)(const float* rows, const LineSet& to, ptrdiff_t first, ptrdiff_t count);  // count >= kScatterRows
  void (*box[2][2])(const BoxArgs&);          // [in is float][out is float]
  void (*start_cosines)(const CosinesArgs&);  // computes the state from the ring; rows[0] becomes result i
  void (*cosines)(const CosinesArgs&);
  bool (*finite)(const double* rows, ptrdiff_t count);
};

}  // namespace sep
