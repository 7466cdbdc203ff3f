#include "base/progress.h"

#include <algorithm>
#include <atomic>

namespace sep {
namespace {

struct Count {
  std::atomic<bool> taken{false};
  std::atomic<ptrdiff_t> steps{1}, done{0};
};

Count& count(Level level) {
  static Count counts[2];
  return counts[int(level)];
}

double fraction(Level level) {
  const Count& c = count(level);
  return double(c.done.load(std::memory_order_relaxed)) / double(c.steps.load(std::memory_order_relaxed));
}

}  // namespace

Steps::Steps(Level level, ptrdiff_t steps) : level_(level), counts_(steps > 1 && !count(level).taken.exchange(true)) {
  if (!counts_) return;
  count(level_).done.store(0, std::memory_order_relaxed);
  count(level_).steps.store(steps, std::memory_order_relaxed);
}

Steps::~Steps() {
  if (!counts_) return;
  count(level_).done.store(0, std::memory_order_relaxed);
  count(level_).steps.store(1, std::memory_order_relaxed);
  count(level_).taken.store(false, std::memory_order_release);
}

void Steps::step(ptrdiff_t steps) {
  if (counts_) count(level_).done.fetch_add(steps, std::memory_order_relaxed);
}

double fraction_done() {
  const double whole = double(count(Level::sweeps).steps.load(std::memory_order_relaxed));
  return std::min(fraction(Level::sweeps) + fraction(Level::tasks) / whole, 1.0);
}

}  // namespace sep
