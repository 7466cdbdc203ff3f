#include "engine/bfloats/bfloat_weights.h"

#include <algorithm>
#include <cstring>

#include "base/scratch.h"

namespace sep {
namespace {

constexpr ptrdiff_t kMostChannels = 2 * kTilePairs, kPart = 8;  // of a chunk; kernels pack so many channels together

}  // namespace

uint16_t bfloat_of(float value) {
  uint32_t u;
  std::memcpy(&u, &value, sizeof u);
  const uint32_t size = u & 0x7fffffffu;
  if (size > 0x7f800000u) return uint16_t(u >> 16 | 0x40u);
  if (size < 0x00800000u) return uint16_t(u >> 16 & 0x8000u);
  return uint16_t((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

BfloatWeights::BfloatWeights(const ConvShape& shape, const float* weights, const float* bias, bool joins)
    : shape_(shape) {
  const ptrdiff_t group_in = shape.c_in / shape.groups, group_out = shape.c_out / shape.groups;
  const ptrdiff_t even = round_up(shape.c_in, 2), n = ceil_div(shape.c_in, kMostChannels);
  joined_ = joins && shape.groups == 1 && shape.width > 1 && shape.width * even <= kMostChannels;
  chunk_ = joined_ ? even : round_up(ceil_div(shape.c_in, n), kPart);
  for (ptrdiff_t first = 0; first < shape.c_out; first += 2 * kTileColumns) {
    Panel panel{};
    panel.first = first, panel.columns = std::min<ptrdiff_t>(2 * kTileColumns, shape.c_out - first);
    const ptrdiff_t last = first + panel.columns - 1;
    panel.chunks = {first / group_out * group_in / chunk_, ceil_div((last / group_out + 1) * group_in, chunk_)};
    bytes_ += Scratch::bytes<uint16_t>(elements(panel)) + Scratch::bytes<float>(2 * kTileColumns);
    panels_.push_back(panel);
  }
  memory_ = Pages(bytes_);
  for (Panel& p : panels_) {
    uint16_t* packed = memory_.take<uint16_t>(elements(p));
    float* biases = memory_.take<float>(2 * kTileColumns);
    for (ptrdiff_t i = 0; i < 2 * kTileColumns; i++) biases[i] = bias && i < p.columns ? bias[p.first + i] : 0.0f;
    fill(p, packed, weights);
    p.weights = packed, p.bias = biases;
  }
}

void BfloatWeights::fill(const Panel& p, uint16_t* packed, const float* weights) const {
  const ptrdiff_t group_in = shape_.c_in / shape_.groups, group_out = shape_.c_out / shape_.groups;
  const ptrdiff_t taps = shape_.height * shape_.width;
  auto element = [&](ptrdiff_t out, ptrdiff_t channel, ptrdiff_t tap) -> uint16_t {
    const ptrdiff_t in_group = channel - out / group_out * group_in;
    if (out >= shape_.c_out || channel >= shape_.c_in || in_group < 0 || in_group >= group_in) return 0;
    return bfloat_of(weights[(out * group_in + in_group) * taps + tap]);
  };
  for (ptrdiff_t q = p.chunks.from; q < p.chunks.to; q++)
    for (ptrdiff_t step = 0; step < steps(); step++)
      for (int t = 0; t < p.tiles(); t++)
        for (ptrdiff_t k = 0; k < pairs(); k++)
          for (ptrdiff_t n = 0; n < kTileColumns; n++)
            for (ptrdiff_t i = 2 * k; i < 2 * k + 2; i++) {
              const ptrdiff_t out = p.first + t * kTileColumns + n;
              *packed++ = joined_ ? element(out, i % chunk_, step * shape_.width + i / chunk_)
                                  : element(out, q * chunk_ + i, step);
            }
}

}  // namespace sep
