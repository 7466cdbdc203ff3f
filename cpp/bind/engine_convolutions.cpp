// Convolutions of the engine, bound to Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/machine.h"
#include "bind/engine.h"
#include "engine/chain.h"
#include "engine/extent.h"

namespace sep::bind {
namespace {

using namespace nb::literals;
using MaybeBias = std::optional<FloatArray>;

constexpr ptrdiff_t kMostKernel = 512;

Image image_of(int base, ptrdiff_t at, const std::vector<ptrdiff_t>& shape, ptrdiff_t block,
               const std::vector<ptrdiff_t>& pitches, const std::vector<ptrdiff_t>& around) {
  if (shape.size() != 4 || pitches.size() != 4 || around.size() != 4)
    throw nb::value_error("Image: shape, pitches and around have four entries each");
  for (const auto& list : {shape, pitches, around})
    for (ptrdiff_t n : list)
      if (n < 0 || n >> 40) throw nb::value_error("Image: a length lies out of range");
  for (ptrdiff_t n : shape)
    if (n < 1) throw nb::value_error("Image: a length is 0");
  if (block < 1) throw nb::value_error("Image: a block has one channel at least");
  const ptrdiff_t counts[] = {shape[0], (shape[1] + block - 1) / block, shape[2], shape[3]};
  for (size_t i = 0; i < 4; i++)
    if (counts[i] > 1 && pitches[i] == 0) throw nb::value_error("Image: a pitch of 0 between several");
  return {{base, at}, shape[0],   shape[1],   shape[2],  shape[3],  block,     pitches[0],
          pitches[1], pitches[2], pitches[3], around[0], around[1], around[2], around[3]};
}

std::shared_ptr<ConvWeights> conv_weights(FloatArray weights, MaybeBias bias, ptrdiff_t groups, ptrdiff_t block,
                                          bool short_rows, bool winograd) {
  if (weights.ndim() != 4 || groups < 1 || weights.size() == 0)
    throw nb::value_error("weights are (C_out, C_in/groups, H, W)");
  const ConvShape s{ptrdiff_t(weights.shape(1)) * groups, ptrdiff_t(weights.shape(0)), groups,
                    ptrdiff_t(weights.shape(2)), ptrdiff_t(weights.shape(3))};
  if (s.c_out % groups || block < 1) throw nb::value_error("groups do not divide the channels");
  if (s.height > kMostKernel || s.width > kMostKernel) throw nb::value_error("a kernel has too many taps");
  if (bias && ptrdiff_t(bias->size()) != s.c_out) throw nb::value_error("bias has another length");
  if (winograd && (s.height != 3 || s.width != 3 || groups != 1))
    throw nb::value_error("Winograd's convolution has 3 x 3 taps in one group");
  nb::gil_scoped_release free;
  return std::make_shared<ConvWeights>(s, block, weights.data(), bias ? bias->data() : nullptr, short_rows, winograd);
}

std::shared_ptr<DepthwiseWeights> depthwise_weights(FloatArray weights, MaybeBias bias) {
  if (weights.ndim() != 3 || weights.size() == 0) throw nb::value_error("weights are (C, H, W)");
  if (weights.shape(1) > size_t(kMostKernel) || weights.shape(2) > size_t(kMostKernel))
    throw nb::value_error("a kernel has too many taps");
  if (bias && bias->size() != weights.shape(0)) throw nb::value_error("bias has another length");
  nb::gil_scoped_release free;
  return std::make_shared<DepthwiseWeights>(ptrdiff_t(weights.shape(0)), ptrdiff_t(weights.shape(1)),
                                            ptrdiff_t(weights.shape(2)), weights.data(), bias ? bias->data() : nullptr);
}

StageSpec stage_of(std::shared_ptr<ConvWeights> conv, std::shared_ptr<DepthwiseWeights> depthwise,
                   const std::vector<ptrdiff_t>& shape, const std::vector<ptrdiff_t>& stride,
                   const std::vector<ptrdiff_t>& dilation, const std::vector<ptrdiff_t>& before, int act, float low,
                   float high, bool add_last, ptrdiff_t depth, ptrdiff_t slice,
                   std::shared_ptr<BfloatWeights> bfloats) {
  if (int(bool(conv)) + int(bool(depthwise)) + int(bool(bfloats)) != 1)
    throw nb::value_error("a stage is a convolution, of float32 or bfloat16, or a depthwise one");
  if (shape.size() != 3 || stride.size() != 2 || dilation.size() != 2 || before.size() != 2)
    throw nb::value_error("a stage has a shape (C, H, W) and two strides, dilations and paddings");
  for (const auto& list : {shape, stride, dilation})
    for (ptrdiff_t n : list)
      if (n < 1 || n >> 30) throw nb::value_error("a length of a stage lies out of range");
  for (ptrdiff_t n : before)
    if (n < 0 || n >> 30) throw nb::value_error("a padding lies out of range");
  StageSpec spec{{stride[0], stride[1], dilation[0], dilation[1], before[0], before[1], depth, slice},
                 {Activation(act), low, high, add_last},
                 conv,
                 depthwise,
                 shape[0],
                 shape[1],
                 shape[2],
                 bfloats};
  const ptrdiff_t rows = spec.kernel_height();
  if (depth < 1 || rows % depth || slice < 0 || slice >> 40 || (depth > 1 && slice == 0))
    throw nb::value_error("a kernel's rows do not lie in so many slices");
  if (conv && conv->winograd() && depth > 1) throw nb::value_error("Winograd's convolution reads one slice");
  if (act < 0 || act > int(Activation::tanh)) throw nb::value_error("no such activation");
  if (bfloats && bfloats->joined() && dilation[1] != 1)
    throw nb::value_error("weights were packed for taps that are neighbours");
  if ((conv ? conv->shape().c_out : depthwise ? depthwise->channels() : bfloats->shape().c_out) != shape[0])
    throw nb::value_error("another number of channels");
  if (!bfloats && (conv ? conv->lanes() : depthwise->lanes()) != target().blocks->lanes)
    throw nb::value_error("weights were packed for another instruction set");
  return spec;
}

void check_image(const BoundProgram& program, const Image& image, const char* what, bool written) {
  const Extent extent = extent_of(image);
  program.check(image.place, extent.low, extent.high, what, written);
}

// Whether the stages fit each other and the images.
void check_stages(const ChainSpec& spec) {
  const int lanes = target().blocks->lanes;
  Image src = spec.src;
  for (size_t n = 0; n < spec.stages.size(); n++) {
    const StageSpec& s = spec.stages[n];
    if ((s.conv ? s.conv->shape().c_in : s.depthwise ? s.depthwise->channels() : s.bfloats->shape().c_in) !=
        src.channels)
      throw nb::value_error("a stage reads another number of channels");
    const Geometry& g = s.geometry;
    const ptrdiff_t height = s.kernel_height() / g.depth, width = s.kernel_width();
    const ptrdiff_t below = (s.height - 1) * g.stride_y + (height - 1) * g.dilation_y + 1 - g.top - src.height;
    const ptrdiff_t right = (s.width - 1) * g.stride_x + (width - 1) * g.dilation_x + 1 - g.left - src.width;
    const bool first = n == 0, blocked = src.block == lanes && src.pixel_pitch == lanes;
    if (s.conv && s.conv->winograd() &&
        (!blocked || spec.scale || spec.stages.size() > 1 || g.stride_y != 1 || g.stride_x != 1 || g.dilation_y != 1 ||
         g.dilation_x != 1))
      throw nb::value_error("Winograd's convolution stands alone, and reads neighbouring pixels of blocks");
    if (g.depth > 1 &&
        (!first || g.top > src.top || g.left > src.left || below > src.bottom || right > src.right))
      throw nb::value_error("a kernel of several slices stands first, with enough zeros around its samples");
    if (s.conv && s.conv->block() != src.block) throw nb::value_error("weights were packed for another layout");
    if (s.depthwise &&
        (!blocked || (first && (g.top > src.top || g.left > src.left || below > src.bottom || right > src.right))))
      throw nb::value_error("a depthwise convolution reads blocks with enough zeros around them");
    if (!s.depthwise && !first && (height > 1 || width > 1 || g.top || g.left || below > 0 || right > 0))
      throw nb::value_error("within a chain a convolution is pointwise");
    src = Image{};
    src.channels = s.channels, src.height = s.height, src.width = s.width, src.block = src.pixel_pitch = lanes;
  }
  const Image& dst = spec.dst;
  if (dst.channels != src.channels || dst.height != src.height || dst.width != src.width || dst.block != lanes ||
      dst.pixel_pitch != lanes || dst.batch != spec.src.batch)
    throw nb::value_error("the last stage's results are other than dst");
  if (spec.add &&
      (spec.add->channels != dst.channels || spec.add->height != dst.height || spec.add->width != dst.width ||
       spec.add->block != lanes || spec.add->pixel_pitch != lanes || spec.add->batch != dst.batch))
    throw nb::value_error("the residual is shaped or laid out otherwise than dst");
}

using MaybePlace = std::optional<std::pair<int, ptrdiff_t>>;

void add_chain(BoundProgram& program, const Image& src, const Image& dst, const std::vector<StageSpec>& stages,
               std::optional<Image> add, MaybePlace scale, MaybePlace means, MaybePlace sums) {
  if (stages.empty()) throw nb::value_error("a chain has one stage at least");
  ChainSpec spec{src, dst, stages, add, std::nullopt, std::nullopt};
  const ptrdiff_t lanes = target().blocks->lanes;
  if (scale) spec.scale = Place{scale->first, scale->second};
  check_stages(spec);
  check_image(program, src, "src", false);
  const Geometry& g = stages[0].geometry;
  Image last = src;  // of the slices that the kernel reads
  last.place.at = multiply_add(g.depth - 1, g.slice, src.place.at);
  if (g.depth > 1) check_image(program, last, "src", false);
  check_image(program, dst, "dst", true);
  if (add) check_image(program, *add, "residual", false);
  if (scale) {
    if (stages[0].depthwise) throw nb::value_error("a scale belongs to a convolution");
    program.check(*spec.scale, 0, src.batch * round_up(src.channels, lanes) - 1, "scale", false);
  }
  if (!means) return program.add(std::make_unique<ChainStep>(spec));
  if (!stages.back().depthwise) throw nb::value_error("means are taken of depthwise results");
  if (!sums && stages.size() > 1) throw nb::value_error("means of a chain need room for the sums of its bands");
  const Place at{means->first, means->second}, parts = sums ? Place{sums->first, sums->second} : at;
  const ptrdiff_t channels = round_up(dst.channels, lanes);
  program.check(at, 0, dst.batch * channels - 1, "means", true);
  if (sums) program.check(parts, 0, dst.batch * dst.height * channels - 1, "sums", true);
  spec.sums = parts;
  auto chain = std::make_unique<ChainStep>(spec);
  const ptrdiff_t bands = chain->bands();
  program.add(std::move(chain));
  program.add(std::make_unique<MeansStep>(parts, at, dst.batch, bands, channels, dst.height * dst.width));
}

}  // namespace

void bind_engine_convolutions(nb::module_& m) {
  nb::class_<Image>(m, "Image")
      .def(
          "__init__",
          [](Image* self, int base, ptrdiff_t at, const std::vector<ptrdiff_t>& shape, ptrdiff_t block,
             const std::vector<ptrdiff_t>& pitches, const std::vector<ptrdiff_t>& around) {
            new (self) Image(image_of(base, at, shape, block, pitches, around));
          },
          "base"_a, "at"_a, "shape"_a, "block"_a, "pitches"_a, "around"_a);
  nb::class_<ConvWeights>(m, "ConvWeights")
      .def(nb::new_(&conv_weights), "weights"_a, "bias"_a.none(), "groups"_a, "block"_a, "short_rows"_a = false,
           "winograd"_a = false)
      .def_prop_ro("nbytes", &ConvWeights::bytes);
  nb::class_<DepthwiseWeights>(m, "DepthwiseWeights")
      .def(nb::new_(&depthwise_weights), "weights"_a, "bias"_a.none())
      .def_prop_ro("nbytes", &DepthwiseWeights::bytes);
  nb::class_<StageSpec>(m, "Stage")
      .def(nb::new_(&stage_of), "conv"_a.none(), "depthwise"_a.none(), "shape"_a, "stride"_a, "dilation"_a, "before"_a,
           "act"_a, "low"_a, "high"_a, "add_last"_a, "depth"_a = 1, "slice"_a = 0, "bfloats"_a = nb::none());
  m.def("add_chain", &add_chain, "program"_a, "src"_a, "dst"_a, "stages"_a, "add"_a = nb::none(),
        "scale"_a = nb::none(), "means"_a = nb::none(), "sums"_a = nb::none());
}

}  // namespace sep::bind
