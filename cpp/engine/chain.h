// Convolutions one after the other as one step: bands of rows march through all of them, and what lies between lives in
// rings of rows that stay in the cache. A chain of one is a plain convolution, whose channels are divided among threads
// too.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "engine/bfloats/bfloat_weights.h"
#include "engine/stage.h"

namespace sep {

// One convolution: `conv`, `depthwise`, or `bfloats`.
struct StageSpec {
  Geometry geometry;
  Ending end;
  std::shared_ptr<const ConvWeights> conv;
  std::shared_ptr<const DepthwiseWeights> depthwise;
  ptrdiff_t channels = 0, height = 0, width = 0;  // of its results
  std::shared_ptr<const BfloatWeights> bfloats{};
  bool whole = true;  // `bfloats`: results are written as whole blocks
  std::shared_ptr<const StageSpec> filter{};  // `bfloats`: a depthwise convolution, whose results are packed at once

  ptrdiff_t kernel_height() const {
    if (filter) return filter->kernel_height();
    return conv ? conv->shape().height : depthwise ? depthwise->height() : bfloats->shape().height;
  }
  ptrdiff_t kernel_width() const {
    if (filter) return filter->kernel_width();
    return conv ? conv->shape().width : depthwise ? depthwise->width() : bfloats->shape().width;
  }
};

struct ChainSpec {
  Image src, dst;
  std::vector<StageSpec> stages;
  std::optional<Image> add;    // the residual of the last one
  std::optional<Place> scale;  // of the channels of src: [image][block][lane]
  // Of the last one's results: sums of each band's, [image][band][block][lane], with room for as many bands as rows.
  std::optional<Place> sums;
};

class ChainStep final : public Step {
 public:
  explicit ChainStep(const ChainSpec& spec);
  ptrdiff_t bands() const;  // whose results are summed up apart, whatever the number of threads
  ptrdiff_t pieces(int threads) const override;
  size_t scratch_bytes() const override;
  Fetched weights() const override;
  bool fetches() const override { return !spec_.stages.back().depthwise; }
  void precede(const std::vector<Fetched>& following) override { following_ = following; }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  struct Cut {
    ptrdiff_t bands, parts;
  };
  struct Band;
  Cut cut(ptrdiff_t pieces) const;
  bool by_rows(int threads) const;
  ptrdiff_t recomputed() const;
  bool chained() const { return stages_.size() > 1 || spec_.stages[0].filter; }
  void join_filters();
  void plan_rings();
  void march(Band& b) const;
  void produce(Band& b, size_t stage, Range rows) const;

  ChainSpec spec_;
  std::vector<Image> between_;    // what stages hand on: rings, `height` as of the whole image
  std::vector<ptrdiff_t> slots_;  // of these
  std::vector<std::unique_ptr<Stage>> stages_;
  ptrdiff_t band_rows_ = 1;  // of the last stage's results made at once
  ptrdiff_t macs_ = 0;
  size_t stage_scratch_ = 0;
  std::vector<Fetched> following_;  // the weights of steps to come
};

// Means from the sums of bands: means[image][channel] = sum over bands of sums[image][band][channel] / pixels.
class MeansStep final : public Step {
 public:
  MeansStep(const Place& sums, const Place& means, ptrdiff_t batch, ptrdiff_t bands, ptrdiff_t channels,
            ptrdiff_t pixels)
      : sums_(sums), means_(means), batch_(batch), bands_(bands), channels_(channels), pixels_(pixels) {}
  ptrdiff_t pieces(int) const override { return 1; }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  Place sums_, means_;
  ptrdiff_t batch_, bands_, channels_, pixels_;
};

}  // namespace sep
