// A depthwise and a pointwise convolution as one operation on channels-last arrays, in either order: the intermediate
// tensor never leaves the cache. Weights are packed once, for the instruction set in use at that time.
#pragma once
#include <cstddef>
#include <vector>

#include "layers/kernels/layers.h"
#include "layers/packing.h"
#include "layers/runs.h"

namespace sep {

struct FusedSpec {
  bool pointwise_first;
  ptrdiff_t c_in, c_out, multiplier;
  Shape3 kernel, stride, dilation;
  Mode mode;  // of the padding; pointwise first: constant only
  Activation depthwise_act, pointwise_act;

  ptrdiff_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  ptrdiff_t c_depth() const { return pointwise_first ? c_out : c_in; }  // channels of one multiplier
  ptrdiff_t c_mid() const { return c_depth() * multiplier; }
};

// Channels-last: channels lie next to each other; pitches are in elements.
template <class T>
struct Tensor {
  T* data;
  ptrdiff_t batch;
  Shape3 extents;
  ptrdiff_t batch_pitch;
  Shape3 pitch;
};

template <class T>
class FusedJob {
 public:
  // depthwise: (c_mid, taps), pointwise: (c_out, c_mid), or pointwise first: (c_mid, c_in); the multiplier is the fast
  // index of c_mid. Biases may be null.
  FusedJob(const FusedSpec& spec, const T* depthwise, const T* pointwise, const T* depthwise_bias, const T* bias);
  FusedJob(const FusedJob&) = delete;

  // residual: null, or laid out as dst. Taps that fall outside of src, by `before` and the results' extents, read
  // padding.
  void run(const Tensor<const T>& src, const Tensor<T>& dst, const T* residual, const Shape3& before,
           int threads) const;

  const FusedSpec& spec() const { return spec_; }

 private:
  struct Grid;
  struct Worker;
  ptrdiff_t samples() const;
  void first_depthwise(const Grid& g, const Tile& tile, const Tile* next, Range panels, Worker& worker) const;
  void first_pointwise(const Grid& g, const Tile& tile, bool fresh, Worker& worker) const;
  void fill(const Grid& g, const Tile& tile, Range rows, Worker& worker) const;

  FusedSpec spec_;
  const Layers<T>* kernels_;
  Slices slices_;  // of one multiplier's depthwise channels
  Slices in_;      // of the source's channels
  PackedDepthwise<T> depthwise_;
  PackedPointwise<T> pointwise_;
  PackedDepthwise<T> copy_;  // the identity: one tap of 1
};

}  // namespace sep
