// The layers' kernels for the instruction set in use.
#pragma once
#include <type_traits>

#include "base/machine.h"
#include "layers/kernels/layers.h"

namespace sep {

template <class T>
const Layers<T>& layers() {
  if constexpr (std::is_same_v<T, float>)
    return target().layers->f32;
  else
    return target().layers->f64;
}

}  // namespace sep
