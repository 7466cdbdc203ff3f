// Convolutions that make some rows of feature maps from some rows of others: alone, or one after the other in a chain
// whose rows in between never leave the cache.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "engine/conv_weights.h"
#include "engine/image.h"

namespace sep {

// Rows of one image in memory; with fewer slots than rows they lie in a ring.
struct Rows {
  float* at = nullptr;  // of pixel 0 of row 0, or of the ring's first slot
  ptrdiff_t block_pitch = 0, row_pitch = 0, pixel_pitch = 0;
  ptrdiff_t slots = 0;  // 0: no ring

  ptrdiff_t offset(ptrdiff_t y) const {
    if (!slots) return y * row_pitch;
    const ptrdiff_t slot = y % slots;
    return (slot < 0 ? slot + slots : slot) * row_pitch;
  }
  // Whether rows follow each other without a gap, `width` pixels each.
  bool flat(Range rows, ptrdiff_t width) const {
    return row_pitch == width * pixel_pitch &&
           (!slots || offset(rows.to - 1) - offset(rows.from) == (rows.count() - 1) * row_pitch);
  }
};

inline Rows rows_of(const Image& image, const Memory& memory, ptrdiff_t batch) {
  return {memory.at(image.place) + batch * image.batch_pitch, image.block_pitch, image.row_pitch, image.pixel_pitch, 0};
}

struct Geometry {
  ptrdiff_t stride_y = 1, stride_x = 1, dilation_y = 1, dilation_x = 1;
  ptrdiff_t top = 0, left = 0;  // padding with zeros
  // Of volumes, whose slices are images: a kernel's rows lie in so many slices, `slice` elements apart.
  ptrdiff_t depth = 1, slice = 0;
};

// Weights that a piece of work asks for ahead of time: the rest of its own, then those of the steps that follow.
struct WeightStream {
  const char* own = nullptr;        // those before it were asked for
  const Step::Fetched *next, *end;  // of the steps that follow
  ptrdiff_t at = 0;                 // bytes of `next` that were asked for

  // What may be asked for now: as much as stays in the L2 cache until it is needed. used: the end of the weights in
  // use, own_end: of all of this piece.
  Step::Fetched ahead(const char* used, const char* own_end);
  void asked(const Step::Fetched& range, const char* until);
};

// What one call of a stage reads and writes.
struct StageCall {
  Rows src, dst;
  const Rows* add;     // the residual; null: none
  const float* scale;  // of the channels of src; null: 1
  float* sums;         // [block][lanes]: the results are added up; null: they are not
  Range rows;          // of dst
  Range parts;         // of the results' channels: panels or blocks
  char* scratch;
  WeightStream* stream;  // null: nothing is to be fetched
};

class Stage {
 public:
  Stage(const Geometry& g, const Ending& end, const Image& src, const Image& dst)
      : geometry_(g), end_(end), src_(src), dst_(dst) {}
  virtual ~Stage() = default;
  virtual ptrdiff_t parts() const = 0;
  virtual ptrdiff_t macs_a_row() const = 0;
  virtual size_t weight_bytes() const = 0;
  virtual Step::Fetched weights() const = 0;
  virtual size_t scratch_bytes() const { return 0; }
  virtual void run(const StageCall& call) const = 0;
  virtual ptrdiff_t kernel_height() const = 0;
  // The rows of src that rows of dst depend on; some may lie beyond its ends.
  Range needs(Range rows) const {
    const ptrdiff_t from = rows.from * geometry_.stride_y - geometry_.top;
    return {from, from + (rows.count() - 1) * geometry_.stride_y + (kernel_height() - 1) * geometry_.dilation_y + 1};
  }
  const Image& src() const { return src_; }
  const Image& dst() const { return dst_; }
  const Geometry& geometry() const { return geometry_; }

 protected:
  Geometry geometry_;
  Ending end_;
  Image src_, dst_;  // shapes; where they lie is told by each call
};

// Zeros in the pixels around rows of a block of results.
void clear_around(const Image& image, float* block, ptrdiff_t row_pitch, Range rows);

class ConvStage final : public Stage {
 public:
  ConvStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
            std::shared_ptr<const ConvWeights> weights, bool scaled);
  ptrdiff_t parts() const override { return ptrdiff_t(weights_->panels().size()); }
  ptrdiff_t macs_a_row() const override;
  size_t weight_bytes() const override { return weights_->bytes(); }
  Step::Fetched weights() const override { return weights_->all(); }
  size_t scratch_bytes() const override;
  void run(const StageCall& call) const override;
  ptrdiff_t kernel_height() const override { return weights_->shape().height / geometry_.depth; }

 private:
  bool pointwise() const;
  ptrdiff_t row_of(ptrdiff_t v, ptrdiff_t pitch) const;
  std::vector<Segment> segments(const Image& layout, Range channels) const;
  void plan_copies(const Image& src);
  void band(const StageCall& call, Range rows, Range columns) const;
  float* copied(const StageCall& call, Range rows, Range columns) const;
  void multiply(const StageCall& call, const float* src, const Line* lines, ptrdiff_t n) const;
  const float* scaled(const StageCall& call, const ConvWeights::Panel& panel) const;

  std::shared_ptr<const ConvWeights> weights_;
  bool scaled_;
  ptrdiff_t band_rows_, band_columns_;  // of results that are made at once
  // Where src has no zeros around it, the rows of a band are copied to where there are; else these copies have no rows.
  Image copies_;
  std::vector<std::vector<Segment>> segments_;  // of each panel
};

class DepthwiseStage final : public Stage {
 public:
  DepthwiseStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                 std::shared_ptr<const DepthwiseWeights> weights);
  ptrdiff_t parts() const override { return dst_.blocks(); }
  ptrdiff_t macs_a_row() const override;
  size_t weight_bytes() const override { return weights_->bytes(); }
  Step::Fetched weights() const override { return weights_->all(); }
  void run(const StageCall& call) const override;
  ptrdiff_t kernel_height() const override { return weights_->height() / geometry_.depth; }

 private:
  std::shared_ptr<const DepthwiseWeights> weights_;
};

}  // namespace sep
