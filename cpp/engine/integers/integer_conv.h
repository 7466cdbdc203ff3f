// Convolutions and matrix products of bytes: sums of products of whole numbers, exact, and what is made of them.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "base/pages.h"
#include "engine/integers/kernels.h"
#include "engine/step.h"

namespace sep {

struct IntegerShape {
  ptrdiff_t c_in, c_out, groups;  // of one group: c_in / groups, c_out / groups
  ptrdiff_t height, width;        // of the kernel
  bool depthwise;                 // one channel for each group, each way
};

// Weights less their zeros, in the order in which kernels read them, with a bias, a scale and perhaps a shift for each
// result. Dense ones are bytes, those of depthwise kernels numbers of 16 bits.
class IntegerWeights {
 public:
  // What lies beyond the weights that products may have: quads of bytes at (run, place) of a panel.
  struct More {
    std::vector<int32_t> counts;            // of each panel of each group
    std::vector<int32_t> runs, places;      // of all quads
    std::vector<int8_t> weights;            // [quad][vector][lane][4]
  };

  // packed: bytes [group][panel][run][quad][vector][lane][4], or numbers of 16 bits [panel][pair of taps][2][2 * lanes]
  // of depthwise ones. sums: of the weights of each result. `pitch`: bytes from pixel to pixel of the samples.
  IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, const char* packed, ptrdiff_t packed_bytes, More more,
                 const int32_t* bias, const int32_t* sums, const float* scale, const float* shift);

  const IntegerShape& shape() const { return shape_; }
  ptrdiff_t pitch() const { return pitch_; }
  int lanes() const { return lanes_; }
  size_t bytes() const { return bytes_; }
  Step::Fetched all() const { return {packed_, packed_bytes_}; }

  ptrdiff_t group_in() const { return shape_.c_in / shape_.groups; }
  ptrdiff_t group_out() const { return shape_.depthwise ? shape_.c_out : shape_.c_out / shape_.groups; }
  ptrdiff_t groups() const { return shape_.depthwise ? 1 : shape_.groups; }
  ptrdiff_t panels() const { return (group_out() + 2 * lanes_ - 1) / (2 * lanes_); }  // of each group
  ptrdiff_t padded_out() const { return panels() * 2 * lanes_; }
  ptrdiff_t run() const;                       // bytes of a run
  ptrdiff_t runs() const;                      // of each pixel
  ptrdiff_t panel_bytes(ptrdiff_t panel) const;
  ptrdiff_t vectors(ptrdiff_t panel) const;
  const More& more() const { return more_; }

  // Of group g: [padded_out]
  const int32_t* bias(ptrdiff_t g) const { return bias_ + g * padded_out(); }
  const int32_t* sums(ptrdiff_t g) const { return sums_ + g * padded_out(); }
  const float* scale(ptrdiff_t g) const { return scale_ + g * padded_out(); }
  const float* shift(ptrdiff_t g) const { return shift_ ? shift_ + g * padded_out() : nullptr; }
  const char* panel(ptrdiff_t g, ptrdiff_t panel) const;

  static ptrdiff_t packed_size(const IntegerShape& shape, ptrdiff_t pitch, int lanes);
  static IntegerWeights sizes(const IntegerShape& shape, ptrdiff_t pitch, int lanes) { return {shape, pitch, lanes}; }

 private:
  IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, int lanes);
  IntegerShape shape_;
  ptrdiff_t pitch_;
  int lanes_;
  ptrdiff_t packed_bytes_ = 0;
  size_t bytes_ = 0;
  More more_;
  Pages memory_{0};
  char* packed_ = nullptr;
  int32_t *bias_ = nullptr, *sums_ = nullptr;
  float *scale_ = nullptr, *shift_ = nullptr;
};

// Bytes [image][row][pixel][channel], pixels `pitch` apart, without gaps.
struct ByteImages {
  Place place;
  ptrdiff_t count, height, width;
};

// Where results go: bytes without gaps, or floats and whole numbers in blocks of channels.
struct IntegerResults {
  Stored stored;
  Place place;
  ptrdiff_t count, height, width;
  ptrdiff_t image, block, row, pixel;  // pitches, in elements
  bool whole_blocks;                   // whether blocks of floats are written to their ends
};

struct IntegerGeometry {
  ptrdiff_t stride_y = 1, stride_x = 1, dilation_y = 1, dilation_x = 1, top = 0, left = 0;
};

// Numbers in memory: those of the samples, and those of the results where these are levels. An absent scale is 1.
struct LevelsAt {
  Place zero;
  std::optional<Place> scale;
};

// What follows the sums.
struct IntegerEnd {
  std::optional<Place> more;  // whole numbers as floats, one for each channel, that are added to the sums
  LevelsAt made;
  Ending act;
  std::optional<Place> add;  // levels of the results' shape, without gaps but for `add_pitch` bytes a pixel: residuals
  LevelsAt added;
  ptrdiff_t add_pitch = 0;
};

class IntegerConvStep : public Step {
 public:
  IntegerConvStep(std::shared_ptr<const IntegerWeights> weights, const ByteImages& src, const IntegerResults& dst,
                  const IntegerGeometry& geometry, const LevelsAt& given, const IntegerEnd& end);
  Fetched weights() const override { return weights_->all(); }
  ptrdiff_t pieces(int threads) const override;
  size_t scratch_bytes() const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  struct Call;
  struct Extra {  // of one panel
    ptrdiff_t first, count, weights;
  };
  bool depthwise() const { return weights_->shape().depthwise; }
  void find_extras();
  void find_pixels();
  void band(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t last) const;
  void fill(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t rows) const;
  void copy(const Call& call, const uint8_t* src, ptrdiff_t at, ptrdiff_t bytes) const;
  void clear(const Call& call, ptrdiff_t at, ptrdiff_t count) const;
  ptrdiff_t units() const { return dst_.count * bands_; }
  size_t lines_bytes() const;

  const IntegerTable& table_;
  std::shared_ptr<const IntegerWeights> weights_;
  ByteImages src_;
  IntegerResults dst_;
  IntegerGeometry geometry_;
  LevelsAt given_;
  IntegerEnd end_;
  bool flat_;                   // images are one row of pixels, of which a band is a part
  ptrdiff_t band_, bands_;      // rows, or pixels, of a band; bands of an image
  ptrdiff_t line_, line_rows_;  // samples of a row with what lies around it; rows of a band
  std::vector<ptrdiff_t> runs_, more_;
  std::vector<Extra> extras_;
  std::vector<int32_t> at_, to_, from_;  // of the pixels of a band: in its lines, its results, its residuals
};

}  // namespace sep
