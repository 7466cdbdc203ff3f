// Filters whose cost does not depend on their length: boxes by running sums, sums of cosines by recursive oscillators.
// Axis by axis, in panels of lines side by side, in double precision.
#pragma once
#include <cstddef>
#include <vector>

#include "base/tiles.h"
#include "filters/kernels/box_and_cosines.h"
#include "io/rows.h"

namespace sep {

class Steps;

// One axis: out[i] = sum_k f(k) x[i + k - shift], 0 <= k < taps. Without frequencies a box, f = 1. Else the number of
// taps is odd and f(k) = sum_m amplitude[m] cos(frequency[m] (k - taps / 2)), or sin.
struct BoxOrCosinesPass {
  int axis;
  ptrdiff_t taps, shift;
  Mode mode;
  bool odd = false;
  std::vector<double> frequency, amplitude;
};

// An array in memory; strides in bytes.
struct Samples {
  char* data;
  const ptrdiff_t* strides;
  Element item;
};

class BoxAndCosinesJob {
 public:
  // The result is factor / divisor times what the passes give, each axis at most once. An array may be a part: then
  // frame is the shape of the whole, and starts the place of its first element there. Boxes of both have the same bits.
  // Throws std::invalid_argument.
  BoxAndCosinesJob(std::vector<ptrdiff_t> shape, std::vector<BoxOrCosinesPass> passes, double cval, double factor,
                   double divisor, std::vector<ptrdiff_t> frame = {}, std::vector<ptrdiff_t> starts = {});
  BoxAndCosinesJob(const BoxAndCosinesJob&) = delete;

  // dst must not overlap src.
  void run(const Samples& src, const Samples& dst, const Storing& how, int threads) const;
  size_t scratch_bytes(int threads) const;  // of C-contiguous arrays of floats

 private:
  struct Prepared {
    BoxOrCosinesPass pass;
    Cosines cosines;
    std::vector<double> table, edges;
    double gain;  // of a constant: the sum of f
    bool box() const { return pass.frequency.empty(); }
    ptrdiff_t ring_rows() const { return pass.taps + 1; }
    ptrdiff_t after() const { return pass.taps - 1 - pass.shift; }  // elements read beyond the end
  };
  struct Sheet;
  struct Worker;
  std::vector<size_t> order(const ptrdiff_t* strides) const;
  ptrdiff_t across(const Prepared& p) const;
  ptrdiff_t band(const Prepared& first) const;
  static bool in_cache(ptrdiff_t doubles);
  void run_band(const std::vector<size_t>& passes, const std::vector<ptrdiff_t>& shape, Range part, const Samples& src,
                const Samples& between, const Samples& dst, bool means, const Storing& stored, int threads,
                Steps& counted) const;
  void run_pass(const Prepared& p, const std::vector<ptrdiff_t>& shape, Range part, const Samples& from,
                const Samples& to, double cval, const Storing& how, int threads) const;
  static ptrdiff_t width_of(const Prepared& p, ptrdiff_t lines);
  static size_t worker_bytes(const Prepared& p, ptrdiff_t width);

  std::vector<ptrdiff_t> shape_, frame_, starts_;
  std::vector<Prepared> passes_;
  double cval_, factor_, divisor_;
};

}  // namespace sep
