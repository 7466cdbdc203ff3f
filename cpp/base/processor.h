// Whether this processor runs an instruction set, by the name under which kernels are compiled for it. Plain inline
// functions: the build asks them too (cmake/InstructionSets.cmake).
#pragma once

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

#else

inline bool runs_neon() { return true; }
inline bool runs_base() { return true; }

#endif

}  // namespace sep
