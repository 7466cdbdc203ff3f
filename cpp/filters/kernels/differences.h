// The table of kernels for differences of weights over running sums: one per instruction set. Plain data and function
// pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sep {

// n neighbouring differences in one column of a kernel, all equal to `value`: for element x of row r of the results
// they multiply planes[plane][offset + (r + k) * pitch + x], k < n.
struct IntegerRun {
  ptrdiff_t plane, offset, n;
  uint32_t value;
};

// dst[r * dst_pitch + x] = the sum over all runs, modulo 2**32; the layout is that of DirectArgs.
struct IntegerArgs {
  const uint32_t* const* planes;
  ptrdiff_t pitch, row;
  const IntegerRun* runs;
  ptrdiff_t count_runs;
  uint32_t* dst;
  ptrdiff_t dst_pitch, count, width;
};

// Floats times a scale are rounded to integers of at most this magnitude, halves to even.
constexpr double kLargestInteger = 1 << 22;

struct DifferencesTable {
  // Exclusive prefix sums along a row of n pixels of `step` elements, in place: row[i * step + c] becomes the sum of
  // row[j * step + c] over j < i. In doubles; or floats times `scale` as integers modulo 2**32, stored over the floats.
  void (*along)(double* row, ptrdiff_t n, ptrdiff_t step, float);
  void (*along_integers)(float* row, ptrdiff_t n, ptrdiff_t step, float scale);
  // The same down a column of rows, one row of n elements a call: `row` becomes `sum`, to which its old values are
  // added.
  void (*down)(double* row, double* sum, ptrdiff_t n, float);
  void (*down_integers)(float* row, uint32_t* sum, ptrdiff_t n, float scale);
  void (*integers)(const IntegerArgs&);                                         // weighted sums
  void (*widen)(const uint32_t* row, double* out, ptrdiff_t n, double factor);  // out[i] = int32(row[i]) * factor
  bool (*finite)(const double* row, ptrdiff_t n);
  uint32_t (*peak)(const float* row, ptrdiff_t n);  // the bits of the largest magnitude; NaN is larger than infinity
};

}  // namespace sep
