// Fixed-width vectors on GCC/Clang vector extensions. Included only by the kernel units, which are compiled once per
// instruction set: everything sits in an unnamed namespace so that no wide code leaks into a shared symbol.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>  // non-temporal stores only
#endif

#define SEP_INLINE inline __attribute__((always_inline))
#define SEP_LAMBDA __attribute__((always_inline))
#define SEP_UNROLL _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
constexpr bool kManyRegisters = true;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
constexpr bool kManyRegisters = false;
#else
constexpr int kBytes = 16;
#if defined(__aarch64__)
constexpr bool kManyRegisters = true;
#else
constexpr bool kManyRegisters = false;
#endif
#endif

template <class T>
constexpr int kLanes = kBytes / sizeof(T);

template <class T, int N>
struct Vec {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
  typedef T loose __attribute__((vector_size(N * sizeof(T)), aligned(sizeof(T)), may_alias));
};
template <class T>
struct Vec<T, 1> {  // the same kernels at width 1 are the scalar code
  typedef T type;
  typedef T loose;
};
template <class T, int N>
using vec = typename Vec<T, N>::type;

template <class T, int N>
SEP_INLINE vec<T, N> load(const T* p) {
  return *reinterpret_cast<const typename Vec<T, N>::loose*>(p);
}
template <class T, int N>
SEP_INLINE void store(T* p, vec<T, N> v) {
  *reinterpret_cast<typename Vec<T, N>::loose*>(p) = v;
}
template <class T, int N>
SEP_INLINE vec<T, N> splat(T w) {
  return w - vec<T, N>{};  // w + 0 would be an addition, because of -0
}

// The larger and the smaller of two numbers; b where one of them is NaN. x86 has an instruction for just that, which
// compilers do not find for 512 bits.
#if defined(__AVX512F__)
#define SEP_CHOOSE(ps, pd)                                                                                \
  if constexpr (sizeof(a) == 64) {                                                                        \
    if constexpr (sizeof(T) == 4)                                                                         \
      return reinterpret_cast<vec<T, N>>(ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b)));   \
    else                                                                                                  \
      return reinterpret_cast<vec<T, N>>(pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b))); \
  }
#else
#define SEP_CHOOSE(ps, pd)
#endif
template <class T, int N>
SEP_INLINE vec<T, N> larger(vec<T, N> a, vec<T, N> b) {
  SEP_CHOOSE(_mm512_max_ps, _mm512_max_pd)
  return a > b ? a : b;
}
template <class T, int N>
SEP_INLINE vec<T, N> smaller(vec<T, N> a, vec<T, N> b) {
  SEP_CHOOSE(_mm512_min_ps, _mm512_min_pd)
  return a < b ? a : b;
}
#undef SEP_CHOOSE

// Keeps the compiler from loading a value again wherever it is used.
template <class V>
SEP_INLINE void keep(V& v) {
  if constexpr (sizeof(V) >= 16) {  // smaller ones have no register class of their own
#if defined(__AVX512F__)
    __asm__("" : "+v"(v));
#elif defined(__x86_64__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
  }
}

// Non-temporal store; p is aligned to the vector. Falls back to a plain store where the target has none.
template <class T, int N>
SEP_INLINE void stream(T* p, vec<T, N> v) {
#if defined(__x86_64__)
  if constexpr (sizeof(v) == 16) {
    _mm_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m128>(v));
    return;
  }
#ifdef __AVX__
  if constexpr (sizeof(v) == 32) {
    _mm256_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m256>(v));
    return;
  }
#endif
#ifdef __AVX512F__
  if constexpr (sizeof(v) == 64) {
    _mm512_stream_ps(reinterpret_cast<float*>(p), reinterpret_cast<__m512>(v));
    return;
  }
#endif
#endif
  store<T, N>(p, v);
}

SEP_INLINE void stream_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Towards the L2 cache; any address will do.
SEP_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

template <int Bytes>
struct MaskInt;
template <>
struct MaskInt<2> {
  typedef int16_t type;
};
template <>
struct MaskInt<4> {
  typedef int32_t type;
};
template <>
struct MaskInt<8> {
  typedef int64_t type;
};

// Two-input shuffle: lane i of the result is lane pick(i) of the 2N lanes a|b.
template <class T, int N, class Pick>
SEP_INLINE vec<T, N> shuffle(vec<T, N> a, vec<T, N> b, Pick pick) {
  typedef vec<typename MaskInt<sizeof(T)>::type, N> Mask;
  Mask m;
  SEP_UNROLL
  for (int i = 0; i < N; i++) m[i] = typename MaskInt<sizeof(T)>::type(pick(i));
#if defined(__clang__)
  vec<T, N> out;
  SEP_UNROLL
  for (int i = 0; i < N; i++) out[i] = m[i] < N ? a[m[i]] : b[m[i] - N];
  return out;
#else
  return __builtin_shuffle(a, b, m);
#endif
}

#if defined(__AVX512F__)
// Two-input permute by a run-time index: lane i of the result is lane at[i] of the 2N lanes a|b.
template <class T, int N, class Index>
SEP_INLINE vec<T, N> permute(vec<T, N> a, vec<T, N> b, Index at) {
#if defined(__clang__)
  if constexpr (sizeof(T) == 4)
    return (vec<T, N>)_mm512_permutex2var_ps((__m512)a, (__m512i)at, (__m512)b);
  else
    return (vec<T, N>)_mm512_permutex2var_pd((__m512d)a, (__m512i)at, (__m512d)b);
#else
  return __builtin_shuffle(a, b, at);
#endif
}
#endif

// Vectors are also seen as 128-bit parts of kPart lanes: shuffles that stay inside the parts are the cheap ones.
template <class T>
constexpr int kPart = 16 / int(sizeof(T));

template <class T, int N>
SEP_INLINE vec<T, 2 * N> concat(vec<T, N> a, vec<T, N> b) {
  if constexpr (N == 2)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3);
  else if constexpr (N == 4)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
  else
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// A vector whose parts are loaded from part(0), part(1), ...
template <class T, int N, class Part>
SEP_INLINE vec<T, N> gather_parts(Part part, int first = 0) {
  if constexpr (N == kPart<T>)
    return load<T, N>(part(first));
  else
    return concat<T, N / 2>(gather_parts<T, N / 2>(part, first),
                            gather_parts<T, N / 2>(part, first + N / 2 / kPart<T>));
}

// Interleaves groups of G lanes of a and b inside each part: the low (hi = 0) or high half of the part.
template <class T, int N, int G>
SEP_INLINE vec<T, N> interleave(vec<T, N> a, vec<T, N> b, int hi) {
  constexpr int P = kPart<T>;
  return shuffle<T, N>(a, b, [hi](int i) {
    int part = i / P * P, group = i % P / G, e = i % G;
    return part + (group / 2 + hi * (P / G / 2)) * G + e + (group & 1 ? N : 0);
  });
}

// Transposes the kPart x kPart blocks that the parts of r[0 .. kPart) hold.
template <class T, int N>
SEP_INLINE void transpose_parts(vec<T, N> (&r)[kPart<T>]) {
  if constexpr (kPart<T> == 2) {
    vec<T, N> a = r[0], b = r[1];
    r[0] = interleave<T, N, 1>(a, b, 0);
    r[1] = interleave<T, N, 1>(a, b, 1);
  } else {
    vec<T, N> a = interleave<T, N, 1>(r[0], r[1], 0), b = interleave<T, N, 1>(r[0], r[1], 1);
    vec<T, N> c = interleave<T, N, 1>(r[2], r[3], 0), d = interleave<T, N, 1>(r[2], r[3], 1);
    r[0] = interleave<T, N, 2>(a, c, 0);
    r[1] = interleave<T, N, 2>(a, c, 1);
    r[2] = interleave<T, N, 2>(b, d, 0);
    r[3] = interleave<T, N, 2>(b, d, 1);
  }
}

}  // namespace
