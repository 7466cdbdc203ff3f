// What the machine has: instruction sets (and the one in use), cache sizes, cores, peak rates.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "base/target.h"

namespace sep {

struct Caches {
  size_t l1d, l2, l3;  // bytes; l3 is 0 where there is none
};

const Caches& caches();
void assume_caches(const Caches& sizes);  // for tests: arrays beyond the caches need not be large
int usable_cores();                       // the process's CPU affinity counts
std::vector<std::string> targets();       // usable here, best last
const Target& target();                   // the one in use
const IntegerTable& integers();           // kernels of whole numbers: of VNNI where the processor has it
bool force(const std::string& name);      // "" returns to the best; false if not usable here

// Kernels of bfloat16, of the best matrix unit that the target in use and the processor have.
const BfloatTable& bfloats();
std::string matrix_unit();                        // its name
std::vector<std::string> matrix_units();          // usable with the target in use, best last
bool force_matrix_unit(const std::string& name);  // as `force`

double measure_fma();     // GFLOP/s of one core, float32
double measure_stream();  // GB/s read + written by a non-temporal copy of 128 MiB on one core

}  // namespace sep
