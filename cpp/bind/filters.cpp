// The jobs of filters, bound to Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <atomic>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <variant>

#include "bind/arrays.h"
#include "filters/box_and_cosines_job.h"
#include "filters/differences_job.h"
#include "filters/direct_job.h"
#include "filters/shared_passes.h"
#include "filters/terms_job.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Weights = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;

// A job of the kind that computes in float or double, and the shapes of its arrays.
template <template <class> class Kind>
class FilterJob {
 public:
  using Job = std::variant<Kind<float>, Kind<double>>;

  // mask: None, or bool of the shape. Returns whether a normalised result is weak, see Norm.
  bool run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double divisor,
           double low, double high, nb::handle mask, bool nan_unknown, bool outside_unknown, double normalised_snap,
           double least_known, double small_result) const {
    std::atomic<bool> weak{false};
    std::visit(
        [&](const auto& j) {
          using T = std::remove_cvref_t<decltype(j)>::Value;
          View s(src, false, shape_, [](Element e) { return e == kOwn<T> || casts<T>().widen[int(e)]; }, "src");
          const bool many = !results_.empty();
          View d(dst, true, many ? results_ : shape_, [](Element e) { return casts<T>().narrow[int(e)][0][0]; }, "dst");
          std::optional<View> m;
          if (!mask.is_none()) m.emplace(mask, false, shape_, [](Element e) { return e == Element::boolean; }, "mask");
          const Input in{s.data(),    s.strides(),    s.element(), m ? m->data() : nullptr, m ? m->strides() : nullptr,
                         nan_unknown, outside_unknown};
          if (in.masked() && !j.takes_masks())
            throw nb::value_error("a job of several terms or of more than three passes takes no mask");
          const Output out{.values = d.data(),
                           .strides = d.strides() + many,
                           .type = d.element(),
                           .rounding = rounding_of(rounding),
                           .overflow = overflow_of(overflow),
                           .snap = snap,
                           .divisor = divisor,
                           .low = low,
                           .high = high,
                           .normalised_snap = normalised_snap,
                           .least_known = least_known,
                           .small_result = small_result,
                           .weak = &weak,
                           .step = many ? d.strides()[0] : 0};
          nb::gil_scoped_release free;
          j.run(in, out, usable_threads(threads));
        },
        *job_);
    return weak;
  }
  size_t scratch_bytes(int threads) const {
    return std::visit([&](const auto& j) { return j.scratch_bytes(usable_threads(threads)); }, *job_);
  }

 protected:
  Shape shape_;
  Shape results_;  // where there are several outputs, which lie along a first axis of their own; else empty
  std::unique_ptr<Job> job_;
};

// For each node its [(source, index of taps), ...].
nb::list as_lists(const std::vector<Node>& level) {
  nb::list nodes;
  for (const Node& node : level) {
    nb::list edges;
    for (const Edge& e : node) edges.append(nb::make_tuple(e.source, e.taps));
    nodes.append(edges);
  }
  return nodes;
}

nb::list shared_passes(const std::vector<std::vector<int>>& terms, size_t levels) {
  nb::list program;
  for (const auto& level : share(terms, levels)) program.append(as_lists(level));
  return program;
}

class TermsJob : public FilterJob<sep::TermsJob> {
 public:
  // A pass is (axis, shift, mode, list of taps); a term is (output, index of its taps in each pass).
  TermsJob(const Shape& shape, const std::string& dtype, nb::list passes, std::vector<std::vector<int>> terms,
           double cval) {
    const bool wide = is_double(dtype);
    check_size(shape, wide ? 8 : 4);
    std::vector<AxisTaps> list;
    for (nb::handle pass : passes) {
      nb::tuple p = nb::cast<nb::tuple>(pass);
      if (p.size() != 4) throw nb::value_error("a pass is (axis, shift, mode, list of taps)");
      list.push_back({nb::cast<int>(p[0]), nb::cast<ptrdiff_t>(p[1]), mode_of(nb::cast<int>(p[2])), {}});
      for (nb::handle listed : nb::cast<nb::list>(p[3])) {
        auto taps = nb::cast<Weights>(listed);
        if (taps.ndim() != 1) throw nb::value_error("taps are one-dimensional");
        list.back().taps.emplace_back(taps.data(), taps.data() + taps.size());
      }
    }
    shape_ = shape;
    job_ = wide ? std::make_unique<Job>(std::in_place_index<1>, shape, list, std::move(terms), cval)
                : std::make_unique<Job>(std::in_place_index<0>, shape, list, std::move(terms), cval);
    const ptrdiff_t outputs = std::visit([](const auto& job) { return job.outputs(); }, *job_);
    if (outputs == 1) return;
    results_ = shape;
    results_.insert(results_.begin(), outputs);
    check_size(results_, wide ? 8 : 4);
  }
  // The passes in the order they run: {"axis", "taps", "folds": "none", "symmetric" or "antisymmetric" for each list of
  // taps, "nodes": the (source, index of taps) that each node sums}.
  nb::list describe() const {
    static const char* names[] = {"none", "symmetric", "antisymmetric"};
    nb::list out;
    std::visit(
        [&](const auto& job) {
          const Program program = job.program();
          for (size_t level = 0; level < program.size(); level++) {
            const auto& p = job.passes()[level];
            nb::list folds;
            for (const auto& t : p.taps) folds.append(names[int(t.fold)]);
            nb::dict pass;
            pass["axis"] = p.axis;
            pass["taps"] = p.reach.taps;
            pass["folds"] = folds;
            pass["nodes"] = as_lists(program[level]);
            out.append(pass);
          }
        },
        *job_);
    return out;
  }
};

class DirectJob : public FilterJob<sep::DirectJob> {
 public:
  DirectJob(const Shape& shape, const std::string& dtype, Weights weights, const Shape& shifts,
            const std::vector<int>& modes, double cval, const Shape& frame) {
    const bool wide = is_double(dtype);
    check_size(shape, wide ? 8 : 4);
    Shape extents;
    for (size_t i = 0; i < weights.ndim(); i++) extents.push_back(ptrdiff_t(weights.shape(i)));
    std::vector<Mode> m;
    for (int code : modes) m.push_back(mode_of(code));
    shape_ = shape;
    job_ = wide ? std::make_unique<Job>(std::in_place_index<1>, shape, extents, weights.data(), shifts, m, cval, frame)
                : std::make_unique<Job>(std::in_place_index<0>, shape, extents, weights.data(), shifts, m, cval, frame);
  }
};

class BoxAndCosinesJob {
 public:
  // A pass is (axis, taps, shift, mode, odd, frequencies, amplitudes).
  BoxAndCosinesJob(const Shape& shape, nb::list passes, double cval, double factor, double divisor, const Shape& frame,
                   const Shape& starts)
      : shape_(shape) {
    check_size(shape, 8);
    std::vector<BoxOrCosinesPass> list;
    for (nb::handle pass : passes) {
      nb::tuple p = nb::cast<nb::tuple>(pass);
      if (p.size() != 7) throw nb::value_error("a pass is (axis, taps, shift, mode, odd, frequencies, amplitudes)");
      list.push_back({nb::cast<int>(p[0]), nb::cast<ptrdiff_t>(p[1]), nb::cast<ptrdiff_t>(p[2]),
                      mode_of(nb::cast<int>(p[3])), nb::cast<bool>(p[4]), nb::cast<std::vector<double>>(p[5]),
                      nb::cast<std::vector<double>>(p[6])});
    }
    job_ = std::make_unique<sep::BoxAndCosinesJob>(shape, std::move(list), cval, factor, divisor, frame, starts);
  }
  void run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double low,
           double high) const {
    const Storing how{1, 1, rounding_of(rounding), overflow_of(overflow), snap, low, high};
    const auto any = [](Element) { return true; };
    View s(src, false, shape_, any, "src"), d(dst, true, shape_, any, "dst");
    nb::gil_scoped_release free;
    job_->run({s.data(), s.strides(), s.element()}, {d.data(), d.strides(), d.element()}, how, usable_threads(threads));
  }
  size_t scratch_bytes(int threads) const { return job_->scratch_bytes(usable_threads(threads)); }

 private:
  Shape shape_;
  std::unique_ptr<sep::BoxAndCosinesJob> job_;
};

class DifferencesJob {
 public:
  DifferencesJob(const Shape& shape, Weights weights, ptrdiff_t axis, const Shape& shifts,
                 const std::vector<int>& modes, double cval, double divisor, bool fixed_point)
      : shape_(shape) {
    check_size(shape, 8);
    Shape extents;
    for (size_t i = 0; i < weights.ndim(); i++) extents.push_back(ptrdiff_t(weights.shape(i)));
    std::vector<Mode> m;
    for (int code : modes) m.push_back(mode_of(code));
    job_ = std::make_unique<sep::DifferencesJob>(shape, extents, weights.data(), axis, shifts, m, cval, divisor,
                                                 fixed_point);
  }
  void run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double low,
           double high) const {
    const auto any = [](Element) { return true; };
    View s(src, false, shape_, any, "src"), d(dst, true, shape_, any, "dst");
    const Output out{d.data(), d.strides(), d.element(), rounding_of(rounding), overflow_of(overflow), snap,
                     1,        low,         high};
    nb::gil_scoped_release free;
    job_->run({s.data(), s.strides(), s.element()}, out, usable_threads(threads));
  }
  size_t scratch_bytes(int threads) const { return job_->scratch_bytes(usable_threads(threads)); }

 private:
  Shape shape_;
  std::unique_ptr<sep::DifferencesJob> job_;
};

template <class Job>
void bind_run(nb::class_<Job>& job) {
  job.def("run", &Job::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = int(Rounding::nearest),
          "overflow"_a = int(Overflow::saturate), "snap"_a = 0.0, "divisor"_a = 1.0, "low"_a = -kInfinity,
          "high"_a = kInfinity, "mask"_a = nb::none(), "nan_unknown"_a = false, "outside_unknown"_a = false,
          "normalised_snap"_a = 0.0, "least_known"_a = 0.0, "small_result"_a = 0.0)
      .def("scratch_bytes", &Job::scratch_bytes, "threads"_a);
}

// Of jobs that divide by themselves and take no mask.
template <class Job>
void bind_plain_run(nb::class_<Job>& job) {
  job.def("run", &Job::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = int(Rounding::nearest),
          "overflow"_a = int(Overflow::saturate), "snap"_a = 0.0, "low"_a = -kInfinity, "high"_a = kInfinity)
      .def("scratch_bytes", &Job::scratch_bytes, "threads"_a);
}

}  // namespace

void bind_filters(nb::module_& m) {
  nb::enum_<Mode>(m, "Mode", nb::is_arithmetic(), "What stands beyond the ends of an axis.")
      .value("reflect", Mode::reflect)
      .value("constant", Mode::constant)
      .value("nearest", Mode::nearest)
      .value("mirror", Mode::mirror)
      .value("wrap", Mode::wrap);
  nb::enum_<Rounding>(m, "Rounding", nb::is_arithmetic(), "How results become integers.")
      .value("nearest", Rounding::nearest)
      .value("truncate", Rounding::truncate);
  nb::enum_<Overflow>(m, "Overflow", nb::is_arithmetic(), "What becomes of integers that the dtype does not hold.")
      .value("saturate", Overflow::saturate)
      .value("wrap", Overflow::wrap);

  m.def("shared_passes", &shared_passes, "terms"_a, "levels"_a);
  nb::class_<TermsJob> terms(m, "TermsJob");
  terms
      .def(nb::init<const Shape&, const std::string&, nb::list, std::vector<std::vector<int>>, double>(), "shape"_a,
           "dtype"_a, "passes"_a, "terms"_a, "cval"_a)
      .def("describe", &TermsJob::describe);
  bind_run(terms);
  nb::class_<DirectJob> direct(m, "DirectJob");
  direct.def(nb::init<const Shape&, const std::string&, Weights, const Shape&, const std::vector<int>&, double,
                      const Shape&>(),
             "shape"_a, "dtype"_a, "weights"_a, "shifts"_a, "modes"_a, "cval"_a, "frame"_a = Shape());
  bind_run(direct);
  nb::class_<BoxAndCosinesJob> box_and_cosines(m, "BoxAndCosinesJob");
  box_and_cosines.def(nb::init<const Shape&, nb::list, double, double, double, const Shape&, const Shape&>(), "shape"_a,
                      "passes"_a, "cval"_a, "factor"_a, "divisor"_a, "frame"_a = Shape(), "starts"_a = Shape());
  bind_plain_run(box_and_cosines);
  nb::class_<DifferencesJob> differences(m, "DifferencesJob");
  differences.def(
      nb::init<const Shape&, Weights, ptrdiff_t, const Shape&, const std::vector<int>&, double, double, bool>(),
      "shape"_a, "weights"_a, "axis"_a, "shifts"_a, "modes"_a, "cval"_a, "divisor"_a, "fixed_point"_a = false);
  bind_plain_run(differences);
}

}  // namespace sep::bind
