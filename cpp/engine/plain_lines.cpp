#include "engine/plain_lines.h"

#include "base/machine.h"

namespace sep {
namespace {

constexpr ptrdiff_t kLineTile = 256;  // results that lie next to each other: 16 vectors of AVX-512

// Columns: the axis along which src is contiguous, or else the innermost one.
Tiles<2> lines_of(Axes<2> axes, ptrdiff_t most) {
  axes.sort_by(1);
  axes.merge();
  Tiles<2> tiles;
  tiles.columns = axes.take_innermost();
  tiles.outer = axes;
  tiles.tile_columns = std::max<ptrdiff_t>(1, std::min(tiles.columns.length, most));
  return tiles;
}

size_t checked(ptrdiff_t axis, const Lengths& lengths) {
  if (axis < 0 || axis >= ptrdiff_t(lengths.size())) throw std::invalid_argument("no such axis");
  return size_t(axis);
}

Lengths without(Lengths values, size_t i) {
  values.erase(values.begin() + ptrdiff_t(i));
  return values;
}

}  // namespace

ReduceStep::ReduceStep(Reduction reduction, const Lengths& lengths, const Lengths& axes, const Strided& src,
                       const Strided& dst)
    : table_(*target().plain), dst_(dst.place), src_(src.place), reduction_(reduction) {
  std::vector<bool> reduced(lengths.size());
  for (ptrdiff_t axis : axes) reduced[checked(axis, lengths)] = true;
  Axes<2> kept;
  Axes<1> summed;
  for (size_t i = 0; i < lengths.size(); i++) {
    if (lengths[i] < 1) throw std::invalid_argument("a reduction of no elements");
    if (lengths[i] == 1) continue;
    if (reduced[i])
      summed.append({lengths[i], {src.strides.at(i)}});
    else
      kept.append({lengths[i], {dst.strides.at(i), src.strides.at(i)}});
  }
  summed.sort_by(0);
  summed.merge();
  if (summed.count()) {
    const auto inner = summed.take_innermost();
    count_ = inner.length, step_ = inner.strides[0];
  }
  for (ptrdiff_t i = 0, n = summed.size(); i < n; i++) offsets_.push_back(summed.locate(i)[0]);
  kept_ = lines_of(kept, kLineTile);
}

ptrdiff_t ReduceStep::pieces(int threads) const {
  return pieces_of(kept_.count(), kept_.elements() * double(count_) * double(offsets_.size()), threads);
}

void ReduceStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(kept_.count(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = kept_[i];
    table_.reduce({memory.at(src_) + tile.at[1], memory.at(dst_) + tile.at[0], tile.columns, kept_.columns.strides[1],
                   kept_.columns.strides[0], offsets_.data(), ptrdiff_t(offsets_.size()), count_, step_, reduction_});
  }
}

SoftmaxStep::SoftmaxStep(bool log, const Lengths& lengths, ptrdiff_t axis, const Strided& src, const Strided& dst)
    : table_(*target().plain), dst_(dst.place), src_(src.place), log_(log) {
  const size_t i = checked(axis, lengths);
  along_ = {lengths[i], {dst.strides.at(i), src.strides.at(i)}};
  if (along_.length < 1) throw std::invalid_argument("a softmax of no elements");
  rows_ = lines_of({without(lengths, i), {without(dst.strides, i), without(src.strides, i)}},
                   std::max<ptrdiff_t>(32, kTile / along_.length / 32 * 32));
}

ptrdiff_t SoftmaxStep::pieces(int threads) const {
  return pieces_of(rows_.count(), 4 * rows_.elements() * double(along_.length), threads);
}

void SoftmaxStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const Range range = share_of(rows_.count(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = rows_[i];
    table_.softmax({memory.at(src_) + tile.at[1], memory.at(dst_) + tile.at[0], along_.length, along_.strides[1],
                    along_.strides[0], tile.columns, rows_.columns.strides[1], rows_.columns.strides[0], log_,
                    reinterpret_cast<float*>(scratch)});
  }
}

LineWeightsStep::LineWeightsStep(const Lengths& lengths, ptrdiff_t axis, ptrdiff_t results, ptrdiff_t taps,
                                 const int64_t* index, const float* weights, const Strided& src, const Strided& dst)
    : table_(*target().plain), dst_(dst.place), src_(src.place), results_(results), taps_(taps) {
  const size_t i = checked(axis, lengths);
  if (results < 1 || taps < 1) throw std::invalid_argument("weights for no results, or none");
  dst_step_ = dst.strides.at(i);
  at_.resize(size_t(results * taps)), weights_.resize(size_t(results * taps));
  for (ptrdiff_t o = 0; o < results; o++) {
    for (ptrdiff_t k = 0; k < taps; k++) {
      const ptrdiff_t sample = ptrdiff_t(index[o * taps + k]);
      if (sample < 0 || sample >= lengths[i]) throw std::invalid_argument("an index beyond the axis");
      at_[size_t(k * results + o)] = sample * src.strides.at(i);
      weights_[size_t(k * results + o)] = weights[o * taps + k];
    }
  }
  lines_ = lines_of({without(lengths, i), {without(dst.strides, i), without(src.strides, i)}}, 1024);
  along_ = std::max<ptrdiff_t>(64, kTile / lines_.tile_columns);
}

ptrdiff_t LineWeightsStep::pieces(int threads) const {
  const ptrdiff_t parts = (results_ + along_ - 1) / along_;
  return pieces_of(lines_.count() * parts, lines_.elements() * double(results_) * double(taps_), threads);
}

void LineWeightsStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const ptrdiff_t parts = (results_ + along_ - 1) / along_;
  const Range range = share_of(lines_.count() * parts, piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = lines_[i / parts];
    const ptrdiff_t first = i % parts * along_;
    table_.weigh({memory.at(src_) + tile.at[1], memory.at(dst_) + tile.at[0], first, std::min(first + along_, results_),
                  dst_step_, tile.columns, lines_.columns.strides[1], lines_.columns.strides[0], weights_.data(),
                  at_.data(), results_, taps_});
  }
}

}  // namespace sep
