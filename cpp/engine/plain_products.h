// Steps that multiply with dense matrices.
#pragma once
#include <memory>
#include <vector>

#include "base/pages.h"
#include "engine/plain_maps.h"

namespace sep {

// A matrix (inner, columns) and a bias, packed for one instruction set: panels of neighbouring columns, row by row. A
// large matrix whose columns are contiguous is read as it lies, and takes no memory of its own.
class FullWeights {
 public:
  // weights[k * inner_stride + n * column_stride]; bias: null, or `columns` elements; owner: keeps the weights
  FullWeights(ptrdiff_t inner, ptrdiff_t columns, const float* weights, ptrdiff_t inner_stride, ptrdiff_t column_stride,
              const float* bias, std::shared_ptr<const void> owner);

  const PlainTable& table() const { return table_; }
  ptrdiff_t inner() const { return inner_; }
  ptrdiff_t columns() const { return columns_; }
  ptrdiff_t panels() const;
  ptrdiff_t width(ptrdiff_t panel) const;  // columns of the panel, with those of zeros at the end of the last vector
  bool packed() const { return !owner_; }
  const float* panel(ptrdiff_t i) const { return weights_ + i * inner_ * table_.panel; }
  const float* bias(ptrdiff_t panel) const { return bias_ + panel * table_.panel; }
  size_t bytes() const { return bytes_; }  // that it takes
  size_t bytes_read() const { return size_t(inner_ * columns_) * sizeof(float); }

 private:
  const PlainTable& table_;
  ptrdiff_t inner_, columns_;
  std::shared_ptr<const void> owner_;  // of what is read as it lies
  size_t bytes_;
  Pages memory_;
  const float* weights_;
  float* bias_;
};

// dst[row, n] = after(sum over k of x[row, k] * weights[k, n] + bias[n])
class FullStep : public Step {
 public:
  // x: strides of rows and of k; dst: stride of rows
  FullStep(std::shared_ptr<const FullWeights> weights, ptrdiff_t rows, const Strided& x, const Place& dst,
           ptrdiff_t dst_row, const After& after);
  ptrdiff_t pieces(int threads) const override;
  Fetched weights() const override;
  size_t scratch_bytes() const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  bool packs() const;
  std::shared_ptr<const FullWeights> weights_;
  ptrdiff_t rows_, x_row_, x_column_, dst_row_;
  Place x_, dst_;
  After after_;
};

// dst[.., m, n] = after(sum over k of a[.., m, k] * b[.., k, n]); a, b and dst have strides for all axes of `batch`,
// then for their rows and columns; dst's columns lie next to each other.
class MatMulStep : public Step {
 public:
  MatMulStep(const Lengths& batch, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns, const Strided& a,
             const Strided& b, const Strided& dst, const After& after);
  ptrdiff_t pieces(int threads) const override;
  size_t scratch_bytes() const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  ptrdiff_t panels() const;
  const PlainTable& table_;
  Axes<3> batch_;  // dst, a, b
  ptrdiff_t rows_, inner_, columns_;
  ptrdiff_t a_row_, a_column_, b_row_, b_column_, dst_row_;
  Place a_, b_, dst_;
  After after_;
};

}  // namespace sep
