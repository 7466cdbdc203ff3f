// Steps between floats and levels: bytes that stand for (byte - zero) * scale.
#pragma once
#include <optional>

#include "engine/integers/integer_conv.h"
#include "engine/plain_maps.h"

namespace sep {

// quantise: float to bytes; dequantise: bytes to float; floats: whole numbers of 32 bits to float. Strides are those of
// elements of either side's own size.
enum class LevelMap : int { quantise, dequantise, floats };

class LevelMapStep : public Step {
 public:
  LevelMapStep(LevelMap map, const Lengths& lengths, const Strided& src, const Strided& dst,
               const std::optional<LevelsAt>& levels);
  ptrdiff_t pieces(int threads) const override { return pieces_of(tiles_.count(), 4 * tiles_.elements(), threads); }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const IntegerTable& table_;
  LevelMap map_;
  Place dst_, src_;
  std::optional<LevelsAt> levels_;
  Tiles<2> tiles_;  // dst, src
};

// n bytes of two tensors added as numbers, and turned into levels of a third.
class AddLevelsStep : public Step {
 public:
  AddLevelsStep(ptrdiff_t n, const Place& a, const Place& b, const Place& dst, const LevelsAt& a_levels,
                const LevelsAt& b_levels, const LevelsAt& levels);
  ptrdiff_t pieces(int threads) const override {
    return pieces_of((n_ + kTile - 1) / kTile, 2.0 * double(n_), threads);
  }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const IntegerTable& table_;
  ptrdiff_t n_;
  Place a_, b_, dst_;
  LevelsAt a_levels_, b_levels_, levels_;
};

// Scale and zero of levels that hold all numbers between the least and the greatest of a tensor, and zero exactly.
class LevelRangeStep : public Step {
 public:
  LevelRangeStep(const Place& least, const Place& greatest, const Place& scale, const Place& zero)
      : least_(least), greatest_(greatest), scale_(scale), zero_(zero) {}
  ptrdiff_t pieces(int) const override { return 1; }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  Place least_, greatest_, scale_, zero_;
};

}  // namespace sep
