// Functions of one element, on vectors. Included only by kernel units.
#pragma once
#include "engine/kernels/plain.h"
#include "layers/kernels/activations.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

using sep::After;
using sep::Function;

constexpr int kWide = kLanes<float>;
typedef vec<float, kWide> V;
typedef vec<int32_t, kWide> I;

SEP_INLINE V all(float value) { return splat<float, kWide>(value); }
SEP_INLINE V load_v(const float* p) { return load<float, kWide>(p); }
SEP_INLINE void store_v(float* p, V v) { store<float, kWide>(p, v); }

// The first n lanes; `rest` in the others. Reads and writes nothing beyond them.
SEP_INLINE V load_part(const float* p, ptrdiff_t n, float rest = 0) {
#if defined(__AVX512F__)
  return (V)_mm512_mask_loadu_ps((__m512)all(rest), __mmask16((1u << n) - 1), p);
#elif defined(__AVX2__)
  const I first = I{0, 1, 2, 3, 4, 5, 6, 7} < I{} + int32_t(n);
  return first ? (V)_mm256_maskload_ps(p, (__m256i)first) : all(rest);
#else
  float held[kWide];
  for (int i = 0; i < kWide; i++) held[i] = i < n ? p[i] : rest;
  return load_v(held);
#endif
}
SEP_INLINE void store_part(float* p, V v, ptrdiff_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, (__m256i)(I{0, 1, 2, 3, 4, 5, 6, 7} < I{} + int32_t(n)), (__m256)v);
#else
  float held[kWide];
  store_v(held, v);
  for (int i = 0; i < kWide && i < n; i++) p[i] = held[i];
#endif
}

// The larger and the smaller of two numbers; NaN where one of them is.
SEP_INLINE V max_of(V a, V b) { return a != a ? a : larger<float, kWide>(a, b); }
SEP_INLINE V min_of(V a, V b) { return a != a ? a : smaller<float, kWide>(a, b); }
SEP_INLINE V between(V x, float low, float high) { return at_most<float, kWide>(at_least<float, kWide>(x, low), high); }

SEP_INLINE V abs_of(V x) { return (V)((I)x & 0x7fffffff); }
SEP_INLINE V with_sign_of(V x, V sign) { return (V)(((I)x & 0x7fffffff) | ((I)sign & int32_t(0x80000000))); }

SEP_INLINE V sqrt_of(V x) {
#if defined(__AVX512F__)
  return (V)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX__)
  return (V)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (V)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (V)vsqrtq_f32((float32x4_t)x);
#else
  for (int i = 0; i < kWide; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// From 2^23 on every number is whole, and so is what a conversion to integers would not hold.
SEP_INLINE V whole_or(V x, V whole) { return abs_of(x) < all(8388608.0f) ? with_sign_of(whole, x) : x; }
SEP_INLINE V truncated(V x) { return __builtin_convertvector(__builtin_convertvector(x, I), V); }
SEP_INLINE V floor_of(V x) {
  const V t = truncated(x);
  return whole_or(x, t > x ? t - 1.0f : t);
}
SEP_INLINE V ceil_of(V x) {
  const V t = truncated(x);
  return whole_or(x, t < x ? t + 1.0f : t);
}
SEP_INLINE V round_of(V x) {  // half to even: what an addition does that leaves no bits behind the point
  V far = abs_of(x) + 8388608.0f;
  keep(far);
  return whole_or(x, far - 8388608.0f);
}

// exp, with 0 for what is smaller than the normal numbers
SEP_INLINE V exp_or_zero(V x) { return x < all(-87.33654f) ? V{} : exp_of<kWide>(x); }

// exp(x) - 1, also accurate near 0
SEP_INLINE V expm1_of(V x) {
  x = between(x, -30.0f, 89.0f);
  const V magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V n = (x * 1.44269504f + magic) - magic;
  const V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts
  V p = all(1.9875691500e-4f);                               // Cephes, expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r;
  const V scale = (V)((__builtin_convertvector(n, I) + 127) << 23);
  return p * scale + (scale - 1.0f);
}

// log by the polynomial of Cephes' logf for mantissas in [sqrt(1/2), sqrt(2)); about 1 ulp
SEP_INLINE V log_of(V x) {
  const I bits = (I)x;
  V e = __builtin_convertvector((bits >> 23) - 126, V);
  V m = (V)((bits & 0x007fffff) | 0x3f000000);  // [1/2, 1)
  const V low = m < all(0.70710678f) ? all(1.0f) : V{};
  e -= low;
  m = m + m * low - 1.0f;
  const V z = m * m;
  V p = all(7.0376836292e-2f);
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  p = p * m * z + e * -2.12194440e-4f - z * 0.5f;
  V y = (m + p) + e * 0.693359375f;
  y = x < all(1.17549435e-38f) ? all(-__builtin_inff()) : y;  // smaller ones count as zero
  y = x < V{} ? all(__builtin_nanf("")) : y;
  y = x > all(3.40282347e38f) ? x : y;
  return x != x ? x : y;
}

SEP_INLINE V tanh_of(V x) {
  const V t = expm1_of(2.0f * at_most<float, kWide>(abs_of(x), 10.0f));
  return with_sign_of(t / (t + 2.0f), x);
}
SEP_INLINE V softplus_of(V x) {  // log(1 + exp(x)) by log1p of exp(-|x|)
  const V e = exp_or_zero(-abs_of(x));
  V u = e + 1.0f;
  keep(u);
  const V lost = e - (u - 1.0f);  // by rounding: times the slope of log, 1 / u, which need not be exact
  return at_least<float, kWide>(x, 0.0f) + (log_of(u) + lost * (1.0f - 0.5f * e));
}
SEP_INLINE V mish_of(V x) {  // x tanh(log(1 + e)) = x w / (w + 2), w = e (e + 2)
  const V e = exp_or_zero(at_most<float, kWide>(x, 30.0f)), w = e * (e + 2.0f);
  return x * (w / (w + 2.0f));
}

template <class F>
SEP_INLINE void each(const float* src, float* dst, ptrdiff_t n, F f) {
  ptrdiff_t i = 0;
  for (; i + kWide <= n; i += kWide) store_v(dst + i, f(load_v(src + i)));
  if (i < n) store_part(dst + i, f(load_part(src + i, n - i)), n - i);
}

#define SEP_EACH(name, value) \
  case Function::name:        \
    return each(src, dst, n, [=](V x) SEP_LAMBDA { return value; });

__attribute__((noinline)) void piecewise(const float* src, float* dst, ptrdiff_t n, const After& after) {
  const float alpha = after.alpha, beta = after.beta;
  const V zero = V{}, one = all(1.0f);
  switch (after.function) {
    SEP_EACH(relu, (at_least<float, kWide>(x, 0.0f)))
    SEP_EACH(relu6, between(x, 0.0f, 6.0f))
    SEP_EACH(clip, between(x, alpha, beta))
    SEP_EACH(leaky_relu, x < zero ? x * alpha : x)
    SEP_EACH(thresholded_relu, x <= all(alpha) ? zero : x)
    SEP_EACH(neg, -x)
    SEP_EACH(abs, abs_of(x))
    SEP_EACH(sign, x > zero ? one : x < zero ? -one : x)
    SEP_EACH(sqrt, sqrt_of(x))
    SEP_EACH(reciprocal, 1.0f / x)
    SEP_EACH(square, x * x)
    SEP_EACH(floor, floor_of(x))
    SEP_EACH(ceil, ceil_of(x))
    SEP_EACH(round, round_of(x))
    SEP_EACH(softsign, x / (abs_of(x) + 1.0f))
    SEP_EACH(hard_sigmoid, between(x * alpha + beta, 0.0f, 1.0f))
    SEP_EACH(hard_swish, (activated<float, kWide>(x, Activation::hard_swish)))
    default:
      return each(src, dst, n, [](V x) SEP_LAMBDA { return x; });
  }
}

__attribute__((noinline)) void transcendental(const float* src, float* dst, ptrdiff_t n, const After& after) {
  const float alpha = after.alpha, beta = after.beta;
  const V zero = V{};
  switch (after.function) {
    SEP_EACH(exp, exp_or_zero(x))
    SEP_EACH(log, log_of(x))
    SEP_EACH(erf, (erf_of<kWide>(x)))
    SEP_EACH(tanh, tanh_of(x))
    SEP_EACH(sigmoid, (sigmoid<float, kWide>(x)))
    SEP_EACH(softplus, softplus_of(x))
    SEP_EACH(mish, mish_of(x))
    SEP_EACH(elu, x < zero ? expm1_of(x) * alpha : x)
    SEP_EACH(selu, beta * (x < zero ? expm1_of(x) * alpha : x))
    SEP_EACH(silu, (activated<float, kWide>(x, Activation::silu)))
    SEP_EACH(gelu, (activated<float, kWide>(x, Activation::gelu)))
    SEP_EACH(gelu_tanh, (activated<float, kWide>(x, Activation::gelu_tanh)))
    default:
      return;
  }
}
#undef SEP_EACH

// dst[i] = after(src[i]); dst may be src.
SEP_INLINE void apply_line(const float* src, float* dst, ptrdiff_t n, const After& after) {
  switch (after.function) {
    case Function::exp:
    case Function::log:
    case Function::erf:
    case Function::tanh:
    case Function::sigmoid:
    case Function::softplus:
    case Function::mish:
    case Function::elu:
    case Function::selu:
    case Function::silu:
    case Function::gelu:
    case Function::gelu_tanh:
      return transcendental(src, dst, n, after);
    default:
      return piecewise(src, dst, n, after);
  }
}

}  // namespace
