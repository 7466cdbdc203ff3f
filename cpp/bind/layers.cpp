// The jobs of layers, bound to Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "bind/arrays.h"
#include "layers/fused_gradients.h"
#include "layers/fused_job.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

Activation activation_of(int code) {
  if (code < 0 || code > int(Activation::gelu_tanh)) throw nb::value_error("no such activation");
  return Activation(code);
}

// A tensor (N, *spatial, C) of any shape, its channels contiguous.
template <class T>
class Pixels {
 public:
  Pixels(nb::handle array, bool writable, const char* name) : buffer_(array, writable) {
    if (const char* why = wrong()) throw nb::type_error((std::string(name) + ": " + why).c_str());
  }

  ptrdiff_t channels() const { return buffer_->shape[buffer_->ndim - 1]; }
  int axes() const { return buffer_->ndim - 2; }
  Tensor<T> tensor() const {
    Tensor<T> t{static_cast<T*>(buffer_->buf), buffer_->shape[0], {1, 1, 1}, buffer_->strides[0] / kItem, {0, 0, 0}};
    for (int i = 1, axis = 4 - buffer_->ndim + 1; i < buffer_->ndim - 1; i++, axis++) {
      t.extents[axis] = buffer_->shape[i];
      t.pitch[axis] = buffer_->strides[i] / kItem;
    }
    return t;
  }
  bool same_layout(const Pixels<const std::remove_const_t<T>>& o) const {
    if (o.buffer_->ndim != buffer_->ndim) return false;
    for (int i = 0; i < buffer_->ndim; i++)
      if (o.buffer_->shape[i] != buffer_->shape[i] ||
          (buffer_->shape[i] > 1 && o.buffer_->strides[i] != buffer_->strides[i]))
        return false;
    return true;
  }

 private:
  template <class U>
  friend class Pixels;
  static constexpr ptrdiff_t kItem = sizeof(T);

  const char* wrong() const {
    if (buffer_.element() != kOwn<std::remove_const_t<T>>) return "another dtype than the operator was made for";
    if (buffer_->ndim < 3 || buffer_->ndim > 5) return "expected (N, *spatial, C) with one to three spatial axes";
    if (!buffer_->strides) return "memory without strides";
    if (!buffer_.aligned()) return "memory that is not aligned to its items";
    if (channels() > 1 && buffer_->strides[buffer_->ndim - 1] != kItem)
      return "channels that do not lie next to each other";
    return nullptr;
  }

  Buffer buffer_;
};

// A fused layer with its weights: depthwise (C_mid, taps) and pointwise (rows, columns), C-contiguous.
template <class T>
class FusedJob {
 public:
  using Weights = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
  using MaybeBias = std::optional<Weights>;
  using Result = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

  FusedJob(bool pointwise_first, ptrdiff_t multiplier, const Shape& kernel, const Shape& stride, const Shape& dilation,
           int mode, int depthwise_act, int act, Weights depthwise, Weights pointwise, MaybeBias depthwise_bias,
           MaybeBias bias) {
    FusedSpec s{};
    s.pointwise_first = pointwise_first;
    s.multiplier = multiplier;
    s.kernel = three(kernel), s.stride = three(stride), s.dilation = three(dilation);
    s.mode = mode_of(mode);
    if (pointwise_first && s.mode != Mode::constant) throw nb::value_error("pointwise first: zero padding only");
    s.depthwise_act = activation_of(depthwise_act), s.pointwise_act = activation_of(act);
    if (depthwise.ndim() != 2 || pointwise.ndim() != 2) throw nb::value_error("weights are two-dimensional");
    const ptrdiff_t mid = ptrdiff_t(depthwise.shape(0));
    if (multiplier < 1 || mid < 1 || mid % multiplier) throw nb::value_error("multiplier does not divide the channels");
    const ptrdiff_t rows = ptrdiff_t(pointwise.shape(0)), columns = ptrdiff_t(pointwise.shape(1));
    weights_ = {depthwise, pointwise, depthwise_bias, bias};
    s.c_in = pointwise_first ? columns : mid / multiplier;
    s.c_out = pointwise_first ? mid / multiplier : rows;
    if (rows < 1 || columns < 1 || (pointwise_first ? rows : columns) != mid ||
        s.taps() != ptrdiff_t(depthwise.shape(1)))
      throw nb::value_error("weights do not fit each other");
    if (depthwise_bias && ptrdiff_t(depthwise_bias->size()) != (pointwise_first ? s.c_out : mid))
      throw nb::value_error("depthwise_bias has another length");
    if (bias && ptrdiff_t(bias->size()) != rows) throw nb::value_error("bias has another length");
    const FusedWeights<T> w = weights();
    job_ = std::make_unique<sep::FusedJob<T>>(s, w.depthwise, w.pointwise, w.depthwise_bias, w.bias);
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
    job_->run(s.tensor(), d.tensor(), r ? r->tensor().data : nullptr, pad, usable_threads(threads));
  }

  // output: None, or what `run` gave, if the last activation is a clamp. x_grad: None, or zeros. The others, None
  // together, are shaped like the weights they belong to.
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
    const Activation last = spec.pointwise_first ? spec.depthwise_act : spec.pointwise_act;
    const bool clamps = (last == Activation::relu || last == Activation::relu6) && !spec.pointwise_first;
    if (clamps ? !y : y || last != Activation::none)
      throw nb::value_error("gradients: the last activation must be none, or a clamp whose output is given");
    const auto& [dw, pw, db, b] = weights_;
    const size_t mid = dw->size() / size_t(spec.taps());
    if (depthwise && (depthwise->size() != dw->size() || !pointwise || pointwise->size() != pw->size() ||
                      !depthwise_bias || !bias || depthwise_bias->size() != mid || bias->size() != pw->shape(0)))
      throw nb::value_error("gradients: a result has another size than its weights");
    FusedResults<T> out{d ? d->tensor().data : nullptr, nullptr, nullptr, nullptr, nullptr};
    if (depthwise) {
      out.depthwise = depthwise->data(), out.pointwise = pointwise->data();
      out.depthwise_bias = depthwise_bias->data(), out.bias = bias->data();
    }
    const Shape3 pad = padding(before);
    nb::gil_scoped_release free;
    fused_gradients<T>(spec, weights(), s.tensor(), g.tensor(), result ? &*result : nullptr,
                       d ? d->tensor() : Tensor<T>{}, out, pad, usable_threads(threads));
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
  std::unique_ptr<sep::FusedJob<T>> job_;
  std::array<MaybeBias, 4> weights_;  // as given; the first two are there
};

template <class T>
void bind_fused(nb::module_& m, const char* name) {
  nb::class_<FusedJob<T>>(m, name)
      .def(nb::init<bool, ptrdiff_t, const Shape&, const Shape&, const Shape&, int, int, int,
                    typename FusedJob<T>::Weights, typename FusedJob<T>::Weights, typename FusedJob<T>::MaybeBias,
                    typename FusedJob<T>::MaybeBias>(),
           "pointwise_first"_a, "multiplier"_a, "kernel"_a, "stride"_a, "dilation"_a, "mode"_a, "depthwise_act"_a,
           "act"_a, "depthwise"_a, "pointwise"_a, "depthwise_bias"_a.none(), "bias"_a.none())
      .def("run", &FusedJob<T>::run, "src"_a, "dst"_a, "residual"_a.none(), "before"_a, "threads"_a)
      .def("gradients", &FusedJob<T>::gradients, "src"_a, "grad"_a, "output"_a.none(), "x_grad"_a.none(),
           "depthwise"_a.none(), "pointwise"_a.none(), "depthwise_bias"_a.none(), "bias"_a.none(), "before"_a,
           "threads"_a);
}

}  // namespace

void bind_layers(nb::module_& m) {
  nb::enum_<Activation>(m, "Activation", nb::is_arithmetic(), "What follows a convolution.")
      .value("none", Activation::none)
      .value("relu", Activation::relu)
      .value("relu6", Activation::relu6)
      .value("silu", Activation::silu)
      .value("hard_swish", Activation::hard_swish)
      .value("gelu", Activation::gelu)
      .value("gelu_tanh", Activation::gelu_tanh)
      .value("sigmoid", Activation::sigmoid)
      .value("hard_sigmoid", Activation::hard_sigmoid)
      .value("clip", Activation::clip)
      .value("leaky_relu", Activation::leaky_relu)
      .value("tanh", Activation::tanh);
  bind_fused<float>(m, "FusedJob32");
  bind_fused<double>(m, "FusedJob64");
}

}  // namespace sep::bind
