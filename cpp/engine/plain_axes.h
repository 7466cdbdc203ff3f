// Loops over the axes of several arrays at once, and how steps divide them into pieces.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace sep {

constexpr int kAxes = 8;
constexpr ptrdiff_t kTile = 8192;  // elements of a result that a thread computes at a time: half of an L1 cache

using Lengths = std::vector<ptrdiff_t>;

struct Range {
  ptrdiff_t first, last;
};

// Piece `piece` of `pieces` of n units.
inline Range share_of(ptrdiff_t n, ptrdiff_t piece, ptrdiff_t pieces) {
  const ptrdiff_t each = n / pieces, longer = n % pieces;
  const ptrdiff_t first = piece * each + std::min(piece, longer);
  return {first, first + each + (piece < longer)};
}

// Pieces of n units that cost as much as copying `elements`: several for each thread, unless they would be tiny.
inline ptrdiff_t pieces_of(ptrdiff_t n, double elements, int threads) {
  if (threads <= 1) return 1;
  const double most = std::min(double(n), elements / kTile);
  return std::max<ptrdiff_t>(1, std::min<ptrdiff_t>(4 * ptrdiff_t(threads), ptrdiff_t(most)));
}

// Axes of K arrays with the same lengths, outermost first.
template <int K>
class Axes {
 public:
  struct Axis {
    ptrdiff_t length;
    std::array<ptrdiff_t, K> strides;
  };

  Axes() = default;
  Axes(const Lengths& lengths, const std::array<Lengths, K>& strides) {
    if (lengths.size() > size_t(kAxes)) throw std::invalid_argument("at most 8 axes");
    for (size_t i = 0; i < lengths.size(); i++) {
      Axis axis{lengths[i], {}};
      for (int k = 0; k < K; k++) axis.strides[size_t(k)] = strides[size_t(k)].at(i);
      if (axis.length < 0) throw std::invalid_argument("a negative length");
      if (axis.length != 1) axes_.push_back(axis);
    }
  }

  size_t count() const { return axes_.size(); }
  const Axis& operator[](size_t i) const { return axes_[i]; }
  ptrdiff_t size() const {  // of all axes
    ptrdiff_t n = 1;
    for (const Axis& axis : axes_) n *= axis.length;
    return n;
  }
  void append(const Axis& axis) { axes_.push_back(axis); }

  // Array k's smallest strides innermost.
  void sort_by(size_t k) {
    std::stable_sort(axes_.begin(), axes_.end(),
                     [k](const Axis& a, const Axis& b) { return std::abs(a.strides[k]) > std::abs(b.strides[k]); });
  }
  // Axes that are one axis for all arrays become one.
  void merge() {
    for (size_t i = axes_.size(); i-- > 1;) {
      Axis &outer = axes_[i - 1], &inner = axes_[i];
      bool one = true;
      for (size_t k = 0; k < K; k++) one &= outer.strides[k] == inner.strides[k] * inner.length;
      if (!one) continue;
      outer = {outer.length * inner.length, inner.strides};
      axes_.erase(axes_.begin() + ptrdiff_t(i));
    }
  }
  Axis take(size_t i) {  // removes an axis; one of a single element where there is none
    if (i >= axes_.size()) return {1, {}};
    const Axis axis = axes_[i];
    axes_.erase(axes_.begin() + ptrdiff_t(i));
    return axis;
  }
  Axis take_innermost() { return take(axes_.size() - 1); }

  // Where element `index` lies in each array.
  std::array<ptrdiff_t, K> locate(ptrdiff_t index) const {
    std::array<ptrdiff_t, K> at{};
    for (size_t i = axes_.size(); i-- > 0;) {
      const ptrdiff_t of_axis = index % axes_[i].length;
      index /= axes_[i].length;
      for (size_t k = 0; k < K; k++) at[k] += of_axis * axes_[i].strides[k];
    }
    return at;
  }

 private:
  std::vector<Axis> axes_;
};

// The two innermost axes of a loop in tiles of rows and columns, and the loop over the others.
template <int K>
struct Tiles {
  Axes<K> outer;
  typename Axes<K>::Axis rows{1, {}}, columns{1, {}};
  ptrdiff_t tile_rows = 1, tile_columns = 1;

  struct Tile {
    std::array<ptrdiff_t, K> at;
    ptrdiff_t rows, columns;
  };

  // Axes in the order of one array's strides, merged: the innermost are columns, the next ones rows.
  static Tiles of(Axes<K> axes, size_t array, ptrdiff_t most_columns = kTile) {
    axes.sort_by(array);
    axes.merge();
    Tiles tiles;
    tiles.columns = axes.take_innermost();
    tiles.rows = axes.take_innermost();
    tiles.outer = axes;
    tiles.divide(most_columns);
    return tiles;
  }
  // Columns first, as many as a tile holds, then rows.
  void divide(ptrdiff_t most_columns = kTile) {
    tile_columns = std::max<ptrdiff_t>(1, std::min(columns.length, most_columns));
    tile_rows = std::max<ptrdiff_t>(1, std::min(rows.length, kTile / tile_columns));
  }
  ptrdiff_t row_tiles() const { return (rows.length + tile_rows - 1) / tile_rows; }
  ptrdiff_t column_tiles() const { return (columns.length + tile_columns - 1) / tile_columns; }
  ptrdiff_t count() const { return outer.size() * row_tiles() * column_tiles(); }
  double elements() const { return double(outer.size()) * double(rows.length) * double(columns.length); }
  Tile operator[](ptrdiff_t index) const {
    const ptrdiff_t column = index % column_tiles() * tile_columns;
    index /= column_tiles();
    const ptrdiff_t row = index % row_tiles() * tile_rows;
    Tile tile{outer.locate(index / row_tiles()), std::min(tile_rows, rows.length - row),
              std::min(tile_columns, columns.length - column)};
    for (size_t k = 0; k < K; k++) tile.at[k] += row * rows.strides[k] + column * columns.strides[k];
    return tile;
  }
};

}  // namespace sep
