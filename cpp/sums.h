// The table of kernels that turn rows into running sums and weigh those: one per instruction set. Plain data and function
// pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sep {

// Neighbours in one column of a kernel's differences, all of them `value`: they meet element x of row r of the results in
// planes[plane][offset + (r + k) * pitch + x], k < n.
struct WholeRun {
  ptrdiff_t plane, offset, n;
  uint32_t value;
};

// dst[r * dst_pitch + x] = the sum over runs, modulo 2**32; as DirectArgs, but for `streams`.
struct WholeArgs {
  const uint32_t* const* planes;
  ptrdiff_t pitch, row;
  const WholeRun* runs;
  ptrdiff_t count_runs;
  uint32_t* dst;
  ptrdiff_t dst_pitch, count, width;
};

// Floats times a scale become whole numbers of at most this magnitude, halves to even.
constexpr double kLargestWhole = 1 << 22;

struct SumsTable {
  // row[i * step + c] becomes the sum of row[j * step + c] over j < i, n pixels of `step`: in doubles, or of floats times
  // `scale` as whole numbers modulo 2**32, which take their place.
  void (*along)(double* row, ptrdiff_t n, ptrdiff_t step, float);
  void (*along_whole)(float* row, ptrdiff_t n, ptrdiff_t step, float scale);
  // The same down: row and sum are swapped, after what the row held was added to the sum. n elements.
  void (*down)(double* row, double* sum, ptrdiff_t n, float);
  void (*down_whole)(float* row, uint32_t* sum, ptrdiff_t n, float scale);
  void (*whole)(const WholeArgs&);
  void (*widen)(const uint32_t* row, double* out, ptrdiff_t n, double factor);  // signed numbers, times factor
  bool (*finite)(const double* row, ptrdiff_t n);
  uint32_t (*peak)(const float* row, ptrdiff_t n);  // the bits of the largest magnitude; NaN is larger than infinity
};

}  // namespace sep
