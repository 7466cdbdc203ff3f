// Weights of convolutions and products of bfloat16, in the order in which tiles read them. The same for all
// instruction sets.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/bfloats/kernels.h"
#include "engine/conv_weights.h"

namespace sep {

// The nearest bfloat16, of ties the even one; NaN stays NaN, denormal numbers become zero.
uint16_t bfloat_of(float value);

// [panel][step][tile][pair][column][2]. A step is a chunk of channels at one tap; of kernels whose rows of taps have
// few channels in all, such a row is one step.
class BfloatWeights {
 public:
  // weights: (c_out, c_in / groups, height, width); bias: c_out, or null. joins: the taps of a row are neighbours.
  BfloatWeights(const ConvShape& shape, const float* weights, const float* bias, bool joins);

  // Two tiles of results, or a last one, and the chunks of channels that they depend on.
  struct Panel {
    const uint16_t* weights;
    const float* bias;
    ptrdiff_t first, columns;  // channels of the results
    Range chunks;
    int tiles() const { return columns > kTileColumns ? 2 : 1; }
  };
  const std::vector<Panel>& panels() const { return panels_; }
  const ConvShape& shape() const { return shape_; }
  bool joined() const { return joined_; }
  ptrdiff_t chunk() const { return chunk_; }  // channels
  ptrdiff_t chunks() const { return ceil_div(shape_.c_in, chunk_); }
  ptrdiff_t steps() const { return shape_.height * (joined_ ? 1 : shape_.width); }  // of each chunk
  int pairs() const { return int(chunk_ * (joined_ ? shape_.width : 1) / 2); }
  size_t bytes() const { return bytes_; }
  Step::Fetched all() const { return {reinterpret_cast<const char*>(panels_[0].weights), ptrdiff_t(bytes_)}; }

 private:
  ptrdiff_t elements(const Panel& panel) const { return panel.chunks.count() * steps() * panel.tiles() * tile(); }
  ptrdiff_t tile() const { return 2 * kTileColumns * ptrdiff_t(pairs()); }
  void fill(const Panel& panel, uint16_t* packed, const float* weights) const;

  ConvShape shape_;
  bool joined_;
  ptrdiff_t chunk_;
  size_t bytes_ = 0;
  Pages memory_{0};
  std::vector<Panel> panels_;
};

}  // namespace sep
