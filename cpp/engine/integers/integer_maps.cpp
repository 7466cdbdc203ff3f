#include "engine/integers/integer_maps.h"

#include <algorithm>
#include <cmath>

#include "base/machine.h"

namespace sep {
namespace {

float scale_of(const LevelsAt& levels, const Memory& memory) {
  return levels.scale ? *memory.at(*levels.scale) : 1.0f;
}

int zero_of(const LevelsAt& levels, const Memory& memory) { return int(*memory.at(levels.zero)); }

}  // namespace

LevelMapStep::LevelMapStep(LevelMap map, const Lengths& lengths, const Strided& src, const Strided& dst,
                           const std::optional<LevelsAt>& levels)
    : table_(integers()),
      map_(map),
      dst_(dst.place),
      src_(src.place),
      levels_(levels),
      tiles_(Tiles<2>::of({lengths, {dst.strides, src.strides}}, 1)) {}

void LevelMapStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const float scale = levels_ ? scale_of(*levels_, memory) : 1.0f;
  const int zero = levels_ ? zero_of(*levels_, memory) : 0;
  char* const dst = reinterpret_cast<char*>(memory.at(dst_));
  const char* const src = reinterpret_cast<const char*>(memory.at(src_));
  const ptrdiff_t dst_size = map_ == LevelMap::quantise ? 1 : 4, src_size = map_ == LevelMap::dequantise ? 1 : 4;
  const auto run = map_ == LevelMap::quantise     ? table_.quantise
                   : map_ == LevelMap::dequantise ? table_.dequantise
                                                  : table_.floats;
  const Range range = share_of(tiles_.count(), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const auto tile = tiles_[i];
    run({src + tile.at[1] * src_size, dst + tile.at[0] * dst_size, tile.rows, tile.columns, tiles_.rows.strides[1],
         tiles_.columns.strides[1], tiles_.rows.strides[0], tiles_.columns.strides[0], scale, zero});
  }
}

AddLevelsStep::AddLevelsStep(ptrdiff_t n, const Place& a, const Place& b, const Place& dst, const LevelsAt& a_levels,
                             const LevelsAt& b_levels, const LevelsAt& levels)
    : table_(integers()),
      n_(n),
      a_(a),
      b_(b),
      dst_(dst),
      a_levels_(a_levels),
      b_levels_(b_levels),
      levels_(levels) {}

void AddLevelsStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char*) const {
  const Range units = share_of((n_ + kTile - 1) / kTile, piece, pieces);
  const ptrdiff_t first = units.first * kTile, n = std::min(n_, units.last * kTile) - first;
  auto from = [&](const Place& place) { return reinterpret_cast<const uint8_t*>(memory.at(place)) + first; };
  table_.add({from(a_), from(b_), reinterpret_cast<uint8_t*>(memory.at(dst_)) + first, n, scale_of(a_levels_, memory),
              scale_of(b_levels_, memory), scale_of(levels_, memory), zero_of(a_levels_, memory),
              zero_of(b_levels_, memory), zero_of(levels_, memory)});
}

void LevelRangeStep::run(ptrdiff_t, ptrdiff_t, const Memory& memory, char*) const {
  const float least = std::min(*memory.at(least_), 0.0f), greatest = std::max(*memory.at(greatest_), 0.0f);
  const float scale = greatest == least ? 1.0f : (greatest - least) / 255.0f;
  *memory.at(scale_) = scale;
  *memory.at(zero_) = std::nearbyint(std::clamp(0.0f - least / scale, 0.0f, 255.0f));
}

}  // namespace sep
