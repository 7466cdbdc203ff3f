// A sum of separable terms, prepared for one shape and dtype, run over arrays of any strides.
#pragma once
#include <cstddef>
#include <vector>

#include "lines.h"
#include "rows.h"

namespace sep {

// One axis of the filter: every term's taps along it. All terms share length, shift and mode.
template <class T>
struct Pass {
  int axis;
  Reach reach;
  std::vector<std::vector<T>> weights;  // packed as Taps wants them
  std::vector<Taps<T>> taps;
  std::vector<T> cval;
  double sum = 0;  // of the first term's taps
};

// out[i] = sum_k taps[k] * x[i + k - shift]: one term's part of a pass, as the caller gives it.
struct TermPass {
  int axis;
  std::vector<double> taps;
  ptrdiff_t shift;
  Mode mode;
  double cval;
};

template <class T>
class SeparableJob {
 public:
  using Value = T;
  // terms[t][p]: pass p of term t; passes run in the order listed, last axis first. Throws std::invalid_argument.
  SeparableJob(std::vector<ptrdiff_t> shape, const std::vector<std::vector<TermPass>>& terms);
  SeparableJob(const SeparableJob&) = delete;
  SeparableJob(SeparableJob&&) = default;

  // The output must not overlap the input. A mask: one term and at most three passes only, see `takes_masks`.
  void run(const Input& in, const Output& out, int threads) const;
  bool takes_masks() const { return terms_ == 1 && passes_.size() <= 3; }
  size_t scratch_bytes(int threads) const;  // for C-contiguous arrays
  const std::vector<Pass<T>>& passes() const { return passes_; }

 private:
  void run_sum(const Input& in, const Output& out, int threads) const;
  void copy(const Input& in, const Output& out, int threads) const;
  template <class Visit>
  void sweeps(const Input& in, const Output& out, int threads, Visit visit) const;
  std::vector<ptrdiff_t> packed_strides() const;
  std::vector<int> memory_order(const ptrdiff_t* dst_strides) const;

  std::vector<ptrdiff_t> shape_;
  std::vector<Pass<T>> passes_;
  ptrdiff_t terms_;
  std::vector<SeparableJob> parts_;  // one per term where a sum cannot be taken in one sweep (over three axes)
};

}  // namespace sep
