#include "engine/recurrent/recurrent.h"

#include <cstring>

#include "base/machine.h"

namespace sep {
namespace {

constexpr ptrdiff_t kAtOnce = 24;  // sequences that read the weights together, for any number of threads

}  // namespace

RecurrentStep::RecurrentStep(Cell cell, ptrdiff_t times, ptrdiff_t sequences, ptrdiff_t width,
                             std::vector<Direction> directions)
    : table_(*target().plain),
      cell_(cell),
      times_(times),
      sequences_(sequences),
      width_(width),
      directions_(std::move(directions)) {
  const bool before = cell == Cell::gru_before;
  auto fits = [&](const FullWeights& w, ptrdiff_t parts) {
    return w.inner() == width && w.columns() == parts * width && w.packed();
  };
  for (const Direction& d : directions_)
    if (bool(d.fresh) != before || !fits(*d.weights, gates(cell) - before) || (before && !fits(*d.fresh, 1)))
      throw std::invalid_argument("recurrent weights of another size");
}

Step::Fetched RecurrentStep::weights() const {
  const FullWeights& w = *directions_[0].weights;
  return {reinterpret_cast<const char*>(w.panel(0)), ptrdiff_t(w.bytes_read())};
}

ptrdiff_t RecurrentStep::groups() const { return (sequences_ + kAtOnce - 1) / kAtOnce; }

ptrdiff_t RecurrentStep::pieces(int threads) const {
  const double products = double(times_) * double(sequences_) * double(gates(cell_) * width_) * double(width_);
  return pieces_of(groups() * ptrdiff_t(directions_.size()), products, threads);
}

// Sums of gates, the cell or what is kept of the state, the first state, and zeros.
size_t RecurrentStep::scratch_bytes() const {
  return Scratch::bytes<float>(kAtOnce * gates(cell_) * width_) + 2 * Scratch::bytes<float>(kAtOnce * width_) +
         Scratch::bytes<float>(gates(cell_) * width_);
}

void RecurrentStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const Range range = share_of(groups() * ptrdiff_t(directions_.size()), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++)
    sequences(directions_[size_t(i / groups())], share_of(sequences_, i % groups(), groups()), memory, scratch);
}

// sums += state times the weights; sums = their product and its bias where GRU scales that
void RecurrentStep::multiply(const FullWeights& w, const float* state, ptrdiff_t row, ptrdiff_t rows,
                             float* sums) const {
  const ptrdiff_t all = gates(cell_) * width_;
  const bool far = w.bytes_read() > caches().l2 / 2;
  for (ptrdiff_t i = 0; i < w.panels(); i++) {
    const ptrdiff_t column = i * table_.panel;
    table_.product({state, row, 1, w.panel(i), w.width(i), w.bias(i), sums + column, all, rows, w.inner(),
                    std::min<ptrdiff_t>(table_.panel, w.columns() - column), cell_ != Cell::gru, far, {}});
  }
}

// The gates of GRU, the last one of what its reset gate keeps of the state.
void RecurrentStep::reset(const Direction& d, const float* state, ptrdiff_t row, ptrdiff_t rows, float* sums,
                          float* kept) const {
  const ptrdiff_t all = gates(cell_) * width_;
  float* const gate = sums + width_;
  multiply(*d.weights, state, row, rows, sums);
  table_.elementwise({gate, nullptr, kept, rows, width_, all, 1, 0, 0, width_, 1, Operation::first,
                      {Function::sigmoid, 0, 0}});
  table_.elementwise({kept, state, kept, rows, width_, width_, 1, row, 1, width_, 1, Operation::mul, {}});
  multiply(*d.fresh, kept, width_, rows, sums + 2 * width_);
}

void RecurrentStep::sequences(const Direction& d, Range which, const Memory& memory, char* scratch) const {
  const ptrdiff_t rows = which.last - which.first, all = gates(cell_) * width_, own = rows * width_;
  float* const sums = reinterpret_cast<float*>(scratch);
  float* const cell = sums + Scratch::bytes<float>(kAtOnce * all) / sizeof(float);
  float* const first = cell + Scratch::bytes<float>(kAtOnce * width_) / sizeof(float);
  float* const zeros = first + Scratch::bytes<float>(kAtOnce * width_) / sizeof(float);
  if (cell_ == Cell::gru_before) std::memset(zeros, 0, size_t(all) * sizeof(float));
  auto begin = [&](const std::optional<Place>& from, float* to) {
    if (from)
      std::memcpy(to, memory.at(*from) + which.first * width_, size_t(own) * sizeof(float));
    else
      std::memset(to, 0, size_t(own) * sizeof(float));
  };
  begin(d.state, first);
  if (cell_ == Cell::lstm) begin(d.cell, cell);
  const float* gates_at = memory.at(d.gates.place) + which.first * d.gates.strides[1];
  float* dst_at = memory.at(d.dst.place) + which.first * d.dst.strides[1];
  const float* state = first;
  ptrdiff_t state_row = width_;
  for (ptrdiff_t i = 0; i < times_; i++) {
    const ptrdiff_t time = d.backwards ? times_ - 1 - i : i, gates_row = d.gates.strides[1];
    const float* x = gates_at + time * d.gates.strides[0];
    float* dst = dst_at + time * d.dst.strides[0];
    if (cell_ == Cell::lstm) {
      table_.copy({x, sums, rows, all, gates_row, 1, all, 1});
      multiply(*d.weights, state, state_row, rows, sums);
      table_.lstm({sums, nullptr, cell, cell, dst, rows, width_, all, 0, width_, d.dst.strides[1]});
    } else if (cell_ == Cell::gru_before) {
      table_.copy({x, sums, rows, all, gates_row, 1, all, 1});
      reset(d, state, state_row, rows, sums, cell);
      table_.gru({sums, zeros, state, nullptr, dst, rows, width_, all, 0, state_row, d.dst.strides[1]});
    } else {
      multiply(*d.weights, state, state_row, rows, sums);
      table_.gru({x, sums, state, nullptr, dst, rows, width_, gates_row, all, state_row, d.dst.strides[1]});
    }
    state = dst, state_row = d.dst.strides[1];
  }
  auto end = [&](const std::optional<Place>& to, const float* from, ptrdiff_t row) {
    if (to) table_.copy({from, memory.at(*to) + which.first * width_, rows, width_, row, 1, width_, 1});
  };
  end(d.last_state, state, state_row);
  end(d.last_cell, cell, width_);
}

}  // namespace sep
