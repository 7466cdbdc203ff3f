// Programs of the engine, bound to Python.
#include "bind/engine.h"

#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>

#include "bind/arrays.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

// The memory of an input or output: float32, C-contiguous, as many elements as were promised.
class FloatMemory {
 public:
  FloatMemory(nb::handle array, bool writable, ptrdiff_t size) : buffer_(array, writable) {
    if (buffer_.element() != Element::f32 || !buffer_.aligned() || buffer_->len != size * ptrdiff_t(sizeof(float)) ||
        !PyBuffer_IsContiguous(buffer_.operator->(), 'C'))
      throw nb::type_error("run: an array is not float32, not contiguous, or of another size than the program's");
  }
  float* data() const { return static_cast<float*>(buffer_->buf); }

 private:
  Buffer buffer_;
};

// The places of buffers in an arena, and its elements behind them: sizes, and the steps of their use.
nb::tuple places_in_arena(const std::vector<ptrdiff_t>& sizes, const std::vector<ptrdiff_t>& firsts,
                          const std::vector<ptrdiff_t>& lasts) {
  if (firsts.size() != sizes.size() || lasts.size() != sizes.size())
    throw nb::value_error("places_in_arena: a size, a first and a last step for each buffer");
  std::vector<Stretch> stretches;
  ptrdiff_t total = 0;
  for (size_t n = 0; n < sizes.size(); n++) {
    if (sizes[n] < 0 || sizes[n] >> 48 || firsts[n] > lasts[n] || (total += sizes[n]) >> 56)
      throw nb::value_error("places_in_arena: a buffer lies out of range");
    stretches.push_back({sizes[n], firsts[n], lasts[n]});
  }
  return nb::tuple(nb::cast(sep::places_in_arena(stretches)));
}

}  // namespace

BoundProgram::BoundProgram(ptrdiff_t arena, std::vector<ptrdiff_t> inputs, std::vector<ptrdiff_t> outputs,
                           ptrdiff_t images)
    : n_inputs_(ptrdiff_t(inputs.size())),
      n_outputs_(ptrdiff_t(outputs.size())),
      images_(images),
      sizes_{arena},
      program_(arena, int(inputs.size()), int(outputs.size())) {
  sizes_.insert(sizes_.end(), inputs.begin(), inputs.end());
  sizes_.insert(sizes_.end(), outputs.begin(), outputs.end());
  if (images < 1 || images >> 20) throw nb::value_error("the number of images lies out of range");
  for (ptrdiff_t size : sizes_)
    if (size < 0 || size >> 40) throw nb::value_error("a memory's size lies out of range");
}

int BoundProgram::constant(FloatArray values) {
  kept_.push_back(values);
  sizes_.push_back(ptrdiff_t(values.size()));
  return program_.constant(values.data());
}

void BoundProgram::check(const Place& place, ptrdiff_t low, ptrdiff_t high, const char* what, bool written) const {
  const ptrdiff_t last_writable = n_inputs_ + n_outputs_;
  const bool known = place.base >= 0 && place.base < ptrdiff_t(sizes_.size());
  const bool allowed =
      known && (!written || place.base == 0 || (place.base > n_inputs_ && place.base <= last_writable));
  if (!allowed || low > high || place.at + low < 0 || place.at + high >= sizes_[size_t(place.base)])
    throw nb::value_error((std::string(what) + " reaches beyond its memory").c_str());
}

void BoundProgram::run(const std::vector<nb::object>& inputs, const std::vector<nb::object>& outputs, int threads,
                       nb::object nanoseconds) const {
  if (ptrdiff_t(inputs.size()) != n_inputs_ || ptrdiff_t(outputs.size()) != n_outputs_)
    throw nb::value_error("run: another number of inputs or outputs than the program has");
  std::vector<std::unique_ptr<FloatMemory>> held;
  std::vector<float*> in, out;
  for (size_t i = 0; i < inputs.size(); i++) {
    held.push_back(std::make_unique<FloatMemory>(inputs[i], false, images_ * sizes_[1 + i]));
    in.push_back(held.back()->data());
  }
  for (size_t i = 0; i < outputs.size(); i++) {
    held.push_back(std::make_unique<FloatMemory>(outputs[i], true, images_ * sizes_[1 + inputs.size() + i]));
    out.push_back(held.back()->data());
  }
  int64_t* times = nullptr;
  if (!nanoseconds.is_none()) {
    auto array = nb::cast<nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>>(nanoseconds);
    if (array.size() != program_.steps()) throw nb::value_error("run: nanoseconds needs one element for each step");
    times = array.data();
  }
  nb::gil_scoped_release free;
  if (images_ == 1) return program_.run(in.data(), out.data(), usable_threads(threads), times);
  program_.run_images(in.data(), out.data(), sizes_.data() + 1, images_, usable_threads(threads), times);
}

size_t BoundProgram::memory_bytes(int threads) const {
  if (images_ == 1) return program_.memory_bytes(threads);
  return program_.memory_bytes(1) * size_t(std::min<ptrdiff_t>(threads, images_));
}

int BoundProgram::threads_for(int threads) const {
  return images_ == 1 ? program_.threads_for(threads) : int(std::min<ptrdiff_t>(threads, images_));
}

void bind_engine(nb::module_& m) {
  nb::class_<BoundProgram>(m, "Program")
      .def(nb::init<ptrdiff_t, std::vector<ptrdiff_t>, std::vector<ptrdiff_t>, ptrdiff_t>(), "arena"_a, "inputs"_a,
           "outputs"_a, "images"_a = 1)
      .def("constant", &BoundProgram::constant, "values"_a)
      .def("run", &BoundProgram::run, "inputs"_a, "outputs"_a, "threads"_a, "nanoseconds"_a = nb::none())
      .def("memory_bytes", &BoundProgram::memory_bytes, "threads"_a)
      .def("threads_for", &BoundProgram::threads_for, "threads"_a)
      .def("__len__", &BoundProgram::steps);
  m.def("places_in_arena", &places_in_arena, "sizes"_a, "firsts"_a, "lasts"_a);
  bind_engine_bfloats(m);
  bind_engine_convolutions(m);
  bind_engine_integers(m);
  bind_engine_plain(m);
  bind_engine_recurrent(m);
}

}  // namespace sep::bind
