#include "engine/winograd/winograd.h"

#include <algorithm>
#include <cstring>

#include "base/machine.h"

namespace sep {
namespace {

constexpr double kTileShare = 0.5;                      // of the L2 cache, for samples of tiles that are taken together
constexpr ptrdiff_t kLeastTiles = 12, kMostTiles = 96;  // fewer read all weights too often

}  // namespace

WinogradStage::WinogradStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                             std::shared_ptr<const ConvWeights> weights)
    : Stage(g, end, src, dst), weights_(std::move(weights)) {
  const ptrdiff_t tile = kWinogradProducts * samples() * ptrdiff_t(sizeof(float));
  at_once_ = std::clamp(ptrdiff_t(kTileShare * double(caches().l2)) / tile, kLeastTiles, kMostTiles);
}

ptrdiff_t WinogradStage::macs_a_row() const {
  const ConvShape& s = weights_->shape();
  return dst_.width * s.c_out * s.c_in * kWinogradProducts / (kWinogradTile * kWinogradTile);
}

size_t WinogradStage::scratch_bytes() const {
  const ptrdiff_t lanes = weights_->lanes();
  return Scratch::bytes<float>(kWinogradProducts * at_once_ * samples()) +
         Scratch::bytes<float>(kWinogradProducts * at_once_ * kMostVectors * lanes) +
         Scratch::bytes<float>(kMostVectors * lanes);
}

void WinogradStage::run(const StageCall& call) const {
  const ptrdiff_t lanes = weights_->lanes();
  float* const held = reinterpret_cast<float*>(call.scratch);
  float* const products =
      held + Scratch::bytes<float>(kWinogradProducts * at_once_ * samples()) / sizeof(float);
  float* const zeros =
      products + Scratch::bytes<float>(kWinogradProducts * at_once_ * kMostVectors * lanes) / sizeof(float);
  std::memset(zeros, 0, size_t(kMostVectors * lanes) * sizeof(float));
  const ptrdiff_t from = call.rows.from / kWinogradTile * across();
  const ptrdiff_t to = ceil_div(call.rows.to, kWinogradTile) * across();
  const ptrdiff_t groups = ceil_div(to - from, at_once_);
  for (ptrdiff_t group = 0; group < groups; group++) {
    const ptrdiff_t first = from + (to - from) * group / groups, n = from + (to - from) * (group + 1) / groups - first;
    for (ptrdiff_t i = 0; i < n; i++) transform(call, first + i, held + i * samples());
    for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
      const ConvWeights::Panel& p = weights_->panels()[size_t(part)];
      multiply(p, held, n, zeros, products);
      for (ptrdiff_t j = 0; j < p.vectors; j++)
        for (ptrdiff_t i = 0; i < n; i++) finish(call, p, j, first + i, products + (j * at_once_ + i) * lanes);
    }
  }
  for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
    const ConvWeights::Panel& p = weights_->panels()[size_t(part)];
    for (ptrdiff_t j = 0; j < p.vectors; j++)
      clear_around(dst_, call.dst.at + (p.first + j) * call.dst.block_pitch, call.dst.row_pitch, call.rows);
  }
}

// The samples of a tile as those of its products, [product][tile][channel].
void WinogradStage::transform(const StageCall& call, ptrdiff_t tile, float* samples_of_tile) const {
  const ptrdiff_t y = tile / across() * kWinogradTile - geometry_.top;
  const ptrdiff_t x = tile % across() * kWinogradTile - geometry_.left;
  target().blocks->winograd_in({call.src.at, call.src.block_pitch, call.src.row_pitch, src_.blocks(), y, x, -src_.top,
                                -src_.left, src_.height + src_.bottom, src_.width + src_.right, samples_of_tile,
                                at_once_ * samples()});
}

// [product][vector][tile][lane]
void WinogradStage::multiply(const ConvWeights::Panel& p, const float* held, ptrdiff_t tiles, const float* zeros,
                             float* products) const {
  const ptrdiff_t lanes = weights_->lanes(), channels = weights_->shape().c_in;
  const Segment all{0, channels};
  const Line line{0, 0, 0, tiles};
  for (ptrdiff_t t = 0; t < kWinogradProducts; t++)
    target().blocks->conv({held + t * at_once_ * samples(),
                           &all,
                           1,
                           samples(),
                           p.weights + t * channels * p.vectors * lanes,
                           zeros,
                           int(p.vectors),
                           products + t * at_once_ * p.vectors * lanes,
                           at_once_ * lanes,
                           nullptr,
                           0,
                           &line,
                           1,
                           {},
                           nullptr,
                           nullptr});
}

void WinogradStage::finish(const StageCall& call, const ConvWeights::Panel& p, ptrdiff_t vector, ptrdiff_t tile,
                           const float* products) const {
  const ptrdiff_t lanes = weights_->lanes(), block = p.first + vector;
  const ptrdiff_t y = tile / across() * kWinogradTile, x = tile % across() * kWinogradTile;
  target().blocks->winograd_out(
      {products, at_once_ * p.vectors * lanes, p.bias + vector * lanes,
       call.dst.at + block * call.dst.block_pitch + call.dst.offset(y) + x * lanes, call.dst.row_pitch,
       call.add ? call.add->at + block * call.add->block_pitch + call.add->offset(y) + x * lanes : nullptr,
       call.add ? call.add->row_pitch : 0, int(std::min<ptrdiff_t>(kWinogradTile, call.rows.to - y)),
       int(std::min<ptrdiff_t>(kWinogradTile, dst_.width - x)), end_});
}

}  // namespace sep
