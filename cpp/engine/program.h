// A whole network as a list of steps over one arena. Between steps there is no barrier but a count of finished pieces.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/step.h"

namespace sep {

// A buffer of so many elements, in use from one step to another, both included.
struct Stretch {
  ptrdiff_t size, first, last;
};

// Places stretches so that two share memory only if they are never in use at the same time: the largest first (of one
// size, in the order given), each as low as it fits (as TensorFlow Lite does, arXiv:2001.03288). Returns the place of
// each, in elements, and behind them the elements of the arena.
std::vector<ptrdiff_t> places_in_arena(const std::vector<Stretch>& stretches);

class Program {
 public:
  // arena: elements. Constants are kept by the caller as long as the program lives.
  Program(ptrdiff_t arena, int inputs, int outputs);
  Program(const Program&) = delete;
  ~Program();

  int constant(const float* values);  // its number as a base
  void add(std::unique_ptr<Step> step);
  size_t steps() const { return steps_.size(); }
  size_t memory_bytes(int threads) const;  // arena and scratch of one call

  // Of so many threads, those that a call uses: one, where others would save less than it takes to wait for them.
  int threads_for(int threads) const;

  // Runs all steps. nanoseconds: null, or an array of one number for each step. May be called by several threads.
  void run(float* const* inputs, float* const* outputs, int threads, int64_t* nanoseconds = nullptr) const;

  // The same for `images` sets of inputs and outputs, each `pitches` (of the inputs, then of the outputs) elements
  // after the one before. Threads take whole images, so that they never wait for each other.
  void run_images(float* const* inputs, float* const* outputs, const ptrdiff_t* pitches, ptrdiff_t images, int threads,
                  int64_t* nanoseconds = nullptr) const;

 private:
  struct Call;
  std::unique_ptr<Call> begin(int threads) const;
  void end(std::unique_ptr<Call> call, int kept) const;
  void place(Call& call, float* const* inputs, float* const* outputs, const ptrdiff_t* pitches, ptrdiff_t image) const;
  void work(Call& call, int worker, int64_t* nanoseconds) const;

  ptrdiff_t arena_;
  int inputs_, outputs_;
  std::vector<const float*> constants_;
  std::vector<std::unique_ptr<Step>> steps_;
  mutable std::mutex lock_;
  mutable std::vector<std::unique_ptr<Call>> idle_;  // memory of calls that ended, for those to come
};

}  // namespace sep
