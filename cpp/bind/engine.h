// A program of the engine, as Python holds it.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "engine/program.h"

namespace sep::bind {

namespace nb = nanobind;

using FloatArray = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

// A program, and the constants that it reads. Every place that a step touches is checked when the step is added,
// against the number of elements of each memory.
class BoundProgram {
 public:
  // sizes: elements of one image's inputs and outputs; `run` takes those of `images` images.
  BoundProgram(ptrdiff_t arena, std::vector<ptrdiff_t> inputs, std::vector<ptrdiff_t> outputs, ptrdiff_t images);

  int constant(FloatArray values);
  void add(std::unique_ptr<Step> step) { program_.add(std::move(step)); }
  // Throws unless elements [place.at + low, place.at + high] lie in the memory that `place` names.
  void check(const Place& place, ptrdiff_t low, ptrdiff_t high, const char* what, bool written) const;
  void run(const std::vector<nb::object>& inputs, const std::vector<nb::object>& outputs, int threads,
           nb::object nanoseconds) const;
  size_t memory_bytes(int threads) const;
  int threads_for(int threads) const;
  size_t steps() const { return program_.steps(); }

 private:
  ptrdiff_t n_inputs_, n_outputs_, images_;
  std::vector<ptrdiff_t> sizes_;  // of all memories, in elements
  std::vector<FloatArray> kept_;
  Program program_;
};

void bind_engine_bfloats(nb::module_& m);
void bind_engine_convolutions(nb::module_& m);
void bind_engine_integers(nb::module_& m);
void bind_engine_plain(nb::module_& m);
void bind_engine_recurrent(nb::module_& m);

}  // namespace sep::bind
