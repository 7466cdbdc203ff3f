// The table of kernels for feature maps in blocks of one vector of channels (NCHWc): convolution, which reads any
// layout, and depthwise convolution. One per instruction set. Plain data and function pointers only.
#pragma once
#include <cstddef>

#include "layers/kernels/layers.h"

namespace sep {

// What follows a sum: activation, and a residual that is added before or after it.
struct Ending {
  Activation act = Activation::none;
  float low = 0, high = 0;  // of clip; alpha (and beta) of leaky_relu and hard_sigmoid
  bool add_last = false;    // the residual is added to what the activation gives
};

// Neighbouring channels of one tap: `at` elements from what the first tap reads.
struct Segment {
  ptrdiff_t at, count;
};

// Neighbouring result pixels: where their samples, results and residuals begin. The samples of several short rows may
// form one line, whose results lie `gap` elements further after every `row` pixels.
struct Line {
  ptrdiff_t src, dst, add, pixels;
  ptrdiff_t row = 0, gap = 0;  // 0: the results are neighbours too
};

// For vectors j < vectors, pixels i: dst[j * dst_block + line.dst + i * lanes + lane] = end(bias + sum over segments
// and their channels c of src[line.src + i * step + segment.at + c] * weights[...][j][lane])
struct BlockConvArgs {
  const float* src;
  const Segment* segments;
  ptrdiff_t n_segments;
  ptrdiff_t step;        // elements from the sample of a pixel to the next pixel's
  const float* weights;  // [segment][channel][vectors][lanes]
  const float* bias;     // [vectors][lanes]; null: the sum starts from what dst holds
  int vectors;           // 1 to kMostVectors
  float* dst;
  ptrdiff_t dst_block;
  const float* add;  // the residual; null: none
  ptrdiff_t add_block;
  const Line* lines;
  ptrdiff_t n_lines;
  Ending end;
  const char *fetch, *fetch_end;  // weights that are needed next, prefetched during the arithmetic
};

constexpr int kMostVectors = 4;

// Rows of results of neighbouring blocks: block b, row y: dst[b * dst_block + y * dst_row + i * lanes + lane] =
// end(bias + sum over taps (u, v) of weights[b][u][v][lane] * src[b * src_block + rows[y * rows_step + u] + i * step +
// v * tap + lane])
struct BlockDepthwiseArgs {
  const float* src;
  ptrdiff_t src_block;
  const ptrdiff_t* rows;  // offsets of the sample rows
  ptrdiff_t rows_step, step, tap;
  int height, width;  // of the kernel
  const float* weights;
  const float* bias;  // [block][lanes]
  ptrdiff_t blocks, n_rows, pixels;
  float* dst;
  ptrdiff_t dst_block;
  const ptrdiff_t* dst_rows;
  const float* add;
  ptrdiff_t add_block;
  const ptrdiff_t* add_rows;
  float* sums;  // [block][lanes]: the results are added up; null: they are not
  Ending end;
};

// Winograd's convolution F(4x4, 3x3) (arXiv:1509.09308): tiles of 6 x 6 samples give 4 x 4 results by 36 products
// instead of 144. The points of its polynomials are 0, +-3/4, +-3/2 and infinity, of ten sets that were tried the one
// of the least rounding errors: twice those of the sums themselves (128 channels).
constexpr double kWinogradPoints[] = {0.75, 1.5};
constexpr int kWinogradTile = 4, kWinogradProducts = 36;

// One tile: dst[t * dst_step + b * lanes + lane] for products t and blocks b. Samples outside of the rows [top, bottom)
// and the pixels [left, right) are zero.
struct WinogradInArgs {
  const float* src;  // pixel (0, 0)
  ptrdiff_t block_pitch, row_pitch, blocks;
  ptrdiff_t y, x;  // where the tile begins
  ptrdiff_t top, left, bottom, right;
  float* dst;
  ptrdiff_t dst_step;
};

// One tile of one vector of results, of its products src[t * src_step + lane].
struct WinogradOutArgs {
  const float* src;
  ptrdiff_t src_step;
  const float* bias;
  float* dst;
  ptrdiff_t dst_row;
  const float* add;  // the residual; null: none
  ptrdiff_t add_row;
  int rows, pixels;  // that are results, at most 4 each
  Ending end;
};

struct BlockTable {
  int lanes;
  int wide;  // vectors of a panel for rows of few pixels
  const char* (*conv)(const BlockConvArgs&);  // returns how far it fetched
  void (*depthwise)(const BlockDepthwiseArgs&);
  // out[i][width] = weights[i][width] * scale[i], i < n; width: a multiple of lanes
  void (*scale)(const float* weights, const float* scale, ptrdiff_t n, ptrdiff_t width, float* out);
  void (*winograd_in)(const WinogradInArgs&);
  void (*winograd_out)(const WinogradOutArgs&);
};

}  // namespace sep
