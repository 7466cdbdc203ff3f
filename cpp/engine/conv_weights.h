// Weights in the order in which convolutions of feature maps in blocks read them. Packed once, for the instruction set
// in use at that time, and shared by all programs of a network.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "base/pages.h"
#include "base/tiles.h"
#include "engine/step.h"
#include "layers/kernels/blocks.h"

namespace sep {

struct ConvShape {
  ptrdiff_t c_in, c_out, groups;
  ptrdiff_t height, width;  // of the kernel
};

// [panel][block of channels][tap row][tap column][channel of the block][vectors][lanes]
class ConvWeights {
 public:
  // weights: (c_out, c_in / groups, height, width); bias: c_out, or null. block: channels of a block of the samples.
  // short_rows: results come in rows of few pixels, so that panels are wider. winograd: those of Winograd's products
  // instead of taps, [panel][product][channel][vectors][lanes]; of a kernel of 3 x 3 in one group.
  ConvWeights(const ConvShape& shape, ptrdiff_t block, const float* weights, const float* bias, bool short_rows,
              bool winograd);

  // Up to kMostVectors neighbouring vectors of results, and the channels that they depend on.
  struct Panel {
    const float *weights, *bias;
    ptrdiff_t first, vectors;
    Range channels;
  };
  const std::vector<Panel>& panels() const { return panels_; }
  const ConvShape& shape() const { return shape_; }
  ptrdiff_t block() const { return block_; }
  bool winograd() const { return winograd_; }
  int lanes() const { return lanes_; }
  size_t bytes() const { return bytes_; }
  Step::Fetched all() const { return {reinterpret_cast<const char*>(panels_[0].weights), ptrdiff_t(bytes_)}; }
  ptrdiff_t largest_panel() const { return largest_; }  // elements

 private:
  void fill(Panel& panel, float* packed, const float* weights) const;
  void fill_products(Panel& panel, float* packed, const float* weights) const;

  ConvShape shape_;
  ptrdiff_t block_;
  bool winograd_;
  int lanes_;
  size_t bytes_;
  ptrdiff_t largest_ = 0;
  Pages memory_{0};
  std::vector<Panel> panels_;
};

// [block][tap row][tap column][lanes], and the bias as [block][lanes]
class DepthwiseWeights {
 public:
  // weights: (channels, height, width); bias: channels, or null
  DepthwiseWeights(ptrdiff_t channels, ptrdiff_t height, ptrdiff_t width, const float* weights, const float* bias);

  ptrdiff_t channels() const { return channels_; }
  ptrdiff_t height() const { return height_; }
  ptrdiff_t width() const { return width_; }
  int lanes() const { return lanes_; }
  size_t bytes() const { return bytes_; }
  Step::Fetched all() const { return {reinterpret_cast<const char*>(weights_), ptrdiff_t(bytes_)}; }
  const float* weights(ptrdiff_t block) const { return weights_ + block * height_ * width_ * lanes_; }
  const float* bias(ptrdiff_t block) const { return bias_ + block * lanes_; }

 private:
  ptrdiff_t channels_, height_, width_;
  int lanes_;
  size_t bytes_;
  Pages memory_{0};
  float *weights_, *bias_;
};

}  // namespace sep
