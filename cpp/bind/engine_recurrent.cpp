// Recurrent layers of the engine, bound to Python.
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
#include <vector>

#include "bind/engine.h"
#include "engine/extent.h"
#include "engine/recurrent/recurrent.h"

namespace sep::bind {
namespace {

using namespace nb::literals;

using Address = std::pair<int, ptrdiff_t>;
using Lines = std::pair<Address, std::vector<ptrdiff_t>>;  // an array, and its strides
using Ends = std::pair<std::optional<Address>, std::optional<Address>>;
// Whether it goes backwards; weights, one or two; gates and results [time][sequence][number]; state and cell at first,
// and at last.
using Weights = std::vector<std::shared_ptr<FullWeights>>;
using Described = std::tuple<bool, Weights, Lines, Lines, Ends, Ends>;

constexpr ptrdiff_t kMostWidth = 1 << 20;

Strided checked(const BoundProgram& program, const std::vector<ptrdiff_t>& lengths, const Lines& lines, bool written) {
  std::vector<ptrdiff_t> strides = lines.second;
  if (strides.size() != 2) throw nb::value_error("add_recurrent: strides of times and of sequences");
  strides.push_back(1);
  const Place place{lines.first.first, lines.first.second};
  const Extent extent = extent_of(lengths, strides);
  if (written) check_apart(lengths, strides);
  multiply_add(1, place.at, extent.low), multiply_add(1, place.at, extent.high);  // throw where these overflow
  program.check(place, extent.low, extent.high, written ? "dst" : "an operand", written);
  return {place, strides};
}

std::optional<Place> checked(const BoundProgram& program, ptrdiff_t elements, const std::optional<Address>& at,
                             bool written) {
  if (!at) return {};
  const Place place{at->first, at->second};
  multiply_add(1, place.at, elements);
  program.check(place, 0, elements - 1, written ? "dst" : "an operand", written);
  return place;
}

void add_recurrent(BoundProgram& program, const std::string& kind, ptrdiff_t times, ptrdiff_t sequences,
                   ptrdiff_t width, const std::vector<Described>& described) {
  if (kind != "lstm" && kind != "gru" && kind != "gru_before")
    throw nb::value_error(("no such layer: " + kind).c_str());
  const Cell cell = kind == "lstm" ? Cell::lstm : kind == "gru" ? Cell::gru : Cell::gru_before;
  if (times < 1 || sequences < 1 || width < 1 || width > kMostWidth || described.empty())
    throw nb::value_error("add_recurrent: a length is 0 or out of range");
  const ptrdiff_t gates = RecurrentStep::gates(cell) * width, held = multiply_add(sequences, width, 0);
  std::vector<Direction> directions;
  for (const auto& [backwards, weights, x, dst, first, last] : described) {
    if (weights.size() != (cell == Cell::gru_before ? 2 : 1) || !weights.front() || !weights.back())
      throw nb::value_error("add_recurrent: another number of weights");
    if (cell != Cell::lstm && (first.second || last.second)) throw nb::value_error("add_recurrent: GRU has no cell");
    directions.push_back({backwards, weights.front(), cell == Cell::gru_before ? weights.back() : nullptr,
                          checked(program, {times, sequences, gates}, x, false),
                          checked(program, {times, sequences, width}, dst, true),
                          checked(program, held, first.first, false), checked(program, held, first.second, false),
                          checked(program, held, last.first, true), checked(program, held, last.second, true)});
  }
  program.add(std::make_unique<RecurrentStep>(cell, times, sequences, width, std::move(directions)));
}

}  // namespace

void bind_engine_recurrent(nb::module_& m) {
  m.def("add_recurrent", &add_recurrent, "program"_a, "kind"_a, "times"_a, "sequences"_a, "width"_a, "directions"_a);
}

}  // namespace sep::bind
