// Convolutions whose operands are rounded to bfloat16, with sums in float32: samples of a band of rows are packed as
// tiles read them, then multiplied. Those may be the results of a depthwise convolution, a few rows of channels at a
// time, which are packed as they are made: no feature map of float32 lies between.
#pragma once
#include <memory>
#include <vector>

#include "engine/bfloats/bfloat_weights.h"
#include "engine/stage.h"

namespace sep {

class BfloatStage final : public Stage {
 public:
  // whole: results lie in blocks, whose lanes without a channel may hold anything; else nothing is written but results.
  BfloatStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
              std::shared_ptr<const BfloatWeights> weights, bool whole);
  // Of one tap, behind `filter`, whose geometry it has.
  BfloatStage(const Ending& end, const Image& dst, std::shared_ptr<const BfloatWeights> weights,
              std::unique_ptr<DepthwiseStage> filter);
  ptrdiff_t parts() const override { return ptrdiff_t(weights_->panels().size()); }
  ptrdiff_t macs_a_row() const override;
  size_t weight_bytes() const override { return weights_->bytes() + (filter_ ? filter_->weight_bytes() : 0); }
  Step::Fetched weights() const override { return weights_->all(); }
  size_t scratch_bytes() const override;
  void run(const StageCall& call) const override;
  ptrdiff_t kernel_height() const override {
    return filter_ ? filter_->kernel_height() : weights_->shape().height / geometry_.depth;
  }

 private:
  void plan();
  ptrdiff_t slices() const { return single_ ? 1 : geometry_.depth; }
  ptrdiff_t strip_blocks() const;           // of the filter's results that are packed at once
  ptrdiff_t span(ptrdiff_t columns) const;  // pixels of a row that results read
  ptrdiff_t lines(ptrdiff_t rows) const;    // rows that rows of results read
  void plan_bands();
  void band(const StageCall& call, Range rows, Range columns) const;
  void pack(const StageCall& call, Range rows, Range columns) const;
  void pack_filtered(const StageCall& call, Range rows) const;
  void pack_row(const StageCall& call, ptrdiff_t slice, ptrdiff_t y, Range columns, uint16_t* to) const;
  void clear(uint16_t* to, ptrdiff_t pixels) const;
  void multiply(const StageCall& call, const std::vector<BfloatLine>& lines) const;

  const BfloatTable& table_;
  std::shared_ptr<const BfloatWeights> weights_;
  std::unique_ptr<DepthwiseStage> filter_;  // null: none
  bool whole_;
  bool single_;                         // one tap: just the samples that are read are packed
  ptrdiff_t band_rows_, band_columns_;  // of results that are made at once
  ptrdiff_t row_pitch_, chunk_pitch_;   // of packed samples, in elements
  std::vector<ptrdiff_t> steps_;        // of all chunks
};

}  // namespace sep
