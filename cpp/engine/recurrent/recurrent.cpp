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
  for (const Direction& d : directions_)
    if (d.weights->inner() != width || d.weights->columns() != gates(cell) * width || !d.weights->packed())
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

// Sums of gates, the cell, the state, and zeros where no first state is given.
size_t RecurrentStep::scratch_bytes() const {
  return Scratch::bytes<float>(kAtOnce * gates(cell_) * width_) + 2 * Scratch::bytes<float>(kAtOnce * width_);
}

void RecurrentStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const Range range = share_of(groups() * ptrdiff_t(directions_.size()), piece, pieces);
  for (ptrdiff_t i = range.first; i < range.last; i++)
    sequences(directions_[size_t(i / groups())], share_of(sequences_, i % groups(), groups()), memory, scratch);
}

// sums += state times the weights of LSTM; sums = their product and its bias for GRU
void RecurrentStep::multiply(const Direction& d, const float* state, ptrdiff_t row, ptrdiff_t rows, float* sums) const {
  const FullWeights& w = *d.weights;
  const bool far = w.bytes_read() > caches().l2 / 2;
  for (ptrdiff_t i = 0; i < w.panels(); i++) {
    const ptrdiff_t column = i * table_.panel;
    table_.product({state, row, 1, w.panel(i), w.width(i), w.bias(i), sums + column, w.columns(), rows, w.inner(),
                    std::min<ptrdiff_t>(table_.panel, w.columns() - column), cell_ == Cell::lstm, far, {}});
  }
}

void RecurrentStep::sequences(const Direction& d, Range which, const Memory& memory, char* scratch) const {
  const ptrdiff_t rows = which.last - which.first, all = gates(cell_) * width_, own = rows * width_;
  float* const sums = reinterpret_cast<float*>(scratch);
  float* const cell = sums + Scratch::bytes<float>(kAtOnce * all) / sizeof(float);
  float* const first = cell + Scratch::bytes<float>(kAtOnce * width_) / sizeof(float);
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
      multiply(d, state, state_row, rows, sums);
      table_.lstm({sums, nullptr, cell, cell, dst, rows, width_, all, 0, width_, d.dst.strides[1]});
    } else {
      multiply(d, state, state_row, rows, sums);
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
