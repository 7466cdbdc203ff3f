#include "engine/plain_maps.h"

#include "base/machine.h"

namespace sep {
namespace {

// The axis along which array k is contiguous; none: one too many.
template <int K>
size_t contiguous(const Axes<K>& axes, size_t k) {
  size_t i = 0;
  while (i < axes.count() && axes[i].strides[k] != 1) i++;
  return i;
}

}  // namespace

CopyStep::CopyStep(const Lengths& lengths, const Strided& src, const Strided& dst)
    : table_(*target().plain), dst_(dst.place), src_(src.place) {
  Axes<2> axes(lengths, {dst.strides, src.strides});
  axes.sort_by(0);
  axes.merge();
  tiles_.columns = axes.take_innermost();
  const bool transposed = tiles_.columns.strides[1] != 1 && contiguous(axes, 1) < axes.count();
  tiles_.rows = transposed ? axes.take(contiguous(axes, 1)) : axes.take_innermost();
  tiles_.outer = axes;
  tiles_.divide(transposed ? std::max<ptrdiff_t>(64, kTile / std::max<ptrdiff_t>(1, tiles_.rows.length)) : kTile);
}

void CopyStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(tiles_.count(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = tiles_[i];
    table_.copy({memory.at(src_) + tile.at[1], memory.at(dst_) + tile.at[0], tile.rows, tile.columns,
                 tiles_.rows.strides[1], tiles_.columns.strides[1], tiles_.rows.strides[0], tiles_.columns.strides[0]});
  }
}

FillStep::FillStep(float value, const Lengths& lengths, const Strided& dst)
    : table_(*target().plain), dst_(dst.place), value_(value) {
  tiles_ = Tiles<1>::of({lengths, {dst.strides}}, 0);
}

void FillStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(tiles_.count(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = tiles_[i];
    table_.fill({value_, memory.at(dst_) + tile.at[0], tile.rows, tile.columns, tiles_.rows.strides[0],
                 tiles_.columns.strides[0]});
  }
}

ElementwiseStep::ElementwiseStep(Operation operation, const After& after, const Lengths& lengths, const Strided& a,
                                 const Strided& b, const Strided& dst)
    : table_(*target().plain), dst_(dst.place), a_(a.place), b_(b.place), operation_(operation), after_(after) {
  if (operation == Operation::first) b_ = a.place;
  tiles_ = Tiles<3>::of({lengths, {dst.strides, a.strides, operation == Operation::first ? a.strides : b.strides}}, 0,
                        kTile / 2);
}

ptrdiff_t ElementwiseStep::pieces(int threads) const {
  const bool costly = after_.function >= Function::exp || operation_ == Operation::pow;
  return pieces_of(tiles_.count(), (costly ? 4 : 1) * tiles_.elements(), threads);
}

void ElementwiseStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range range = share_of(tiles_.count(), piece, pieces);
  const auto &row = tiles_.rows.strides, &column = tiles_.columns.strides;
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = tiles_[i];
    table_.elementwise({memory.at(a_) + tile.at[1], memory.at(b_) + tile.at[2], memory.at(dst_) + tile.at[0], tile.rows,
                        tile.columns, row[1], column[1], row[2], column[2], row[0], column[0], operation_, after_});
  }
}

}  // namespace sep
