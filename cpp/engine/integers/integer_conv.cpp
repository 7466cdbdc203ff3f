#include "engine/integers/integer_conv.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "base/machine.h"
#include "engine/plain_axes.h"

namespace sep {
namespace {

constexpr ptrdiff_t kSlack = 64;  // elements that vectors may read beyond the last channel

ptrdiff_t even(ptrdiff_t n) { return n + n % 2; }

}  // namespace

// -- weights -----------------------------------------------------------------------------------------

IntegerWeights::IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, int lanes)
    : shape_(shape), pitch_(pitch), lanes_(lanes) {}

ptrdiff_t IntegerWeights::packed_elements(const IntegerShape& shape, ptrdiff_t pitch, int lanes) {
  const IntegerWeights sizes(shape, pitch, lanes);
  ptrdiff_t all = 0;
  for (ptrdiff_t i = 0; i < sizes.panels(); i++) all += sizes.elements(i);
  return sizes.groups() * all;
}

// A kernel's neighbouring taps are one run where all channels are summed up: pixels follow each other.
ptrdiff_t IntegerWeights::run() const {
  return shape_.groups == 1 ? shape_.width * pitch_ : even(group_in());
}

ptrdiff_t IntegerWeights::runs() const { return shape_.groups == 1 ? shape_.height : shape_.height * shape_.width; }

ptrdiff_t IntegerWeights::vectors(ptrdiff_t panel) const {
  return shape_.depthwise || group_out() - panel * 2 * lanes_ > lanes_ ? 2 : 1;
}

ptrdiff_t IntegerWeights::elements(ptrdiff_t panel) const {
  if (shape_.depthwise) return (shape_.height * shape_.width + 1) / 2 * 4 * lanes_;
  return runs() * run() * lanes_ * vectors(panel);
}

const int16_t* IntegerWeights::panel(ptrdiff_t g, ptrdiff_t panel) const {
  ptrdiff_t of_group = 0;
  for (ptrdiff_t i = 0; i < panels(); i++) of_group += elements(i);
  return packed_ + g * of_group + panel * elements(0);  // all but the last one are as large
}

IntegerWeights::IntegerWeights(const IntegerShape& shape, ptrdiff_t pitch, const int16_t* packed,
                               ptrdiff_t packed_size, const int32_t* bias, const float* scale, const float* shift)
    : IntegerWeights(shape, pitch, target().integers->lanes) {
  packed_size_ = packed_size;
  const ptrdiff_t out = groups() * padded_out();
  bytes_ = Scratch::bytes<int16_t>(packed_size) + Scratch::bytes<int32_t>(out) +
           (1 + (shift != nullptr)) * Scratch::bytes<float>(out);
  memory_ = Pages(bytes_);
  packed_ = memory_.take<int16_t>(packed_size);
  std::copy_n(packed, packed_size, packed_);
  auto spread = [&](auto* from, auto*& to) {
    to = memory_.take<std::remove_reference_t<decltype(*to)>>(out);
    std::fill_n(to, out, 0);
    for (ptrdiff_t g = 0; g < groups(); g++)
      std::copy_n(from + g * group_out(), group_out(), to + g * padded_out());
  };
  spread(bias, bias_);
  spread(scale, scale_);
  if (shift) spread(shift, shift_);
}

// -- the step ----------------------------------------------------------------------------------------

struct IntegerConvStep::Call {
  const uint8_t* src;
  char* dst;
  int16_t* lines;
  const float* scales;
  const int32_t* bias;
  int zero;
  IntegerEnding end;
};

IntegerConvStep::IntegerConvStep(std::shared_ptr<const IntegerWeights> weights, const ByteImages& src,
                                 const IntegerResults& dst, const IntegerGeometry& geometry, const LevelsAt& given,
                                 const IntegerEnd& end)
    : table_(*target().integers),
      weights_(std::move(weights)),
      src_(src),
      dst_(dst),
      geometry_(geometry),
      given_(given),
      end_(end) {
  const IntegerShape& s = weights_->shape();
  const IntegerGeometry& g = geometry_;
  const bool one = s.height == 1 && s.width == 1 && g.stride_y == 1 && g.stride_x == 1 && !g.top && !g.left;
  flat_ = one && src_.height == dst_.height && src_.width == dst_.width && dst_.row == dst_.width * dst_.pixel;
  if (flat_) {
    src_.width *= src_.height, src_.height = 1;
    dst_.width *= dst_.height, dst_.height = 1;
    if (dst_.image == dst_.width * dst_.pixel) {
      src_.width *= src_.count, src_.count = 1;
      dst_.width *= dst_.count, dst_.count = 1;
    }
  }
  const ptrdiff_t pitch = weights_->pitch(), room = ptrdiff_t(caches().l2) / 4 / 2;
  if (flat_) {
    band_ = std::clamp<ptrdiff_t>(room / pitch / 12 * 12, 24, 480);
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
}

ptrdiff_t IntegerConvStep::pieces(int threads) const {
  const IntegerShape& s = weights_->shape();
  const double macs = double(dst_.count * dst_.height * dst_.width) * double(s.c_out) *
                      double(s.c_in / s.groups * s.height * s.width);
  return pieces_of(units(), macs / 4, threads);
}

size_t IntegerConvStep::scratch_bytes() const {
  return Scratch::bytes<int16_t>(line_ * line_rows_ + kSlack) +
         2 * Scratch::bytes<float>(weights_->groups() * weights_->padded_out());
}

void IntegerConvStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const IntegerWeights& w = *weights_;
  const ptrdiff_t out = w.groups() * w.padded_out();
  int16_t* const lines = reinterpret_cast<int16_t*>(scratch);
  float* const scales = reinterpret_cast<float*>(scratch + Scratch::bytes<int16_t>(line_ * line_rows_ + kSlack));
  int32_t* const bias = reinterpret_cast<int32_t*>(scales + Scratch::bytes<float>(out) / sizeof(float));
  const float given = given_.scale ? *memory.at(*given_.scale) : 1.0f;
  const bool levels = dst_.stored == Stored::levels;
  const float made = levels && end_.made.scale ? *memory.at(*end_.made.scale) : 1.0f;
  // As ONNX Runtime does, one factor for all, where nothing lies between: its results have the same bits.
  const bool in_one = end_.act.act == Activation::none && !w.shift(0);
  for (ptrdiff_t i = 0; i < out; i++) {
    scales[i] = given * w.scale(0)[i];
    if (in_one && levels) scales[i] /= made;
  }
  std::copy_n(w.bias(0), out, bias);
  if (end_.more)
    for (ptrdiff_t i = 0; i < w.shape().c_out; i++)
      bias[i / w.group_out() * w.padded_out() + i % w.group_out()] += int32_t(memory.at(*end_.more)[i]);
  std::memset(lines + line_ * line_rows_, 0, size_t(kSlack) * sizeof(int16_t));
  const int zero = levels ? int(*memory.at(end_.made.zero)) : 0;
  Call call{reinterpret_cast<const uint8_t*>(memory.at(src_.place)),
            reinterpret_cast<char*>(memory.at(dst_.place)),
            lines,
            scales,
            bias,
            int(*memory.at(given_.zero)),
            {nullptr, nullptr, nullptr, end_.act, in_one ? 1.0f : made, zero, dst_.stored}};
  const Range range = share_of(units(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const ptrdiff_t first = i % bands_ * band_, all = flat_ ? dst_.width : dst_.height;
    band(call, i / bands_, first, std::min(first + band_, all));
  }
}

// Rows [first, first + rows) of an image, with the zeros around them that the kernel reads.
void IntegerConvStep::widen(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t rows) const {
  const ptrdiff_t pitch = weights_->pitch(), row = src_.width * pitch;
  const uint8_t* const src = call.src + image * src_.height * row;
  if (flat_) return table_.widen({src + first * pitch, call.lines, 1, rows * pitch, 0, 0, call.zero});
  const ptrdiff_t left = std::min(geometry_.left * pitch, line_), inside = std::min(row, line_ - left);
  for (ptrdiff_t i = 0; i < rows; i++) {
    const ptrdiff_t y = first + i;
    int16_t* const line = call.lines + i * line_;
    if (y < 0 || y >= src_.height) {
      std::memset(line, 0, size_t(line_) * sizeof(int16_t));
      continue;
    }
    std::memset(line, 0, size_t(left) * sizeof(int16_t));
    table_.widen({src + y * row, line + left, 1, inside, 0, 0, call.zero});
    std::memset(line + left + inside, 0, size_t(line_ - left - inside) * sizeof(int16_t));
  }
}

void IntegerConvStep::band(const Call& call, ptrdiff_t image, ptrdiff_t first, ptrdiff_t last) const {
  const IntegerGeometry& g = geometry_;
  const ptrdiff_t element = dst_.stored == Stored::levels ? 1 : 4;
  const ptrdiff_t n = last - first;
  const ptrdiff_t reach = (weights_->shape().height - 1) * g.dilation_y + 1;
  if (flat_)
    widen(call, image, first, n);
  else
    widen(call, image, first * g.stride_y - g.top, (n - 1) * g.stride_y + reach);
  const IntegerWeights& w = *weights_;
  const ptrdiff_t wide = 2 * w.lanes(), step = g.stride_x * w.pitch();
  const ptrdiff_t rows = flat_ ? 1 : n, pixels = flat_ ? n : dst_.width;
  for (ptrdiff_t group = 0; group < w.groups(); group++)
    for (ptrdiff_t i = 0; i < w.panels(); i++) {
      const ptrdiff_t channel = i * wide, all = group * w.group_out() + channel;
      const ptrdiff_t left = dst_.whole_blocks ? wide : w.group_out() - channel;
      IntegerEnding end = call.end;
      end.bias = call.bias + group * w.padded_out() + channel;
      end.scale = call.scales + group * w.padded_out() + channel;
      end.shift = w.shift(group) ? w.shift(group) + channel : nullptr;
      // Bytes of a pixel follow each other; floats lie in blocks, which groups do not cut.
      const ptrdiff_t place = dst_.stored == Stored::levels ? all : all / w.lanes() * dst_.block + all % w.lanes();
      for (ptrdiff_t y = 0; y < rows; y++) {
        const ptrdiff_t at = image * dst_.image + (flat_ ? first * dst_.pixel : (first + y) * dst_.row) + place;
        const IntegerTarget dst{call.dst + at * element, dst_.pixel, dst_.block, left};
        const int16_t* a = call.lines + y * g.stride_y * line_;
        if (w.shape().depthwise) {
          table_.depthwise({a + channel, step, runs_.data(), ptrdiff_t(runs_.size()) / 2, w.panel(0, i), pixels, end, dst});
        } else {
          const bool joined = runs_.size() == size_t(w.shape().height) && w.shape().groups == 1;
          const ptrdiff_t length = joined ? w.run() : w.run() / (w.shape().groups == 1 ? w.shape().width : 1);
          table_.product({a + group * w.group_in(), step, runs_.data(), ptrdiff_t(runs_.size()), length, w.panel(group, i),
                          w.vectors(i), pixels, end, dst});
        }
      }
    }
}

}  // namespace sep
