// The one binding file: Python objects in, plain C++ out. It checks what memory safety needs; Python explains the rest.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <variant>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "direct_job.h"
#include "extent.h"
#include "fused_gradients.h"
#include "fused_job.h"
#include "machine.h"
#include "progress.h"
#include "running_job.h"
#include "separable_job.h"
#include "sums_job.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace sep;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Shape = std::vector<ptrdiff_t>;
using Weights = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;

// What the letter of a buffer's format stands for, and the size of its items.
std::optional<Element> element_of(const Py_buffer& b) {
  const char* format = b.format ? b.format : "";
  if (*format == '@' || *format == '=' || *format == (std::endian::native == std::endian::little ? '<' : '>')) format++;
  if (!format[0] || format[1]) return {};
  if (*format == '?' && b.itemsize == 1) return Element::boolean;
  if (*format == 'f' && b.itemsize == 4) return Element::f32;
  if (*format == 'd' && b.itemsize == 8) return Element::f64;
  const bool is_signed = std::strchr("bhilq", *format), is_unsigned = std::strchr("BHILQ", *format);
  if (!is_signed && !is_unsigned) return {};
  switch (b.itemsize) {
    case 1:
      return is_signed ? Element::i8 : Element::u8;
    case 2:
      return is_signed ? Element::i16 : Element::u16;
    case 4:
      return is_signed ? Element::i32 : Element::u32;
    case 8:
      return is_signed ? Element::i64 : Element::u64;
    default:
      return {};
  }
}

// A view of an array's memory through the buffer protocol: cheaper than DLPack, and it keeps byte strides.
class View {
 public:
  // allowed: the elements that the job converts, null for others
  template <class Allowed>
  View(nb::handle array, bool writable, const Shape& shape, Allowed allowed, const char* name) {
    if (PyObject_GetBuffer(array.ptr(), &b_, PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) != 0)
      throw nb::python_error();
    const std::optional<Element> element = element_of(b_);
    const char* why = element && allowed(*element) ? wrong(shape) : "a dtype that this job does not convert";
    if (why) {
      PyBuffer_Release(&b_);
      throw nb::type_error((std::string(name) + ": " + why).c_str());
    }
    element_ = *element;
  }
  View(const View&) = delete;
  ~View() { PyBuffer_Release(&b_); }

  char* data() const { return static_cast<char*>(b_.buf); }
  const ptrdiff_t* strides() const { return b_.strides; }
  Element element() const { return element_; }

 private:
  const char* wrong(const Shape& shape) const {
    if (size_t(b_.ndim) != shape.size()) return "another number of axes than the job was made for";
    if (!b_.strides) return "memory without strides";  // what ctypes gives, whatever is asked of it
    uintptr_t bits = reinterpret_cast<uintptr_t>(b_.buf);
    for (int i = 0; i < b_.ndim; i++) {
      if (b_.shape[i] != shape[i]) return "another shape than the job was made for";
      if (b_.shape[i] > 1) bits |= uintptr_t(b_.strides[i]);
    }
    return bits % size_t(b_.itemsize) ? "memory that is not aligned to its items" : nullptr;
  }
  Py_buffer b_;
  Element element_;
};

bool is_double(const std::string& dtype) {
  if (dtype != "float32" && dtype != "float64") throw nb::value_error("dtype must be 'float32' or 'float64'");
  return dtype == "float64";
}

void check_size(const Shape& shape, size_t item) {
  size_t bytes = item;
  for (ptrdiff_t n : shape)
    if (n < 0 || (n > 0 && __builtin_mul_overflow(bytes, size_t(n), &bytes)) || bytes > size_t(PTRDIFF_MAX))
      throw std::overflow_error("an array of this shape does not fit the address space");
}

// The system refuses tens of thousands of threads, and nobody has the processors for them.
int sane(int threads) { return std::clamp(threads, 1, 1024); }

Rounding rounding_of(int code) {
  if (code < 0 || code > 1) throw nb::value_error("codes of rounding are 0 (nearest) and 1 (truncate)");
  return Rounding(code);
}
Overflow overflow_of(int code) {
  if (code < 0 || code > 1) throw nb::value_error("codes of overflow are 0 (saturate) and 1 (wrap)");
  return Overflow(code);
}

template <template <class> class Kind>
class Prepared {
 public:
  using Job = std::variant<Kind<float>, Kind<double>>;

  // Codes: rounding and overflow as the enumerations say. mask: None, or bool of the shape.
  // Returns whether a normalised result is weak, see Norm.
  bool run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double divisor, double low,
           double high, nb::handle mask, bool nan_unknown, bool outside_unknown, double mended, double least,
           double small) const {
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
          const Output out{d.data(), d.strides() + many, d.element(), rounding_of(rounding), overflow_of(overflow),
                           snap,     divisor,            low,         high,                  mended,
                           least,    small,              &weak,       many ? d.strides()[0] : 0};
          nb::gil_scoped_release free;
          j.run(in, out, sane(threads));
        },
        *job_);
    return weak;
  }
  size_t scratch_bytes(int threads) const {
    return std::visit([&](const auto& j) { return j.scratch_bytes(sane(threads)); }, *job_);
  }

 protected:
  Shape shape_;
  Shape results_;  // where there are several outputs, which lie along a first axis of their own; else empty
  std::unique_ptr<Job> job_;
};

// [(source, index of taps), ...] of each node.
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

class Separable : public Prepared<SeparableJob> {
 public:
  // A pass is (axis, shift, mode, list of taps); a term is (output, index of its taps in each pass).
  Separable(const Shape& shape, const std::string& dtype, nb::list passes, std::vector<std::vector<int>> terms,
            double cval) {
    const bool wide = is_double(dtype);
    check_size(shape, wide ? 8 : 4);
    std::vector<AxisTaps> list;
    for (nb::handle pass : passes) {
      nb::tuple p = nb::cast<nb::tuple>(pass);
      if (p.size() != 4) throw nb::value_error("a pass is (axis, shift, mode, list of taps)");
      list.push_back({nb::cast<int>(p[0]), nb::cast<ptrdiff_t>(p[1]), mode_of(nb::cast<int>(p[2])), {}});
      for (nb::handle each : nb::cast<nb::list>(p[3])) {
        auto taps = nb::cast<Weights>(each);
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
  static Mode mode_of(int code) {
    if (code < 0 || code > 4) throw nb::value_error("mode codes are 0 (reflect) to 4 (wrap)");
    return Mode(code);
  }
  // The passes in the order they run: {"axis", "taps", "folds": one of "none", "symmetric", "antisymmetric" for each of its
  // lists of taps, "nodes": what it sums up, lists of (source, index of taps)}.
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

class Direct : public Prepared<DirectJob> {
 public:
  Direct(const Shape& shape, const std::string& dtype, Weights weights, const Shape& shifts,
         const std::vector<int>& modes, double cval) {
    const bool wide = is_double(dtype);
    check_size(shape, wide ? 8 : 4);
    Shape extents;
    for (size_t i = 0; i < weights.ndim(); i++) extents.push_back(ptrdiff_t(weights.shape(i)));
    std::vector<Mode> m;
    for (int code : modes) m.push_back(Separable::mode_of(code));
    shape_ = shape;
    job_ = wide ? std::make_unique<Job>(std::in_place_index<1>, shape, extents, weights.data(), shifts, m, cval)
                : std::make_unique<Job>(std::in_place_index<0>, shape, extents, weights.data(), shifts, m, cval);
  }
};

class Running {
 public:
  // A pass is (axis, taps, shift, mode, odd, frequencies, amplitudes).
  Running(const Shape& shape, nb::list passes, double cval, double factor, double divisor) : shape_(shape) {
    check_size(shape, 8);
    std::vector<RunningPass> list;
    for (nb::handle pass : passes) {
      nb::tuple p = nb::cast<nb::tuple>(pass);
      if (p.size() != 7) throw nb::value_error("a pass is (axis, taps, shift, mode, odd, frequencies, amplitudes)");
      list.push_back({nb::cast<int>(p[0]), nb::cast<ptrdiff_t>(p[1]), nb::cast<ptrdiff_t>(p[2]),
                      Separable::mode_of(nb::cast<int>(p[3])), nb::cast<bool>(p[4]), nb::cast<std::vector<double>>(p[5]),
                      nb::cast<std::vector<double>>(p[6])});
    }
    job_ = std::make_unique<RunningJob>(shape, std::move(list), cval, factor, divisor);
  }
  void run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double low,
           double high) const {
    const Storing how{1, 1, rounding_of(rounding), overflow_of(overflow), snap, low, high};
    const auto any = [](Element) { return true; };
    View s(src, false, shape_, any, "src"), d(dst, true, shape_, any, "dst");
    nb::gil_scoped_release free;
    job_->run({s.data(), s.strides(), s.element()}, {d.data(), d.strides(), d.element()}, how, sane(threads));
  }
  size_t scratch_bytes(int threads) const { return job_->scratch_bytes(sane(threads)); }

 private:
  Shape shape_;
  std::unique_ptr<RunningJob> job_;
};

class Sums {
 public:
  Sums(const Shape& shape, Weights weights, ptrdiff_t axis, const Shape& shifts, const std::vector<int>& modes, double cval,
       double divisor, bool fixed_point)
      : shape_(shape) {
    check_size(shape, 8);
    Shape extents;
    for (size_t i = 0; i < weights.ndim(); i++) extents.push_back(ptrdiff_t(weights.shape(i)));
    std::vector<Mode> m;
    for (int code : modes) m.push_back(Separable::mode_of(code));
    job_ = std::make_unique<SumsJob>(shape, extents, weights.data(), axis, shifts, m, cval, divisor, fixed_point);
  }
  void run(nb::handle src, nb::handle dst, int threads, int rounding, int overflow, double snap, double low,
           double high) const {
    const auto any = [](Element) { return true; };
    View s(src, false, shape_, any, "src"), d(dst, true, shape_, any, "dst");
    const Output out{d.data(), d.strides(), d.element(), rounding_of(rounding), overflow_of(overflow), snap, 1, low, high};
    nb::gil_scoped_release free;
    job_->run({s.data(), s.strides(), s.element()}, out, sane(threads));
  }
  size_t scratch_bytes(int threads) const { return job_->scratch_bytes(sane(threads)); }

 private:
  Shape shape_;
  std::unique_ptr<SumsJob> job_;
};

// (smallest, largest) of the samples, without NaN and those that the mask (None, or bool of the shape) hides; as floats.
nb::tuple extent(const Shape& shape, nb::handle src, int threads, nb::handle mask) {
  View s(src, false, shape, [](Element) { return true; }, "src");
  std::optional<View> m;
  if (!mask.is_none()) m.emplace(mask, false, shape, [](Element e) { return e == Element::boolean; }, "mask");
  const Input in{s.data(), s.strides(), s.element(), m ? m->data() : nullptr, m ? m->strides() : nullptr};
  Extent found;
  {
    nb::gil_scoped_release free;
    found = extent_of(shape, in, sane(threads));
  }
  return nb::make_tuple(found.low, found.high);
}

// A buffer of any shape: (N, *spatial, C), channels next to each other.
template <class T>
class Pixels {
 public:
  Pixels(nb::handle array, bool writable, const char* name) {
    if (PyObject_GetBuffer(array.ptr(), &b_, PyBUF_FORMAT | PyBUF_STRIDES | (writable ? PyBUF_WRITABLE : 0)) != 0)
      throw nb::python_error();
    if (const char* why = wrong()) {
      PyBuffer_Release(&b_);
      throw nb::type_error((std::string(name) + ": " + why).c_str());
    }
  }
  Pixels(const Pixels&) = delete;
  ~Pixels() { PyBuffer_Release(&b_); }

  ptrdiff_t channels() const { return b_.shape[b_.ndim - 1]; }
  int axes() const { return b_.ndim - 2; }
  Tensor<T> tensor() const {
    Tensor<T> t{static_cast<T*>(b_.buf), b_.shape[0], {1, 1, 1}, b_.strides[0] / kItem, {0, 0, 0}};
    for (int i = 1, axis = 4 - b_.ndim + 1; i < b_.ndim - 1; i++, axis++) {
      t.extents[axis] = b_.shape[i];
      t.pitch[axis] = b_.strides[i] / kItem;
    }
    return t;
  }
  bool same_layout(const Pixels<const std::remove_const_t<T>>& o) const {
    if (o.b_.ndim != b_.ndim) return false;
    for (int i = 0; i < b_.ndim; i++)
      if (o.b_.shape[i] != b_.shape[i] || (b_.shape[i] > 1 && o.b_.strides[i] != b_.strides[i])) return false;
    return true;
  }

 private:
  template <class U>
  friend class Pixels;
  static constexpr ptrdiff_t kItem = sizeof(T);

  const char* wrong() const {
    const char* format = b_.format ? b_.format : "";
    if (*format == '@' || *format == '=' || *format == (std::endian::native == std::endian::little ? '<' : '>')) format++;
    if (format[0] != (kItem == 8 ? 'd' : 'f') || format[1] || b_.itemsize != kItem)
      return "another dtype than the operator was made for";
    if (b_.ndim < 3 || b_.ndim > 5) return "expected (N, *spatial, C) with one to three spatial axes";
    if (!b_.strides) return "memory without strides";
    uintptr_t bits = reinterpret_cast<uintptr_t>(b_.buf);
    for (int i = 0; i < b_.ndim; i++)
      if (b_.shape[i] > 1) bits |= uintptr_t(b_.strides[i]);
    if (bits % kItem) return "memory that is not aligned to its items";
    if (channels() > 1 && b_.strides[b_.ndim - 1] != kItem) return "channels that do not lie next to each other";
    return nullptr;
  }
  Py_buffer b_;
};

// depthwise (C_mid, taps) and pointwise (rows, columns), C-contiguous
template <class T>
class Fused {
 public:
  using Weights = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
  using MaybeBias = std::optional<Weights>;
  using Result = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

  Fused(bool pointwise_first, ptrdiff_t multiplier, const Shape& kernel, const Shape& stride, const Shape& dilation,
        int mode, int depthwise_act, int act, Weights depthwise, Weights pointwise, MaybeBias depthwise_bias,
        MaybeBias bias) {
    FusedSpec s{};
    s.pointwise_first = pointwise_first;
    s.multiplier = multiplier;
    s.kernel = three(kernel), s.stride = three(stride), s.dilation = three(dilation);
    s.mode = Separable::mode_of(mode);
    if (pointwise_first && s.mode != Mode::constant) throw nb::value_error("pointwise first: zero padding only");
    s.depthwise_act = act_of(depthwise_act), s.pointwise_act = act_of(act);
    if (depthwise.ndim() != 2 || pointwise.ndim() != 2) throw nb::value_error("weights are two-dimensional");
    const ptrdiff_t mid = ptrdiff_t(depthwise.shape(0));
    if (multiplier < 1 || mid < 1 || mid % multiplier) throw nb::value_error("multiplier does not divide the channels");
    const ptrdiff_t rows = ptrdiff_t(pointwise.shape(0)), columns = ptrdiff_t(pointwise.shape(1));
    weights_ = {depthwise, pointwise, depthwise_bias, bias};
    s.c_in = pointwise_first ? columns : mid / multiplier;
    s.c_out = pointwise_first ? mid / multiplier : rows;
    if (rows < 1 || columns < 1 || (pointwise_first ? rows : columns) != mid || s.taps() != ptrdiff_t(depthwise.shape(1)))
      throw nb::value_error("weights do not fit each other");
    if (depthwise_bias && ptrdiff_t(depthwise_bias->size()) != (pointwise_first ? s.c_out : mid))
      throw nb::value_error("depthwise_bias has another length");
    if (bias && ptrdiff_t(bias->size()) != rows) throw nb::value_error("bias has another length");
    const FusedWeights<T> w = weights();
    job_ = std::make_unique<FusedJob<T>>(s, w.depthwise, w.pointwise, w.depthwise_bias, w.bias);
  }

  void run(nb::handle src, nb::handle dst, nb::handle residual, const Shape& before, int threads) const {
    Pixels<const T> s(src, false, "src");
    Pixels<T> d(dst, true, "dst");
    std::optional<Pixels<const T>> r;
    if (!residual.is_none()) {
      r.emplace(residual, false, "residual");
      if (!d.same_layout(*r)) throw nb::value_error("residual is laid out otherwise than dst");
    }
    check(s, d);
    const Shape3 pad = padding(before);
    nb::gil_scoped_release free;
    job_->run(s.tensor(), d.tensor(), r ? r->tensor().data : nullptr, pad, sane(threads));
  }

  // output: None, or what `run` gave, if the last activation is a clamp. x_grad: None, or zeros. The others, None together,
  // are shaped like the weights they belong to.
  void gradients(nb::handle src, nb::handle grad, nb::handle output, nb::handle x_grad, std::optional<Result> depthwise,
                 std::optional<Result> pointwise, std::optional<Result> depthwise_bias, std::optional<Result> bias,
                 const Shape& before, int threads) const {
    Pixels<const T> s(src, false, "src"), g(grad, false, "grad");
    std::optional<Pixels<T>> d;
    if (!x_grad.is_none()) {
      d.emplace(x_grad, true, "x_grad");
      const Tensor<T> a = d->tensor();
      if (d->channels() != s.channels() || a.batch != s.tensor().batch || a.extents != s.tensor().extents)
        throw nb::value_error("x_grad has another shape than src");
    }
    check(s, g);
    const FusedSpec& spec = job_->spec();
    if (spec.mode != Mode::constant) throw nb::value_error("gradients: zero padding only");
    std::optional<Pixels<const T>> y;
    std::optional<Tensor<const T>> result;
    if (!output.is_none()) {
      y.emplace(output, false, "output");
      check(s, *y);
      result = y->tensor();
      if (result->extents != g.tensor().extents) throw nb::value_error("output has another shape than grad");
    }
    const Act last = spec.pointwise_first ? spec.depthwise_act : spec.pointwise_act;
    const bool clamps = (last == Act::relu || last == Act::relu6) && !spec.pointwise_first;
    if (clamps ? !y : y || last != Act::none)
      throw nb::value_error("gradients: the last activation must be none, or a clamp whose output is given");
    const auto& [dw, pw, db, b] = weights_;
    const size_t mid = dw->size() / size_t(spec.taps());
    if (depthwise && (depthwise->size() != dw->size() || !pointwise || pointwise->size() != pw->size() || !depthwise_bias ||
                      !bias || depthwise_bias->size() != mid || bias->size() != pw->shape(0)))
      throw nb::value_error("gradients: a result has another size than its weights");
    FusedResults<T> out{d ? d->tensor().data : nullptr, nullptr, nullptr, nullptr, nullptr};
    if (depthwise) {
      out.depthwise = depthwise->data(), out.pointwise = pointwise->data();
      out.depthwise_bias = depthwise_bias->data(), out.bias = bias->data();
    }
    const Shape3 pad = padding(before);
    nb::gil_scoped_release free;
    fused_gradients<T>(spec, weights(), s.tensor(), g.tensor(), result ? &*result : nullptr, d ? d->tensor() : Tensor<T>{}, out, pad, sane(threads));
  }

 private:
  static Shape3 padding(const Shape& before) {
    Shape3 pad{0, 0, 0};
    if (before.size() > 3) throw nb::value_error("before has too many axes");
    std::copy(before.begin(), before.end(), pad.end() - ptrdiff_t(before.size()));
    for (ptrdiff_t n : pad)
      if (n < 0 || n > (ptrdiff_t(1) << 40)) throw nb::value_error("before lies out of range");
    return pad;
  }
  FusedWeights<T> weights() const {
    const auto& [d, p, db, b] = weights_;
    return {d->data(), p->data(), db ? db->data() : nullptr, b ? b->data() : nullptr};
  }
  static Shape3 three(const Shape& shape) {
    if (shape.empty() || shape.size() > 3) throw nb::value_error("one to three spatial axes");
    Shape3 out{1, 1, 1};
    for (size_t i = 0; i < shape.size(); i++) {
      if (shape[i] < 1 || shape[i] > (1 << 30)) throw nb::value_error("kernel, stride and dilation are 1 or more");
      out[3 - shape.size() + i] = shape[i];
    }
    return out;
  }
  static Act act_of(int code) {
    if (code < 0 || code > int(Act::gelu_tanh)) throw nb::value_error("no such activation");
    return Act(code);
  }
  template <class Out>
  void check(const Pixels<const T>& s, const Out& d) const {
    const FusedSpec& spec = job_->spec();
    if (s.channels() != spec.c_in || d.channels() != spec.c_out) throw nb::value_error("another number of channels");
    const Tensor<const T> a = s.tensor();
    const size_t axes = size_t(s.axes());
    if (d.axes() != s.axes() || axes > 3) throw nb::value_error("src and dst differ in their axes");
    if (a.batch != d.tensor().batch) throw nb::value_error("src and dst differ in their batch");
    for (ptrdiff_t n : a.extents)
      if (n == 0 && spec.mode != Mode::constant) throw nb::value_error("nothing to pad from");
  }
  std::unique_ptr<FusedJob<T>> job_;
  std::array<MaybeBias, 4> weights_;  // as given; the first two are there
};

template <class T>
void bind_fused(nb::module_& m, const char* name) {
  nb::class_<Fused<T>>(m, name)
      .def(nb::init<bool, ptrdiff_t, const Shape&, const Shape&, const Shape&, int, int, int, typename Fused<T>::Weights,
                    typename Fused<T>::Weights, typename Fused<T>::MaybeBias, typename Fused<T>::MaybeBias>(),
           "pointwise_first"_a, "multiplier"_a, "kernel"_a, "stride"_a, "dilation"_a, "mode"_a, "depthwise_act"_a,
           "act"_a, "depthwise"_a, "pointwise"_a, "depthwise_bias"_a.none(), "bias"_a.none())
      .def("run", &Fused<T>::run, "src"_a, "dst"_a, "residual"_a.none(), "before"_a, "threads"_a)
      .def("gradients", &Fused<T>::gradients, "src"_a, "grad"_a, "output"_a.none(), "x_grad"_a.none(), "depthwise"_a.none(),
           "pointwise"_a.none(), "depthwise_bias"_a.none(), "bias"_a.none(), "before"_a, "threads"_a);
}

// Uninitialised, aligned to a cache line; large ones to (and, where the system can, on) huge pages.
nb::object empty(const Shape& shape, const std::string& dtype) {
  const bool wide = is_double(dtype);
  check_size(shape, wide ? 8 : 4);
  size_t bytes = wide ? 8 : 4;
  for (ptrdiff_t n : shape) bytes *= size_t(n);
  constexpr size_t kHuge = size_t(2) << 20;
  static constexpr std::align_val_t line{64}, page{kHuge};
  const bool big = bytes >= 2 * kHuge;
  void* p = ::operator new(std::max<size_t>(bytes, 64), big ? page : line);
#if defined(__linux__)
  if (big) madvise(p, bytes / kHuge * kHuge, MADV_HUGEPAGE);
#endif
  nb::capsule owner = big ? nb::capsule(p, [](void* q) noexcept { ::operator delete(q, page); })
                          : nb::capsule(p, [](void* q) noexcept { ::operator delete(q, line); });
  std::vector<size_t> dims(shape.begin(), shape.end());
  if (wide) return nb::cast(nb::ndarray<nb::numpy, double>(p, dims.size(), dims.data(), owner));
  return nb::cast(nb::ndarray<nb::numpy, float>(p, dims.size(), dims.data(), owner));
}

// The sweeps of a job that Python makes of several.
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

}  // namespace

NB_MODULE(_core, m) {
  nb::set_leak_warnings(false);  // cached plans hold jobs until the interpreter is gone
  m.doc() = "Line kernels and drivers of separable. Private: use the verbs of `separable`.";
  m.def("shared_passes", &shared_passes, "terms"_a, "levels"_a);
  nb::class_<Separable>(m, "Job")
      .def(nb::init<const Shape&, const std::string&, nb::list, std::vector<std::vector<int>>, double>(), "shape"_a,
           "dtype"_a, "passes"_a, "terms"_a, "cval"_a)
      .def("run", &Separable::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = 0, "overflow"_a = 0, "snap"_a = 0.0,
           "divisor"_a = 1.0, "low"_a = -kInfinity, "high"_a = kInfinity, "mask"_a = nb::none(), "nan_unknown"_a = false,
           "outside_unknown"_a = false, "mended"_a = 0.0, "least"_a = 0.0, "small"_a = 0.0)
      .def("scratch_bytes", &Separable::scratch_bytes, "threads"_a)
      .def("describe", &Separable::describe);
  nb::class_<Direct>(m, "DirectJob")
      .def(nb::init<const Shape&, const std::string&, Weights, const Shape&, const std::vector<int>&, double>(),
           "shape"_a, "dtype"_a, "weights"_a, "shifts"_a, "modes"_a, "cval"_a)
      .def("run", &Direct::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = 0, "overflow"_a = 0, "snap"_a = 0.0,
           "divisor"_a = 1.0, "low"_a = -kInfinity, "high"_a = kInfinity, "mask"_a = nb::none(), "nan_unknown"_a = false,
           "outside_unknown"_a = false, "mended"_a = 0.0, "least"_a = 0.0, "small"_a = 0.0)
      .def("scratch_bytes", &Direct::scratch_bytes, "threads"_a);
  nb::class_<Running>(m, "RunningJob")
      .def(nb::init<const Shape&, nb::list, double, double, double>(), "shape"_a, "passes"_a, "cval"_a, "factor"_a,
           "divisor"_a)
      .def("run", &Running::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = 0, "overflow"_a = 0, "snap"_a = 0.0,
           "low"_a = -kInfinity, "high"_a = kInfinity)
      .def("scratch_bytes", &Running::scratch_bytes, "threads"_a);
  nb::class_<Sums>(m, "SumsJob")
      .def(nb::init<const Shape&, Weights, ptrdiff_t, const Shape&, const std::vector<int>&, double, double, bool>(),
           "shape"_a, "weights"_a, "axis"_a, "shifts"_a, "modes"_a, "cval"_a, "divisor"_a, "fixed_point"_a = false)
      .def("run", &Sums::run, "src"_a, "dst"_a, "threads"_a, "rounding"_a = 0, "overflow"_a = 0, "snap"_a = 0.0,
           "low"_a = -kInfinity, "high"_a = kInfinity)
      .def("scratch_bytes", &Sums::scratch_bytes, "threads"_a);
  bind_fused<float>(m, "FusedJob32");
  bind_fused<double>(m, "FusedJob64");
  m.def("empty", &empty, "shape"_a, "dtype"_a);
  m.def("extent", &extent, "shape"_a, "src"_a, "threads"_a, "mask"_a = nb::none());
  m.def("core_info", &core_info);
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
  m.def(
      "measure",
      [](const std::string& what) {
        if (what != "fma" && what != "stream") throw nb::value_error("measure: 'fma' or 'stream'");
        nb::gil_scoped_release free;
        return what == "fma" ? measure_fma() : measure_stream();
      },
      "what"_a);
}
