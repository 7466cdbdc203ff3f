// Prints the widest instruction set that this processor runs: what `SEP_INSTRUCTION_SETS=native` compiles for.
#include "base/processor.h"

#include <cstdio>

int main() {
#if defined(__x86_64__) || defined(_M_X64)
  std::puts(sep::runs_v4() ? "v4" : sep::runs_v3() ? "v3" : "v2");
#endif
}
