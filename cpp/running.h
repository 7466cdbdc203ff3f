// The table of kernels that filter by running sums: one per instruction set. Plain data and function pointers only.
// Lines are filtered side by side as the columns of a panel of doubles: row r of a panel is element r of each line.
#pragma once
#include <cstddef>

#include "casts.h"

namespace sep {

constexpr ptrdiff_t kPanelLines = 64;  // of the widest panel; its width is a multiple of kPanelStep
constexpr ptrdiff_t kPanelStep = 16;
constexpr ptrdiff_t kPanelRows = 32;  // rows worked on at a time
constexpr ptrdiff_t kScatterRows = 8;
constexpr int kMaxWaves = 12;         // cosines in one sum

// Lines in memory. adjacent: line p lies p items after line 0.
struct LineSet {
  char* const* at;  // element 0 of each
  ptrdiff_t lines, stride;
  bool adjacent;
};

// What becomes of a sum before it is stored: sum * factor / divisor, then for integers bounds, rounding (see kSnap) and what
// does not fit.
struct Storing {
  double factor = 1, divisor = 1;
  Rounding rounding = Rounding::nearest;
  Overflow overflow = Overflow::saturate;
  double snap = 0, low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
};

// Sums of n rows: x[t - n + 1] + ... + x[t], by additions only. Of the block of n rows that was filled last, ring[k] holds
// the sum of rows k to n - 1; those of the block being filled are raw below row `at`.
struct BoxArgs {
  const void* in;  // x[t], rows of floats or doubles; out: times factor
  ptrdiff_t in_step;
  void* out;
  ptrdiff_t out_step;
  double factor;
  ptrdiff_t count, width;
  double* ring;    // n + 1 rows, the last one zeros
  double* prefix;  // the block's sum so far, one row
  ptrdiff_t n, at;
};

// f(k) = sum over waves m of amplitude[m] * cos(frequency[m] * k), or sin: |k| <= radius.
struct Waves {
  int count;
  ptrdiff_t radius;
  bool odd;            // sines
  const double* table; // cos(frequency * k) of every wave, then sin: 2 * count for each k <= radius
  const double *amplitude, *cosine, *sine;  // of the frequency
  const double *edge, *beyond;              // amplitude * f(radius), amplitude * f(radius + 1)
};

struct WavesArgs {
  const Waves* waves;
  double* rows;  // in: x[i + radius + 1]; out: sums about i + 1, i being the last place summed about
  ptrdiff_t count, width;
  double* ring;  // x[i - radius - 1] to x[i + radius]; the oldest at row `at`
  ptrdiff_t at;
  double* state;  // 2 * waves rows: the sum of each wave about i, and about i - 1
};

// At most kPanelRows rows at a time are read and written; slots that no line uses are read as zeros or copies.
struct RunningTable {
  void (*read[kElements])(const LineSet& from, ptrdiff_t first, ptrdiff_t count, double* rows, ptrdiff_t width);
  void (*write[kElements])(const double* rows, ptrdiff_t width, const LineSet& to, ptrdiff_t first, ptrdiff_t count,
                        const Storing& how);
  // The same for floats that lie one after another in kPanelStep lines, by way of panels of floats.
  void (*gather)(const LineSet& from, ptrdiff_t first, ptrdiff_t count, float* rows);
  void (*scatter)(const float* rows, const LineSet& to, ptrdiff_t first, ptrdiff_t count);  // count >= kScatterRows
  void (*box[2][2])(const BoxArgs&);  // [in is float][out is float]
  void (*start_waves)(const WavesArgs&);  // the state from the ring; rows[0]: the sum about i
  void (*waves)(const WavesArgs&);
  bool (*finite)(const double* rows, ptrdiff_t count);
};

}  // namespace sep
