// One pass over memory that filters up to three axes: `along` the rows, then `down` through a ring of rows, then `down`
// through a ring of slices.
#pragma once
#include <vector>

#include "filters/terms_job.h"

namespace sep {

template <class T>
struct Axis {                   // of the array a sweep runs over
  ptrdiff_t n, src, dst, mask;  // length, strides in bytes
  const Step<T>* step;          // null where this sweep does not filter
};

// Filters `axes` (outermost first, at most three with a step; steps outlive the sweep) from src to dst. The rings hold
// a row or slice for each node of the step before; several outputs lie `Output::step` apart. `in_place`: src is dst,
// both are T, and there is one term.
//
// With a mask (one term only) this is normalised convolution: masked samples count as 0, the mask is filtered like the
// samples, and results are divided by it. The filtered mask is computed only where a masked sample is in reach;
// elsewhere one constant row stands for it, the passes' response to ones, equal to the last bit, by which results
// without a masked sample are told.
template <class T>
class Sweep {
 public:
  Sweep(std::vector<Axis<T>> axes, bool in_place, int threads, const Input& in, const Output& out);
  void run() const;
  size_t scratch_bytes() const;  // of all threads

 private:
  struct Worker;
  struct Tile {
    ptrdiff_t y0, y1, x0, x1;
  };
  struct Bundle {  // nodes of y, and the nodes of x [first, first + count) that they are made of
    int first, count;
    std::vector<int> nodes;
  };
  void merge(std::vector<Axis<T>>& axes) const;
  void assign_roles(std::vector<Axis<T>> axes);
  struct Batch {  // nodes of y [first, first + count), accumulated into a volume's sum together
    int first, count;
    std::vector<Bundle> bundles;
  };
  void bundle();
  std::vector<Bundle> bundles(int from, int count) const;
  ptrdiff_t most_together() const;
  void choose_tiles(int threads);
  void choose_volume_tile(int threads, ptrdiff_t batch);
  void choose_plane_tile(int threads, ptrdiff_t batch);
  ptrdiff_t quantum() const;
  size_t worker_bytes() const;
  ptrdiff_t rows_of_results() const;
  ptrdiff_t stage_elements() const;
  ptrdiff_t along_elements() const;
  ptrdiff_t chunk() const;
  ptrdiff_t table_rows() const;
  void weigh();
  T outside(const Step<T>& p, ptrdiff_t source) const {
    return reader_.outside_unknown ? T(0) : p.cval[size_t(source)];
  }

  // Where a plane goes: a slot of the ring of slices for each node; the slot of its filtered mask, and for each of its
  // rows whether it depends on a masked sample.
  struct Slots {
    T* const* values = nullptr;
    T* known = nullptr;
    uint8_t* masked = nullptr;
    explicit operator bool() const { return values; }
  };

  void tile(Worker& w, Place src, char* dst, const Tile& t) const;
  void volume(Worker& w, Place src, char* dst, const Tile& t, const Batch& batch) const;
  void plane(Worker& w, Place src, const Tile& t, const Batch& batch, const Slots& slots, char* dst) const;
  void plane(Worker& w, Place src, const Tile& t, const Bundle& b, const Slots& slots, char* dst) const;
  void plane_rows(Worker& w, Place src, const Tile& t, const Slots& slots, char* dst) const;
  void make_rows(Worker& w, Place src, const Tile& t, const Bundle& b, ptrdiff_t first, ptrdiff_t count,
                 ptrdiff_t origin) const;
  void make_border_rows(Worker& w, Place src, const Tile& t, const Bundle& b, ptrdiff_t from, ptrdiff_t to,
                        ptrdiff_t origin) const;
  ptrdiff_t piece(ptrdiff_t x, ptrdiff_t end, ptrdiff_t chunk, bool in_place) const;
  bool clean(const Place* rows, ptrdiff_t count, const Tile& t) const;
  unsigned along(Worker& w, const Place* rows, ptrdiff_t count, const Tile& t, const Bundle& b, T* const* dst,
                 T* const* known) const;
  void along_group(AlongArgs<T>& a, T* const* dst, ptrdiff_t x, ptrdiff_t n) const;
  void along_known(Worker& w, AlongArgs<T> a, ptrdiff_t room, T* const* known, ptrdiff_t x, ptrdiff_t n, unsigned here,
                   unsigned* masked) const;
  const T* source_row(Worker& w, const char* src, const Tile& t, ptrdiff_t v) const;
  // Whether results are converted or normalised before they are stored.
  bool through() const { return !writer_.plain() || reader_.masked; }
  void finish(T* row, const T* known, char* dst, ptrdiff_t width, bool packed) const;
  void put_row(const T* row, char* dst, ptrdiff_t width, bool packed) const;
  void down_to(Worker& w, const DownArgs<T>& args, bool masked, bool add, char* dst, ptrdiff_t dst_step,
               const Tile& t) const;
  void add_row(const char* partial, T* row, ptrdiff_t width, bool packed) const;
  ptrdiff_t out_width() const;
  // Intermediate arrays from x to y (the rows themselves where x is not filtered), and from y to z.
  ptrdiff_t x_nodes() const { return x_ ? x_->nodes() : 1; }
  ptrdiff_t y_nodes() const { return y_.step ? y_.step->nodes() : x_nodes(); }
  // Arrays that are filtered: the samples, and the mask.
  ptrdiff_t arrays() const { return reader_.masked ? 2 : 1; }
  ptrdiff_t out_rows() const;

  bool in_place_;
  Reader<T> reader_;
  Writer<T> writer_;
  Place src_;
  char* dst_;
  ptrdiff_t output_;  // bytes from one output to the next
  std::vector<Axis<T>> batch_;
  Bundle everything_;
  std::vector<Batch> batches_;
  Axis<T> z_{1, 0, 0, 0, nullptr}, y_{1, 0, 0, 0, nullptr};
  RowShape<T> row_{};
  const Step<T>* x_ = nullptr;
  std::vector<ptrdiff_t> before_, after_;  // sources of the pixels beyond the ends of a row
  ptrdiff_t row_dst_ = 0;                  // bytes between pixels of dst
  bool ring_ = false;                      // `down` over y reads rows from a ring, not from src
  bool stream_ = false;                    // dst is larger than the last cache: non-temporal stores
  int threads_ = 1;
  T known_x_ = 1, known_xy_ = 1;  // the response to ones of the pass over x, and of those over x and y
  Norm<T> norm_;
  ptrdiff_t tile_y_ = 1, tile_x_ = 1, pitch_ = 0, slice_ = 0, y_slots_ = 0, z_slots_ = 0;
};

}  // namespace sep
