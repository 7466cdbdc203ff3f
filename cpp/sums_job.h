// Kernels that are constant in stretches along an axis (disks, rings, lines): the differences of their weights, over running
// sums of the staged rows. Sums are float64; small whole numbers are summed modulo 2**32.
#pragma once
#include <cstddef>
#include <vector>

#include "exchange.h"
#include "rows.h"

namespace sep {

class SumsJob {
 public:
  // As DirectJob, but that sums run along `axis`, and results are divided by `divisor`. fixed_point: float32 samples may be
  // rounded to whole multiples of a power of two, at most 1 / min(2**31 / norm - 1, 2**22) of the largest of them. Throws
  // std::invalid_argument.
  SumsJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights, ptrdiff_t axis,
          const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval, double divisor, bool fixed_point);

  // The output must not overlap the input; there is no mask. Where a running sum is not finite, the weights themselves are
  // applied: what is not finite stays in its windows.
  void run(const Input& in, const Output& out, int threads) const;
  size_t scratch_bytes(int threads) const;  // of C-contiguous arrays

 private:
  bool fits_words(Element type) const;
  double scale_of(const Input& in, int threads) const;
  bool reciprocal_serves(const Output& out) const;

  std::vector<ptrdiff_t> shape_;
  std::vector<Reach> reach_;  // one place more along the axis than there are weights
  ptrdiff_t axis_;
  std::vector<double> weights_, differences_;
  std::vector<float> whole_;  // the differences where they are whole; else empty
  double norm_ = 0;           // the sum of the weights' magnitudes
  double cval_, divisor_;
  bool fixed_point_;
};

}  // namespace sep
