#include "engine/plain_images.h"

#include <algorithm>
#include <stdexcept>

#include "base/machine.h"
#include "engine/plain_axes.h"

namespace sep {
namespace {

constexpr ptrdiff_t kPart = 128;  // channels of a block that are reduced at a time: 8 vectors of AVX-512

// Taps of the window at `start` that lie in [low, high).
Range taps_in(ptrdiff_t start, ptrdiff_t dilation, ptrdiff_t kernel, ptrdiff_t low, ptrdiff_t high) {
  const ptrdiff_t first = start < low ? (low - start + dilation - 1) / dilation : 0;
  const ptrdiff_t end = start < high ? std::min(kernel, (high - 1 - start) / dilation + 1) : 0;
  return {first, std::max(first, end)};
}

std::vector<Window> windows_of(const PoolSpec& spec, int axis, ptrdiff_t length, ptrdiff_t results, ptrdiff_t pitch) {
  const ptrdiff_t before = spec.before[axis], after = spec.after[axis], dilation = spec.dilation[axis];
  std::vector<Window> windows;
  for (ptrdiff_t o = 0; o < results; o++) {
    const ptrdiff_t start = o * spec.stride[axis] - before;
    const Range real = taps_in(start, dilation, spec.kernel[axis], 0, length);
    const Range padded = taps_in(start, dilation, spec.kernel[axis], -before, length + after);
    const Range& counted = spec.count_padding ? padded : real;
    const ptrdiff_t taps = real.last - real.first, count = std::max<ptrdiff_t>(1, counted.last - counted.first);
    windows.push_back({taps ? (start + real.first * dilation) * pitch : 0, taps, 1.0f / float(count)});
  }
  return windows;
}

ptrdiff_t at(const Image& image, ptrdiff_t n, ptrdiff_t block, ptrdiff_t y) {
  return n * image.batch_pitch + block * image.block_pitch + y * image.row_pitch;
}

}  // namespace

void clear_around(const PlainTable& table, const Image& image, float* first_pixel, ptrdiff_t n, ptrdiff_t block,
                  ptrdiff_t y) {
  float* const row = first_pixel + at(image, n, block, y);
  auto clear = [&](float* p, ptrdiff_t pixels) { table.fill({0, p, pixels, image.block, image.pixel_pitch, 1}); };
  auto clear_row = [&](float* p) { clear(p - image.left * image.pixel_pitch, image.left + image.width + image.right); };
  clear(row - image.left * image.pixel_pitch, image.left);
  clear(row + image.width * image.pixel_pitch, image.right);
  if (y == 0)
    for (ptrdiff_t i = 1; i <= image.top; i++) clear_row(row - i * image.row_pitch);
  if (y == image.height - 1)
    for (ptrdiff_t i = 1; i <= image.bottom; i++) clear_row(row + i * image.row_pitch);
}

PoolStep::PoolStep(const PoolSpec& spec, const Image& src, const Image& dst)
    : table_(*target().plain), spec_(spec), src_(src), dst_(dst) {
  for (int axis = 0; axis < 2; axis++) {
    const ptrdiff_t least = std::min({spec.kernel[axis], spec.stride[axis], spec.dilation[axis]});
    const ptrdiff_t most =
        std::max({spec.kernel[axis], spec.stride[axis], spec.dilation[axis], spec.before[axis], spec.after[axis]});
    if (least < 1 || std::min(spec.before[axis], spec.after[axis]) < 0 || most >> 20)
      throw std::invalid_argument("no such windows");
  }
  if (src.batch != dst.batch || src.channels != dst.channels || src.block != dst.block)
    throw std::invalid_argument("pooling keeps images, channels and blocks");
  rows_ = windows_of(spec, 0, src.height, dst.height, src.row_pitch);
  columns_ = windows_of(spec, 1, src.width, dst.width, src.pixel_pitch);
}

ptrdiff_t PoolStep::pieces(int threads) const {
  const ptrdiff_t rows = dst_.batch * dst_.blocks() * dst_.height;
  return pieces_of(rows, double(rows) * double(dst_.width * dst_.block * spec_.kernel[0] * spec_.kernel[1]), threads);
}

void PoolStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(dst_.batch * dst_.blocks() * dst_.height, piece, pieces);
  const float* src = memory.at(src_.place);
  float* dst = memory.at(dst_.place);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const ptrdiff_t y = i % dst_.height, block = i / dst_.height % dst_.blocks(), n = i / dst_.height / dst_.blocks();
    table_.pool({src + at(src_, n, block, 0), dst + at(dst_, n, block, y), rows_[size_t(y)], columns_.data(),
                 dst_.width, spec_.dilation[0] * src_.row_pitch, spec_.dilation[1] * src_.pixel_pitch, dst_.pixel_pitch,
                 dst_.block, spec_.maximum});
    clear_around(table_, dst_, dst, n, block, y);
  }
}

MeanStep::MeanStep(Reduction reduction, const Image& src, const Place& dst, ptrdiff_t dst_image, ptrdiff_t dst_channel)
    : table_(*target().plain),
      reduction_(reduction),
      src_(src),
      dst_(dst),
      dst_image_(dst_image),
      dst_channel_(dst_channel),
      parts_((src.block + kPart - 1) / kPart) {
  const bool whole = src.row_pitch == src.width * src.pixel_pitch;
  count_ = whole ? src.height * src.width : src.width;
  for (ptrdiff_t y = 0; y < (whole ? 1 : src.height); y++) offsets_.push_back(y * src.row_pitch);
}

ptrdiff_t MeanStep::pieces(int threads) const {
  return pieces_of(units(), double(units()) * double(std::min(kPart, src_.block) * src_.height * src_.width), threads);
}

void MeanStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(units(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const ptrdiff_t first = i % parts_ * kPart, block = i / parts_ % src_.blocks(), n = i / parts_ / src_.blocks();
    const ptrdiff_t channel = block * src_.block + first;
    const ptrdiff_t channels = std::min({kPart, src_.block - first, src_.channels - channel});
    if (channels < 1) continue;
    table_.reduce({memory.at(src_.place) + at(src_, n, block, 0) + first,
                   memory.at(dst_) + n * dst_image_ + channel * dst_channel_, channels, 1, dst_channel_,
                   offsets_.data(), ptrdiff_t(offsets_.size()), count_, src_.pixel_pitch, reduction_});
  }
}

}  // namespace sep
