// Convolutions of 3 x 3 taps by Winograd's algorithm: a quarter of the multiplications.
#pragma once
#include <memory>

#include "engine/stage.h"

namespace sep {

// Rows come in whole tiles, but for the last ones: what a tile gives depends on where it begins.
class WinogradStage final : public Stage {
 public:
  WinogradStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                std::shared_ptr<const ConvWeights> weights);
  ptrdiff_t parts() const override { return ptrdiff_t(weights_->panels().size()); }
  ptrdiff_t macs_a_row() const override;
  size_t weight_bytes() const override { return weights_->bytes(); }
  Step::Fetched weights() const override { return weights_->all(); }
  size_t scratch_bytes() const override;
  void run(const StageCall& call) const override;
  ptrdiff_t kernel_height() const override { return weights_->shape().height; }

 private:
  ptrdiff_t across() const { return ceil_div(dst_.width, kWinogradTile); }
  ptrdiff_t samples() const { return src_.blocks() * src_.block; }  // of a pixel, with those of no channel
  void transform(const StageCall& call, ptrdiff_t tile, float* samples) const;
  void multiply(const ConvWeights::Panel& panel, const float* samples, ptrdiff_t tiles, const float* zeros,
                float* products) const;
  void finish(const StageCall& call, const ConvWeights::Panel& panel, ptrdiff_t vector, ptrdiff_t tile,
              const float* products) const;

  std::shared_ptr<const ConvWeights> weights_;
  ptrdiff_t at_once_;  // tiles
};

}  // namespace sep
