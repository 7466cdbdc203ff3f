// Steps on blocked feature maps that need no weights: pooling, and means of whole channels.
#pragma once
#include <vector>

#include "engine/image.h"
#include "engine/kernels/plain.h"
#include "engine/step.h"

namespace sep {

// Zeros around row y of block `block` of image n, and above the first row and below the last one.
void clear_around(const PlainTable& table, const Image& image, float* first_pixel, ptrdiff_t n, ptrdiff_t block,
                  ptrdiff_t y);

struct PoolSpec {
  bool maximum = false;
  bool count_padding = false;  // the average counts samples of the padding
  ptrdiff_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
  ptrdiff_t before[2] = {0, 0}, after[2] = {0, 0};  // padding: top and left, bottom and right
};

// Maximum or average over windows; src and dst have the same blocks.
class PoolStep : public Step {
 public:
  PoolStep(const PoolSpec& spec, const Image& src, const Image& dst);
  ptrdiff_t pieces(int threads) const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  PoolSpec spec_;
  Image src_, dst_;
  std::vector<Window> rows_, columns_;
};

// Reduces the pixels of every channel: dst[n * strides[0] + channel * strides[1]].
class MeanStep : public Step {
 public:
  MeanStep(Reduction reduction, const Image& src, const Place& dst, ptrdiff_t dst_image, ptrdiff_t dst_channel);
  ptrdiff_t pieces(int threads) const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  ptrdiff_t units() const { return src_.batch * src_.blocks() * parts_; }

  const PlainTable& table_;
  Reduction reduction_;
  Image src_;
  Place dst_;
  ptrdiff_t dst_image_, dst_channel_;
  ptrdiff_t parts_;                 // of a block
  std::vector<ptrdiff_t> offsets_;  // of the rows
  ptrdiff_t count_;                 // pixels of a row
};

}  // namespace sep
