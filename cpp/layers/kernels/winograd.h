// The transforms of Winograd's convolution, on vectors of channels. Included only by kernel units.
#pragma once
#include "layers/kernels/endings.h"

namespace {

using sep::WinogradInArgs;
using sep::WinogradOutArgs;

constexpr float kA = float(sep::kWinogradPoints[0]), kB = float(sep::kWinogradPoints[1]);
constexpr float kA2 = kA * kA, kB2 = kB * kB, kA3 = kA2 * kA, kB3 = kB2 * kB;
constexpr int kSide = 6;  // of a tile of samples, and of its products

// Samples d along one axis as the values of products: of the polynomials that are zero at all points but one.
template <class Put>
SEP_INLINE void tile_in(V d0, V d1, V d2, V d3, V d4, V d5, Put put) {
  const V even_a = d4 - d2 * kB2, odd_a = d3 - d1 * kB2;
  const V even_b = d4 - d2 * kA2, odd_b = d3 - d1 * kA2;
  put(0, (d4 + d0 * (kA2 * kB2)) - d2 * (kA2 + kB2));
  put(1, even_a + odd_a * kA);
  put(2, even_a - odd_a * kA);
  put(3, even_b + odd_b * kB);
  put(4, even_b - odd_b * kB);
  put(5, (d5 + d1 * (kA2 * kB2)) - d3 * (kA2 + kB2));
}

// Products along one axis as results: the polynomial's coefficients.
template <class Put>
SEP_INLINE void tile_out(V m0, V m1, V m2, V m3, V m4, V m5, Put put) {
  const V sum_a = m1 + m2, difference_a = m1 - m2, sum_b = m3 + m4, difference_b = m3 - m4;
  put(0, m0 + (sum_a + sum_b));
  put(1, difference_a * kA + difference_b * kB);
  put(2, sum_a * kA2 + sum_b * kB2);
  put(3, difference_a * kA3 + (difference_b * kB3 + m5));
}

void winograd_in(const WinogradInArgs& g) {
  const bool inside = g.y >= g.top && g.y + kSide <= g.bottom && g.x >= g.left && g.x + kSide <= g.right;
  for (ptrdiff_t b = 0; b < g.blocks; b++) {
    alignas(64) float held[kSide * kSide * W];
    const float* src = g.src + b * g.block_pitch + g.y * g.row_pitch + g.x * W;
    ptrdiff_t row_pitch = g.row_pitch;
    if (!inside) {
      for (int y = 0; y < kSide; y++)
        for (int x = 0; x < kSide; x++) {
          const ptrdiff_t row = g.y + y, pixel = g.x + x;
          const bool there = row >= g.top && row < g.bottom && pixel >= g.left && pixel < g.right;
          store<float, W>(held + (y * kSide + x) * W, there ? load<float, W>(src + y * row_pitch + x * W) : V{});
        }
      src = held, row_pitch = kSide * W;
    }
    alignas(64) float rows[kSide * kSide * W];
    for (int y = 0; y < kSide; y++) {
      const float* p = src + y * row_pitch;
      tile_in(load<float, W>(p), load<float, W>(p + W), load<float, W>(p + 2 * W), load<float, W>(p + 3 * W),
              load<float, W>(p + 4 * W), load<float, W>(p + 5 * W),
              [&](int i, V v) SEP_LAMBDA { store<float, W>(rows + (y * kSide + i) * W, v); });
    }
    for (int x = 0; x < kSide; x++) {
      const float* p = rows + x * W;
      float* dst = g.dst + x * g.dst_step + b * W;
      tile_in(load<float, W>(p), load<float, W>(p + kSide * W), load<float, W>(p + 2 * kSide * W),
              load<float, W>(p + 3 * kSide * W), load<float, W>(p + 4 * kSide * W), load<float, W>(p + 5 * kSide * W),
              [&](int i, V v) SEP_LAMBDA { store<float, W>(dst + i * kSide * g.dst_step, v); });
    }
  }
}

void winograd_out(const WinogradOutArgs& g) {
  alignas(64) float columns[4 * kSide * W];
  const ptrdiff_t down = kSide * g.src_step;
  for (int x = 0; x < kSide; x++) {
    const float* p = g.src + x * g.src_step;
    tile_out(load<float, W>(p), load<float, W>(p + down), load<float, W>(p + 2 * down), load<float, W>(p + 3 * down),
             load<float, W>(p + 4 * down), load<float, W>(p + 5 * down),
             [&](int i, V v) SEP_LAMBDA { store<float, W>(columns + (i * kSide + x) * W, v); });
  }
  const V bias = load<float, W>(g.bias);
  for (int y = 0; y < g.rows; y++) {
    const float* p = columns + y * kSide * W;
    V held[4];
    tile_out(load<float, W>(p), load<float, W>(p + W), load<float, W>(p + 2 * W), load<float, W>(p + 3 * W),
             load<float, W>(p + 4 * W), load<float, W>(p + 5 * W), [&](int i, V v) SEP_LAMBDA { held[i] = v + bias; });
    const float* add = g.add ? g.add + y * g.add_row : nullptr;
    float* dst = g.dst + y * g.dst_row;
    if (is_simple(g.end.act) && !add) {
      clamp_all<4>(held, g.end);
      for (int x = 0; x < g.pixels; x++) store<float, W>(dst + x * W, held[x]);
    } else {
      finish(held, g.pixels, g.end, add, dst);
    }
  }
}

}  // namespace
