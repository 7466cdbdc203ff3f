// Steps that give one result for each element: copies, fills, elementwise operations.
#pragma once
#include "engine/kernels/plain.h"
#include "engine/plain_axes.h"
#include "engine/step.h"

namespace sep {

// An array of a step: where it begins, and its strides in elements.
struct Strided {
  Place place;
  Lengths strides;
};

// dst[index] = src[index] for arrays with any strides: transposes, slices, parts of concatenations, broadcasts,
// layouts.
class CopyStep : public Step {
 public:
  CopyStep(const Lengths& lengths, const Strided& src, const Strided& dst);
  ptrdiff_t pieces(int threads) const override { return pieces_of(tiles_.count(), tiles_.elements(), threads); }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_, src_;
  Tiles<2> tiles_;  // dst, src
};

class FillStep : public Step {
 public:
  FillStep(float value, const Lengths& lengths, const Strided& dst);
  ptrdiff_t pieces(int threads) const override { return pieces_of(tiles_.count(), tiles_.elements(), threads); }
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_;
  float value_;
  Tiles<1> tiles_;
};

// dst[index] = after(operation(a[index], b[index])); dst may be a or b where they lie alike. b is not read for `first`.
class ElementwiseStep : public Step {
 public:
  ElementwiseStep(Operation operation, const After& after, const Lengths& lengths, const Strided& a, const Strided& b,
                  const Strided& dst);
  ptrdiff_t pieces(int threads) const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  const PlainTable& table_;
  Place dst_, a_, b_;
  Operation operation_;
  After after_;
  Tiles<3> tiles_;  // dst, a, b
};

}  // namespace sep
