// Sums of separable terms, prepared for one shape and dtype, run over arrays of any strides.
#pragma once
#include <cstddef>
#include <vector>

#include "lines.h"
#include "rows.h"
#include "sharing.h"

namespace sep {

// One axis of the filter, as the caller gives it: out[i] = sum_k taps[k] * x[i + k - shift] with each of the distinct lists
// of taps along it, all of one length.
struct AxisTaps {
  int axis;
  ptrdiff_t shift;
  Mode mode;
  std::vector<std::vector<double>> taps;
};

template <class T>
struct Pass {
  int axis;
  Reach reach;
  std::vector<std::vector<T>> weights;  // packed as Taps wants them
  std::vector<Taps<T>> taps;
  std::vector<double> sums, rounded_sums;  // of the taps as given, and as T
};

// A level of a program, ready to run: node j is the sum over its edges of taps[e] over source[e] of the step before,
// first[j] <= e < first[j + 1].
template <class T>
struct Step {
  int axis;
  Reach reach;
  std::vector<int> first, source;
  std::vector<Taps<T>> taps;
  std::vector<T> cval;  // what lies outside each source
  double sum;           // of the first edge's taps
  ptrdiff_t nodes() const { return ptrdiff_t(first.size()) - 1; }
  ptrdiff_t edges(ptrdiff_t node) const { return first[size_t(node) + 1] - first[size_t(node)]; }
};

template <class T>
class SeparableJob {
 public:
  using Value = T;
  // Passes from the last axis to the first. terms[t] = {output, index of its taps in each pass}. Throws
  // std::invalid_argument.
  SeparableJob(std::vector<ptrdiff_t> shape, const std::vector<AxisTaps>& passes, std::vector<std::vector<int>> terms,
               double cval);
  SeparableJob(const SeparableJob&) = delete;
  SeparableJob(SeparableJob&&) = default;

  // The output must not overlap the input. A mask: one term and at most three passes only, see `takes_masks`.
  void run(const Input& in, const Output& out, int threads) const;
  bool takes_masks() const { return terms_.size() == 1 && passes_.size() <= 3; }
  ptrdiff_t outputs() const { return outputs_; }
  size_t scratch_bytes(int threads) const;  // for C-contiguous arrays
  const std::vector<Pass<T>>& passes() const { return passes_; }
  Program program() const { return share(terms_, passes_.size()); }  // of C-contiguous arrays

 private:
  void run_sum(const Input& in, const Output& out, int threads) const;
  void copy(const Input& in, const Output& out, int threads) const;
  template <class Visit>
  void sweeps(const Input& in, const Output& out, int threads, Visit visit) const;
  std::vector<ptrdiff_t> packed_strides() const;
  std::vector<int> memory_order(const ptrdiff_t* dst_strides) const;
  std::vector<Step<T>> steps(const std::vector<size_t>& order) const;

  std::vector<ptrdiff_t> shape_;
  std::vector<Pass<T>> passes_;
  std::vector<std::vector<int>> terms_;
  ptrdiff_t outputs_ = 1;
  double cval_;
  std::vector<Step<T>> in_order_;  // of the passes as given; other memory takes them in another order
  std::vector<SeparableJob> parts_;  // one per term where a sum cannot be taken in one sweep (over three axes)
};

}  // namespace sep
