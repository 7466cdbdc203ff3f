// Dense n-D correlation, for kernels that do not factor: every weight multiplies, zeros mostly do not.
#pragma once
#include <cstddef>
#include <vector>

#include "lines.h"
#include "rows.h"

namespace sep {

template <class T>
class DirectJob {
 public:
  using Value = T;
  // weights: dense, C order, one extent per axis of `shape` (1 where the filter does not reach). An axis' virtual
  // input i of out[o] is o + i - shift. Throws std::invalid_argument.
  DirectJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights,
            const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval);

  // The output must not overlap the input.
  void run(const Input& in, const Output& out, int threads) const;
  bool takes_masks() const { return true; }
  size_t scratch_bytes(int threads) const;  // of C-contiguous arrays

 private:
  template <class Visit>
  void with_dense(const Input& in, const Output& out, int threads, Visit visit) const;

  std::vector<ptrdiff_t> shape_;
  std::vector<Reach> reach_;
  std::vector<T> weights_;
  T cval_;
};

}  // namespace sep
