// What multiplies tiles of bfloat16: AMX, AVX512-BF16, or vectors of float32 that do just what AMX does. The kernel is
// written once, for `MatrixUnit`. Included only by kernel units.
//
// Tiles 0 to 3 are sums in float32: those of the first and of the second 16 pixels, of two tiles of weights each. Tiles
// 4 and 5 are samples, [pixel][pair], and 6 and 7 weights, [pair][column]:
//
//   configure(rows, more, pairs)  the pixels of the first and of the second tile, and how many pairs are added up
//   clear<T>()                    a tile of sums becomes zero
//   load<T>(at, pitch)            a tile of samples or weights from rows `pitch` elements apart, until the next one
//   add_products<C, A, B>()       sums C += samples A * weights B
//   store<T>(at)                  rows of 16 sums, 32 floats apart
//
// AMX (Intel's manual, TDPBF16PS): for each row m and column n
//   even = odd = 0
//   for k in pairs: even = fma(A[m][k].even, B[k][n].even, even), odd alike
//   C[m][n] += even + odd
// rounded to the nearest, denormal numbers read and written as zero. Programs run with denormals flushed, and packing
// leaves none, so that vectors of float32 give the same bits; without fused multiply-add too, as a product of two
// bfloat16 has 16 bits (but where it leaves the range of float32, which the fused sum need not). VDPBF16PS adds the odd
// product, then the even one, to one sum.
#pragma once
#include "base/vec.h"
#include "engine/bfloats/kernels.h"

namespace {

using sep::kTileColumns;
using sep::kTilePairs;
using sep::kTileRows;

constexpr int kStorePitch = 2 * kTileColumns;  // floats between the rows of stored sums

#if defined(__AMX_BF16__) && defined(__AMX_TILE__)

class MatrixUnit {
 public:
  ~MatrixUnit() { _tile_release(); }

  void configure(int rows, int more, int pairs) {
    alignas(64) Layout layout{};
    layout.palette = 1;
    const int pixels[] = {rows, rows, more, more, rows, more};
    for (int tile = 0; tile < 8; tile++) {
      const bool empty = tile < 6 && pixels[tile] == 0;
      layout.rows[tile] = uint8_t(empty ? 0 : tile < 6 ? pixels[tile] : pairs);
      layout.row_bytes[tile] = uint16_t(empty ? 0 : tile == 4 || tile == 5 ? 4 * pairs : 64);
    }
    __asm__ volatile("" : : "r"(&layout) : "memory");  // all of it is written by now
    _tile_loadconfig(&layout);
  }

  template <int T>
  SEP_INLINE void clear() {
    if constexpr (T == 0) _tile_zero(0);
    if constexpr (T == 1) _tile_zero(1);
    if constexpr (T == 2) _tile_zero(2);
    if constexpr (T == 3) _tile_zero(3);
  }

  template <int T>
  SEP_INLINE void load(const uint16_t* at, ptrdiff_t pitch) {
    const ptrdiff_t bytes = 2 * pitch;
    if constexpr (T == 4) _tile_loadd(4, at, bytes);
    if constexpr (T == 5) _tile_loadd(5, at, bytes);
    if constexpr (T == 6) _tile_loadd(6, at, bytes);
    if constexpr (T == 7) _tile_loadd(7, at, bytes);
  }

  template <int C, int A, int B>
  SEP_INLINE void add_products() {
    if constexpr (C == 0 && A == 4 && B == 6) _tile_dpbf16ps(0, 4, 6);
    if constexpr (C == 1 && A == 4 && B == 7) _tile_dpbf16ps(1, 4, 7);
    if constexpr (C == 2 && A == 5 && B == 6) _tile_dpbf16ps(2, 5, 6);
    if constexpr (C == 3 && A == 5 && B == 7) _tile_dpbf16ps(3, 5, 7);
  }

  template <int T>
  SEP_INLINE void store(float* at) {
    constexpr ptrdiff_t bytes = kStorePitch * sizeof(float);
    if constexpr (T == 0) _tile_stored(0, at, bytes);
    if constexpr (T == 1) _tile_stored(1, at, bytes);
    if constexpr (T == 2) _tile_stored(2, at, bytes);
    if constexpr (T == 3) _tile_stored(3, at, bytes);
  }

 private:
  struct Layout {  // as LDTILECFG reads it
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  static_assert(sizeof(Layout) == 64);
};

#else

class MatrixUnit {
 public:
  void configure(int rows, int more, int pairs) {
    pixels_[0] = rows, pixels_[1] = more;
    pairs_ = pairs;
  }

  template <int T>
  SEP_INLINE void clear() {
    __builtin_memset(sums_[T], 0, sizeof sums_[T]);
  }

  template <int T>
  SEP_INLINE void load(const uint16_t* at, ptrdiff_t pitch) {
    static_assert(T >= 4);
    at_[T - 4] = at, pitch_[T - 4] = pitch;
  }

  template <int C, int A, int B>
  SEP_INLINE void add_products() {
    const Operands g{at_[A - 4], at_[B - 4], pitch_[A - 4], pitch_[B - 4], pairs_};
    int row = 0;
    const int rows = pixels_[A - 4];
    for (; row + kRows <= rows; row += kRows) add_rows<kRows>(g, row, sums_[C]);
    for (; row < rows; row++) add_rows<1>(g, row, sums_[C]);
  }

  template <int T>
  SEP_INLINE void store(float* at) {
    for (int row = 0; row < pixels_[T / 2]; row++)
      __builtin_memcpy(at + row * kStorePitch, sums_[T] + row * kTileColumns, kTileColumns * sizeof(float));
  }

 private:
  static constexpr int kWide = kLanes<float>, kVectors = kTileColumns / kWide;  // of a row of sums
  typedef vec<float, kWide> F;
  typedef vec<uint32_t, kWide> U;
  struct Operands {
    const uint16_t *a, *b;
    ptrdiff_t a_pitch, b_pitch;
    int pairs;
  };
  static SEP_INLINE uint32_t pair_at(const uint16_t* at) {
    uint32_t pair;
    __builtin_memcpy(&pair, at, sizeof pair);
    return pair;
  }
  // The elements of each pair as float32: the even one lies low.
  static SEP_INLINE F even(U pairs) { return (F)(pairs << 16); }
  static SEP_INLINE F odd(U pairs) { return (F)(pairs & 0xffff0000u); }
  static SEP_INLINE U weights_at(const uint16_t* b, int vector) {
    U pairs;
    __builtin_memcpy(&pairs, b + 2 * kWide * vector, sizeof pairs);
    return pairs;
  }

#if defined(__AVX512BF16__)
  static constexpr int kRows = 8;  // at once

  template <int R>
  static SEP_INLINE void add_rows(const Operands& g, int row, float* sums) {
    __m512 sum[R];
    SEP_UNROLL
    for (int r = 0; r < R; r++) sum[r] = _mm512_load_ps(sums + (row + r) * kTileColumns);
    const uint16_t* a = g.a + row * g.a_pitch;
    for (int k = 0; k < g.pairs; k++) {
      const __m512bh w = (__m512bh)weights_at(g.b + k * g.b_pitch, 0);
      SEP_UNROLL
      for (int r = 0; r < R; r++) {
        const __m512bh x = (__m512bh)_mm512_set1_epi32(int(pair_at(a + r * g.a_pitch + 2 * k)));
        sum[r] = _mm512_dpbf16_ps(sum[r], x, w);
      }
    }
    SEP_UNROLL
    for (int r = 0; r < R; r++) _mm512_store_ps(sums + (row + r) * kTileColumns, sum[r]);
  }
#else
  // As many as registers hold the sums of, of even and of odd elements.
  static constexpr int kRows = kManyRegisters ? 8 / kVectors : kVectors == 2 ? 3 : 1;

  template <int R>
  static SEP_INLINE void add_rows(const Operands& g, int row, float* sums) {
    F first[R][kVectors], second[R][kVectors];
    SEP_UNROLL
    for (int i = 0; i < R * kVectors; i++) first[i / kVectors][i % kVectors] = second[i / kVectors][i % kVectors] = F{};
    const uint16_t* a = g.a + row * g.a_pitch;
    for (int k = 0; k < g.pairs; k++) {
      F w[kVectors], v[kVectors];
      SEP_UNROLL
      for (int j = 0; j < kVectors; j++) {
        const U pairs = weights_at(g.b + k * g.b_pitch, j);
        w[j] = even(pairs), v[j] = odd(pairs);
      }
      SEP_UNROLL
      for (int r = 0; r < R; r++) {
        const U pairs = splat<uint32_t, kWide>(pair_at(a + r * g.a_pitch + 2 * k));
        const F x = even(pairs), y = odd(pairs);
        SEP_UNROLL
        for (int j = 0; j < kVectors; j++) first[r][j] += x * w[j], second[r][j] += y * v[j];
      }
    }
    SEP_UNROLL
    for (int r = 0; r < R; r++) {
      SEP_UNROLL
      for (int j = 0; j < kVectors; j++) {
        float* at = sums + (row + r) * kTileColumns + j * kWide;
        store_sums(at, load_sums(at) + (first[r][j] + second[r][j]));
      }
    }
  }
  static SEP_INLINE F load_sums(const float* at) { return ::load<float, kWide>(at); }
  static SEP_INLINE void store_sums(float* at, F sums) { ::store<float, kWide>(at, sums); }
#endif

  alignas(64) float sums_[4][kTileRows * kTileColumns];
  const uint16_t* at_[4] = {};  // of tiles 4 to 7
  ptrdiff_t pitch_[4] = {};
  int pixels_[2] = {}, pairs_ = 0;
};

#endif

}  // namespace
