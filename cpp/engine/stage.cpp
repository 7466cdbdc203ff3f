#include "engine/stage.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "base/machine.h"

namespace sep {
namespace {

constexpr ptrdiff_t kMostLines = 64;          // rows that one call of a kernel makes
constexpr ptrdiff_t kTilePixels = 14;         // that a kernel computes at once, at most
constexpr double kPanelShare = 0.2;           // of the L2 cache: larger panels of weights are read in parts
constexpr double kWeightShare = 0.4;          // of the L1 cache, for the weights that all lines read in turn
constexpr double kWindowShare = 0.35;         // of the L2 cache, for weights that are asked for ahead of time
constexpr double kSourceShare = 0.35;         // of the L2 cache, for the samples that all panels read in turn
constexpr ptrdiff_t kLeastColumns = 96;       // of a row that is divided: fewer would read its weights too often
constexpr ptrdiff_t kShortRow = 10;           // pixels: such rows are taken together, as a tile holds more
constexpr ptrdiff_t kCopiedBytes = 96 << 10;  // of rows that are copied at once

// The rows of samples beyond the last one, and the pixels beyond the last column, that results read.
ptrdiff_t beyond(ptrdiff_t results, ptrdiff_t stride, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t before,
                 ptrdiff_t samples) {
  return std::max<ptrdiff_t>(0, (results - 1) * stride + (kernel - 1) * dilation + 1 - before - samples);
}

}  // namespace

void clear_around(const Image& image, float* block, ptrdiff_t row_pitch, Range rows) {
  const size_t lanes = size_t(image.pixel_pitch) * sizeof(float);
  for (ptrdiff_t y = rows.from; y < rows.to && (image.left || image.right); y++) {
    float* row = block + y * row_pitch;
    std::memset(row - image.left * image.pixel_pitch, 0, size_t(image.left) * lanes);
    std::memset(row + image.width * image.pixel_pitch, 0, size_t(image.right) * lanes);
  }
  const size_t whole = size_t(image.left + image.width + image.right) * lanes;
  for (ptrdiff_t y = 0; rows.from == 0 && y < image.top; y++)
    std::memset(block - (y + 1) * row_pitch - image.left * image.pixel_pitch, 0, whole);
  for (ptrdiff_t y = 0; rows.to == image.height && y < image.bottom; y++)
    std::memset(block + (image.height + y) * row_pitch - image.left * image.pixel_pitch, 0, whole);
}

Step::Fetched WeightStream::ahead(const char* used, const char* own_end) {
  const ptrdiff_t window = ptrdiff_t(kWindowShare * double(caches().l2));
  own = std::max(own, used);
  if (own < own_end) return {own, std::min(own_end - own, window - (own - used))};
  ptrdiff_t left = window - (own_end - used);
  for (const Step::Fetched* f = next; f != end && left > 0; f++) {
    if (at < f->bytes && f == next) return {f->at + at, std::min(f->bytes - at, left)};
    if (f == next) next++, at = 0;
  }
  return {};
}

void WeightStream::asked(const Step::Fetched& range, const char* until) {
  if (range.bytes <= 0) return;
  if (next == end || range.at != next->at + at)
    own = until;
  else
    at += until - range.at;
}

// ---- convolution ---------------------------------------------------------------------------------------------------

ConvStage::ConvStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                     std::shared_ptr<const ConvWeights> weights, bool scaled)
    : Stage(g, end, src, dst), weights_(std::move(weights)), scaled_(scaled) {
  const ptrdiff_t row =
      std::max<ptrdiff_t>(1, g.depth * src.channels * src.width * g.stride_y * ptrdiff_t(sizeof(float)));
  const ptrdiff_t share = ptrdiff_t(kSourceShare * double(caches().l2));
  band_rows_ = std::clamp<ptrdiff_t>(share / row, 1, kMostLines);
  band_columns_ = std::max<ptrdiff_t>(1, dst.width);
  if (row > share && dst.width > kLeastColumns) {
    const ptrdiff_t pixel = row / dst.width, taps = weights_->shape().width;
    band_columns_ = std::clamp<ptrdiff_t>(share / pixel, kLeastColumns, dst.width);
    if (g.dilation_x > band_columns_ * g.stride_x)  // each tap reads a part of the row of its own
      band_columns_ = std::clamp<ptrdiff_t>(share / (pixel * taps), kLeastColumns, dst.width);
  }
  copies_.height = 0;
  plan_copies(src);
  for (const ConvWeights::Panel& p : weights_->panels())
    segments_.push_back(segments(copies_.height ? copies_ : src, p.channels));
}

bool ConvStage::pointwise() const {
  const ConvShape& s = weights_->shape();
  return s.height == 1 && s.width == 1 && geometry_.top == 0 && geometry_.left == 0;
}

void ConvStage::plan_copies(const Image& src) {
  const ConvShape& s = weights_->shape();
  const Geometry& g = geometry_;
  const ptrdiff_t bottom = beyond(dst_.height, g.stride_y, kernel_height(), g.dilation_y, g.top, src.height);
  const ptrdiff_t right = beyond(dst_.width, g.stride_x, s.width, g.dilation_x, g.left, src.width);
  if (g.top <= src.top && g.left <= src.left && bottom <= src.bottom && right <= src.right) return;
  if (g.depth > 1) throw std::invalid_argument("a kernel of several slices needs zeros around its samples");
  copies_ = src;
  const ptrdiff_t halo = (s.width - 1) * g.dilation_x + 1 - g.stride_x;  // a part of a row reads beside itself
  if (halo > band_columns_ * g.stride_x) band_columns_ = dst_.width;
  const ptrdiff_t wide = band_columns_ < dst_.width ? band_columns_ * g.stride_x + halo : g.left + src.width + right;
  copies_.row_pitch = wide * src.pixel_pitch;
  const ptrdiff_t row = copies_.row_pitch * src.blocks() * ptrdiff_t(sizeof(float));
  while (band_rows_ > 1 && needs({0, band_rows_}).count() * row > kCopiedBytes) band_rows_--;
  copies_.height = needs({0, band_rows_}).count();
  copies_.block_pitch = copies_.height * copies_.row_pitch;
  copies_.width = copies_.row_pitch / src.pixel_pitch;
}

std::vector<Segment> ConvStage::segments(const Image& in, Range channels) const {
  const ConvShape& s = weights_->shape();
  const ptrdiff_t column = geometry_.dilation_x * in.pixel_pitch;
  std::vector<Segment> out;
  for (ptrdiff_t c = channels.from; c < channels.to;) {
    const ptrdiff_t block = c / in.block, end = std::min((block + 1) * in.block, channels.to);
    for (ptrdiff_t v = 0; v < s.height; v++)
      for (ptrdiff_t u = 0; u < s.width; u++) {
        const ptrdiff_t at = block * in.block_pitch + c % in.block + row_of(v, in.row_pitch) + u * column;
        if (!out.empty() && out.back().at + out.back().count == at)
          out.back().count += end - c;
        else
          out.push_back({at, end - c});
      }
    c = end;
  }
  return out;
}

// Where row v of the kernel reads.
ptrdiff_t ConvStage::row_of(ptrdiff_t v, ptrdiff_t pitch) const {
  const ptrdiff_t rows = kernel_height();
  return v / rows * geometry_.slice + v % rows * geometry_.dilation_y * pitch;
}

ptrdiff_t ConvStage::macs_a_row() const {
  const ConvShape& s = weights_->shape();
  return dst_.width * s.c_out * (s.c_in / s.groups) * s.height * s.width;
}

size_t ConvStage::scratch_bytes() const {
  return (scaled_ ? Scratch::bytes<float>(weights_->largest_panel()) : 0) +
         (copies_.height ? Scratch::bytes<float>(copies_.block_pitch * copies_.blocks()) : 0);
}

void ConvStage::run(const StageCall& call) const {
  for (ptrdiff_t y = call.rows.from; y < call.rows.to; y += band_rows_)
    for (ptrdiff_t x = 0; x < dst_.width; x += band_columns_)
      band(call, {y, std::min(y + band_rows_, call.rows.to)}, {x, std::min(x + band_columns_, dst_.width)});
  if (call.dst.slots) return;
  for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
    const ConvWeights::Panel& p = weights_->panels()[size_t(part)];
    for (ptrdiff_t j = 0; j < p.vectors; j++)
      clear_around(dst_, call.dst.at + (p.first + j) * call.dst.block_pitch, call.dst.row_pitch, call.rows);
  }
}

// The samples of the results in some rows and columns, with zeros around them.
float* ConvStage::copied(const StageCall& call, Range rows, Range columns) const {
  float* memory = reinterpret_cast<float*>(call.scratch) + (scaled_ ? round_up(weights_->largest_panel(), 16) : 0);
  const Range need = needs(rows);
  const ptrdiff_t first = columns.from * geometry_.stride_x - geometry_.left;
  const ptrdiff_t from = std::clamp<ptrdiff_t>(first, 0, src_.width);
  const ptrdiff_t to = std::clamp<ptrdiff_t>(first + copies_.width, from, src_.width);
  const ptrdiff_t left = (from - first) * src_.pixel_pitch, wide = (to - from) * src_.pixel_pitch;
  for (ptrdiff_t b = 0; b < src_.blocks(); b++)
    for (ptrdiff_t y = need.from; y < need.to; y++) {
      float* row = memory + b * copies_.block_pitch + (y - need.from) * copies_.row_pitch;
      if (y < 0 || y >= src_.height) {
        std::memset(row, 0, size_t(copies_.row_pitch) * sizeof(float));
        continue;
      }
      std::memset(row, 0, size_t(left) * sizeof(float));
      std::memcpy(row + left, call.src.at + b * call.src.block_pitch + call.src.offset(y) + from * src_.pixel_pitch,
                  size_t(wide) * sizeof(float));
      std::memset(row + left + wide, 0, size_t(copies_.row_pitch - left - wide) * sizeof(float));
    }
  return memory;
}

void ConvStage::band(const StageCall& call, Range rows, Range columns) const {
  const Geometry& g = geometry_;
  const ptrdiff_t width = columns.count();
  const ptrdiff_t to = columns.from * call.dst.pixel_pitch;
  const ptrdiff_t added = call.add ? columns.from * call.add->pixel_pitch : 0;
  Line lines[kMostLines];
  if (copies_.height) {
    const float* src = copied(call, rows, columns);
    for (ptrdiff_t i = 0; i < rows.count(); i++)
      lines[i] = {i * g.stride_y * copies_.row_pitch, call.dst.offset(rows.from + i) + to,
                  call.add ? call.add->offset(rows.from + i) + added : 0, width};
    return multiply(call, src, lines, rows.count());
  }
  const bool apart = !call.dst.flat(rows, width) && !call.dst.slots && width <= kShortRow;
  if (pointwise() && g.stride_y == 1 && g.stride_x == 1 && call.src.flat(rows, width) &&
      (apart || call.dst.flat(rows, width)) && (!call.add || call.add->flat(rows, width))) {
    lines[0] = {call.src.offset(rows.from), call.dst.offset(rows.from), call.add ? call.add->offset(rows.from) : 0,
                rows.count() * width};
    if (apart) lines[0].row = width, lines[0].gap = call.dst.row_pitch - width * call.dst.pixel_pitch;
    return multiply(call, call.src.at, lines, 1);
  }
  for (ptrdiff_t i = 0; i < rows.count(); i++) {
    const ptrdiff_t y = rows.from + i;
    lines[i] = {call.src.offset(y * g.stride_y - g.top) + (columns.from * g.stride_x - g.left) * src_.pixel_pitch,
                call.dst.offset(y) + to, call.add ? call.add->offset(y) + added : 0, width};
  }
  multiply(call, call.src.at, lines, rows.count());
}

// The weights of a panel times the scale of the channels that they belong to.
const float* ConvStage::scaled(const StageCall& call, const ConvWeights::Panel& p) const {
  const ConvShape& s = weights_->shape();
  const ptrdiff_t block = weights_->block(), width = p.vectors * weights_->lanes(), taps = s.height * s.width;
  float* out = reinterpret_cast<float*>(call.scratch);
  ptrdiff_t row = 0;
  for (ptrdiff_t c = p.channels.from, end; c < p.channels.to; c = end) {
    end = std::min(c / block * block + block, p.channels.to);
    for (ptrdiff_t t = 0; t < taps; t++, row += end - c)
      target().blocks->scale(p.weights + row * width, call.scale + c, end - c, width, out + row * width);
    if (end == p.channels.to) break;
  }
  return out;
}

void ConvStage::multiply(const StageCall& call, const float* src, const Line* lines, ptrdiff_t n) const {
  const char* own_end = reinterpret_cast<const char*>(weights_->panels()[size_t(call.parts.to - 1)].bias);
  const double panel = double(weights_->largest_panel()) * sizeof(float);
  const bool large = panel > kPanelShare * double(caches().l2) && !lines[0].row && !call.scale;
  const ptrdiff_t limit =
      large ? ptrdiff_t(kWeightShare * double(caches().l1d)) / ptrdiff_t(sizeof(float)) : PTRDIFF_MAX;
  for (ptrdiff_t part = call.parts.from; part < call.parts.to; part++) {
    const ConvWeights::Panel& p = weights_->panels()[size_t(part)];
    const std::vector<Segment>& all = segments_[size_t(part)];
    const float* add = call.add ? call.add->at + p.first * call.add->block_pitch : nullptr;
    BlockConvArgs args{src,
                       all.data(),
                       0,
                       geometry_.stride_x * src_.pixel_pitch,
                       call.scale ? scaled(call, p) : p.weights,
                       p.bias,
                       int(p.vectors),
                       call.dst.at + p.first * call.dst.block_pitch,
                       call.dst.block_pitch,
                       nullptr,
                       call.add ? call.add->block_pitch : 0,
                       lines,
                       n,
                       {},
                       nullptr,
                       nullptr};
    const float* first = args.weights;
    const ptrdiff_t width = p.vectors * weights_->lanes();
    // Of large panels so many channels at a time that their weights stay in the L1 cache for all lines; sums wait where
    // results go.
    for (const Segment *s = all.data(), *end = s + all.size(); s != end;) {
      args.segments = s;
      ptrdiff_t channels = 0;
      do channels += s++->count;
      while (s != end && (channels + s->count) * width <= limit);
      args.n_segments = s - args.segments;
      if (s == end) args.end = end_, args.add = add;
      const float* used = s == end ? p.bias : p.weights + (args.weights - first) + channels * width;
      const Step::Fetched ahead =
          call.stream ? call.stream->ahead(reinterpret_cast<const char*>(used), own_end) : Step::Fetched{};
      args.fetch = ahead.at, args.fetch_end = ahead.at + ahead.bytes;
      const char* until = target().blocks->conv(args);
      if (call.stream) call.stream->asked(ahead, until);
      args.weights += channels * width;
      args.bias = nullptr;
    }
  }
}

// ---- depthwise -----------------------------------------------------------------------------------------------------

DepthwiseStage::DepthwiseStage(const Geometry& g, const Ending& end, const Image& src, const Image& dst,
                               std::shared_ptr<const DepthwiseWeights> weights)
    : Stage(g, end, src, dst), weights_(std::move(weights)) {}

ptrdiff_t DepthwiseStage::macs_a_row() const {
  return dst_.width * weights_->channels() * weights_->height() * weights_->width();
}

void DepthwiseStage::run(const StageCall& call) const {
  constexpr ptrdiff_t kRows = 16, kOffsets = 512;
  const Geometry& g = geometry_;
  const ptrdiff_t height = weights_->height(), rows = kernel_height(), first = call.parts.from;
  const ptrdiff_t at_once = std::clamp<ptrdiff_t>(kOffsets / height, 1, kRows);
  ptrdiff_t src_rows[kOffsets], dst_rows[kRows], add_rows[kRows];
  for (ptrdiff_t from = call.rows.from; from < call.rows.to; from += at_once) {
    const ptrdiff_t n = std::min(at_once, call.rows.to - from);
    for (ptrdiff_t i = 0; i < n; i++) {
      for (ptrdiff_t v = 0; v < height; v++)
        src_rows[i * height + v] = call.src.offset((from + i) * g.stride_y - g.top + v % rows * g.dilation_y) +
                                   v / rows * g.slice - g.left * call.src.pixel_pitch;
      dst_rows[i] = call.dst.offset(from + i);
      add_rows[i] = call.add ? call.add->offset(from + i) : 0;
    }
    target().blocks->depthwise({call.src.at + first * call.src.block_pitch,
                                call.src.block_pitch,
                                src_rows,
                                height,
                                g.stride_x * call.src.pixel_pitch,
                                g.dilation_x * call.src.pixel_pitch,
                                int(height),
                                int(weights_->width()),
                                weights_->weights(first),
                                weights_->bias(first),
                                call.parts.count(),
                                n,
                                dst_.width,
                                call.dst.at + first * call.dst.block_pitch,
                                call.dst.block_pitch,
                                dst_rows,
                                call.add ? call.add->at + first * call.add->block_pitch : nullptr,
                                call.add ? call.add->block_pitch : 0,
                                add_rows,
                                call.sums ? call.sums + first * weights_->lanes() : nullptr,
                                end_});
  }
  if (call.dst.slots) return;
  for (ptrdiff_t b = call.parts.from; b < call.parts.to; b++)
    clear_around(dst_, call.dst.at + b * call.dst.block_pitch, call.dst.row_pitch, call.rows);
}

}  // namespace sep
