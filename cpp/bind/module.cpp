// The extension module `_core`: Python objects in, plain C++ out.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/machine.h"
#include "base/progress.h"
#include "bind/arrays.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

// Counts the sweeps of a job that Python composes of several.
class CountedSweeps {
 public:
  explicit CountedSweeps(ptrdiff_t count) : count_(count) {}
  CountedSweeps& enter() {
    steps_ = std::make_unique<Steps>(Level::sweeps, count_);
    return *this;
  }
  void exit(nb::object, nb::object, nb::object) { steps_.reset(); }
  void step() {
    if (steps_) steps_->step();
  }

 private:
  const ptrdiff_t count_;
  std::unique_ptr<Steps> steps_;
};

nb::dict core_info() {
  nb::dict info, cache;
  info["target"] = target().name;
  info["targets"] = targets();
  info["vector_bits"] = 8 * target().vector_bytes;
  info["compiler"] = SEP_COMPILER;
  cache["l1d"] = caches().l1d;
  cache["l2"] = caches().l2;
  cache["l3"] = caches().l3;
  info["caches"] = cache;
  info["cores"] = usable_cores();
  return info;
}

void bind_machine(nb::module_& m) {
  m.def("core_info", &core_info);
  m.def("target", [] { return target().name; });
  nb::class_<CountedSweeps>(m, "Sweeps")
      .def(nb::init<ptrdiff_t>(), "count"_a)
      .def("__enter__", &CountedSweeps::enter, nb::rv_policy::reference)
      .def("__exit__", &CountedSweeps::exit, nb::arg().none(), nb::arg().none(), nb::arg().none())
      .def("step", &CountedSweeps::step);
  m.def("fraction_done", &fraction_done);
  m.def(
      "force",
      [](nb::object name) {
        if (!force(name.is_none() ? "" : nb::cast<std::string>(name)))
          throw nb::value_error("force: this machine cannot run that target; see core_info()['targets']");
      },
      "target"_a.none());
  m.def("matrix_units", &matrix_units);
  m.def("matrix_unit", &matrix_unit);
  m.def(
      "force_matrix_unit",
      [](nb::object name) {
        if (!force_matrix_unit(name.is_none() ? "" : nb::cast<std::string>(name)))
          throw nb::value_error("force_matrix_unit: the target in use has no such unit here; see matrix_units()");
      },
      "unit"_a.none());
  m.def(
      "assume_caches",
      [](size_t l1d, size_t l2, size_t l3) {
        if (std::max({l1d, l2, l3}) >> 48) throw nb::value_error("assume_caches: larger than any memory");
        assume_caches({l1d, l2, l3});
      },
      "l1d"_a, "l2"_a, "l3"_a);
  m.def(
      "measure",
      [](const std::string& what) {
        if (what != "fma" && what != "stream") throw nb::value_error("measure: 'fma' or 'stream'");
        nb::gil_scoped_release free;
        return what == "fma" ? measure_fma() : measure_stream();
      },
      "what"_a);
}

}  // namespace
}  // namespace sep::bind

NB_MODULE(_core, m) {
  if (sep::targets().empty())
    throw nanobind::import_error(
        "separable was compiled for the processor of another machine alone (SEP_INSTRUCTION_SETS=native), and this one "
        "does not run that: compile it here, or without the option");
  nanobind::set_leak_warnings(false);  // cached plans hold jobs until the interpreter is gone
  m.doc() = "Line kernels and drivers of separable. Private: use the verbs of `separable`.";
  sep::bind::bind_arrays(m);
  sep::bind::bind_filters(m);
  sep::bind::bind_layers(m);
  sep::bind::bind_engine(m);
  sep::bind::bind_machine(m);
}
