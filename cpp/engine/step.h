// What a program is made of: steps that read and write arrays of float32 at places that are known beforehand.
#pragma once
#include <cstddef>
#include <vector>

namespace sep {

// Where an array begins: element `at` of memory number `base`. Memory 0 is the program's arena; the inputs, the outputs
// and the constants follow.
struct Place {
  int base = 0;
  ptrdiff_t at = 0;
};

// The memory of one call.
struct Memory {
  float* const* bases;
  float* at(const Place& p) const { return bases[p.base] + p.at; }
};

// One operation, in pieces that any thread may run at any time and in any order. What a piece gives does not depend on
// the number of pieces.
class Step {
 public:
  // Memory that a step reads first and that is in no cache by then: its weights.
  struct Fetched {
    const char* at = nullptr;
    ptrdiff_t bytes = 0;
  };

  virtual ~Step() = default;
  virtual Fetched weights() const { return {}; }
  // Whether it has arithmetic to do while weights of steps that follow are on their way, and which these are, in order.
  virtual bool fetches() const { return false; }
  virtual void precede(const std::vector<Fetched>&) {}
  virtual ptrdiff_t pieces(int threads) const = 0;
  virtual size_t scratch_bytes() const { return 0; }  // of every thread
  // Piece `piece` of `pieces`; scratch: scratch_bytes(), aligned to a cache line, of any content.
  virtual void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const = 0;
};

}  // namespace sep
