#include "engine/conv_weights.h"

#include <algorithm>

#include "base/machine.h"

namespace sep {
namespace {

// `n` vectors in panels of `most`, at the end of three or two rather than of one.
std::vector<ptrdiff_t> panel_sizes(ptrdiff_t n, ptrdiff_t most) {
  std::vector<ptrdiff_t> sizes;
  for (; n > 0; n -= sizes.back()) sizes.push_back(n <= 3 ? n : n == most + 1 ? n - 2 : most);
  return sizes;
}

}  // namespace

ConvWeights::ConvWeights(const ConvShape& shape, ptrdiff_t block, const float* weights, const float* bias,
                         bool short_rows, bool winograd)
    : shape_(shape), block_(block), winograd_(winograd), lanes_(target().blocks->lanes), bytes_(0) {
  const ptrdiff_t group_in = shape.c_in / shape.groups, group_out = shape.c_out / shape.groups;
  const ptrdiff_t taps = winograd ? kWinogradProducts : shape.height * shape.width;
  Panel panel{};
  for (ptrdiff_t vectors : panel_sizes(ceil_div(shape.c_out, lanes_), short_rows ? target().blocks->wide : 2)) {
    const ptrdiff_t first = panel.first * lanes_, last = std::min(first + vectors * lanes_, shape.c_out) - 1;
    panel.vectors = vectors;
    panel.channels = {first / group_out * group_in, (last / group_out + 1) * group_in};
    const ptrdiff_t size = panel.channels.count() * taps * vectors * lanes_;
    largest_ = std::max(largest_, size);
    bytes_ += Scratch::bytes<float>(size) + Scratch::bytes<float>(vectors * lanes_);
    panels_.push_back(panel);
    panel.first += vectors;
  }
  memory_ = Pages(bytes_);
  for (Panel& p : panels_) {
    float* packed = memory_.take<float>(p.channels.count() * taps * p.vectors * lanes_);
    float* biases = memory_.take<float>(p.vectors * lanes_);
    for (ptrdiff_t i = 0; i < p.vectors * lanes_; i++) {
      const ptrdiff_t o = p.first * lanes_ + i;
      biases[i] = bias && o < shape.c_out ? bias[o] : 0.0f;
    }
    winograd ? fill_products(p, packed, weights) : fill(p, packed, weights);
    p.weights = packed, p.bias = biases;
  }
}

void ConvWeights::fill(Panel& p, float* packed, const float* weights) const {
  const ptrdiff_t group_in = shape_.c_in / shape_.groups, group_out = shape_.c_out / shape_.groups;
  const ptrdiff_t taps = shape_.height * shape_.width, width = p.vectors * lanes_, first = p.first * lanes_;
  const ptrdiff_t real = std::min(width, shape_.c_out - first);
  for (ptrdiff_t c0 = p.channels.from; c0 < p.channels.to;) {
    const ptrdiff_t c1 = std::min(c0 / block_ * block_ + block_, p.channels.to);  // the end of this block
    for (ptrdiff_t t = 0; t < taps; t++)
      for (ptrdiff_t c = c0; c < c1; c++, packed += width)
        for (ptrdiff_t i = 0; i < width; i++) {
          const ptrdiff_t in_group = c - (first + i) / group_out * group_in;
          packed[i] = i < real && in_group >= 0 && in_group < group_in
                          ? weights[((first + i) * group_in + in_group) * taps + t]
                          : 0.0f;
        }
    c0 = c1;
  }
}

// Values of the kernel's polynomials at the points, over what the samples' ones come to there.
void ConvWeights::fill_products(Panel& p, float* packed, const float* weights) const {
  constexpr double a = kWinogradPoints[0], b = kWinogradPoints[1];
  constexpr double points[] = {0, a, -a, b, -b};
  double rows[6][3] = {{}, {}, {}, {}, {}, {0, 0, 1}};
  for (int i = 0; i < 5; i++) {
    double over = 1;
    for (int j = 0; j < 5; j++) over *= i == j ? 1 : points[i] - points[j];
    for (int k = 0; k < 3; k++) rows[i][k] = (k == 0 ? 1 : k == 1 ? points[i] : points[i] * points[i]) / over;
  }
  const ptrdiff_t width = p.vectors * lanes_, first = p.first * lanes_, step = shape_.c_in * width;
  std::fill_n(packed, kWinogradProducts * step, 0.0f);
  for (ptrdiff_t i = 0; i < std::min(width, shape_.c_out - first); i++)
    for (ptrdiff_t c = 0; c < shape_.c_in; c++) {
      const float* taps = weights + ((first + i) * shape_.c_in + c) * 9;
      double across[3][6];
      for (int v = 0; v < 3; v++)
        for (int x = 0; x < 6; x++)
          across[v][x] = rows[x][0] * taps[3 * v] + rows[x][1] * taps[3 * v + 1] + rows[x][2] * taps[3 * v + 2];
      for (int y = 0; y < 6; y++)
        for (int x = 0; x < 6; x++)
          packed[(y * 6 + x) * step + c * width + i] =
              float(rows[y][0] * across[0][x] + rows[y][1] * across[1][x] + rows[y][2] * across[2][x]);
    }
}

DepthwiseWeights::DepthwiseWeights(ptrdiff_t channels, ptrdiff_t height, ptrdiff_t width, const float* weights,
                                   const float* bias)
    : channels_(channels), height_(height), width_(width), lanes_(target().blocks->lanes) {
  const ptrdiff_t blocks = ceil_div(channels, lanes_), taps = height * width;
  bytes_ = Scratch::bytes<float>(blocks * taps * lanes_) + Scratch::bytes<float>(blocks * lanes_);
  memory_ = Pages(bytes_);
  weights_ = memory_.take<float>(blocks * taps * lanes_);
  bias_ = memory_.take<float>(blocks * lanes_);
  for (ptrdiff_t b = 0; b < blocks; b++)
    for (ptrdiff_t lane = 0; lane < lanes_; lane++) {
      const ptrdiff_t c = b * lanes_ + lane;
      for (ptrdiff_t t = 0; t < taps; t++)
        weights_[(b * taps + t) * lanes_ + lane] = c < channels ? weights[c * taps + t] : 0.0f;
      bias_[b * lanes_ + lane] = bias && c < channels ? bias[c] : 0.0f;
    }
}

}  // namespace sep
