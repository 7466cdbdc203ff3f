// Activations on vectors. Included only by kernel units.
#pragma once
#include "base/vec.h"
#include "layers/kernels/blocks.h"
#include "layers/kernels/layers.h"

namespace {

using sep::Activation;

template <class T, int N>
SEP_INLINE vec<T, N> at_least(vec<T, N> v, T low) {
  return larger<T, N>(splat<T, N>(low), v);
}
template <class T, int N>
SEP_INLINE vec<T, N> at_most(vec<T, N> v, T high) {
  return smaller<T, N>(splat<T, N>(high), v);
}
template <class T, int N>
SEP_INLINE vec<T, N> clamp(vec<T, N> v, Activation act) {
  if (act == Activation::none) return v;
  v = at_least<T, N>(v, T(0));
  return act == Activation::relu6 ? at_most<T, N>(v, T(6)) : v;
}

constexpr bool is_clamp(Activation act) {
  return act == Activation::none || act == Activation::relu || act == Activation::relu6;
}

// exp: 2^n * p(r), |r| <= ln(2) / 2; about 1 ulp. From 88.38 on infinity, below -87.33 the least normal number.
template <int N>
SEP_INLINE vec<float, N> exp_of(vec<float, N> x) {
  typedef vec<int32_t, N> I;
  x = at_most<float, N>(at_least<float, N>(x, -87.33654f), 89.0f);
  const vec<float, N> magic = splat<float, N>(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vec<float, N> n = (x * 1.44269504f + magic) - magic;
  const vec<float, N> r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts
  vec<float, N> p = splat<float, N>(1.9875691500e-4f);                   // Cephes, expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  if constexpr (N == 1) {
    return p * __builtin_bit_cast(float, (int32_t(n) + 127) << 23);
  } else {
    const I exponent = (__builtin_convertvector(n, I) + 127) << 23;
    return p * (vec<float, N>)exponent;
  }
}

// erf by a rational function of x * x on [-4, 4] (the coefficients of Eigen's generic_fast_erf); a few ulp.
template <int N>
SEP_INLINE vec<float, N> erf_of(vec<float, N> x) {
  x = at_most<float, N>(at_least<float, N>(x, -4.0f), 4.0f);
  const vec<float, N> y = x * x;
  vec<float, N> p = splat<float, N>(-2.72614225801306e-10f);
  p = p * y + 2.77068142495902e-08f;
  p = p * y - 2.10102402082508e-06f;
  p = p * y - 5.69250639462346e-05f;
  p = p * y - 7.34990630326855e-04f;
  p = p * y - 2.95459980854025e-03f;
  p = p * y - 1.60960333262415e-02f;
  vec<float, N> q = splat<float, N>(-1.45660718464996e-05f);
  q = q * y - 2.13374055278905e-04f;
  q = q * y - 1.68282697438203e-03f;
  q = q * y - 7.37332916720468e-03f;
  q = q * y - 1.42647390514189e-02f;
  return x * p / q;
}

// Doubles take the C library's functions, lane by lane.
template <int N>
SEP_INLINE vec<double, N> exp_of(vec<double, N> x) {
  if constexpr (N == 1) {
    return __builtin_exp(x);
  } else {
    for (int i = 0; i < N; i++) x[i] = __builtin_exp(x[i]);
    return x;
  }
}
template <int N>
SEP_INLINE vec<double, N> erf_of(vec<double, N> x) {
  if constexpr (N == 1) {
    return __builtin_erf(x);
  } else {
    for (int i = 0; i < N; i++) x[i] = __builtin_erf(x[i]);
    return x;
  }
}

template <class T, int N>
SEP_INLINE vec<T, N> sigmoid(vec<T, N> x) {
  return T(1) / (T(1) + exp_of<N>(-x));
}

// 1 / (1 + exp(-x)), about 2 ulp. Without a division where there is an estimate of 14 bits.
template <int N>
SEP_INLINE vec<float, N> fast_sigmoid(vec<float, N> x) {
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    // exp(-x) = 2^t = 2^n * 2^f, n the nearest integer; f of an infinite t is 0
    const vec<float, N> t = at_most<float, N>(x * -1.44269504f, 126.0f);
    const vec<float, N> f = (vec<float, N>)_mm512_reduce_ps((__m512)t, 0);
    const vec<float, N> n = t - f;
    vec<float, N> p = splat<float, N>(1.3276472e-3f);  // 2^f on [-1/2, 1/2], least maximum error: 7.5e-8
    p = p * f + 9.6755415e-3f;
    p = p * f + 5.55071328e-2f;
    p = p * f + 2.40221197e-1f;
    p = p * f + 6.93146967e-1f;
    p = p * f + 1.00000007f;
    const vec<float, N> d = (vec<float, N>)_mm512_scalef_ps((__m512)p, (__m512)n) + 1.0f;
    const vec<float, N> r = (vec<float, N>)_mm512_rcp14_ps((__m512)d);
    return r + r * (1.0f - d * r);
  }
#endif
  return 1.0f / (1.0f + exp_of<N>(-x));
}

#if defined(__AVX512F__)
// 1 / (1 + exp(-u)) - 1/2 for u in [0, 15] by polynomials of degree 4 in 16 parts: four to each power of two of u + 1,
// so that the last four bits of its exponent and first two of its fraction tell the part. Row k: the coefficients of
// u^k. Chebyshev nodes; error at most 3.2e-7, and exactly 1/2 at the end.
alignas(64) constexpr float kHalfSigmoid[5][16] = {
    {-0.0013001815f, -0.0138357794f, -0.0417312048f, -0.0701695532f, -0.0717114508f, 0.0177032761f, 0.154311404f,
     0.27774775f, 0.396121651f, 0.469322175f, 0.492016852f, 0.49811554f, 3.85259602e-09f, 1.0644012e-05f,
     9.49248933e-05f, 0.000182809716f},
    {0.254044473f, 0.286886901f, 0.342805862f, 0.388887703f, 0.392389864f, 0.303849041f, 0.193957463f, 0.111019388f,
     0.044297222f, 0.0108591532f, 0.00241010683f, 0.000496869732f, 0.249999225f, 0.249847099f, 0.249179214f,
     0.248675272f},
    {-0.00333805522f, -0.0357743092f, -0.0779455006f, -0.106002741f, -0.108449683f, -0.0754755512f, -0.0422568023f,
     -0.0213293061f, -0.00719692698f, -0.00145604217f, -0.000274750462f, -4.93567313e-05f, 2.47799253e-05f,
     0.000870910939f, 0.00288119772f, 0.00396587513f},
    {-0.022639323f, -0.008324177f, 0.00585603202f, 0.0134630511f, 0.0141560063f, 0.00868196879f, 0.00420989282f,
     0.00185966713f, 0.000526504766f, 8.75107944e-05f, 1.40039247e-05f, 2.18672744e-06f, -0.0211120807f, -0.0233034603f,
     -0.0260279197f, -0.0270664617f},
    {0.00429162616f, 0.00190935947f, 0.000115642659f, -0.000659223704f, -0.000728999206f, -0.000387198059f,
     -0.000160972806f, -6.18593695e-05f, -1.46000812e-05f, -1.98656858e-06f, -2.69048513e-07f, -3.64153436e-08f,
     0.00128352211f, 0.00352549017f, 0.00492791319f, 0.00530108763f},
};
#endif

// x / (1 + exp(-x)), within 3.3e-7 of |x|. With permutations of 16 lanes it takes two thirds of the arithmetic.
template <int N>
SEP_INLINE vec<float, N> fast_silu(vec<float, N> x) {
#if defined(__AVX512F__)
  if constexpr (N == 16) {
    const vec<float, N> size = (vec<float, N>)_mm512_abs_ps((__m512)x), u = at_most<float, N>(size, 14.999999f);
    const __m512i part = _mm512_srli_epi32((__m512i)(u + 1.0f), 21);
    auto coefficient = [&](int k) SEP_LAMBDA {
      return (vec<float, N>)_mm512_permutexvar_ps(part, _mm512_load_ps(kHalfSigmoid[k]));
    };
    vec<float, N> p = coefficient(4);
    p = p * u + coefficient(3);
    p = p * u + coefficient(2);
    p = p * u + coefficient(1);
    p = p * u + coefficient(0);
    return size * p + 0.5f * x;
  }
#endif
  return x * fast_sigmoid<N>(x);
}

constexpr double kSqrtHalf = 0.70710678118654752440, kTanhScale = 1.59576912160573071176;  // sqrt(1/2), 2 sqrt(2/pi)
constexpr double kTanhCubic = 0.044715, kInvSqrtTwoPi = 0.39894228040143267794;

// gelu_tanh: x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
template <class T, int N>
SEP_INLINE vec<T, N> tanh_gate(vec<T, N> x) {
  return sigmoid<T, N>(x * T(kTanhScale) * (T(1) + T(kTanhCubic) * x * x));
}

template <class T, int N>
SEP_INLINE vec<T, N> activated(vec<T, N> x, Activation act) {
  switch (act) {
    case Activation::silu:
      return x * sigmoid<T, N>(x);
    case Activation::hard_swish:
      return x * at_most<T, N>(at_least<T, N>(x + T(3), T(0)), T(6)) * T(1.0 / 6);
    case Activation::gelu:
      return x * T(0.5) * (T(1) + erf_of<N>(x * T(kSqrtHalf)));
    case Activation::gelu_tanh:
      return x * tanh_gate<T, N>(x);
    default:
      return clamp<T, N>(x, act);
  }
}

// All of them, with their parameters.
template <int N>
SEP_INLINE vec<float, N> ended(vec<float, N> x, const sep::Ending& end) {
  switch (end.act) {
    case Activation::silu:
      return fast_silu<N>(x);
    case Activation::sigmoid:
      return fast_sigmoid<N>(x);
    case Activation::tanh:
      return 2.0f * fast_sigmoid<N>(2.0f * x) - 1.0f;
    case Activation::hard_sigmoid:
      return at_most<float, N>(at_least<float, N>(x * end.low + end.high, 0.0f), 1.0f);
    case Activation::clip:
      return at_most<float, N>(at_least<float, N>(x, end.low), end.high);
    case Activation::leaky_relu:
      return x > vec<float, N>{} ? x : x * end.low;
    default:
      return activated<float, N>(x, end.act);
  }
}

// d act(x) / dx, at kinks with the value that torch takes. For a clamp, act(x) may be given instead of x.
template <class T, int N>
SEP_INLINE vec<T, N> slope(vec<T, N> x, Activation act) {
  const vec<T, N> zero = vec<T, N>{}, one = splat<T, N>(T(1));
  switch (act) {
    case Activation::relu:
      return x > zero ? one : zero;
    case Activation::relu6:
      return x > zero ? (x < T(6) * one ? one : zero) : zero;
    case Activation::silu: {
      const vec<T, N> s = sigmoid<T, N>(x);
      return s * (T(1) + x * (T(1) - s));
    }
    case Activation::hard_swish:
      return x > T(-3) * one ? (x < T(3) * one ? x * T(1.0 / 3) + T(0.5) : one) : zero;
    case Activation::gelu:
      return T(0.5) * (T(1) + erf_of<N>(x * T(kSqrtHalf))) + x * exp_of<N>(x * x * T(-0.5)) * T(kInvSqrtTwoPi);
    case Activation::gelu_tanh: {
      const vec<T, N> s = tanh_gate<T, N>(x);
      return s + x * s * (T(1) - s) * T(kTanhScale) * (T(1) + T(3 * kTanhCubic) * x * x);
    }
    default:
      return one;
  }
}

}  // namespace
