// The table of the engine's plain kernels: copies, elementwise functions, sums over axes, pooling, and products with
// dense matrices. One per instruction set; float32. Plain data and function pointers only.
#pragma once
#include <cstddef>

namespace sep {

// first: a; prelu: a >= 0 ? a : a * b. What is true is 1, what is not is 0; where: b where a is not 0, else 0; unless:
// the other way round.
enum class Operation : int { first, add, sub, mul, div, pow, min, max, prelu, equal, less, less_equal, where, unless };
enum class Function : int {
  none,
  relu,
  relu6,
  clip,
  leaky_relu,
  thresholded_relu,
  neg,
  abs,
  sign,
  sqrt,
  reciprocal,
  square,
  floor,
  ceil,
  round,
  exp,
  log,
  erf,
  tanh,
  sigmoid,
  softplus,
  softsign,
  mish,
  elu,
  selu,
  hard_sigmoid,
  silu,
  hard_swish,
  gelu,
  gelu_tanh
};
enum class Reduction : int { sum, mean, max, min, prod, l1, l2, sum_square, argmax, argmin };  // the first one's index

// A function and its parameters, as ONNX defines them. clip: alpha is the lower end, beta the upper one; selu: beta is
// gamma.
struct After {
  Function function = Function::none;
  float alpha = 0, beta = 0;
};

// dst[i * dst_row + j * dst_column] = src[i * src_row + j * src_column], i < rows, j < columns
struct CopyArgs {
  const float* src;
  float* dst;
  ptrdiff_t rows, columns;
  ptrdiff_t src_row, src_column, dst_row, dst_column;
};

struct FillArgs {
  float value;
  float* dst;
  ptrdiff_t rows, columns, dst_row, dst_column;
};

// dst = after(operation(a, b)) for rows of columns; dst may be a or b, and b is not read for `first`
struct ElementwiseArgs {
  const float *a, *b;
  float* dst;
  ptrdiff_t rows, columns;
  ptrdiff_t a_row, a_column, b_row, b_column, dst_row, dst_column;
  Operation operation;
  After after;
};

// dst[i * dst_step] = reduction of src[i * src_step + offsets[o] + j * step], i < n, o < n_offsets, j < count
struct ReduceArgs {
  const float* src;
  float* dst;
  ptrdiff_t n, src_step, dst_step;
  const ptrdiff_t* offsets;
  ptrdiff_t n_offsets, count, step;
  Reduction reduction;
};

// Softmax over i < n of src[row * src_row + i * src_step], for every row
struct SoftmaxArgs {
  const float* src;
  float* dst;
  ptrdiff_t n, src_step, dst_step;
  ptrdiff_t rows, src_row, dst_row;
  bool log;
  float* line;  // n elements of scratch
};

// dst[o * dst_step + j * dst_column] = sum over k < taps of weights[k * results + o] * src[at[k * results + o] +
// j * src_column], first <= o < last, j < columns. at: in elements
struct WeighArgs {
  const float* src;
  float* dst;
  ptrdiff_t first, last, dst_step;
  ptrdiff_t columns, src_column, dst_column;
  const float* weights;
  const ptrdiff_t* at;
  ptrdiff_t results, taps;
};

// The samples that a window takes along one axis: `taps` of them, the first at `at` (in elements).
struct Window {
  ptrdiff_t at, taps;
  float share;  // of each of them in the average along this axis
};

// One row of results of one block of channels: dst[i * dst_pixel + c] = maximum or average over row < rows.taps,
// column < columns[i].taps of src[rows.at + columns[i].at + row * row_step + column * column_step + c], c < block
struct PoolArgs {
  const float* src;
  float* dst;
  Window rows;
  const Window* columns;
  ptrdiff_t width, row_step, column_step, dst_pixel, block;
  bool maximum;
};

// dst[i * dst_row + j] = after(start[j] + sum over c < inner of x[i * x_row + c * x_column] * w[c * w_row + j]), i <
// rows, j < columns, at most one panel. start and w have whole vectors; w of partial vectors is packed (zeros in the
// rest).
struct ProductArgs {
  const float* x;
  ptrdiff_t x_row, x_column;
  const float* w;
  ptrdiff_t w_row;
  const float* start;  // null: zeros
  float* dst;
  ptrdiff_t dst_row;
  ptrdiff_t rows, inner, columns;
  bool accumulate;  // starts from the values in dst instead
  bool far;         // w lies in memory rather than in a cache: fetched ahead
  After after;
};

// One step of a recurrent layer for `rows` sequences of `width` numbers each: what follows its products.
// lstm: gates [row][i, o, f, c][width]; state is the cell. dst = sigmoid(o) * tanh(cell)
// gru: gates [row][z, r, h][width] of the input, and of the state in `more`, of which r scales h's; state is what was
// given before. dst = (1 - z) * tanh(h) + z * state
struct CellArgs {
  const float *gates, *more;
  const float* state;
  float *next, *dst;  // next: of lstm, the next cell, which may be the state
  ptrdiff_t rows, width, gates_row, more_row, state_row, dst_row;
};

struct PlainTable {
  int lanes;
  int panel;  // columns of a product, a multiple of lanes
  void (*copy)(const CopyArgs&);
  void (*fill)(const FillArgs&);
  void (*elementwise)(const ElementwiseArgs&);
  void (*reduce)(const ReduceArgs&);
  void (*softmax)(const SoftmaxArgs&);
  void (*weigh)(const WeighArgs&);
  void (*pool)(const PoolArgs&);
  void (*product)(const ProductArgs&);
  void (*lstm)(const CellArgs&);
  void (*gru)(const CellArgs&);
  void (*dots)(const ProductArgs&);  // of w[j * w_row + c] instead, and x_column = 1; accumulates nothing
};

}  // namespace sep
