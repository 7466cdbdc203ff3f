// What the machine has: instruction sets, cache sizes, cores; and the line-kernel table in use.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "lines.h"

namespace sep {

struct Caches {
  size_t l1d, l2, l3;  // bytes; l3 is 0 where there is none
};

const Caches& caches();
int usable_cores();                     // the process's CPU affinity counts
std::vector<std::string> targets();     // usable here, best last
const Target& target();                 // the one in use
bool force(const std::string& name);    // "" returns to the best; false if not usable here

template <class T>
const Lines<T>& lines();
template <class T>
const Layers<T>& layers();
template <class T>
const Casts<T>& casts();

double measure_fma();     // GFLOP/s of one core, float32
double measure_stream();  // GB/s read + written by a non-temporal copy of 128 MiB on one core

}  // namespace sep
