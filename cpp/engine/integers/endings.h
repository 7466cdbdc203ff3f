// From sums in 32 bits to what is stored. Included only by kernel units.
#pragma once
#include "base/vec.h"
#include "engine/integers/kernels.h"
#include "layers/kernels/activations.h"

namespace {

using sep::Ending;
using sep::IntegerEnding;
using sep::IntegerTarget;
using sep::Stored;

constexpr int W = kLanes<float>;
typedef vec<float, W> V;
typedef vec<int32_t, W> I;
typedef vec<int16_t, 2 * W> H;

// a[2i] * b[2i] + a[2i + 1] * b[2i + 1]: no sum of two products of numbers below 2^15 leaves 32 bits.
SEP_INLINE I pair_sums(H a, H b) {
#if defined(__AVX512BW__)
  return (I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return (I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  const I x = (I)a, y = (I)b;
  return (x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16);
#endif
}

typedef vec<int8_t, 4 * W> B;

// How many of one sign two neighbouring weights may add up to: sums of two products of bytes have 16 bits on the way.
#if defined(__AVX512VNNI__) || !defined(__SSSE3__)
constexpr int kPairMost = 0;
#else
constexpr int kPairMost = 128;
#endif

// sums + the four products of unsigned bytes of x and signed ones of w in each lane
SEP_INLINE I quad_sums(I sums, B x, B w) {
#if defined(__AVX512VNNI__)
  return (I)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)x, (__m512i)w);
#elif defined(__AVX512BW__)
  return sums + (I)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)x, (__m512i)w), _mm512_set1_epi16(1));
#elif defined(__AVX2__)
  return sums + (I)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)x, (__m256i)w), _mm256_set1_epi16(1));
#elif defined(__SSSE3__)
  return sums + (I)_mm_madd_epi16(_mm_maddubs_epi16((__m128i)x, (__m128i)w), _mm_set1_epi16(1));
#else
  const I a = (I)x, b = (I)w;
  return sums + (a & 255) * (b << 24 >> 24) + (a >> 8 & 255) * (b << 16 >> 24) + (a >> 16 & 255) * (b << 8 >> 24) +
         (a >> 24 & 255) * (b >> 24);
#endif
}

SEP_INLINE I widened(const uint8_t* p) {
#if defined(__AVX512BW__)
  return (I)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  I v;
  for (int i = 0; i < W; i++) v[i] = p[i];
  return v;
#endif
}

SEP_INLINE H widened_twice(const uint8_t* p) {
#if defined(__AVX512BW__)
  return (H)_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__AVX2__)
  return (H)_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  H v;
  for (int i = 0; i < 2 * W; i++) v[i] = p[i];
  return v;
#endif
}

// The nearest whole numbers, of halves the even ones, plus `zero`, between 0 and 255; NaN becomes the lowest.
SEP_INLINE I levels_of(V v, int zero) {
  v = larger<float, W>(v, splat<float, W>(float(-zero)));
  v = smaller<float, W>(v, splat<float, W>(float(255 - zero)));
  return (I)(v + 12582912.0f) + (zero - 0x4B400000);  // adding 1.5 * 2^23 rounds
}

// The low bytes of n lanes.
SEP_INLINE void store_levels(uint8_t* p, I v, ptrdiff_t n) {
  uint8_t held[W];
#if defined(__AVX512BW__)
  const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)v);
  if (n >= W) return _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(held), bytes);
#elif defined(__AVX2__)
  const __m256i low = _mm256_shuffle_epi8((__m256i)v, _mm256_set1_epi32(0x0C080400));
  const __m128i bytes = _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
  if (n >= W) return _mm_storel_epi64(reinterpret_cast<__m128i*>(p), bytes);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(held), bytes);
#else
  for (int i = 0; i < W; i++) held[i] = uint8_t(v[i]);
  if (n >= W) {
    __builtin_memcpy(p, held, W);
    return;
  }
#endif
  for (ptrdiff_t i = 0; i < n; i++) p[i] = held[i];
}

template <class T, class X>
SEP_INLINE void store_words(T* p, X v, ptrdiff_t n) {
  if (n >= W) return store<T, W>(p, v);
  for (ptrdiff_t i = 0; i < n; i++) p[i] = v[i];
}

__attribute__((noinline)) void activate(V* held, int n, const Ending& end) {
  for (int i = 0; i < n; i++) held[i] = ended<W>(held[i], end);
}

// Levels of P pixels of M whole vectors of channels, from numbers that are scaled.
template <int P, int M>
SEP_INLINE void store_all(const V (&y)[P * M], int zero, uint8_t* at, const ptrdiff_t (&to)[P]) {
#if defined(__AVX2__) && !defined(__AVX512BW__)
  if constexpr (M == 2) {
    const __m256i shift = _mm256_set1_epi16(int16_t(zero)), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256 most = _mm256_set1_ps(1073741824.0f);  // beyond 32 bits is the lowest number otherwise
    auto halves = [&](int p) SEP_LAMBDA {
      const __m256i low = _mm256_cvtps_epi32(_mm256_min_ps((__m256)y[2 * p], most));
      const __m256i high = _mm256_cvtps_epi32(_mm256_min_ps((__m256)y[2 * p + 1], most));
      return _mm256_adds_epi16(_mm256_packs_epi32(low, high), shift);
    };
    SEP_UNROLL
    for (int p = 0; p < P; p += 2) {
      const __m256i one = halves(p), other = p + 1 < P ? halves(p + 1) : one;
      const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(one, other), order);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(at + to[p]), _mm256_castsi256_si128(bytes));
      if (p + 1 < P) _mm_storeu_si128(reinterpret_cast<__m128i*>(at + to[p + 1]), _mm256_extracti128_si256(bytes, 1));
    }
    return;
  }
#endif
  SEP_UNROLL
  for (int i = 0; i < P * M; i++) store_levels(at + to[i / M] + i % M * W, levels_of(y[i], zero), W);
}

// Those of vectors that are not whole.
template <int P, int M>
__attribute__((noinline)) void store_some(const V* y, int zero, uint8_t* at, const ptrdiff_t* to, ptrdiff_t channels) {
  for (int i = 0; i < P * M; i++)
    store_levels(at + to[i / M] + i % M * W, levels_of(y[i], zero), channels - i % M * W);
}

template <class T, int P, int M, class X>
SEP_INLINE void store_tile(const X (&y)[P * M], const IntegerTarget& dst, const ptrdiff_t (&to)[P]) {
  T* const at = reinterpret_cast<T*>(dst.at);
  const ptrdiff_t block = dst.block, channels = dst.channels;
  SEP_UNROLL
  for (int i = 0; i < P * M; i++)
    store_words(at + to[i / M] + i % M * block, y[i], channels - i % M * W);
}

// Residuals, of which n channels exist.
SEP_INLINE V residual(const uint8_t* p, ptrdiff_t n, const IntegerTarget& dst) {
  uint8_t held[W];
  if (n < W) {
    for (ptrdiff_t i = 0; i < W; i++) held[i] = i < n ? p[i] : 0;
    p = held;
  }
  V y = __builtin_convertvector(widened(p) - dst.add_zero, V) * dst.add_scale;
  keep(y);
  return y;
}

// Ends and stores the sums of P pixels of M vectors of channels; to, from: the elements of each pixel's results and
// residuals.
template <int P, int M>
SEP_INLINE void finish_sums(const I (&acc)[P * M], const IntegerEnding& end, const IntegerTarget& dst,
                            const ptrdiff_t (&to)[P], const ptrdiff_t (&from)[P]) {
  if (end.stored == Stored::whole) {
    I whole[P * M];
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) whole[i] = acc[i] + load<int32_t, W>(end.bias + i % M * W);
    return store_tile<int32_t, P, M>(whole, dst, to);
  }
  V y[P * M];
  SEP_UNROLL
  for (int i = 0; i < P * M; i++) {
    const int m = i % M;
    y[i] = __builtin_convertvector(acc[i] + load<int32_t, W>(end.bias + m * W), V) * load<float, W>(end.scale + m * W);
    keep(y[i]);  // rounded before anything is added, on every machine
  }
  if (end.shift) {
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) y[i] += load<float, W>(end.shift + i % M * W);
  }
  if (dst.add) {
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) y[i] += residual(dst.add + from[i / M] + i % M * W, dst.channels - i % M * W, dst);
  }
  if (end.act.act != Activation::none) {
    V held[P * M];
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) held[i] = y[i];
    activate(held, P * M, end.act);
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) y[i] = held[i];
  }
  if (end.stored == Stored::floats) return store_tile<float, P, M>(y, dst, to);
  if (end.divisor != 1.0f) {
    SEP_UNROLL
    for (int i = 0; i < P * M; i++) y[i] /= end.divisor;
  }
  uint8_t* const at = reinterpret_cast<uint8_t*>(dst.at);
  if (dst.channels >= M * W) return store_all<P, M>(y, end.zero, at, to);
  V held[P * M];
  SEP_UNROLL
  for (int i = 0; i < P * M; i++) held[i] = y[i];
  store_some<P, M>(held, end.zero, at, to, dst.channels);
}

}  // namespace
