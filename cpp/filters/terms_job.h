// Sums of separable terms, prepared for one shape and dtype, run over arrays of any strides.
#pragma once
#include <cstddef>
#include <vector>

#include "filters/kernels/lines.h"
#include "filters/shared_passes.h"
#include "io/rows.h"

namespace sep {

// One axis of the filter as the caller gives it: out[i] = sum_k taps[k] * x[i + k - shift], for each of the distinct
// lists of taps along it, all of one length.
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
  std::vector<double> sums, rounded_sums;  // of the taps, in the order of the kernels; of the taps rounded to T
};

// A level of a program, ready to run: node j is the sum over its edges e, first[j] <= e < first[j + 1], of node
// source[e] of the step before filtered with taps[e].
template <class T>
struct Step {
  int axis;
  Reach reach;
  std::vector<int> first, source;
  std::vector<Taps<T>> taps;
  std::vector<T> cval;  // what `constant` pads each source with
  double sum;           // of the first edge's taps
  ptrdiff_t nodes() const { return ptrdiff_t(first.size()) - 1; }
  ptrdiff_t edges(ptrdiff_t node) const { return first[size_t(node) + 1] - first[size_t(node)]; }
};

template <class T>
class TermsJob {
 public:
  using Value = T;
  // Passes from the last axis to the first. terms[t] = {output, index of its taps in each pass}. Throws
  // std::invalid_argument.
  TermsJob(std::vector<ptrdiff_t> shape, const std::vector<AxisTaps>& passes, std::vector<std::vector<int>> terms,
           double cval);
  TermsJob(const TermsJob&) = delete;
  TermsJob(TermsJob&&) = default;

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
  std::vector<Step<T>> in_order_;  // the steps of the passes as given; for other memory layouts they are reordered
  std::vector<TermsJob> parts_;    // one per term where a sum needs more than one sweep (over three axes)
};

}  // namespace sep
