// Scratch memory of a worker.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace sep {

constexpr size_t kAlign = 64;  // bytes: a cache line

// A block of aligned scratch memory, carved into arrays.
class Scratch {
 public:
  template <class T>
  static size_t bytes(ptrdiff_t count) {
    return (size_t(count) * sizeof(T) + kAlign - 1) / kAlign * kAlign;
  }
  // Aligned here: of glibc's aligned blocks, what is freed often does not serve the next of the same size, and repeated
  // filters took up to six times their scratch memory.
  explicit Scratch(size_t size) : memory_(static_cast<char*>(::operator new(size + 2 * kAlign))), next_(memory_.get()) {
    next_ += kAlign - reinterpret_cast<uintptr_t>(next_) % kAlign;
  }
  template <class T>
  T* take(ptrdiff_t count) {
    T* p = reinterpret_cast<T*>(next_);
    next_ += bytes<T>(count);
    return p;
  }

 private:
  struct Free {
    void operator()(char* p) const { ::operator delete(p); }
  };
  std::unique_ptr<char, Free> memory_;
  char* next_;
};

}  // namespace sep
