// The engine's plain steps, bound to Python: functions that add one step to a program.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bind/arrays.h"
#include "bind/engine.h"
#include "engine/extent.h"
#include "engine/plain_images.h"
#include "engine/plain_lines.h"
#include "engine/plain_maps.h"
#include "engine/plain_products.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

using Named = std::tuple<std::string, float, float>;  // a function and its parameters
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;
using Vector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const int64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// In the order of the enumerations.
const std::vector<std::string> kOperations = {"first", "add",   "sub",  "mul",        "div",   "pow",   "min",
                                               "max",   "prelu", "equal", "less", "less_equal", "where", "unless"};
const std::vector<std::string> kFunctions = {
    "none",  "relu",         "relu6",    "clip",       "leaky_relu", "thresholded_relu",
    "neg",   "abs",          "sign",     "sqrt",       "reciprocal", "square",
    "floor", "ceil",         "round",    "exp",        "log",        "erf",
    "tanh",  "sigmoid",      "softplus", "softsign",   "mish",       "elu",
    "selu",  "hard_sigmoid", "silu",     "hard_swish", "gelu",       "gelu_tanh"};
const std::vector<std::string> kReductions = {"sum", "mean", "max",        "min",    "prod",
                                              "l1",  "l2",   "sum_square", "argmax", "argmin"};

template <class T>
T named(const std::vector<std::string>& names, const std::string& name) {
  for (size_t i = 0; i < names.size(); i++)
    if (names[i] == name) return T(i);
  throw nb::value_error(("no such operation: " + name).c_str());
}

After after_of(const std::optional<Named>& after) {
  if (!after) return {};
  return {named<Function>(kFunctions, std::get<0>(*after)), std::get<1>(*after), std::get<2>(*after)};
}

using Address = std::pair<int, ptrdiff_t>;  // base and element, as Python gives a Place

// The place of an array, checked against the program's memory.
Place checked(const BoundProgram& program, const Address& address, const Extent& extent, bool written) {
  const Place place{address.first, address.second};
  multiply_add(1, place.at, extent.low), multiply_add(1, place.at, extent.high);  // throw where these overflow
  if (!extent.empty()) program.check(place, extent.low, extent.high, written ? "dst" : "an operand", written);
  return place;
}

// Arrays that a step reads and writes.
Strided read(const BoundProgram& program, const Shape& lengths, const Address& address, const Shape& strides) {
  return {checked(program, address, extent_of(lengths, strides), false), strides};
}
Strided written(const BoundProgram& program, const Shape& lengths, const Address& address, const Shape& strides) {
  check_apart(lengths, strides);
  return {checked(program, address, extent_of(lengths, strides), true), strides};
}
const Image& read(const BoundProgram& program, const Image& image) {
  checked(program, {image.place.base, image.place.at}, extent_of(image), false);
  return image;
}
const Image& written(const BoundProgram& program, const Image& image) {
  check_apart({image.batch, image.blocks(), image.height + image.top + image.bottom,
               image.width + image.left + image.right, image.block},
              {image.batch_pitch, image.block_pitch, image.row_pitch, image.pixel_pitch, 1});
  checked(program, {image.place.base, image.place.at}, extent_of(image), true);
  return image;
}

void add_copy(BoundProgram& program, const Shape& lengths, const Address& src, const Shape& src_strides,
              const Address& dst, const Shape& dst_strides) {
  const Strided from = read(program, lengths, src, src_strides), to = written(program, lengths, dst, dst_strides);
  program.add(std::make_unique<CopyStep>(lengths, from, to));
}

void add_fill(BoundProgram& program, float value, const Shape& lengths, const Address& dst, const Shape& dst_strides) {
  program.add(std::make_unique<FillStep>(value, lengths, written(program, lengths, dst, dst_strides)));
}

void add_elementwise(BoundProgram& program, const std::string& operation, const Shape& lengths, const Address& a,
                     const Shape& a_strides, const std::optional<Address>& b, const std::optional<Shape>& b_strides,
                     const Address& dst, const Shape& dst_strides, const std::optional<Named>& after) {
  const Operation op = named<Operation>(kOperations, operation);
  if ((op == Operation::first) != !b || b.has_value() != b_strides.has_value())
    throw nb::value_error("b and its strides belong to operations of two arrays");
  const Strided left = read(program, lengths, a, a_strides);
  const Strided right = b ? read(program, lengths, *b, *b_strides) : left;
  const Strided to = written(program, lengths, dst, dst_strides);
  program.add(std::make_unique<ElementwiseStep>(op, after_of(after), lengths, left, right, to));
}

void add_reduce(BoundProgram& program, const std::string& reduction, const Shape& lengths, const Shape& axes,
                const Address& src, const Shape& src_strides, const Address& dst, const Shape& dst_strides) {
  const Strided from = read(program, lengths, src, src_strides);
  Shape kept = lengths;
  for (ptrdiff_t axis : axes) {
    if (axis < 0 || axis >= ptrdiff_t(lengths.size())) throw nb::value_error("no such axis");
    kept[size_t(axis)] = 1;
  }
  const Strided to = written(program, kept, dst, dst_strides);
  program.add(std::make_unique<ReduceStep>(named<Reduction>(kReductions, reduction), lengths, axes, from, to));
}

void add_softmax(BoundProgram& program, const Shape& lengths, ptrdiff_t axis, const Address& src,
                 const Shape& src_strides, const Address& dst, const Shape& dst_strides, bool log) {
  const Strided from = read(program, lengths, src, src_strides), to = written(program, lengths, dst, dst_strides);
  program.add(std::make_unique<SoftmaxStep>(log, lengths, axis, from, to));
}

void add_line_weights(BoundProgram& program, const Shape& lengths, ptrdiff_t axis, Indices index, Weights weights,
                      const Address& src, const Shape& src_strides, const Address& dst, const Shape& dst_strides) {
  if (index.shape(0) != weights.shape(0) || index.shape(1) != weights.shape(1))
    throw nb::value_error("index and weights: as many results and taps");
  if (axis < 0 || axis >= ptrdiff_t(lengths.size())) throw nb::value_error("no such axis");
  const Strided from = read(program, lengths, src, src_strides);
  Shape results = lengths;
  results[size_t(axis)] = ptrdiff_t(index.shape(0));
  const Strided to = written(program, results, dst, dst_strides);
  program.add(std::make_unique<LineWeightsStep>(lengths, axis, ptrdiff_t(index.shape(0)), ptrdiff_t(index.shape(1)),
                                                index.data(), weights.data(), from, to));
}

void add_pool(BoundProgram& program, const std::string& kind, const Image& src, const Image& dst, const Shape& kernel,
              const Shape& stride, const Shape& dilation, const Shape& pads, bool count_padding) {
  if (kernel.size() != 2 || stride.size() != 2 || dilation.size() != 2 || pads.size() != 4)
    throw nb::value_error("kernel, stride, dilation: of rows and columns; pads: top, left, bottom, right");
  PoolSpec spec;
  spec.maximum = named<int>({"average", "max"}, kind) == 1;
  spec.count_padding = count_padding;
  for (size_t i = 0; i < 2; i++) {
    spec.kernel[i] = kernel[i], spec.stride[i] = stride[i], spec.dilation[i] = dilation[i];
    spec.before[i] = pads[i], spec.after[i] = pads[i + 2];
  }
  program.add(std::make_unique<PoolStep>(spec, read(program, src), written(program, dst)));
}

void add_mean(BoundProgram& program, const Image& src, const Address& dst, const Shape& dst_strides,
              const std::string& reduction) {
  const Image from = read(program, src);
  const Strided to = written(program, {src.batch, src.channels}, dst, dst_strides);
  program.add(std::make_unique<MeanStep>(named<Reduction>(kReductions, reduction), from, to.place, to.strides[0],
                                         to.strides[1]));
}

std::shared_ptr<FullWeights> full_weights(Matrix weights, const std::optional<Vector>& bias, bool transposed) {
  const size_t k = transposed ? 1 : 0, n = 1 - k;
  const ptrdiff_t inner = ptrdiff_t(weights.shape(k)), columns = ptrdiff_t(weights.shape(n));
  if (bias && ptrdiff_t(bias->size()) != columns) throw nb::value_error("bias has another length");
  return std::make_shared<FullWeights>(inner, columns, weights.data(), weights.stride(k), weights.stride(n),
                                       bias ? bias->data() : nullptr, std::make_shared<Matrix>(weights));
}

void add_full(BoundProgram& program, std::shared_ptr<FullWeights> weights, ptrdiff_t rows, const Address& x,
              const Shape& x_strides, const Address& dst, ptrdiff_t dst_row, const std::optional<Named>& after) {
  const Strided from = read(program, {rows, weights->inner()}, x, x_strides);
  const Strided to = written(program, {rows, weights->columns()}, dst, {dst_row, 1});
  program.add(std::make_unique<FullStep>(std::move(weights), rows, from, to.place, dst_row, after_of(after)));
}

void add_matmul(BoundProgram& program, const Shape& batch, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns,
                const Address& a, const Shape& a_strides, const Address& b, const Shape& b_strides, const Address& dst,
                const Shape& dst_strides, const std::optional<Named>& after) {
  auto with = [&](ptrdiff_t first, ptrdiff_t second) {
    Shape lengths = batch;
    lengths.insert(lengths.end(), {first, second});
    return lengths;
  };
  const Strided left = read(program, with(rows, inner), a, a_strides);
  const Strided right = read(program, with(inner, columns), b, b_strides);
  const Strided to = written(program, with(rows, columns), dst, dst_strides);
  program.add(std::make_unique<MatMulStep>(batch, rows, inner, columns, left, right, to, after_of(after)));
}

void bind_lines(nb::module_& m) {
  m.def("add_copy", &add_copy, "program"_a, "lengths"_a, "src"_a, "src_strides"_a, "dst"_a, "dst_strides"_a);
  m.def("add_fill", &add_fill, "program"_a, "value"_a, "lengths"_a, "dst"_a, "dst_strides"_a);
  m.def("add_elementwise", &add_elementwise, "program"_a, "operation"_a, "lengths"_a, "a"_a, "a_strides"_a,
        "b"_a.none(), "b_strides"_a.none(), "dst"_a, "dst_strides"_a, "after"_a = nb::none());
  m.def("add_reduce", &add_reduce, "program"_a, "reduction"_a, "lengths"_a, "axes"_a, "src"_a, "src_strides"_a, "dst"_a,
        "dst_strides"_a);
  m.def("add_softmax", &add_softmax, "program"_a, "lengths"_a, "axis"_a, "src"_a, "src_strides"_a, "dst"_a,
        "dst_strides"_a, "log"_a = false);
  m.def("add_line_weights", &add_line_weights, "program"_a, "lengths"_a, "axis"_a, "index"_a, "weights"_a, "src"_a,
        "src_strides"_a, "dst"_a, "dst_strides"_a);
}

}  // namespace

void bind_engine_plain(nb::module_& m) {
  bind_lines(m);
  m.def("add_pool", &add_pool, "program"_a, "kind"_a, "src"_a, "dst"_a, "kernel"_a, "stride"_a, "dilation"_a, "pads"_a,
        "count_padding"_a = false);
  m.def("add_mean", &add_mean, "program"_a, "src"_a, "dst"_a, "dst_strides"_a, "reduction"_a = "mean");
  nb::class_<FullWeights>(m, "FullWeights")
      .def(nb::new_(&full_weights), "weights"_a, "bias"_a = nb::none(), "transposed"_a = false)
      .def_prop_ro("inner", &FullWeights::inner)
      .def_prop_ro("columns", &FullWeights::columns)
      .def_prop_ro("nbytes", &FullWeights::bytes);
  m.def("add_full", &add_full, "program"_a, "weights"_a, "rows"_a, "x"_a, "x_strides"_a, "dst"_a, "dst_row"_a,
        "after"_a = nb::none());
  m.def("add_matmul", &add_matmul, "program"_a, "batch"_a, "rows"_a, "inner"_a, "columns"_a, "a"_a, "a_strides"_a,
        "b"_a, "b_strides"_a, "dst"_a, "dst_strides"_a, "after"_a = nb::none());
}

}  // namespace sep::bind
