#include "filters/terms_job.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "base/progress.h"
#include "base/scratch.h"
#include "filters/sweep.h"

namespace sep {
namespace {

// Rounds one term's taps to T and packs them: folded where they are equal or opposite about the centre.
template <class T>
Taps<T> pack(const std::vector<double>& taps, std::vector<T>& w) {
  const ptrdiff_t n = ptrdiff_t(taps.size()), half = n / 2;
  std::vector<T> t(taps.begin(), taps.end());
  bool same = n > 1, opposite = n > 1;
  for (ptrdiff_t j = 0; j < half; j++) {
    same = same && t[j] == t[n - 1 - j];
    opposite = opposite && t[j] == -t[n - 1 - j];
  }
  if (n % 2) opposite = opposite && t[half] == T(0);
  if (!same && !opposite) {
    w = std::move(t);
    return {w.data(), n, Fold::none, false};
  }
  w.assign(half + 1, T(0));
  if (n % 2) w[0] = t[half];
  for (ptrdiff_t j = 1; j <= half; j++) w[j] = t[n - 1 - half + j];
  return {w.data(), n, same ? Fold::symmetric : Fold::antisymmetric, same && n % 2 == 1};
}

// The response to ones, added in the order of the line kernels: from the centre in pairs, or one after the other.
template <class T>
T of_ones(const Taps<T>& taps) {
  T sum = 0;
  if (taps.fold == Fold::none) {
    for (ptrdiff_t k = 0; k < taps.n; k++) sum += taps.w[k];
  } else if (taps.fold == Fold::symmetric) {
    if (taps.center) sum = taps.w[0];
    for (ptrdiff_t j = 1; j <= taps.n / 2; j++) sum += taps.w[j] * 2;
  }
  return sum;
}

void check(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(what);
}

// dst += src over n-D arrays; src is C-contiguous.
template <class T>
void add(const std::vector<ptrdiff_t>& shape, size_t axis, const T*& src, char* dst, const ptrdiff_t* strides) {
  if (axis == shape.size()) {
    *reinterpret_cast<T*>(dst) += *src++;
    return;
  }
  for (ptrdiff_t i = 0; i < shape[axis]; i++) add(shape, axis + 1, src, dst + i * strides[axis], strides);
}

}  // namespace

template <class T>
TermsJob<T>::TermsJob(std::vector<ptrdiff_t> shape, const std::vector<AxisTaps>& passes,
                      std::vector<std::vector<int>> terms, double cval)
    : shape_(std::move(shape)), terms_(std::move(terms)), cval_(cval) {
  check(!passes.empty() && !terms_.empty(), "a job needs at least one term with at least one pass");
  ptrdiff_t last_axis = ptrdiff_t(shape_.size());
  for (const AxisTaps& given : passes) {
    check(given.axis >= 0 && given.axis < last_axis, "passes run from the last axis to the first, each axis once");
    check(!given.taps.empty() && !given.taps[0].empty(), "a pass needs at least one tap");
    const ptrdiff_t n = ptrdiff_t(given.taps[0].size());
    check(n < std::numeric_limits<int32_t>::max(), "a pass has fewer than 2**31 taps");
    check(given.shift >= 0 && given.shift < n, "the shift lies within the taps");
    last_axis = given.axis;
    Pass<T> pass{given.axis, {n, given.shift, given.mode}, {}, {}, {}, {}};
    pass.weights.resize(given.taps.size());
    for (size_t i = 0; i < given.taps.size(); i++) {
      check(ptrdiff_t(given.taps[i].size()) == n, "all taps of a pass have one length");
      pass.taps.push_back(pack(given.taps[i], pass.weights[i]));
      pass.sums.push_back(of_ones(pass.taps[i]));
      pass.rounded_sums.push_back(0);
      for (double tap : given.taps[i]) pass.rounded_sums[i] += T(tap);
    }
    passes_.push_back(std::move(pass));
  }
  for (const auto& term : terms_) {
    check(term.size() == passes.size() + 1, "a term names an output and taps in every pass");
    for (size_t p = 0; p < passes.size(); p++)
      check(term[p + 1] >= 0 && size_t(term[p + 1]) < passes[p].taps.size(), "a term names taps that are there");
    outputs_ = std::max<ptrdiff_t>(outputs_, term[0] + 1);
  }
  check(ptrdiff_t(program().back().size()) == outputs_, "every output has a term");
  std::vector<size_t> order(passes_.size());
  std::iota(order.begin(), order.end(), 0);
  in_order_ = steps(order);
  if (terms_.size() == 1 || passes.size() <= 3) return;
  check(outputs_ == 1, "several outputs are filtered along at most three axes");
  for (const auto& term : terms_) parts_.emplace_back(shape_, passes, std::vector<std::vector<int>>{term}, cval);
}

// The program of passes in this order, with what each step needs to run.
template <class T>
std::vector<Step<T>> TermsJob<T>::steps(const std::vector<size_t>& order) const {
  std::vector<std::vector<int>> terms;
  for (const auto& term : terms_) {
    terms.push_back({term[0]});
    for (size_t p : order) terms.back().push_back(term[p + 1]);
  }
  const Program program = share(terms, order.size());
  std::vector<Step<T>> steps;
  std::vector<double> outside{cval_};
  for (size_t level = 0; level < order.size(); level++) {
    const Pass<T>& pass = passes_[order[level]];
    Step<T> step{pass.axis, pass.reach, {0}, {}, {}, {outside.begin(), outside.end()}, 0};
    std::vector<double> next;
    for (const Node& node : program[level]) {
      next.push_back(0);
      for (const Edge& e : node) {
        step.source.push_back(e.source);
        step.taps.push_back(pass.taps[size_t(e.taps)]);
        next.back() += outside[size_t(e.source)] * pass.sums[size_t(e.taps)];
      }
      step.first.push_back(int(step.source.size()));
    }
    step.sum = pass.rounded_sums[size_t(program[level][0][0].taps)];
    outside = std::move(next);
    steps.push_back(std::move(step));
  }
  return steps;
}

template <class T>
void TermsJob<T>::run(const Input& in, const Output& out, int threads) const {
  ptrdiff_t samples = 1;
  for (ptrdiff_t n : shape_) samples *= n;
  if (samples == 0) return;
  // Sums over terms, and further sweeps over the results of an earlier one, need an array of T.
  const bool plain = out.type == kOwn<T> && out.divisor == 1;
  if (plain ? parts_.empty() : parts_.empty() && passes_.size() <= 3) {
    run_sum(in, out, threads);
    return;
  }
  const auto strides = packed_strides();
  Scratch memory(size_t(samples) * sizeof(T) * (plain ? 1 : parts_.empty() ? 1 : 2) + kAlign);
  char* sum = out.values;
  const ptrdiff_t* sum_strides = out.strides;
  if (!plain) {
    sum = reinterpret_cast<char*>(memory.take<T>(samples));
    sum_strides = strides.data();
  }
  const Output whole{sum, sum_strides, kOwn<T>};
  if (parts_.empty()) {
    run_sum(in, whole, threads);
  } else {
    parts_[0].run_sum(in, whole, threads);
    T* part = memory.take<T>(samples);
    for (size_t t = 1; t < parts_.size(); t++) {
      parts_[t].run_sum(in, {reinterpret_cast<char*>(part), strides.data(), kOwn<T>}, threads);
      const T* from = part;
      add<T>(shape_, 0, from, sum, sum_strides);
    }
  }
  if (!plain) copy({sum, sum_strides, kOwn<T>}, out, threads);
}

// The axes as dst lies in memory, outermost first, so that rows are contiguous. What `constant` pads with depends on
// the passes before, so there the order stays.
template <class T>
std::vector<int> TermsJob<T>::memory_order(const ptrdiff_t* dst_strides) const {
  std::vector<int> order(shape_.size());
  std::iota(order.begin(), order.end(), 0);
  for (const Pass<T>& p : passes_)
    if (p.reach.mode == Mode::constant && cval_ != 0) return order;
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return std::abs(dst_strides[a]) > std::abs(dst_strides[b]); });
  return order;
}

// The three innermost passes in one sweep over memory, each further one in place.
template <class T>
template <class Visit>
void TermsJob<T>::sweeps(const Input& in, const Output& out, int threads, Visit visit) const {
  const std::vector<int> order = memory_order(out.strides);
  std::vector<size_t> passes;
  for (size_t i = order.size(); i-- > 0;)
    for (size_t p = 0; p < passes_.size(); p++)
      if (passes_[p].axis == order[i]) passes.push_back(p);
  const bool in_order = std::is_sorted(passes.begin(), passes.end());
  const std::vector<Step<T>> turned = in_order ? std::vector<Step<T>>{} : steps(passes);
  const std::vector<Step<T>>& all = in_order ? in_order_ : turned;
  for (size_t p = 0; p < all.size();) {
    const size_t end = p == 0 ? std::min<size_t>(3, all.size()) : p + 1;
    const Input from = p ? Input{out.values, out.strides, kOwn<T>} : in;
    std::vector<Axis<T>> axes;
    for (int i : order) {
      Axis<T> a{shape_[i], from.strides[i], out.strides[i], from.mask ? from.mask_strides[i] : 0, nullptr};
      for (size_t q = p; q < end; q++)
        if (all[q].axis == i) a.step = &all[q];
      axes.push_back(a);
    }
    visit(Sweep<T>(std::move(axes), p > 0, threads, from, out));
    p = end;
  }
}

template <class T>
void TermsJob<T>::run_sum(const Input& in, const Output& out, int threads) const {
  Steps counted(Level::sweeps, ptrdiff_t(passes_.size()) - 2);  // three passes in the first sweep
  sweeps(in, out, threads, [&](const Sweep<T>& sweep) {
    sweep.run();
    counted.step();
  });
}

// Converts T to the type of `out`: a sweep without a pass.
template <class T>
void TermsJob<T>::copy(const Input& in, const Output& out, int threads) const {
  std::vector<Axis<T>> axes;
  for (int i : memory_order(out.strides)) axes.push_back({shape_[i], in.strides[i], out.strides[i], 0, nullptr});
  Sweep<T>(std::move(axes), false, threads, in, out).run();
}

template <class T>
std::vector<ptrdiff_t> TermsJob<T>::packed_strides() const {
  std::vector<ptrdiff_t> strides(shape_.size());
  ptrdiff_t step = sizeof(T);
  for (size_t i = shape_.size(); i-- > 0; step *= shape_[i]) strides[i] = step;
  return strides;
}

template <class T>
size_t TermsJob<T>::scratch_bytes(int threads) const {
  size_t samples = 1, most = 0;
  for (ptrdiff_t n : shape_) samples *= size_t(n);
  if (samples == 0) return 0;
  if (!parts_.empty()) return samples * sizeof(T) + parts_[0].scratch_bytes(threads);
  const auto strides = packed_strides();
  sweeps({nullptr, strides.data(), kOwn<T>}, {nullptr, strides.data(), kOwn<T>}, threads,
         [&](const Sweep<T>& sweep) { most = std::max(most, sweep.scratch_bytes()); });
  return most;
}

template class TermsJob<float>;
template class TermsJob<double>;

}  // namespace sep
