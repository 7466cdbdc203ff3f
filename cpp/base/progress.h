// The progress of the first job that runs in this process, for a progress bar. Counting changes no result.
#pragma once
#include <cstddef>

namespace sep {

// A job of several sweeps counts its sweeps, a sweep its tasks.
enum class Level { sweeps, tasks };

// Counts steps during its lifetime; inactive while another object counts steps of the same level.
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

// The fraction of the counted steps that is done; 0 where nothing is counted.
double fraction_done();

}  // namespace sep
