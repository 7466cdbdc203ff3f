// The table of kernels of bfloat16: float32 rounded to pairs of them, and sums of their products in float32. One per
// instruction set, and one for each matrix unit. Plain data and function pointers only.
#pragma once
#include <cstddef>
#include <cstdint>

#include "layers/kernels/blocks.h"

namespace sep {

constexpr int kTileRows = 16;     // pixels of a tile
constexpr int kTileColumns = 16;  // results of a pixel in a tile
constexpr int kTilePairs = 16;    // of products that a tile adds up, at most

// A row of pixels: channel c of pixel p, c counted from `first` on, becomes dst[c / chunk * chunk_pitch + p * chunk +
// c % chunk], rounded to the nearest bfloat16, of ties the even one. NaN and infinities stay, denormal numbers become
// zero. Zeros follow the last channel, up to `filled` of them in all.
struct BfloatPackArgs {
  const float* src;
  ptrdiff_t block, block_pitch, pixel_pitch;  // channels of a block of samples; elements
  ptrdiff_t first, channels, filled, pixels;
  const float* scale;  // of the channels; null: 1
  uint16_t* dst;
  ptrdiff_t chunk, chunk_pitch;
};

// Neighbouring pixels: `row` of them at a time have neighbouring results and residuals, then these skip a gap.
struct BfloatLine {
  ptrdiff_t src, dst, add;  // elements
  ptrdiff_t pixels, row, dst_gap, add_gap;
};

// For each pixel i of a line and each column n: end(bias[n] + sum over steps s and pairs k of
// a[line.src + i * pixel + steps[s] + 2k + {0, 1}] * weights[s][n / 16][k][n % 16][{0, 1}]).
// The order of a sum is that of AMX's tiles: those of a step begin at zero, even and odd elements apart, each in order
// with one rounding for each product that is added; both together are added to the sum of the steps before.
struct BfloatProductArgs {
  const uint16_t* a;
  const ptrdiff_t* steps;
  ptrdiff_t n_steps;
  ptrdiff_t pixel;  // elements from a pixel's samples to the next pixel's
  int pairs;
  const uint16_t* weights;
  const float* bias;  // [16 * tiles]
  int tiles;          // 1 or 2
  float* dst;
  ptrdiff_t dst_block, dst_pixel;  // elements from one vector of results to the next, and from one pixel to the next
  ptrdiff_t columns;               // that exist; those of a vector that is begun are written if `whole`
  bool whole;
  const float* add;  // the residual; null: none
  ptrdiff_t add_block, add_pixel;
  const BfloatLine* lines;
  ptrdiff_t n_lines;
  Ending end;
};

struct BfloatTable {
  void (*pack)(const BfloatPackArgs&);
  void (*product)(const BfloatProductArgs&);
};

}  // namespace sep
