// The backward pass of a FusedJob whose last activation is none, or a clamp whose result is given. The intermediate
// tensor is recomputed tile by tile instead of having been stored.
#pragma once
#include "layers/fused_job.h"

namespace sep {

template <class T>
struct FusedWeights {
  const T *depthwise, *pointwise, *depthwise_bias, *bias;  // as FusedJob takes them
};

// Where the gradients go. x: null, or laid out as any Tensor and zero to begin with. The others are null together, or
// C-contiguous and shaped like the weights; depthwise_bias is not written if pointwise comes first (it is the sum of
// grad).
template <class T>
struct FusedResults {
  T* x;
  T *depthwise, *pointwise, *depthwise_bias, *bias;
};

// x and grad are read, results.x has the layout `x_out`. output: null, or what the FusedJob gave, whose last activation
// is a clamp (depthwise first only). Sums run in one order, whatever the number of threads.
template <class T>
void fused_gradients(const FusedSpec& spec, const FusedWeights<T>& weights, const Tensor<const T>& x,
                     const Tensor<const T>& grad, const Tensor<const T>* output, const Tensor<T>& x_out,
                     const FusedResults<T>& results, const Shape3& before, int threads);

}  // namespace sep
