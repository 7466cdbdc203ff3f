// One instruction set: its tables put together, streaming stores, and a probe of its peak. Compiled once for each, with
// SEP_TARGET naming it; no STL, nothing inline is shared.
#include "base/target.h"

#include "base/vec.h"

namespace {

SEP_INLINE vec<float, kLanes<float>> bytes_at(const char* p) {
  typedef float Bytes __attribute__((vector_size(kBytes), aligned(1), may_alias));
  return *reinterpret_cast<const Bytes*>(p);
}

void stream_bytes(char* dst, const char* src, ptrdiff_t n) {
  constexpr int N = kLanes<float>;
  const ptrdiff_t head = ptrdiff_t(-reinterpret_cast<uintptr_t>(dst) % kBytes), first = head < n ? head : n;
  __builtin_memcpy(dst, src, size_t(first));
  ptrdiff_t i = first;
  for (; i + kBytes <= n; i += kBytes) stream<float, N>(reinterpret_cast<float*>(dst + i), bytes_at(src + i));
  __builtin_memcpy(dst + i, src + i, size_t(n - i));
}

void fence() { stream_fence(); }

double fma_flops(int64_t rounds) {
  constexpr int N = kLanes<float>, A = kManyRegisters ? 16 : 12;
  typedef vec<float, N> V;
  V acc[A];
  SEP_UNROLL
  for (int i = 0; i < A; i++) acc[i] = splat<float, N>(1.0f + float(i));
  V m = splat<float, N>(1.0f);
  __asm__ volatile("" : "+m"(m));
  for (int64_t r = 0; r < rounds; r++) {
    SEP_UNROLL
    for (int i = 0; i < A; i++) acc[i] = acc[i] * m + m;
  }
  V sum = V{};
  SEP_UNROLL
  for (int i = 0; i < A; i++) sum += acc[i];
  __asm__ volatile("" : : "m"(sum));
  return 2.0 * A * N * double(rounds);
}

#define SEP_STRING_(x) #x
#define SEP_STRING(x) SEP_STRING_(x)

}  // namespace

namespace sep {
extern const CastTable SEP_OF_TARGET(casts);
extern const LineTable SEP_OF_TARGET(lines);
extern const BoxAndCosinesTable SEP_OF_TARGET(box_and_cosines);
extern const DifferencesTable SEP_OF_TARGET(differences);
extern const LayerTable SEP_OF_TARGET(layers);
extern const BlockTable SEP_OF_TARGET(blocks);
extern const PlainTable SEP_OF_TARGET(plain);
extern const IntegerTable SEP_OF_TARGET(integers);
extern const BfloatTable SEP_OF_TARGET(bfloats);
extern const Target SEP_OF_TARGET(target);
const Target SEP_OF_TARGET(target) = {SEP_STRING(SEP_TARGET),
                                      kBytes,
                                      &SEP_OF_TARGET(casts),
                                      &SEP_OF_TARGET(lines),
                                      &SEP_OF_TARGET(box_and_cosines),
                                      &SEP_OF_TARGET(differences),
                                      &SEP_OF_TARGET(layers),
                                      &SEP_OF_TARGET(blocks),
                                      &SEP_OF_TARGET(plain),
                                      stream_bytes,
                                      fence,
                                      fma_flops,
                                      &SEP_OF_TARGET(integers),
                                      &SEP_OF_TARGET(bfloats)};
}  // namespace sep
