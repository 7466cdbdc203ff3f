// The filters' kernels for the instruction set in use.
#pragma once
#include <type_traits>

#include "base/machine.h"
#include "filters/kernels/box_and_cosines.h"
#include "filters/kernels/differences.h"
#include "filters/kernels/lines.h"

namespace sep {

template <class T>
const Lines<T>& lines() {
  if constexpr (std::is_same_v<T, float>)
    return target().lines->f32;
  else
    return target().lines->f64;
}

inline const BoxAndCosinesTable& box_and_cosines() { return *target().box_and_cosines; }
inline const DifferencesTable& differences() { return *target().differences; }

}  // namespace sep
