#include "engine/bfloats/bfloat_stage.h"

#include <algorithm>
#include <cstring>

#include "base/machine.h"
#include "base/scratch.h"

namespace sep {
namespace {

constexpr double kSourceShare = 0.35;     // of the L2 cache, for the packed samples that all panels read in turn
constexpr double kStripShare = 0.25;      // of the L1 cache, for results of a depthwise convolution
constexpr ptrdiff_t kMostRows = 64;       // of results made at once
constexpr ptrdiff_t kLeastColumns = 128;  // of a row that is divided: fewer would read its weights too often

// Whether rows follow each other at one distance: in a ring they may not.
bool evenly(const Rows& rows, Range range) {
  return rows.offset(range.to - 1) - rows.offset(range.from) == (range.count() - 1) * rows.row_pitch;
}

}  // namespace

BfloatStage::BfloatStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                         std::shared_ptr<const BfloatWeights> weights, bool whole)
    : Stage(g, end, src, dst), table_(bfloats()), weights_(std::move(weights)), whole_(whole) {
  plan();
}

BfloatStage::BfloatStage(const Ending& end, const Image& dst, std::shared_ptr<const BfloatWeights> weights,
                         std::unique_ptr<DepthwiseStage> filter)
    : Stage(filter->geometry(), end, filter->dst(), dst),
      table_(bfloats()),
      weights_(std::move(weights)),
      filter_(std::move(filter)),
      whole_(true) {
  plan();
}

void BfloatStage::plan() {
  const Geometry& g = geometry_;
  const BfloatWeights& w = *weights_;
  single_ = w.shape().height == 1 && w.shape().width == 1;
  plan_bands();
  row_pitch_ = span(band_columns_) * w.chunk();
  const ptrdiff_t rows = lines(band_rows_), high = kernel_height();
  chunk_pitch_ = slices() * rows * row_pitch_;
  for (ptrdiff_t q = 0; q < w.chunks(); q++)
    for (ptrdiff_t v = 0; v < w.shape().height; v++)
      for (ptrdiff_t u = 0; u < w.steps() / w.shape().height; u++)
        steps_.push_back(q * chunk_pitch_ + (v / high * rows + v % high * g.dilation_y) * row_pitch_ +
                         u * g.dilation_x * w.chunk());
}

ptrdiff_t BfloatStage::span(ptrdiff_t columns) const {
  if (single_) return columns;
  return (columns - 1) * geometry_.stride_x + (weights_->shape().width - 1) * geometry_.dilation_x + 1;
}

ptrdiff_t BfloatStage::lines(ptrdiff_t rows) const { return single_ ? rows : needs({0, rows}).count(); }

// Bands of nearly equal height, whose samples fit their share of the cache; rows that do not are divided.
void BfloatStage::plan_bands() {
  const ptrdiff_t pixel = slices() * weights_->chunks() * weights_->chunk() * ptrdiff_t(sizeof(uint16_t));
  const ptrdiff_t room = std::max<ptrdiff_t>(1, ptrdiff_t(kSourceShare * double(caches().l2)) / pixel);  // pixels
  band_columns_ = dst_.width;
  band_rows_ = 1;
  if (lines(1) * span(dst_.width) > room && !filter_) {
    const ptrdiff_t halo = span(1) - 1;
    const ptrdiff_t fit = (room / lines(1) - halo) / geometry_.stride_x;
    band_columns_ = std::min(std::max({kLeastColumns, halo, fit}), dst_.width);
    return;
  }
  while (band_rows_ < std::min(kMostRows, dst_.height) && lines(band_rows_ + 1) * span(dst_.width) <= room)
    band_rows_++;
  band_rows_ = ceil_div(dst_.height, ceil_div(dst_.height, band_rows_));
}

ptrdiff_t BfloatStage::macs_a_row() const {
  const ConvShape& s = weights_->shape();
  return dst_.width * s.c_out * (s.c_in / s.groups) * s.height * s.width + (filter_ ? filter_->macs_a_row() : 0);
}

ptrdiff_t BfloatStage::strip_blocks() const {
  const ptrdiff_t row = src_.width * src_.pixel_pitch * ptrdiff_t(sizeof(float));
  return std::clamp<ptrdiff_t>(ptrdiff_t(kStripShare * double(caches().l1d)) / row, 1, src_.blocks());
}

size_t BfloatStage::scratch_bytes() const {
  const size_t packed = Scratch::bytes<uint16_t>(weights_->chunks() * chunk_pitch_);
  return packed + (filter_ ? Scratch::bytes<float>(strip_blocks() * src_.width * src_.pixel_pitch) : 0);
}

void BfloatStage::run(const StageCall& call) const {
  for (ptrdiff_t y = call.rows.from; y < call.rows.to; y += band_rows_)
    for (ptrdiff_t x = 0; x < dst_.width; x += band_columns_)
      band(call, {y, std::min(y + band_rows_, call.rows.to)}, {x, std::min(x + band_columns_, dst_.width)});
  if (call.dst.slots || !whole_) return;
  const ptrdiff_t lanes = dst_.block;
  for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
    const BfloatWeights::Panel& p = weights_->panels()[size_t(part)];
    for (ptrdiff_t b = p.first / lanes; b < ceil_div(p.first + p.columns, lanes); b++)
      clear_around(dst_, call.dst.at + b * call.dst.block_pitch, call.dst.row_pitch, call.rows);
  }
}

void BfloatStage::band(const StageCall& call, Range rows, Range columns) const {
  pack(call, rows, columns);
  const ptrdiff_t wide = columns.count(), to = columns.from * call.dst.pixel_pitch;
  const ptrdiff_t added = call.add ? columns.from * call.add->pixel_pitch : 0;
  std::vector<BfloatLine> all;
  if (single_ && wide == band_columns_ && evenly(call.dst, rows) && (!call.add || evenly(*call.add, rows))) {
    const ptrdiff_t gap = call.dst.row_pitch - wide * call.dst.pixel_pitch;
    const ptrdiff_t add_gap = call.add ? call.add->row_pitch - wide * call.add->pixel_pitch : 0;
    const ptrdiff_t pixels = rows.count() * wide;
    all.push_back({0, call.dst.offset(rows.from) + to, call.add ? call.add->offset(rows.from) + added : 0, pixels,
                   gap || add_gap ? wide : pixels, gap, add_gap});
    return multiply(call, all);
  }
  const ptrdiff_t step = (single_ ? 1 : geometry_.stride_y) * row_pitch_;
  for (ptrdiff_t i = 0; i < rows.count(); i++)
    all.push_back({i * step, call.dst.offset(rows.from + i) + to,
                   call.add ? call.add->offset(rows.from + i) + added : 0, wide, wide, 0, 0});
  multiply(call, all);
}

// The samples of a band, [chunk][slice][row][pixel][channel].
void BfloatStage::pack(const StageCall& call, Range rows, Range columns) const {
  if (filter_) return pack_filtered(call, rows);
  const Geometry& g = geometry_;
  uint16_t* const packed = reinterpret_cast<uint16_t*>(call.scratch);
  const bool plain = single_ && g.stride_y == 1 && g.stride_x == 1 && !g.top && !g.left;
  const bool inside = rows.to <= src_.height && src_.width == dst_.width && columns.count() == dst_.width;
  if (plain && inside && call.src.flat(rows, src_.width)) {
    table_.pack({call.src.at + call.src.offset(rows.from), src_.block, call.src.block_pitch, call.src.pixel_pitch, 0,
                 src_.channels, weights_->chunks() * weights_->chunk(), rows.count() * src_.width, call.scale, packed,
                 weights_->chunk(), chunk_pitch_});
    return;
  }
  const ptrdiff_t n = lines(rows.count()), pitch = lines(band_rows_), first = rows.from * g.stride_y - g.top;
  for (ptrdiff_t d = 0; d < g.depth; d++)
    for (ptrdiff_t i = 0; i < n; i++)
      pack_row(call, d * g.slice, first + i * (single_ ? g.stride_y : 1), columns,
               packed + (d * pitch + i) * row_pitch_);
}

// Row y of the samples, with zeros beyond its ends.
void BfloatStage::pack_row(const StageCall& call, ptrdiff_t slice, ptrdiff_t y, Range columns, uint16_t* to) const {
  const ptrdiff_t n = span(columns.count()), step = single_ ? geometry_.stride_x : 1;
  if (y < 0 || y >= src_.height) return clear(to, n);
  const ptrdiff_t x = columns.from * geometry_.stride_x - geometry_.left;  // of the first pixel
  const ptrdiff_t before = std::min(n, x < 0 ? ceil_div(-x, step) : 0);
  const ptrdiff_t end = x >= src_.width ? before : std::clamp(ceil_div(src_.width - x, step), before, n);
  const ptrdiff_t chunk = weights_->chunk();
  clear(to, before);
  clear(to + end * chunk, n - end);
  if (end == before) return;
  table_.pack({call.src.at + slice + call.src.offset(y) + (x + before * step) * call.src.pixel_pitch, src_.block,
               call.src.block_pitch, step * call.src.pixel_pitch, 0, src_.channels, weights_->chunks() * chunk,
               end - before, call.scale, to + before * chunk, chunk, chunk_pitch_});
}

// The filter's results, which lie in a strip of the L1 cache until they are packed.
void BfloatStage::pack_filtered(const StageCall& call, Range rows) const {
  const BfloatWeights& w = *weights_;
  uint16_t* const packed = reinterpret_cast<uint16_t*>(call.scratch);
  float* const strip = reinterpret_cast<float*>(call.scratch + Scratch::bytes<uint16_t>(w.chunks() * chunk_pitch_));
  const ptrdiff_t lanes = src_.pixel_pitch, block = src_.width * lanes, blocks = src_.blocks();
  for (ptrdiff_t y = rows.from; y < rows.to; y++)
    for (ptrdiff_t b = 0, end; b < blocks; b = end) {
      end = std::min(b + strip_blocks(), blocks);
      const Rows to{strip - b * block, block, block, lanes, 1};  // a ring of one row
      filter_->run({call.src, to, nullptr, nullptr, nullptr, {y, y + 1}, {b, end}, nullptr, nullptr});
      const ptrdiff_t first = b * lanes, last = end == blocks;
      const ptrdiff_t channels = std::min(end * lanes, src_.channels) - first;
      table_.pack({strip, lanes, block, lanes, first, channels, last ? w.chunks() * w.chunk() - first : channels,
                   src_.width, nullptr, packed + (y - rows.from) * row_pitch_, w.chunk(), chunk_pitch_});
    }
}

void BfloatStage::clear(uint16_t* to, ptrdiff_t pixels) const {
  const ptrdiff_t chunk = weights_->chunk();
  for (ptrdiff_t q = 0; q < weights_->chunks() && pixels > 0; q++)
    std::memset(to + q * chunk_pitch_, 0, size_t(pixels * chunk) * sizeof(uint16_t));
}

void BfloatStage::multiply(const StageCall& call, const std::vector<BfloatLine>& lines) const {
  const BfloatWeights& w = *weights_;
  const ptrdiff_t lanes = dst_.block;
  for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
    const BfloatWeights::Panel& p = w.panels()[size_t(part)];
    const ptrdiff_t block = p.first / lanes;
    table_.product({reinterpret_cast<const uint16_t*>(call.scratch),
                    steps_.data() + p.chunks.from * w.steps(),
                    p.chunks.count() * w.steps(),
                    (single_ ? 1 : geometry_.stride_x) * w.chunk(),
                    w.pairs(),
                    p.weights,
                    p.bias,
                    p.tiles(),
                    call.dst.at + block * call.dst.block_pitch,
                    call.dst.block_pitch,
                    call.dst.pixel_pitch,
                    p.columns,
                    whole_,
                    call.add ? call.add->at + block * call.add->block_pitch : nullptr,
                    call.add ? call.add->block_pitch : 0,
                    call.add ? call.add->pixel_pitch : 0,
                    lines.data(),
                    ptrdiff_t(lines.size()),
                    end_});
  }
}

}  // namespace sep
