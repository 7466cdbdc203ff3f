// Recurrent layers: what their input comes to is known for all times; what their state adds is computed time by time.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "engine/plain_products.h"

namespace sep {

// One direction of a layer, over arrays [time][sequence][number] whose numbers lie next to each other.
struct Direction {
  bool backwards;
  std::shared_ptr<const FullWeights> weights;  // (width, gates * width), and for GRU the bias of the state's part
  std::shared_ptr<const FullWeights> fresh;    // of gru_before: of its last gate, and above those of the other two
  Strided gates, dst;                          // strides of times and of sequences
  std::optional<Place> state, cell;            // at first, [sequence][width]; none: zeros
  std::optional<Place> last_state, last_cell;  // where they go at the end
};

// gru scales what the state comes to; gru_before scales the state, before it is multiplied.
enum class Cell : int { lstm, gru, gru_before };

class RecurrentStep : public Step {
 public:
  RecurrentStep(Cell cell, ptrdiff_t times, ptrdiff_t sequences, ptrdiff_t width, std::vector<Direction> directions);
  static ptrdiff_t gates(Cell cell) { return cell == Cell::lstm ? 4 : 3; }
  Fetched weights() const override;
  ptrdiff_t pieces(int threads) const override;
  size_t scratch_bytes() const override;
  void run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const override;

 private:
  ptrdiff_t groups() const;
  void sequences(const Direction& direction, Range which, const Memory& memory, char* scratch) const;
  void multiply(const FullWeights& weights, const float* state, ptrdiff_t row, ptrdiff_t rows, float* sums) const;
  void reset(const Direction& direction, const float* state, ptrdiff_t row, ptrdiff_t rows, float* sums,
             float* kept) const;

  const PlainTable& table_;
  Cell cell_;
  ptrdiff_t times_, sequences_, width_;
  std::vector<Direction> directions_;
};

}  // namespace sep
