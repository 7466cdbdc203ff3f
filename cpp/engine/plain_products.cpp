#include "engine/plain_products.h"

#include "base/machine.h"

namespace sep {
namespace {

constexpr ptrdiff_t kInner = 128;   // rows of a panel that stay in the L1 cache while rows of x pass: 32 KiB on AVX-512
constexpr ptrdiff_t kPart = 73728;  // elements of x that stay in the L2 cache while all panels pass
constexpr ptrdiff_t kFewRows = 6;   // what the kernel takes at a time: a panel is read once

// All terms of a product; with many rows a part of the panel at a time.
void multiply(const PlainTable& table, ProductArgs g) {
  const ptrdiff_t inner = g.inner, part = g.rows <= kFewRows ? std::max<ptrdiff_t>(1, inner) : kInner;
  const After after = g.after;
  g.after = {};
  for (ptrdiff_t first = 0; first == 0 || first < inner; first += part) {
    g.inner = std::min(part, inner - first);
    g.accumulate = first > 0;
    if (first + part >= inner) g.after = after;
    table.product(g);
    g.x += g.inner * g.x_column, g.w += g.inner * g.w_row;
  }
}

// Rows in parts of nearly equal size.
ptrdiff_t row_parts(ptrdiff_t rows, ptrdiff_t inner) {
  const ptrdiff_t part = std::clamp<ptrdiff_t>(kPart / std::max<ptrdiff_t>(1, inner), 48, 384);
  return (rows + part - 1) / part;
}

ptrdiff_t up_to_multiple(ptrdiff_t n, ptrdiff_t of) { return (n + of - 1) / of * of; }

// Columns that follow each other, each contiguous, of a matrix that no second level cache holds.
bool lies_well(ptrdiff_t inner, ptrdiff_t columns, ptrdiff_t inner_stride, ptrdiff_t column_stride) {
  return inner_stride == 1 && column_stride == inner && size_t(inner * columns) * sizeof(float) > caches().l2;
}

// Columns [first, first + width of the vectors) of a matrix (inner, columns) with zeros after the last one.
void pack(const PlainTable& table, const float* src, ptrdiff_t inner, ptrdiff_t columns, ptrdiff_t inner_stride,
          ptrdiff_t column_stride, float* dst) {
  const ptrdiff_t width = up_to_multiple(columns, table.lanes);
  table.copy({src, dst, inner, columns, inner_stride, column_stride, width, 1});
  if (width > columns) table.fill({0, dst + columns, inner, width - columns, width, 1});
}

}  // namespace

FullWeights::FullWeights(ptrdiff_t inner, ptrdiff_t columns, const float* weights, ptrdiff_t inner_stride,
                         ptrdiff_t column_stride, const float* bias, std::shared_ptr<const void> owner)
    : table_(*target().plain),
      inner_(inner),
      columns_(columns),
      owner_(lies_well(inner, columns, inner_stride, column_stride) ? std::move(owner) : nullptr),
      bytes_((packed() ? Scratch::bytes<float>(inner * up_to_multiple(columns, table_.lanes)) : 0) +
             Scratch::bytes<float>(up_to_multiple(columns, table_.lanes))),
      memory_(bytes_),
      weights_(weights) {
  const ptrdiff_t padded = up_to_multiple(columns, table_.lanes);
  if (packed()) {
    float* const own = memory_.take<float>(inner * padded);
    for (ptrdiff_t i = 0; i < panels(); i++) {
      const ptrdiff_t first = i * table_.panel, n = std::min<ptrdiff_t>(table_.panel, columns - first);
      pack(table_, weights + first * column_stride, inner, n, inner_stride, column_stride, own + first * inner);
    }
    weights_ = own;
  }
  bias_ = memory_.take<float>(padded);
  for (ptrdiff_t n = 0; n < padded; n++) bias_[n] = bias && n < columns ? bias[n] : 0;
}

ptrdiff_t FullWeights::panels() const { return (columns_ + table_.panel - 1) / table_.panel; }

ptrdiff_t FullWeights::width(ptrdiff_t i) const {
  return up_to_multiple(std::min<ptrdiff_t>(table_.panel, columns_ - i * table_.panel), table_.lanes);
}

FullStep::FullStep(std::shared_ptr<const FullWeights> weights, ptrdiff_t rows, const Strided& x, const Place& dst,
                   ptrdiff_t dst_row, const After& after)
    : weights_(std::move(weights)),
      rows_(rows),
      x_row_(x.strides.at(0)),
      x_column_(x.strides.at(1)),
      dst_row_(dst_row),
      x_(x.place),
      dst_(dst),
      after_(after) {}

ptrdiff_t FullStep::pieces(int threads) const {
  const double products = double(rows_) * double(weights_->inner()) * double(weights_->columns());
  return pieces_of(weights_->panels() * row_parts(rows_, weights_->inner()), products / 2, threads);
}

Step::Fetched FullStep::weights() const {
  return {reinterpret_cast<const char*>(weights_->panel(0)), ptrdiff_t(weights_->bytes_read())};
}

// Whether panels of a matrix that is read as it lies are packed on the way: they are read by so many rows.
bool FullStep::packs() const { return !weights_->packed() && rows_ > kFewRows; }

size_t FullStep::scratch_bytes() const {
  if (packs()) return Scratch::bytes<float>(weights_->inner() * weights_->table().panel);
  return weights_->packed() || x_column_ == 1 ? 0 : Scratch::bytes<float>(rows_ * weights_->inner());
}

void FullStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const FullWeights& w = *weights_;
  const Range range = share_of(w.panels() * row_parts(rows_, weights_->inner()), piece, pieces);
  const bool far = w.bytes_read() > caches().l2 / 2;
  const float* x = memory.at(x_);
  ptrdiff_t x_row = x_row_, x_column = x_column_;
  if (!packs() && scratch_bytes()) {
    float* const lines = reinterpret_cast<float*>(scratch);
    w.table().copy({x, lines, rows_, w.inner(), x_row, x_column, w.inner(), 1});
    x = lines, x_row = w.inner(), x_column = 1;
  }
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const Range rows = share_of(rows_, i / w.panels(), row_parts(rows_, weights_->inner()));
    const ptrdiff_t panel = i % w.panels(), column = panel * w.table().panel;
    ProductArgs product{x + rows.first * x_row,
                              x_row,
                              x_column,
                              w.panel(panel),
                              w.packed() ? w.width(panel) : w.inner(),
                              w.bias(panel),
                              memory.at(dst_) + rows.first * dst_row_ + column,
                              dst_row_,
                              rows.last - rows.first,
                              w.inner(),
                              std::min<ptrdiff_t>(w.table().panel, w.columns() - column),
                              false,
                              far,
                              after_};
    if (packs()) {
      float* const packed = reinterpret_cast<float*>(scratch);
      pack(w.table(), w.panel(panel), w.inner(), product.columns, 1, w.inner(), packed);
      product.w = packed, product.w_row = w.width(panel), product.far = false;
    }
    w.packed() || packs() ? multiply(w.table(), product) : w.table().dots(product);
  }
}

MatMulStep::MatMulStep(const Lengths& batch, ptrdiff_t rows, ptrdiff_t inner, ptrdiff_t columns, const Strided& a,
                       const Strided& b, const Strided& dst, const After& after)
    : table_(*target().plain),
      rows_(rows),
      inner_(inner),
      columns_(columns),
      a_(a.place),
      b_(b.place),
      dst_(dst.place),
      after_(after) {
  const size_t n = batch.size();
  batch_ = Axes<3>(batch, {dst.strides, a.strides, b.strides});
  a_row_ = a.strides.at(n), a_column_ = a.strides.at(n + 1);
  b_row_ = b.strides.at(n), b_column_ = b.strides.at(n + 1);
  dst_row_ = dst.strides.at(n);
  if (columns > 1 && dst.strides.at(n + 1) != 1) throw std::invalid_argument("columns of a product lie apart");
}

ptrdiff_t MatMulStep::panels() const { return (columns_ + table_.panel - 1) / table_.panel; }

size_t MatMulStep::scratch_bytes() const { return size_t(inner_ * table_.panel) * sizeof(float); }

ptrdiff_t MatMulStep::pieces(int threads) const {
  const double products = double(batch_.size()) * double(rows_) * double(inner_) * double(columns_);
  return pieces_of(batch_.size() * panels() * row_parts(rows_, inner_), products / 8, threads);
}

void MatMulStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const Range range = share_of(batch_.size() * row_parts(rows_, inner_) * panels(), piece, pieces);
  float* const packed = reinterpret_cast<float*>(scratch);
  for (ptrdiff_t i = range.first; i < range.last; i++) {
    const Range rows = share_of(rows_, i / panels() % row_parts(rows_, inner_), row_parts(rows_, inner_));
    const auto at = batch_.locate(i / panels() / row_parts(rows_, inner_));
    const ptrdiff_t column = i % panels() * table_.panel,
                    columns = std::min<ptrdiff_t>(table_.panel, columns_ - column);
    const float* b = memory.at(b_) + at[2] + column * b_column_;
    const bool as_it_lies = b_column_ == 1 && rows_ <= kFewRows && columns % table_.lanes == 0;
    if (!as_it_lies) pack(table_, b, inner_, columns, b_row_, b_column_, packed);
    multiply(table_, {memory.at(a_) + at[1] + rows.first * a_row_, a_row_, a_column_, as_it_lies ? b : packed,
                      as_it_lies ? b_row_ : up_to_multiple(columns, table_.lanes), nullptr,
                      memory.at(dst_) + at[0] + rows.first * dst_row_ + column, dst_row_, rows.last - rows.first,
                      inner_, columns, false, as_it_lies, after_});
  }
}

}  // namespace sep
