// How far the work has come that this process began first: for a bar beside a long filter. Counting changes no result.
#pragma once
#include <cstddef>

namespace sep {

// A job of several sweeps counts its sweeps, a sweep its tasks.
enum class Level { sweeps, tasks };

// Counts steps for as long as it lives; idle where other work of the same level is counted already.
class Steps {
 public:
  Steps(Level level, ptrdiff_t steps);
  ~Steps();
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;
  void step(ptrdiff_t steps = 1);

 private:
  const Level level_;
  const bool counts_;
};

// Of the work that is counted, the fraction that is done; 0 where there is none. Sweeps within a sweep start again.
double fraction_done();

}  // namespace sep
