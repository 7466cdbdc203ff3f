// Steps of whole numbers, bound to Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
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
#include <vector>

#include "base/machine.h"
#include "bind/engine.h"
#include "engine/extent.h"
#include "engine/integers/integer_maps.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

template <class T>
using Line = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Address = std::pair<int, ptrdiff_t>;
using Given = std::pair<Address, std::optional<Address>>;  // a zero, and a scale
using Shape = std::vector<ptrdiff_t>;
using Act = std::tuple<int, float, float>;

constexpr ptrdiff_t kMost = ptrdiff_t(1) << 30;

void in_range(const Shape& lengths, size_t count, ptrdiff_t least) {
  if (lengths.size() != count) throw nb::value_error("another number of lengths");
  for (ptrdiff_t n : lengths)
    if (n < least || n > kMost) throw nb::value_error("a length lies out of range");
}

IntegerShape shape_of(const Shape& shape, bool depthwise) {
  in_range(shape, 5, 1);
  const IntegerShape s{shape[0], shape[1], shape[2], shape[3], shape[4], depthwise};
  if (s.c_in % s.groups || s.c_out % s.groups) throw nb::value_error("groups do not divide the channels");
  if (depthwise && (s.c_in != s.groups || s.c_out != s.groups))
    throw nb::value_error("a depthwise kernel has one channel for each group");
  multiply_add(multiply_add(s.height, s.width, 0), multiply_add(s.c_in + 4, s.c_out + 64, 0), 0);
  return s;
}

// What the weights of bytes leave: of each panel of each group so many quads, their run and place, and their weights.
using More = std::tuple<Line<int32_t>, Line<int32_t>, Line<int32_t>, Line<int8_t>>;

IntegerWeights::More more_of(const More& more, const IntegerWeights& sizes) {
  const auto& [counts, runs, places, weights] = more;
  if (sizes.shape().depthwise) return {};
  if (ptrdiff_t(counts.size()) != sizes.groups() * sizes.panels() || runs.size() != places.size())
    throw nb::value_error("quads of another number of panels");
  ptrdiff_t quads = 0, bytes = 0;
  for (ptrdiff_t i = 0; i < ptrdiff_t(counts.size()); i++) {
    const ptrdiff_t n = counts.data()[i];
    if (n < 0) throw nb::value_error("a negative number of quads");
    quads += n, bytes += 4 * sizes.lanes() * sizes.vectors(i % sizes.panels()) * n;
  }
  if (ptrdiff_t(runs.size()) != quads || ptrdiff_t(weights.size()) != bytes)
    throw nb::value_error("another number of quads than the panels have");
  for (ptrdiff_t i = 0; i < quads; i++)
    if (runs.data()[i] < 0 || runs.data()[i] >= sizes.runs() || places.data()[i] < 0 ||
        places.data()[i] > sizes.run() - 4 || places.data()[i] % 4)
      throw nb::value_error("a quad beyond its run");
  return {{counts.data(), counts.data() + counts.size()},
          {runs.data(), runs.data() + quads},
          {places.data(), places.data() + quads},
          {weights.data(), weights.data() + bytes}};
}

std::shared_ptr<IntegerWeights> integer_weights(Line<int8_t> packed, const More& more, Line<int32_t> bias,
                                                Line<int32_t> sums, Line<float> scale, std::optional<Line<float>> shift,
                                                const Shape& shape, bool depthwise, ptrdiff_t pitch) {
  const IntegerShape s = shape_of(shape, depthwise);
  if (pitch < s.c_in || pitch % 4 || pitch > kMost) throw nb::value_error("a pixel's bytes are a multiple of 4");
  const IntegerWeights sizes = IntegerWeights::sizes(s, pitch, integers().lanes);
  const ptrdiff_t size = IntegerWeights::packed_size(s, pitch, sizes.lanes());
  if (ptrdiff_t(packed.size()) != size) throw nb::value_error("packed weights have another size");
  for (size_t n : {bias.size(), sums.size(), scale.size(), shift ? shift->size() : size_t(s.c_out)})
    if (ptrdiff_t(n) != s.c_out) throw nb::value_error("bias, sums, scale and shift have a number for each channel");
  return std::make_shared<IntegerWeights>(s, pitch, reinterpret_cast<const char*>(packed.data()), size,
                                          more_of(more, sizes), bias.data(), sums.data(), scale.data(),
                                          shift ? shift->data() : nullptr);
}

Place number(const BoundProgram& program, const Address& at, bool written = false) {
  const Place place{at.first, at.second};
  multiply_add(1, place.at, 1);
  program.check(place, 0, 0, written ? "dst" : "an operand", written);
  return place;
}

LevelsAt levels_at(const BoundProgram& program, const Given& given) {
  LevelsAt levels{number(program, given.first), {}};
  if (given.second) levels.scale = number(program, *given.second);
  return levels;
}

// Elements [low, high] of `size` bytes each from a place on.
Place elements(const BoundProgram& program, const Address& at, Extent extent, ptrdiff_t size, bool written) {
  const Place place{at.first, at.second};
  if (extent.empty()) return place;
  if (extent.low < 0) throw nb::value_error("strides of bytes are not negative");
  const ptrdiff_t last = (multiply_add(extent.high, size, size) + 3) / 4 - 1;
  multiply_add(1, place.at, last);
  program.check(place, 0, last, written ? "dst" : "an operand", written);
  return place;
}

// Where results go: [image][row][pixel] of a shape, with pitches of images, blocks, rows and pixels.
using Results = std::tuple<std::string, Address, Shape, Shape, bool>;

IntegerResults results_of(const BoundProgram& program, const Results& results, const IntegerWeights& weights) {
  const auto& [name, at, shape, pitches, whole_blocks] = results;
  const Stored stored = name == "levels" ? Stored::levels : name == "floats" ? Stored::floats : Stored::whole;
  if (stored == Stored::whole && name != "whole") throw nb::value_error(("no such results: " + name).c_str());
  in_range(shape, 3, 1);
  in_range(pitches, 4, 0);
  const ptrdiff_t lanes = weights.lanes(), channels = weights.shape().c_out;
  const bool by_bytes = stored == Stored::levels;
  if (whole_blocks && (by_bytes || (weights.groups() > 1 && weights.group_out() % lanes)))
    throw nb::value_error("blocks that groups cut");
  if (!by_bytes && pitches[1] != lanes && weights.groups() > 1 && weights.group_out() % lanes)
    throw nb::value_error("blocks that groups cut");
  const ptrdiff_t wide = by_bytes ? channels : lanes, blocks = by_bytes ? 1 : (channels + lanes - 1) / lanes;
  const ptrdiff_t held = by_bytes || whole_blocks || blocks > 1 ? wide : channels;
  Shape lengths{shape[0], shape[1], shape[2], blocks, held}, strides{pitches[0], pitches[2], pitches[3], pitches[1], 1};
  if (!by_bytes && !whole_blocks && pitches[1] == lanes)
    lengths = {shape[0], shape[1], shape[2], 1, channels};
  check_apart(lengths, strides);
  const Place place = elements(program, at, extent_of(lengths, strides), by_bytes ? 1 : 4, true);
  return {stored,     place,      shape[0],   shape[1],   shape[2],
          pitches[0], pitches[1], pitches[2], pitches[3], whole_blocks};
}

// Levels that are added to results, and the bytes of their pixels.
using Residual = std::tuple<Address, ptrdiff_t, Given>;

void add_integer_conv(BoundProgram& program, std::shared_ptr<IntegerWeights> weights, const Address& src,
                      const Shape& shape, const Results& results, const Shape& geometry, const Given& given,
                      const std::optional<Given>& made, const Act& act, const std::optional<Address>& more,
                      const std::optional<Residual>& residual) {
  in_range(shape, 3, 1);
  in_range(geometry, 6, 0);
  const IntegerGeometry g{geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[5]};
  if (g.stride_y < 1 || g.stride_x < 1 || g.dilation_y < 1 || g.dilation_x < 1)
    throw nb::value_error("a stride or a dilation is 0");
  const ptrdiff_t pixels = multiply_add(multiply_add(shape[0], shape[1], 0), shape[2], 0);
  const Extent bytes{0, multiply_add(pixels, weights->pitch(), -1)};
  const ByteImages from{elements(program, src, bytes, 1, false), shape[0], shape[1], shape[2]};
  const IntegerResults to = results_of(program, results, *weights);
  if (to.count != from.count) throw nb::value_error("another number of images");
  if ((to.stored == Stored::levels) != made.has_value()) throw nb::value_error("levels have a zero, and nothing else");
  const IntegerShape& s = weights->shape();
  const ptrdiff_t reach_x = multiply_add(s.width, g.dilation_x, multiply_add(to.width, g.stride_x, 0));
  const ptrdiff_t reach_y = multiply_add(s.height, g.dilation_y, multiply_add(to.height, g.stride_y, 0));
  multiply_add(multiply_add(reach_x, weights->pitch(), 0), multiply_add(2, reach_y, 0), 0);  // throws
  if (std::get<0>(act) < 0 || std::get<0>(act) > int(Activation::tanh)) throw nb::value_error("no such activation");
  const LevelsAt levels = levels_at(program, given), own = made ? levels_at(program, *made) : levels;
  const Ending end{Activation(std::get<0>(act)), std::get<1>(act), std::get<2>(act), false};
  IntegerEnd after{{}, own, end, {}, own, 0};
  if (residual) {
    const auto& [at, pitch, numbers] = *residual;
    if (pitch < s.c_out || pitch > kMost || to.stored == Stored::whole || to.whole_blocks)
      throw nb::value_error("residuals of fewer channels than the results");
    const ptrdiff_t results = multiply_add(multiply_add(to.count, to.height, 0), to.width, 0);
    after.add = elements(program, at, {0, multiply_add(results, pitch, -1)}, 1, false);
    after.added = levels_at(program, numbers), after.add_pitch = pitch;
  }
  if (more) after.more = elements(program, *more, {0, s.c_out - 1}, 4, false);
  program.add(std::make_unique<IntegerConvStep>(std::move(weights), from, to, g, levels, after));
}

void add_level_map(BoundProgram& program, const std::string& kind, const Shape& lengths, const Address& src,
                   const Shape& src_strides, const Address& dst, const Shape& dst_strides,
                   const std::optional<Given>& levels) {
  const LevelMap map = kind == "quantise"     ? LevelMap::quantise
                       : kind == "dequantise" ? LevelMap::dequantise
                                              : LevelMap::floats;
  if (map == LevelMap::floats && kind != "floats") throw nb::value_error(("no such operation: " + kind).c_str());
  if ((map == LevelMap::floats) == levels.has_value()) throw nb::value_error("levels have a zero and a scale");
  const Extent from = extent_of(lengths, src_strides);
  check_apart(lengths, dst_strides);
  Strided source{{src.first, src.second}, src_strides}, target{{dst.first, dst.second}, dst_strides};
  if (from.low < 0) {  // floats may lie backwards
    if (map == LevelMap::dequantise) throw nb::value_error("strides of bytes are not negative");
    multiply_add(1, source.place.at, from.low);
    program.check(source.place, from.low, from.high, "an operand", false);
  } else {
    elements(program, src, from, map == LevelMap::dequantise ? 1 : 4, false);
  }
  elements(program, dst, extent_of(lengths, dst_strides), map == LevelMap::quantise ? 1 : 4, true);
  std::optional<LevelsAt> at;
  if (levels) at = levels_at(program, *levels);
  program.add(std::make_unique<LevelMapStep>(map, lengths, source, target, at));
}

void add_levels(BoundProgram& program, ptrdiff_t n, const Address& a, const Address& b, const Address& dst,
                const Given& a_levels, const Given& b_levels, const Given& levels) {
  if (n < 1 || n >> 40) throw nb::value_error("a length lies out of range");
  const Extent all{0, n - 1};
  const Place one = elements(program, a, all, 1, false), other = elements(program, b, all, 1, false);
  const Place to = elements(program, dst, all, 1, true);
  program.add(std::make_unique<AddLevelsStep>(n, one, other, to, levels_at(program, a_levels),
                                              levels_at(program, b_levels), levels_at(program, levels)));
}

void add_level_range(BoundProgram& program, const Address& least, const Address& greatest, const Address& scale,
                     const Address& zero) {
  program.add(std::make_unique<LevelRangeStep>(number(program, least), number(program, greatest),
                                               number(program, scale, true), number(program, zero, true)));
}

}  // namespace

void bind_engine_integers(nb::module_& m) {
  nb::class_<IntegerWeights>(m, "IntegerWeights")
      .def(nb::new_(&integer_weights), "packed"_a, "more"_a, "bias"_a, "sums"_a, "scale"_a, "shift"_a.none(), "shape"_a,
           "depthwise"_a, "pitch"_a)
      .def_prop_ro("nbytes", &IntegerWeights::bytes);
  m.def("integer_pair_most", [] { return integers().pair_most; });
  m.def("add_integer_conv", &add_integer_conv, "program"_a, "weights"_a, "src"_a, "shape"_a, "results"_a, "geometry"_a,
        "given"_a, "made"_a.none(), "act"_a, "more"_a = nb::none(), "residual"_a = nb::none());
  m.def("add_level_map", &add_level_map, "program"_a, "kind"_a, "lengths"_a, "src"_a, "src_strides"_a, "dst"_a,
        "dst_strides"_a, "levels"_a.none());
  m.def("add_levels", &add_levels, "program"_a, "n"_a, "a"_a, "b"_a, "dst"_a, "a_levels"_a, "b_levels"_a, "levels"_a);
  m.def("add_level_range", &add_level_range, "program"_a, "least"_a, "greatest"_a, "scale"_a, "zero"_a);
}

}  // namespace sep::bind
