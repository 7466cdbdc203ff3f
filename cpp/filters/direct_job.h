// Dense n-D correlation, for kernels that are not separable.
#pragma once
#include <cstddef>
#include <vector>

#include "filters/kernels/lines.h"
#include "io/rows.h"

namespace sep {

template <class T>
class DirectJob {
 public:
  using Value = T;
  // weights: dense, C order, one extent per axis of `shape` (1 where the filter does not reach). Along an
  // axis, out[o] takes virtual inputs o - shift to o - shift + extent - 1. frame: the shape of the array of which this
  // one is a part, whose sums have the same order; or empty. Throws std::invalid_argument.
  DirectJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights,
            const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval,
            std::vector<ptrdiff_t> frame = {});

  // The output must not overlap the input.
  void run(const Input& in, const Output& out, int threads) const;
  bool takes_masks() const { return true; }
  size_t scratch_bytes(int threads) const;  // of C-contiguous arrays

 private:
  template <class Visit>
  void with_dense(const Input& in, const Output& out, int threads, Visit visit) const;

  std::vector<ptrdiff_t> shape_, frame_;
  std::vector<Reach> reach_;
  std::vector<T> weights_;
  T cval_;
};

}  // namespace sep
