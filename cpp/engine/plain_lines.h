// Steps along axes: reductions, softmax, and weighted sums as resizing takes them.
#pragma once
#include "engine/plain_maps.h"

namespace sep {

// Reduces `axes` of src; dst has strides for all axes, those of reduced ones are not used.
class ReduceStep : public Step {
 public:
  ReduceStep(Reduction reduction, const Lengths& lengths, const Lengths& axes, const Strided& src, const Strided& dst);
  ptrdiff_t pieces(int threads) const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_, src_;
  Reduction reduction_;
  Tiles<2> kept_;  // dst, src
  Lengths offsets_;
  ptrdiff_t count_ = 1, step_ = 0;
};

class SoftmaxStep : public Step {
 public:
  SoftmaxStep(bool log, const Lengths& lengths, ptrdiff_t axis, const Strided& src, const Strided& dst);
  ptrdiff_t pieces(int threads) const override;
  size_t scratch_bytes() const override { return size_t(along_.length) * sizeof(float); }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_, src_;
  bool log_;
  Axes<2>::Axis along_;
  Tiles<2> rows_;  // columns: lines of the axis
};

// dst[.., o, ..] = sum over k of weights[o][k] * src[.., index[o][k], ..] along one axis.
class LineWeightsStep : public Step {
 public:
  // lengths: of src; the axis has `results` elements in dst. index, weights: results x taps.
  LineWeightsStep(const Lengths& lengths, ptrdiff_t axis, ptrdiff_t results, ptrdiff_t taps, const int64_t* index,
                  const float* weights, const Strided& src, const Strided& dst);
  ptrdiff_t pieces(int threads) const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_, src_;
  Lengths at_;  // taps x results, in elements
  std::vector<float> weights_;
  ptrdiff_t results_, taps_, dst_step_, along_;  // along_: results of one unit
  Tiles<2> lines_;
};

}  // namespace sep
