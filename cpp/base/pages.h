// Memory for what lives long and is read from end to end: weights, and the arenas of programs. Large pages where the
// system has them: weights that come from beyond the caches otherwise wait for the translation of every 4 KiB
// (measured: 13 against 20 GB/s).
#pragma once
#include <cstddef>
#include <memory>

#include "base/scratch.h"

namespace sep {

// `bytes` of memory aligned to a cache line, freed with the last copy of the pointer. Small ones share slabs.
std::shared_ptr<char> pages(size_t bytes);

// Such memory, carved into arrays.
class Pages {
 public:
  explicit Pages(size_t bytes) : memory_(pages(bytes)), next_(memory_.get()) {}
  template <class T>
  T* take(ptrdiff_t count) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += Scratch::bytes<T>(count);
    return p;
  }

 private:
  std::shared_ptr<char> memory_;
  char* next_;
};

}  // namespace sep
