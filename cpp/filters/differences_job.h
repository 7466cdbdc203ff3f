// Kernels that are piecewise constant along an axis (disks, rings, lines): running sums of the rows (one integral image
// along that axis), multiplied by the differences between neighbouring weights. Sums are float64, or for small integers
// uint32 modulo 2**32, which is exact.
#pragma once
#include <cstddef>
#include <vector>

#include "io/exchange.h"
#include "io/rows.h"

namespace sep {

class DifferencesJob {
 public:
  // As DirectJob, with running sums along `axis` and results divided by `divisor`. fixed_point: float32 samples may be
  // rounded to multiples of a power of two that is at most 1 / min(2**31 / norm - 1, 2**22) of the largest sample.
  // Throws std::invalid_argument.
  DifferencesJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights,
                 ptrdiff_t axis, const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval,
                 double divisor, bool fixed_point);

  // The output must not overlap the input; there is no mask. Where a running sum is not finite, results are computed
  // from the weights instead: NaN and infinity spread no further than the kernel reaches.
  void run(const Input& in, const Output& out, int threads) const;
  size_t scratch_bytes(int threads) const;  // of C-contiguous arrays

 private:
  bool fits_uint32(Element type) const;
  double scale_of(const Input& in, int threads) const;
  bool reciprocal_serves(const Output& out) const;

  std::vector<ptrdiff_t> shape_;
  std::vector<Reach> reach_;  // along the axis there is one difference more than there are weights
  ptrdiff_t axis_;
  std::vector<double> weights_, differences_;
  std::vector<float> integers_;  // the differences if all are integers; else empty
  double norm_ = 0;              // the sum of the weights' magnitudes
  double cval_, divisor_;
  bool fixed_point_;
};

}  // namespace sep
