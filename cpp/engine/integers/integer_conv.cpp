#include "engine/integers/integer_conv.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "base/machine.h"
#include "engine/plain_axes.h"

namespace sep {
namespace {

constexpr ptrdiff_t kSlack = 128;  // samples that vectors may read beyond the last channel

}  // namespace

// -- weights -----------------------------------------------------------------------------------------

IntegerWeights::IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, int lanes)
    : shape_(shape), pitch_(pitch), lanes_(lanes) {}

ptrdiff_t IntegerWeights::packed_size(const IntegerShape& shape, ptrdiff_t pitch, int lanes) {
  const IntegerWeights sizes(shape, pitch, lanes);
  ptrdiff_t all = 0;
  for (ptrdiff_t i = 0; i < sizes.panels(); i++) all += sizes.panel_bytes(i);
  return sizes.groups() * all;
}

// A kernel's neighbouring taps are one run where all channels are summed up: pixels follow each other.
ptrdiff_t IntegerWeights::run() const {
  return shape_.groups == 1 ? shape_.width * pitch_ : (group_in() + 3) / 4 * 4;
}

ptrdiff_t IntegerWeights::runs() const { return shape_.groups == 1 ? shape_.height : shape_.height * shape_.width; }

ptrdiff_t IntegerWeights::vectors(ptrdiff_t panel) const {
  return shape_.depthwise || group_out() - panel * 2 * lanes_ > lanes_ ? 2 : 1;
}

ptrdiff_t IntegerWeights::panel_bytes(ptrdiff_t panel) const {
  if (shape_.depthwise) return (shape_.height * shape_.width + 1) / 2 * 8 * lanes_;
  return runs() * run() * lanes_ * vectors(panel);
}

const char* IntegerWeights::panel(ptrdiff_t g, ptrdiff_t panel) const {
  const ptrdiff_t last = panel_bytes(panels() - 1), others = panel_bytes(0);
  return packed_ + g * ((panels() - 1) * others + last) + panel * others;
}

IntegerWeights::IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, const char* packed, ptrdiff_t packed_bytes,
                               More more, const int32_t* bias, const int32_t* sums, const float* scale,
                               const float* shift)
    : IntegerWeights(shape, pitch, integers().lanes) {
  packed_bytes_ = packed_bytes;
  more_ = std::move(more);
  const ptrdiff_t out = groups() * padded_out();
  bytes_ = Scratch::bytes<char>(packed_bytes) + 2 * Scratch::bytes<int32_t>(out) +
           (1 + (shift != nullptr)) * Scratch::bytes<float>(out);
  memory_ = Pages(bytes_);
  bytes_ += more_.weights.size();
  packed_ = memory_.take<char>(packed_bytes);
  std::copy_n(packed, packed_bytes, packed_);
  auto spread = [&](auto* from, auto*& to) {
    to = memory_.take<std::remove_reference_t<decltype(*to)>>(out);
    std::fill_n(to, out, 0);
    for (ptrdiff_t g = 0; g < groups(); g++)
      std::copy_n(from + g * group_out(), group_out(), to + g * padded_out());
  };
  spread(bias, bias_);
  spread(sums, sums_);
  spread(scale, scale_);
  if (shift) spread(shift, shift_);
}

// -- the step ----------------------------------------------------------------------------------------

struct IntegerConvStep::Call {
  const uint8_t* src;
  char* lines;
  const float* scales;
  const int32_t* bias;
  int zero;
  IntegerEnding end;
  IntegerTarget dst;
};

IntegerConvStep::IntegerConvStep(std::shared_ptr<const IntegerWeights> weights, const ByteImages& src,
                                 const IntegerResults& dst, const IntegerGeometry& geometry, const LevelsAt& given,
                                 const IntegerEnd& end)
    : table_(integers()),
      weights_(std::move(weights)),
      src_(src),
      dst_(dst),
      geometry_(geometry),
      given_(given),
      end_(end) {
  const IntegerShape& s = weights_->shape();
  const IntegerGeometry& g = geometry_;
  if (weights_->lanes() != table_.lanes) throw std::invalid_argument("weights packed for another instruction set");
  const bool one = s.height == 1 && s.width == 1 && g.stride_y == 1 && g.stride_x == 1 && !g.top && !g.left;
  flat_ = one && s.groups == 1 && src_.height == dst_.height && src_.width == dst_.width &&
          dst_.row == dst_.width * dst_.pixel;
  if (flat_) {
    src_.width *= src_.height, src_.height = 1;
    dst_.width *= dst_.height, dst_.height = 1;
    if (dst_.image == dst_.width * dst_.pixel) {
      src_.width *= src_.count, src_.count = 1;
      dst_.width *= dst_.count, dst_.count = 1;
    }
  }
  const ptrdiff_t pitch = weights_->pitch(), room = ptrdiff_t(caches().l2) / 4 / (s.depthwise ? 2 : 1);
  if (flat_) {
    band_ = std::min(std::clamp<ptrdiff_t>(room / pitch / 12 * 12, 24, 480), dst_.width);
    bands_ = (dst_.width + band_ - 1) / band_;
    line_ = band_ * pitch, line_rows_ = 1;
  } else {
    line_ = ((dst_.width - 1) * g.stride_x + (s.width - 1) * g.dilation_x + 1) * pitch;
    const ptrdiff_t reach = (s.height - 1) * g.dilation_y + 1;
    band_ = std::clamp<ptrdiff_t>((room / line_ - reach) / g.stride_y + 1, 1, dst_.height);
    bands_ = (dst_.height + band_ - 1) / band_;
    line_rows_ = (band_ - 1) * g.stride_y + reach;
  }
  const bool joined = s.groups == 1 && g.dilation_x == 1;
  for (ptrdiff_t y = 0; y < s.height; y++)
    for (ptrdiff_t x = 0; x < (joined ? 1 : s.width); x++)
      runs_.push_back(y * g.dilation_y * line_ + x * g.dilation_x * pitch);
  if (s.depthwise && runs_.size() % 2) runs_.push_back(runs_.back());  // of weights that are zero
  if (s.depthwise) return;
  find_extras();
  find_pixels();
}

// Where the quads beyond the weights lie, in bytes from a pixel on.
void IntegerConvStep::find_extras() {
  const IntegerWeights& w = *weights_;
  const IntegerWeights::More& more = w.more();
  const ptrdiff_t joined = w.shape().groups == 1 ? ptrdiff_t(runs_.size()) / w.runs() : 1;  // parts of a run
  ptrdiff_t quad = 0, at = 0;
  for (size_t i = 0; i < more.counts.size(); i++) {
    const ptrdiff_t bytes = 4 * w.lanes() * w.vectors(ptrdiff_t(i) % w.panels());
    extras_.push_back({quad, more.counts[i], at});
    for (ptrdiff_t e = 0; e < more.counts[i]; e++, quad++) {
      const ptrdiff_t part = w.run() / joined, place = more.places[size_t(quad)];
      more_.push_back(runs_[size_t(more.runs[size_t(quad)] * joined + place / part)] + place % part);
    }
    at += more.counts[i] * bytes;
  }
}

void IntegerConvStep::find_pixels() {
  const IntegerGeometry& g = geometry_;
  const ptrdiff_t rows = flat_ ? 1 : band_, width = flat_ ? band_ : dst_.width, step = g.stride_x * weights_->pitch();
  if (rows * dst_.row + width * std::max(dst_.pixel, end_.add_pitch * rows) > std::numeric_limits<int32_t>::max() ||
      line_ * line_rows_ > std::numeric_limits<int32_t>::max())
    throw std::invalid_argument("a band of rows beyond 2 GiB");
  for (ptrdiff_t y = 0; y < rows; y++)
    for (ptrdiff_t x = 0; x < width; x++) {
      at_.push_back(int32_t(y * g.stride_y * line_ + x * step));
      to_.push_back(int32_t(y * dst_.row + x * dst_.pixel));
      from_.push_back(int32_t((y * width + x) * end_.add_pitch));
    }
}

ptrdiff_t IntegerConvStep::pieces(int threads) const {
  const IntegerShape& s = weights_->shape();
  const double macs = double(dst_.count * dst_.height * dst_.width) * double(s.c_out) *
                      double(s.c_in / s.groups * s.height * s.width);
  return pieces_of(units(), macs / 8, threads);
}

size_t IntegerConvStep::lines_bytes() const {
  return Scratch::bytes<int16_t>((line_ * line_rows_ + kSlack) / (depthwise() ? 1 : 2));
}

size_t IntegerConvStep::scratch_bytes() const {
  return lines_bytes() + 2 * Scratch::bytes<float>(weights_->groups() * weights_->padded_out());
}

void IntegerConvStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const IntegerWeights& w = *weights_;
  const ptrdiff_t out = w.groups() * w.padded_out();
  float* const scales = reinterpret_cast<float*>(scratch + lines_bytes());
  int32_t* const bias = reinterpret_cast<int32_t*>(scales + Scratch::bytes<float>(out) / sizeof(float));
  const float given = given_.scale ? *memory.at(*given_.scale) : 1.0f;
  const bool levels = dst_.stored == Stored::levels;
  const float made = levels && end_.made.scale ? *memory.at(*end_.made.scale) : 1.0f;
  const int zero = int(*memory.at(given_.zero));
  // As ONNX Runtime does, one factor for all, where nothing lies between: its results have the same bits.
  const bool in_one = end_.act.act == Activation::none && !w.shift(0) && !end_.add;
  for (ptrdiff_t i = 0; i < out; i++) {
    scales[i] = given * w.scale(0)[i];
    if (in_one && levels) scales[i] /= made;
    // Samples of dense kernels are read with their zero, and what that adds is taken off: modulo 2^32, as all sums are.
    bias[i] = int32_t(uint32_t(w.bias(0)[i]) - (depthwise() ? 0 : uint32_t(zero) * uint32_t(w.sums(0)[i])));
  }
  for (ptrdiff_t i = 0; end_.more && i < w.shape().c_out; i++)
    bias[i / w.group_out() * w.padded_out() + i % w.group_out()] += int32_t(memory.at(*end_.more)[i]);
  Call call{reinterpret_cast<const uint8_t*>(memory.at(src_.place)),
            scratch,
            scales,
            bias,
            zero,
            {nullptr, nullptr, nullptr, end_.act, in_one ? 1.0f : made, levels ? int(*memory.at(end_.made.zero)) : 0,
             dst_.stored},
            {reinterpret_cast<char*>(memory.at(dst_.place)), dst_.block, 0, nullptr, 0, 1.0f}};
  if (end_.add) {
    call.dst.add = reinterpret_cast<const uint8_t*>(memory.at(*end_.add));
    call.dst.add_zero = int(*memory.at(end_.added.zero));
    call.dst.add_scale = end_.added.scale ? *memory.at(*end_.added.scale) : 1.0f;
  }
  clear(call, line_ * line_rows_, kSlack);
  const Range range = share_of(units(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const ptrdiff_t first = i % bands_ * band_, all = flat_ ? dst_.width : dst_.height;
    band(call, i / bands_, first, std::min(first + band_, all));
  }
}

// Samples from `at` on: bytes as they are, or wider numbers less the zero.
void IntegerConvStep::copy(const Call& call, const uint8_t* src, ptrdiff_t at, ptrdiff_t bytes) const {
  if (depthwise())
    table_.widen({src, reinterpret_cast<int16_t*>(call.lines) + at, 1, bytes, 0, 0, call.zero});
  else
    std::memcpy(call.lines + at, src, size_t(bytes));
}

// Samples that stand for zero.
void IntegerConvStep::clear(const Call& call, ptrdiff_t at, ptrdiff_t count) const {
  if (depthwise())
    std::memset(call.lines + 2 * at, 0, size_t(2 * count));
  else
    std::memset(call.lines + at, call.zero, size_t(count));
}

// Rows [first, first + rows) of an image, with what lies around them.
void IntegerConvStep::fill(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t rows) const {
  const ptrdiff_t pitch = weights_->pitch(), row = src_.width * pitch;
  const uint8_t* const src = call.src + image * src_.height * row;
  const ptrdiff_t left = std::min(geometry_.left * pitch, line_), inside = std::min(row, line_ - left);
  for (ptrdiff_t i = 0; i < rows; i++) {
    const ptrdiff_t y = first + i, at = i * line_;
    if (y < 0 || y >= src_.height) {
      clear(call, at, line_);
      continue;
    }
    clear(call, at, left);
    copy(call, src + y * row, at + left, inside);
    clear(call, at + left + inside, line_ - left - inside);
  }
}

void IntegerConvStep::band(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t last) const {
  const IntegerGeometry& g = geometry_;
  const IntegerWeights& w = *weights_;
  const IntegerShape& s = w.shape();
  const ptrdiff_t element = dst_.stored == Stored::levels ? 1 : 4, n = last - first, wide = 2 * w.lanes();
  // Pixels of one row are read where they lie.
  const char* const lines =
      flat_ ? reinterpret_cast<const char*>(call.src) + (image * src_.width + first) * w.pitch() : call.lines;
  if (!flat_) fill(call, image, first * g.stride_y - g.top, (n - 1) * g.stride_y + (s.height - 1) * g.dilation_y + 1);
  const ptrdiff_t begin = image * dst_.image + first * (flat_ ? dst_.pixel : dst_.row);
  const ptrdiff_t length = s.groups == 1 ? w.runs() * w.run() / ptrdiff_t(runs_.size()) : w.run();
  for (ptrdiff_t group = 0; group < w.groups(); group++)
    for (ptrdiff_t i = 0; i < w.panels(); i++) {
      const ptrdiff_t channel = i * wide, all = group * w.group_out() + channel;
      IntegerEnding end = call.end;
      end.bias = call.bias + group * w.padded_out() + channel;
      end.scale = call.scales + group * w.padded_out() + channel;
      end.shift = w.shift(group) ? w.shift(group) + channel : nullptr;
      // Bytes of a pixel follow each other; floats lie in blocks, which groups do not cut.
      const ptrdiff_t place = dst_.stored == Stored::levels ? all : all / w.lanes() * dst_.block + all % w.lanes();
      IntegerTarget dst = call.dst;
      dst.at += (begin + place) * element;
      dst.channels = w.group_out() - channel;
      if (dst_.whole_blocks) dst.channels = (dst.channels + w.lanes() - 1) / w.lanes() * w.lanes();
      const ptrdiff_t pixel = image * dst_.height * dst_.width + first * (flat_ ? 1 : dst_.width);
      if (dst.add) dst.add += pixel * end_.add_pitch + all;
      if (!s.depthwise) {
        const Extra& extra = extras_[size_t(group * w.panels() + i)];
        table_.product({reinterpret_cast<const uint8_t*>(lines) + group * w.group_in(), at_.data(), to_.data(),
                        from_.data(), runs_.data(), ptrdiff_t(runs_.size()), length,
                        reinterpret_cast<const int8_t*>(w.panel(group, i)), more_.data() + extra.first, extra.count,
                        w.more().weights.data() + extra.weights, w.vectors(i), flat_ ? n : n * dst_.width, end, dst});
        continue;
      }
      for (ptrdiff_t y = 0; y < n; y++) {
        IntegerTarget row = dst;
        row.at += y * dst_.row * element;
        if (row.add) row.add += y * dst_.width * end_.add_pitch;
        table_.depthwise({reinterpret_cast<const int16_t*>(lines) + y * g.stride_y * line_ + channel,
                          g.stride_x * w.pitch(), dst_.pixel, end_.add_pitch, runs_.data(), ptrdiff_t(runs_.size()) / 2,
                          reinterpret_cast<const int16_t*>(w.panel(0, i)), dst_.width, end, row});
      }
    }
}

}  // namespace sep
