// The table of kernels of whole numbers: bytes in, sums of products in 32 bits, bytes or floats out. One per
// instruction set; all give the same bits. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "layers/kernels/blocks.h"

namespace sep {

// dst[i * dst_row + j] = src[i * src_row + j] - zero
struct WidenArgs {
  const uint8_t* src;
  int16_t* dst;
  ptrdiff_t rows, columns, src_row, dst_row;
  int zero;
};

enum class Stored : int { levels, floats, whole };

// What becomes of sums: y = act((sum + bias) * scale + shift + residual), then levels: that over `divisor`, rounded to
// the nearest even number, plus `zero`, between 0 and 255. Of each channel of the panel.
struct IntegerEnding {
  const int32_t* bias;
  const float* scale;
  const float* shift;  // null: none
  Ending act;
  float divisor;  // 1: the scale has it already
  int zero;
  Stored stored;
};

// Where they go: from the panel's first channel on; `channels` of the panel exist.
struct IntegerTarget {
  char* at;
  ptrdiff_t block;  // elements, of floats: from one vector of channels to the next
  ptrdiff_t channels;
  const uint8_t* add;  // null, or levels that are added as residuals: (level - add_zero) * add_scale
  int add_zero;
  float add_scale;
};

// For each pixel p: the sum over the runs r and the bytes j < length of a[at[p] + runs[r] + j] * weights, and of what
// of the weights products of these would not hold: the same for the quads of bytes at more[e].
struct IntegerProductArgs {
  const uint8_t* a;
  const int32_t *at, *to, *from;  // of each pixel: its bytes, the elements of its results, and its residuals
  const ptrdiff_t* runs;
  ptrdiff_t n_runs, length;  // length: a multiple of four
  const int8_t* weights;     // [run][quad of bytes][vector][lane][4]
  const ptrdiff_t* more;
  ptrdiff_t n_more;
  const int8_t* more_weights;  // [quad][vector][lane][4]
  ptrdiff_t vectors;           // 1 or 2
  ptrdiff_t pixels;
  IntegerEnding end;
  IntegerTarget dst;
};

// For each pixel and each of two vectors of channels: sum over the taps of a[pixel + taps[t]] * weights.
struct IntegerDepthwiseArgs {
  const int16_t* a;
  ptrdiff_t pixel, dst_pixel, add_pixel;  // elements from one pixel to the next
  const ptrdiff_t* taps;  // 2 * n_pairs
  ptrdiff_t n_pairs;
  const int16_t* weights;  // [pair][2][lanes of int16]: the low and the high halves of each 128 bits, two taps in turn
  ptrdiff_t pixels;
  IntegerEnding end;
  IntegerTarget dst;
};

// Rows of columns with strides in elements: levels = round(x / scale) + zero between 0 and 255, and back.
struct LevelArgs {
  const void* src;
  void* dst;
  ptrdiff_t rows, columns, src_row, src_column, dst_row, dst_column;
  float scale;
  int zero;
};

// dst[i] = (a[i] - a_zero) * a_scale + (b[i] - b_zero) * b_scale, then as levels of `scale` and `zero`
struct AddLevelsArgs {
  const uint8_t *a, *b;
  uint8_t* dst;
  ptrdiff_t n;
  float a_scale, b_scale, scale;
  int a_zero, b_zero, zero;
};

struct IntegerTable {
  int lanes;      // of 32 bits
  int pair_most;  // two neighbouring weights of one sign must not add up to more: 0 if any may
  void (*widen)(const WidenArgs&);
  void (*product)(const IntegerProductArgs&);
  void (*depthwise)(const IntegerDepthwiseArgs&);
  void (*quantise)(const LevelArgs&);    // float -> uint8_t
  void (*dequantise)(const LevelArgs&);  // uint8_t -> float
  void (*floats)(const LevelArgs&);      // int32_t -> float; no scale, no zero
  void (*add)(const AddLevelsArgs&);
};

}  // namespace sep
