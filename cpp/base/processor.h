// Whether this processor runs an instruction set, by the name under which kernels are compiled for it. Plain inline
// functions: the build asks them too (cmake/InstructionSets.cmake).
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sep {

#if defined(__x86_64__) || defined(_M_X64)

inline bool runs_v2() { return true; }  // the oldest that we compile for

inline bool runs_v3() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

inline bool runs_v4() {
  return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

inline bool runs_v4vnni() { return runs_v4() && __builtin_cpu_supports("avx512vnni"); }

inline bool runs_v4bf16() { return runs_v4() && __builtin_cpu_supports("avx512bf16"); }

// Matrix tiles: the processor has them, the system saves them (XCR0), and this process may use them. Linux wants to be
// asked: a thread's saved state grows by 8 KiB. Elsewhere, no.
inline bool runs_v4amx() {
#if defined(__x86_64__) && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!runs_v4bf16() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned bf16 = 1u << 22, tiles = 1u << 24, saved = 3u << 17;
  if ((d & bf16) == 0 || (d & tiles) == 0) return false;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  if ((a & saved) != saved) return false;
  constexpr long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false;
#endif
}

#else

inline bool runs_neon() { return true; }
inline bool runs_base() { return true; }

#endif

}  // namespace sep
