// One pass over memory that filters up to three axes: rows along, then two `down`s through rings of rows and slices.
#pragma once
#include <vector>

#include "separable_job.h"

namespace sep {

template <class T>
struct Axis {  // of the array a sweep runs over
  ptrdiff_t n, src, dst;  // length, strides in bytes
  const Pass<T>* pass;    // null where this sweep does not filter
};

// Filters `axes` (outermost first, at most three with a pass) from src to dst. `in_place`: src is dst.
template <class T>
class Sweep {
 public:
  Sweep(std::vector<Axis<T>> axes, ptrdiff_t terms, bool in_place, int threads);
  void run(const char* src, char* dst) const;
  size_t scratch_bytes() const;  // of all threads

 private:
  struct Worker;
  struct Tile {
    ptrdiff_t y0, y1, x0, x1;
  };
  void merge(std::vector<Axis<T>>& axes) const;
  void assign_roles(std::vector<Axis<T>> axes);
  void choose_tiles(int threads);
  void choose_volume_tile(int threads, ptrdiff_t batch);
  void choose_plane_tile(int threads, ptrdiff_t batch);
  ptrdiff_t quantum() const;
  size_t worker_bytes() const;
  ptrdiff_t stage_elements() const;
  ptrdiff_t along_elements() const;
  ptrdiff_t chunk() const;
  ptrdiff_t table_rows() const;

  void tile(Worker& w, const char* src, char* dst, const Tile& t) const;
  void volume(Worker& w, const char* src, char* dst, const Tile& t) const;
  void plane(Worker& w, const char* src, const Tile& t, T* const* slot, char* dst) const;
  void plane_rows(Worker& w, const char* src, const Tile& t, T* const* slot, char* dst) const;
  void make_rows(Worker& w, const char* src, const Tile& t, ptrdiff_t first, ptrdiff_t count, ptrdiff_t origin) const;
  void make_border_rows(Worker& w, const char* src, const Tile& t, ptrdiff_t from, ptrdiff_t to, ptrdiff_t origin) const;
  ptrdiff_t piece(ptrdiff_t x, ptrdiff_t end, ptrdiff_t chunk) const;
  void along(Worker& w, const char* const* rows, ptrdiff_t count, const Tile& t, T* const* dst) const;
  void along_group(AlongArgs<T>& a, T* const* dst, ptrdiff_t x, ptrdiff_t n) const;
  const T* source_row(Worker& w, const char* src, const Tile& t, ptrdiff_t v, ptrdiff_t term) const;
  void put_row(const T* row, char* dst, ptrdiff_t width, bool packed) const;
  void down_to(Worker& w, DownArgs<T> args, char* dst, ptrdiff_t dst_step, const Tile& t) const;

  ptrdiff_t terms_;
  bool in_place_;
  std::vector<Axis<T>> batch_;
  Axis<T> z_{1, 0, 0, nullptr}, y_{1, 0, 0, nullptr};
  RowShape<T> row_{};
  const Pass<T>* x_ = nullptr;
  std::vector<ptrdiff_t> before_, after_;  // stand-ins for the pixels outside a row
  ptrdiff_t row_dst_ = 0;  // bytes between pixels of dst
  bool ring_ = false;      // the rows that `down` over y reads are made first
  bool stream_ = false;    // dst is larger than the cache
  int threads_ = 1;
  ptrdiff_t tile_y_ = 1, tile_x_ = 1, pitch_ = 0, slice_ = 0, y_slots_ = 0, z_slots_ = 0;
};

}  // namespace sep
