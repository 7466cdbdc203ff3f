// The table of layer kernels: depthwise and pointwise convolution of one tile, and their gradients. One per instruction
// set. Plain data and function pointers only.
//
// Between the two convolutions a tile is stored in blocks, [channel block][pixel][lanes], lanes = one vector (NCHWc).
// Channels are divided into slices of `lanes`; where these do not divide them, the last slice overlaps the one before,
// so that no load reaches beyond a pixel.
#pragma once
#include <cstddef>

namespace sep {

// The first seven are those of layers; the others follow a convolution of a whole network (`Ending`).
enum class Activation : int {
  none,
  relu,
  relu6,
  silu,
  hard_swish,
  gelu,
  gelu_tanh,
  sigmoid,
  hard_sigmoid,
  clip,
  leaky_relu,
  tanh
};

// Memory that is needed soon: `rows` rows of `bytes`, prefetched a few cache lines at a time during the arithmetic.
struct Fetch {
  const char* at;
  ptrdiff_t rows, bytes, pitch;
};

// Part of a tap: the offset of its sample, in elements, and of its weight. A tap is the sum of a row's part and a
// column's.
struct Tap {
  ptrdiff_t at, weight;
};

// Result pixels in a line, along a row or down a column, with the same taps: all pairs of `rows` and `columns`.
struct Run {
  ptrdiff_t dst, src, count;     // the first pixel, in elements
  ptrdiff_t dst_step, src_step;  // from pixel to pixel
  const Tap *rows, *columns;
  ptrdiff_t n_rows, n_columns;
  bool neighbours;  // each column's sample is the next pixel's sample of the column before it
};

// dst[run.dst + i * run.dst_step + lane] = act(bias[lane] + sum over taps of weights[tap.weight * weight_step + lane] *
// src[run.src + i * run.src_step + tap.at + lane]) + residual[...], i < run.count, lane < lanes
template <class T>
struct DepthwiseArgs {
  const T* src;
  const T* weights;
  ptrdiff_t weight_step;
  const T* bias;
  T* dst;
  const T* residual;  // laid out as dst; null: none
  const Run* runs;
  ptrdiff_t n;
  int lanes;  // a power of two, at most one vector
  Activation act;
  bool accumulate;  // starts from the values in dst instead of the bias
};

// sums[tap.weight * weight_step + lane] += sum over pixels of a[run.dst + i * run.dst_step + lane] *
// b[run.src + i * run.src_step + tap.at + lane]
template <class T>
struct TapSumsArgs {
  const T* a;
  const T* b;
  T* sums;
  ptrdiff_t weight_step;
  const Run* runs;
  ptrdiff_t n;
  int lanes;
};

// sums[(i * lanes + r) * pitch + j * lanes + c] += sum over pixels p of a[i * block + p * lanes + r] *
// b[j * block + p * lanes + c], for blocks i < a_blocks, j < b_blocks
template <class T>
struct OuterArgs {
  const T* a;
  const T* b;
  ptrdiff_t block, a_blocks, b_blocks, pixels;
  T* sums;
  ptrdiff_t pitch;
  Fetch fetch[2];
};

// Neighbouring channels in the blocks of a tile, `at` elements from pixel 0.
struct Channels {
  ptrdiff_t at, count;
};

// The width of a panel of pointwise weights, in vectors.
enum class Width : int { two, one_and_half, one, half };

// Weights packed for neighbouring result channels: [input channel][width].
template <class T>
struct Panel {
  const T* weights;
  const T* bias;    // width
  ptrdiff_t at[2];  // offsets of its (one or two) vectors of results from the pixel, in elements
  Width width;
  int valid;  // lanes that are stored: all of the vector, unless there are fewer result channels
};

// dst[offsets[p] + panel.at + lane] = act(bias + sum over channels c of a[p * lanes + c] * weights[c][lane]) +
// residual[...]
template <class T>
struct PointwiseArgs {
  const T* a;
  const Channels* channels;
  ptrdiff_t n;
  const Panel<T>* panels;
  ptrdiff_t n_panels, pixels;
  T* dst;
  const T* residual;  // laid out as dst; null: none
  const ptrdiff_t* offsets;
  Activation act;
  bool stream;  // non-temporal stores: every vector of results is aligned
  Fetch fetch;
};

template <class T>
struct Layers {
  int lanes;
  void (*depthwise)(const DepthwiseArgs<T>&);
  void (*pointwise)(const PointwiseArgs<T>&);
  void (*tap_sums)(const TapSumsArgs<T>&);
  void (*outer)(const OuterArgs<T>&);
  // sums[lane] += the vectors at p, p + lanes, ... n of them
  void (*lane_sums)(const T* p, ptrdiff_t n, T* sums);
  // g[i] *= act'(z[i]); for a clamp z may be act(z). n is a multiple of lanes.
  void (*derive)(T* g, const T* z, ptrdiff_t n, Activation act);
  void (*apply)(T* z, ptrdiff_t n, Activation act);  // z[i] = act(z[i])
};

struct LayerTable {
  Layers<float> f32;
  Layers<double> f64;
};

}  // namespace sep
