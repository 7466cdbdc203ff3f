// Convolutions and products of bfloat16, bound to Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>

#include <optional>
#include <utility>

#include "base/machine.h"
#include "bind/engine.h"
#include "engine/chain.h"
#include "engine/extent.h"

namespace sep::bind {
namespace {

using namespace nb::literals;
using Address = std::pair<int, ptrdiff_t>;

constexpr ptrdiff_t kMostKernel = 512;  // rows, and columns
constexpr ptrdiff_t kMost = ptrdiff_t(1) << 40;

std::shared_ptr<BfloatWeights> bfloat_weights(FloatArray weights, std::optional<FloatArray> bias, ptrdiff_t groups,
                                              bool joins) {
  if (weights.ndim() != 4 || groups < 1 || weights.size() == 0)
    throw nb::value_error("weights are (C_out, C_in/groups, H, W)");
  const ConvShape s{ptrdiff_t(weights.shape(1)) * groups, ptrdiff_t(weights.shape(0)), groups,
                    ptrdiff_t(weights.shape(2)), ptrdiff_t(weights.shape(3))};
  if (s.c_out % groups) throw nb::value_error("groups do not divide the channels");
  if (s.height > kMostKernel || s.width > kMostKernel) throw nb::value_error("a kernel has too many taps");
  if (bias && ptrdiff_t(bias->size()) != s.c_out) throw nb::value_error("bias has another length");
  nb::gil_scoped_release free;
  return std::make_shared<BfloatWeights>(s, weights.data(), bias ? bias->data() : nullptr, joins);
}

// dst[row, n] = end(sum over k of x[row, k] * weights[k, n] + bias[n]): pixels of a convolution of one tap.
void add_bfloat_full(BoundProgram& program, std::shared_ptr<BfloatWeights> weights, ptrdiff_t rows, const Address& x,
                     const std::pair<ptrdiff_t, ptrdiff_t>& x_strides, const Address& dst, ptrdiff_t dst_row, int act,
                     float low, float high) {
  const ConvShape& s = weights->shape();
  if (s.groups != 1 || s.height != 1 || s.width != 1) throw nb::value_error("a matrix is a kernel of one tap");
  if (act < 0 || act > int(Activation::tanh)) throw nb::value_error("no such activation");
  const auto [x_row, x_column] = x_strides;
  for (ptrdiff_t n : {rows, x_row, x_column, dst_row})
    if (n < 0 || n > kMost) throw nb::value_error("a length or a stride lies out of range");
  if (rows < 1) throw nb::value_error("a product has one row at least");
  check_apart({rows, s.c_out}, {dst_row, 1});
  const Extent read = extent_of({rows, s.c_in}, {x_row, x_column}), made = extent_of({rows, s.c_out}, {dst_row, 1});
  const ptrdiff_t lanes = target().blocks->lanes;
  Image src, to;
  src.place = {x.first, x.second};
  src.channels = s.c_in, src.height = rows, src.row_pitch = src.pixel_pitch = x_row;
  src.block = x_column == 1 ? s.c_in : 1, src.block_pitch = x_column == 1 ? 0 : x_column;
  to.place = {dst.first, dst.second};
  to.channels = s.c_out, to.height = rows, to.row_pitch = to.pixel_pitch = dst_row;
  to.block = to.block_pitch = lanes;
  program.check(src.place, read.low, read.high, "x", false);
  program.check(to.place, made.low, made.high, "dst", true);
  StageSpec stage{};
  stage.end = {Activation(act), low, high, false};
  stage.channels = s.c_out, stage.height = rows, stage.width = 1;
  stage.bfloats = std::move(weights);
  stage.whole = false;
  program.add(std::make_unique<ChainStep>(ChainSpec{src, to, {stage}, std::nullopt, std::nullopt, std::nullopt}));
}

}  // namespace

void bind_engine_bfloats(nb::module_& m) {
  nb::class_<BfloatWeights>(m, "BfloatWeights")
      .def(nb::new_(&bfloat_weights), "weights"_a, "bias"_a.none(), "groups"_a, "joins"_a)
      .def_prop_ro("nbytes", &BfloatWeights::bytes);
  m.def("add_bfloat_full", &add_bfloat_full, "program"_a, "weights"_a, "rows"_a, "x"_a, "x_strides"_a, "dst"_a,
        "dst_row"_a, "act"_a, "low"_a, "high"_a);
}

}  // namespace sep::bind
