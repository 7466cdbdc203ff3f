// Weights in the order in which the layer kernels read them.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "base/scratch.h"
#include "base/tiles.h"
#include "layers/kernels/layers.h"

namespace sep {

// Channels divided into vectors. With at least one vector of channels, slice i is block i of a tile, and the last slice
// overlaps the one before; fewer channels are divided into slices of the largest power of two, side by side in one
// block.
struct Slices {
  Slices() = default;
  Slices(ptrdiff_t n, int vector) : channels(n), lanes(vector), width(vector) {
    while (width > n) width /= 2;
    count = ceil_div(n, width);
    blocks = ceil_div(n, vector);
  }
  bool wide() const { return width == lanes; }
  ptrdiff_t start(ptrdiff_t i) const { return std::min<ptrdiff_t>(i * width, channels - width); }  // first channel
  ptrdiff_t block(ptrdiff_t i) const { return wide() ? i : 0; }
  ptrdiff_t lane(ptrdiff_t i) const { return wide() ? 0 : start(i); }

  ptrdiff_t channels = 0, count = 0, blocks = 0;
  int lanes = 1, width = 1;  // of a vector, of a slice
};

// Every channel once, in `groups` groups of blocks of `block` elements.
inline std::vector<Channels> channels_of(const Slices& s, ptrdiff_t groups, ptrdiff_t block) {
  std::vector<Channels> out;
  for (ptrdiff_t g = 0; g < groups; g++)
    for (ptrdiff_t i = 0; i < s.blocks; i++) {
      const ptrdiff_t first = i * s.lanes, start = s.wide() ? s.start(i) : 0;
      out.push_back({(g * s.blocks + i) * block + first - start, std::min<ptrdiff_t>(s.lanes, s.channels - first)});
    }
  return out;
}

// Depthwise weights as [group][slice][tap][lanes], biases as [group][slice][lanes].
template <class T>
class PackedDepthwise {
 public:
  PackedDepthwise() = default;
  // weight(group, channel, tap), bias(group, channel). once: a channel that two slices share has weights in the first
  // only.
  template <class Weight, class Bias>
  PackedDepthwise(const Slices& s, ptrdiff_t groups, ptrdiff_t taps, Weight weight, Bias bias, bool once = false)
      : lanes_(s.lanes),
        count_(s.count),
        taps_(taps),
        memory_(Scratch::bytes<T>(groups * s.count * taps * s.lanes) + Scratch::bytes<T>(groups * s.count * s.lanes)),
        weights_(memory_.template take<T>(groups * s.count * taps * s.lanes)),
        bias_(memory_.template take<T>(groups * s.count * s.lanes)) {
    for (ptrdiff_t g = 0; g < groups; g++)
      for (ptrdiff_t i = 0; i < s.count; i++)
        for (int lane = 0; lane < s.lanes; lane++) {
          const ptrdiff_t c = s.start(i) + lane;
          const bool real = lane < s.width && !(once && c < i * s.width);
          for (ptrdiff_t k = 0; k < taps; k++)
            weights_[((g * s.count + i) * taps + k) * s.lanes + lane] = real ? weight(g, c, k) : T(0);
          bias_[(g * s.count + i) * s.lanes + lane] = real ? bias(g, c) : T(0);
        }
  }
  const T* weights(ptrdiff_t group, ptrdiff_t slice) const {
    return weights_ + (group * count_ + slice) * taps_ * lanes_;
  }
  const T* bias(ptrdiff_t group, ptrdiff_t slice) const { return bias_ + (group * count_ + slice) * lanes_; }

 private:
  ptrdiff_t lanes_ = 0, count_ = 0, taps_ = 0;
  Scratch memory_{0};
  T *weights_ = nullptr, *bias_ = nullptr;
};

// The order of the channels of several groups: in arrays of the caller the group is the fast index, in blocks the slow
// one. order[index in blocks] = index in arrays.
inline std::vector<ptrdiff_t> group_order(ptrdiff_t channels, ptrdiff_t groups) {
  std::vector<ptrdiff_t> order;
  for (ptrdiff_t g = 0; g < groups; g++)
    for (ptrdiff_t c = 0; c < channels; c++) order.push_back(c * groups + g);
  return order;
}

constexpr int lanes_of(Width width, int part, int vector) {
  return part == 0 ? (width == Width::half ? vector / 2 : vector)
                   : (width == Width::two            ? vector
                      : width == Width::one_and_half ? vector / 2
                                                     : 0);
}

// Pointwise weights as panels of up to two vectors of results.
template <class T>
class PackedPointwise {
 public:
  PackedPointwise() = default;

  // For contiguous result channels: panel.at is the channel.
  template <class Weight, class Bias>
  static PackedPointwise flat(int lanes, ptrdiff_t n_in, ptrdiff_t n_out, Weight weight, Bias bias) {
    PackedPointwise p(n_in, ceil_div(n_out, 2 * lanes) + 2, 2 * lanes);
    ptrdiff_t column = 0;
    while (column < n_out) {
      const ptrdiff_t left = n_out - column;
      const Width width = 2 * left > 3 * lanes || (lanes == 1 && left > 1) ? Width::two
                          : left > lanes                                   ? Width::one_and_half
                          : 2 * left > lanes || lanes == 1                 ? Width::one
                                                                           : Width::half;
      column = p.add(width, column, lanes, n_out, weight, bias);
    }
    return p;
  }

  // For results in blocks of full vectors: panel.at is the number of the block, group after group. Lanes without a
  // channel get zeros.
  template <class Weight, class Bias>
  static PackedPointwise blocked(const Slices& s, ptrdiff_t n_in, ptrdiff_t groups, Weight weight, Bias bias) {
    PackedPointwise p(n_in, ceil_div(groups * s.blocks, 2), 2 * s.lanes);
    const ptrdiff_t blocks = groups * s.blocks;
    for (ptrdiff_t b = 0; b < blocks; b += 2) {
      const Width width = b + 1 < blocks ? Width::two : Width::one;
      const ptrdiff_t at[2] = {b, b + 1};
      p.fill(
          width, at, s.lanes, s.lanes,
          [&](int part, int lane) {
            const ptrdiff_t block = b + part, c = (s.wide() ? s.start(block % s.blocks) : 0) + lane;
            return c < s.channels ? block / s.blocks * s.channels + c : ptrdiff_t(-1);
          },
          weight, bias);
    }
    return p;
  }

  const std::vector<Panel<T>>& panels() const { return panels_; }
  ptrdiff_t bytes() const { return bytes_; }

 private:
  PackedPointwise(ptrdiff_t n_in, ptrdiff_t panels, int widest)
      : n_in_(n_in),
        bytes_(ptrdiff_t(panels * (Scratch::bytes<T>(n_in * widest) + Scratch::bytes<T>(widest)))),
        memory_(size_t(bytes_)) {}

  // A panel from `column` on; vectors that would reach beyond the channels start earlier. Returns the next column.
  template <class Weight, class Bias>
  ptrdiff_t add(Width width, ptrdiff_t column, int vector, ptrdiff_t n_out, Weight weight, Bias bias) {
    ptrdiff_t at[2] = {0, 0};
    for (int part = 0; part < 2; part++) {
      const int lanes = lanes_of(width, part, vector);
      at[part] = std::max<ptrdiff_t>(0, std::min(column, n_out - lanes));
      column += lanes;
    }
    const int valid = int(std::min<ptrdiff_t>(n_out, vector));
    fill(
        width, at, vector, valid,
        [&](int part, int lane) { return at[part] + lane < n_out ? at[part] + lane : ptrdiff_t(-1); }, weight, bias);
    return column;
  }

  template <class Channel, class Weight, class Bias>
  void fill(Width width, const ptrdiff_t (&at)[2], int vector, int valid, Channel channel, Weight weight, Bias bias) {
    const int first = lanes_of(width, 0, vector), all = first + lanes_of(width, 1, vector);
    T* w = memory_.template take<T>(n_in_ * all);
    T* b = memory_.template take<T>(all);
    std::vector<ptrdiff_t> result(all);
    for (int lane = 0; lane < all; lane++) {
      const int part = lane >= first;
      result[lane] = channel(part, lane - part * first);
      b[lane] = result[lane] < 0 ? T(0) : bias(result[lane]);
    }
    for (ptrdiff_t from = 0; from < n_in_; from += kBlock)  // in blocks: one of the two sides is always a transpose
      for (int lane = 0; lane < all; lane++)
        for (ptrdiff_t j = from; j < std::min(from + kBlock, n_in_); j++)
          w[j * all + lane] = result[lane] < 0 ? T(0) : weight(j, result[lane]);
    panels_.push_back({w, b, {at[0], at[1]}, width, valid});
  }

  static constexpr ptrdiff_t kBlock = 16;
  ptrdiff_t n_in_ = 0, bytes_ = 0;
  Scratch memory_{0};
  std::vector<Panel<T>> panels_;
};

}  // namespace sep
