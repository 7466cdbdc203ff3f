// The driver of dense correlation: roles of axes, tiles, rings of staged slices. `DirectJob` multiplies these slices by
// the weights; `DifferencesJob` turns them into running sums first.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

#include "base/pool.h"
#include "base/scratch.h"
#include "base/tiles.h"
#include "filters/tables.h"
#include "io/rows.h"

namespace sep {

constexpr ptrdiff_t kVector = 16;       // elements of the widest vector
constexpr ptrdiff_t kShortestRow = 48;  // elements: of a shorter axis the halo costs more than strided loads of another
constexpr ptrdiff_t kWidestTile = 1 << 14;  // elements of a tile's row
constexpr ptrdiff_t kSplitZeros = 3;        // zeros in a column from which two runs cost less than multiplying by them
constexpr ptrdiff_t kFoldTaps = 4;          // minimum taps of a run for which folding equal or opposite ones pays
constexpr ptrdiff_t kGatherPixels = 8;  // pixels of strided rows copied at a time: neighbouring rows share cache lines
constexpr ptrdiff_t kSummedColumns = 512;  // elements of a tile's row where sums run down, whatever the threads
constexpr ptrdiff_t kLongestSum = 2048;    // pixels of a running sum: bounds its rounding error. As in Python

struct DenseAxis {
  ptrdiff_t n = 1, src = 0, dst = 0, mask = 0;  // strides in bytes
  ptrdiff_t weight = 0;                         // elements from one weight to the next
  Reach reach;
  bool summed = false;  // staged as running sums along this axis, which becomes x or y
  ptrdiff_t whole = 0;  // length of the array of which this one is a part; 0: it is no part
  bool filtered() const { return reach.taps > 1; }
  // What roles are chosen by: they decide the order of the sums, which is the same for a part as for the whole.
  ptrdiff_t length() const { return whole ? whole : n; }
};

// A dense sweep over arrays of known strides. x is the row (`step` elements a pixel, `inner` apart), y counts the rows
// that runs of weights go down, z the slices that a tile walks through with a ring of those it needs; leads are all
// other axes. With a mask this is normalised convolution: the mask is staged and filtered like the samples wherever a
// masked one is in reach, and the results are divided by it; one plane of ones stands for planes without a masked
// sample. All input is staged as contiguous rows: halos, strides and boundary modes are dealt with there, and rows a
// power of two apart no longer compete for the same sets of the cache.
template <class T>
class DenseSweep {
 public:
  DenseSweep(std::vector<DenseAxis> axes, const T* weights, T cval, int threads, const Input& in, const Output& out);
  virtual ~DenseSweep() = default;
  void run() const;
  virtual size_t scratch_bytes() const { return Worker::bytes(*this) * size_t(threads_); }

 protected:
  struct Worker;
  struct Kernel {
    std::vector<T> taps;
    std::vector<DirectRun<T>> runs;
  };
  struct Tile {
    ptrdiff_t x0, nx, y0, ny, z0, nz;
  };
  // column(weights, plane, k): column k of that plane, its weights y_.weight apart
  template <class Column>
  void columns(const T* weights, Column column) const;
  Kernel cut(const T* weights,
             ptrdiff_t gap = kSplitZeros) const;  // zeros between the weights of a run: fewer than `gap`
  virtual std::unique_ptr<Worker> make_worker() const { return std::make_unique<Worker>(*this); }
  // Called after slice `at` of the rings was staged from `from`.
  virtual void staged(Worker&, ptrdiff_t /*at*/, Place /*from*/, const Tile&) const {}
  // One slice of results from the planes that w.planes lists: slots[0], slots[1], ... of the rings.
  virtual void slice(Worker& w, bool masked, char* dst, const Tile& t) const;
  bool stage(Worker& w, Place plane, const Tile& t, T* to, T* known) const;
  template <class R>
  void put(const Writer<R>& writer, const R* from, char* row, ptrdiff_t n) const;
  bool writes_runs() const { return packed(&DenseAxis::dst, writer_.item); }
  ptrdiff_t slots() const { return groups_ * z_.reach.taps; }
  ptrdiff_t height() const { return tile_y_ + y_.reach.extra(); }

  Reader<T> reader_;
  Writer<T> writer_;
  DenseAxis x_, y_, z_, inner_;
  std::vector<DenseAxis> leads_;
  ptrdiff_t step_ = 1, groups_ = 1;  // groups: planes for each tap of z, one per combination of the leads' taps
  Kernel kernel_;
  ptrdiff_t tile_x_, tile_y_, tile_z_, pitch_, tasks_;
  T cval_;
  Norm<T> norm_;
  int threads_;
  bool stream_;

 private:
  void order(std::vector<DenseAxis>& axes);
  void assign_roles(std::vector<DenseAxis> axes);
  void cut_column(const T* weights, ptrdiff_t plane, ptrdiff_t k, ptrdiff_t gap, Kernel& into) const;
  void add_run(const T* weights, ptrdiff_t n, ptrdiff_t plane, ptrdiff_t offset, Kernel& into) const;
  void choose_tiles(int threads);
  void weigh();
  Place base(Place src, ptrdiff_t lead, ptrdiff_t group) const;
  void tile(Worker& w, Place src, char* dst, ptrdiff_t lead, const Tile& t) const;
  bool halo(Place row, ptrdiff_t from, ptrdiff_t to, T* out, T* known) const;
  bool packed(ptrdiff_t DenseAxis::* stride, ptrdiff_t item) const {
    return x_.*stride == step_ * item && inner_.*stride == item;
  }
  bool reads_runs() const { return packed(&DenseAxis::src, reader_.item); }
  PixelStrides source_pixel() const { return {step_, x_.src, inner_.src, x_.mask, inner_.mask}; }

  Place src_;
  char* dst_;
};

template <class T>
struct DenseSweep<T>::Worker {
  struct Source {  // of a staged row: a row of the array; or (null) padding, or a copy of the staged row `twin`
    Place from;
    ptrdiff_t twin;
  };
  static size_t bytes(const DenseSweep& d) {
    const ptrdiff_t planes = d.slots();
    const size_t plain = Scratch::bytes<T>(planes * d.height() * d.pitch_) + Scratch::bytes<T>(kGroup * d.pitch_) +
                         Scratch::bytes<T*>(planes) + Scratch::bytes<ptrdiff_t>(planes);
    const size_t masked = plain + Scratch::bytes<T>(d.height() * d.pitch_) + Scratch::bytes<bool>(planes);
    return plain + (d.reader_.masked ? masked : 0) + Scratch::bytes<Source>(d.height());
  }
  explicit Worker(const DenseSweep& d)
      : memory(bytes(d)),
        in(memory.take<T>(d.slots() * d.height() * d.pitch_)),
        out(memory.take<T>(kGroup * d.pitch_)),
        planes(memory.take<const T*>(d.slots())),
        slots(memory.take<ptrdiff_t>(d.slots())),
        rows(memory.take<Source>(d.height())) {
    if (!d.reader_.masked) return;
    const ptrdiff_t plane = d.height() * d.pitch_;
    known_in = memory.take<T>(d.slots() * plane);
    known_out = memory.take<T>(kGroup * d.pitch_);
    known_planes = memory.take<const T*>(d.slots());
    ones = memory.take<T>(plane);
    masked = memory.take<bool>(d.slots());
    std::fill_n(ones, plane, T(1));
  }

  virtual ~Worker() = default;

  Scratch memory;
  T *in, *out;
  const T** planes;
  ptrdiff_t* slots;
  Source* rows;
  T *known_in = nullptr, *known_out = nullptr;  // `in` and `out` of the mask
  const T** known_planes = nullptr;
  T* ones = nullptr;
  bool* masked = nullptr;  // of each plane of the rings: it holds a masked sample
};

// ---- geometry ------------------------------------------------------------------------------------------------------

template <class T>
DenseSweep<T>::DenseSweep(std::vector<DenseAxis> axes, const T* weights, T cval, int threads, const Input& in,
                          const Output& out)
    : reader_(in), writer_(out), cval_(cval), src_{in.values, in.mask}, dst_(out.values) {
  order(axes);
  assign_roles(std::move(axes));
  choose_tiles(threads);
  kernel_ = cut(weights);
  if (reader_.masked) weigh();
  if (reader_.outside_unknown) cval_ = T(0);
}

// The response to ones, by which results without a masked sample are told: the kernel adds in one order everywhere.
template <class T>
void DenseSweep<T>::weigh() {
  double sum = 0;
  for (T tap : kernel_.taps) sum += tap;
  const std::vector<T> ones(size_t(height() * pitch_), T(1));
  std::vector<T> out(size_t(pitch_), T(0));
  const std::vector<const T*> planes(size_t(slots()), ones.data());
  lines<T>().direct({planes.data(), pitch_, 0, kernel_.runs.data(), ptrdiff_t(kernel_.runs.size()), out.data(), pitch_,
                     1, kVector, false});
  norm_ = writer_.norm(sum, out[0]);
}

// Axes as dst lies in memory, outermost first. Neighbouring unfiltered axes whose strides are those of one axis are
// merged.
template <class T>
void DenseSweep<T>::order(std::vector<DenseAxis>& axes) {
  std::stable_sort(axes.begin(), axes.end(), [](const DenseAxis& a, const DenseAxis& b) {
    return (a.length() == 1 ? PTRDIFF_MAX : std::abs(a.dst)) > (b.length() == 1 ? PTRDIFF_MAX : std::abs(b.dst));
  });
  std::vector<DenseAxis> out;
  for (const DenseAxis& a : axes) {
    if (a.length() == 1 && !a.filtered()) continue;
    if (!out.empty() && !a.filtered() && !out.back().filtered() && out.back().src == a.src * a.n &&
        out.back().dst == a.dst * a.n && out.back().mask == a.mask * a.n)
      out.back() = {out.back().n * a.n, a.src, a.dst, a.mask, 0, Reach{}, false, out.back().length() * a.length()};
    else
      out.push_back(a);
  }
  axes.swap(out);
}

template <class T>
void DenseSweep<T>::assign_roles(std::vector<DenseAxis> axes) {
  auto take = [&](auto at) {
    DenseAxis a = *at;
    axes.erase(at);
    return a;
  };
  inner_ = {1, reader_.item, writer_.item, 1, 0, Reach{}, false};
  const auto filtered = std::count_if(axes.begin(), axes.end(), [](auto& a) { return a.filtered(); });
  if (axes.size() > 1 && !axes.back().filtered() && axes.back().length() <= (filtered > 1 ? kInnerRow : kVector))
    inner_ = take(axes.end() - 1);
  step_ = inner_.n;
  // Axes too short to be the row become the outermost.
  const ptrdiff_t step = inner_.length();
  auto wide = std::find_if(axes.rbegin(), axes.rend(), [&](auto& a) { return a.length() * step >= kShortestRow; });
  if (wide != axes.rend()) std::rotate(axes.begin(), wide.base(), axes.end());
  if (!axes.empty()) x_ = take(axes.end() - 1);
  // From the inside out: y and z are filtered if anything is left that is, and y fills the kernel's block of rows.
  auto pick = [&](ptrdiff_t least) {
    return std::find_if(axes.rbegin(), axes.rend(), [&](auto& a) { return a.filtered() && a.length() >= least; });
  };
  auto y = std::find_if(axes.rbegin(), axes.rend(), [](auto& a) { return a.summed; });
  if (y == axes.rend()) y = pick(kGroup);
  if (y == axes.rend()) y = pick(1);
  if (y != axes.rend())
    y_ = take(y.base() - 1);
  else if (!axes.empty())
    y_ = take(axes.end() - 1);
  if (auto z = pick(1); z != axes.rend()) z_ = take(z.base() - 1);
  leads_ = std::move(axes);
  for (const auto& a : leads_) groups_ *= a.reach.taps;
}

// A tile as wide and then as high as keeps its ring of slices in half of the L2 cache.
template <class T>
void DenseSweep<T>::choose_tiles(int threads) {
  const ptrdiff_t item = sizeof(T), ex = x_.reach.extra(), ey = y_.reach.extra(), ez = z_.reach.extra();
  const ptrdiff_t line = ptrdiff_t(kAlign) / item, quantum = std::max<ptrdiff_t>(1, line / step_);
  const ptrdiff_t budget = ptrdiff_t(caches().l2) / 2 / item / (groups_ * z_.reach.taps * (reader_.masked ? 2 : 1));
  const ptrdiff_t height = std::min(y_.n, std::max<ptrdiff_t>(4 * kGroup, 2 * ey)) + ey;
  const ptrdiff_t fits = std::min(budget / height, kWidestTile) / step_ - ex;
  ptrdiff_t widest = std::max({fits, ceil_div(8 * line, step_), 2 * ex});
  if (x_.summed) widest = std::min(widest, std::max(kLongestSum - ex, 2 * ex));
  if (y_.summed) widest = std::min(widest, std::max(kSummedColumns / step_, 4 * ex));
  tile_x_ = std::min(x_.n, round_up(ceil_div(x_.n, ceil_div(x_.n, widest)), quantum));
  ptrdiff_t highest = std::max<ptrdiff_t>(budget / ((tile_x_ + ex) * step_) - ey, 2 * kGroup);
  if (y_.summed) highest = std::min(std::max(highest, 2 * ey), std::max(kLongestSum - ey, 2 * ey));
  tile_y_ = std::min(y_.n, round_up(ceil_div(y_.n, ceil_div(y_.n, highest)), kGroup));
  tile_z_ = z_.n;

  ptrdiff_t samples = step_ * x_.n * y_.n * z_.n, weights = x_.reach.taps * y_.reach.taps * z_.reach.taps * groups_;
  ptrdiff_t across = ceil_div(x_.n, tile_x_);
  for (const auto& a : leads_) {
    samples *= a.n;
    across *= a.n;
  }
  threads_ = double(samples) * double(weights) < kSmallWork ? 1 : threads;
  const ptrdiff_t wanted = threads_ > 1 ? 4 * threads_ : 1;
  if (ptrdiff_t have = across * ceil_div(y_.n, tile_y_); have < wanted)
    tile_z_ = std::min(z_.n, std::max<ptrdiff_t>(ceil_div(z_.n, ceil_div(wanted, have)), 2 * ez + 1));
  // Where a running sum starts decides how it rounds, and that must not depend on the number of threads.
  if (ptrdiff_t have = across * ceil_div(z_.n, tile_z_); !y_.summed && have * ceil_div(y_.n, tile_y_) < wanted)
    tile_y_ = std::min(tile_y_, round_up(std::max(ceil_div(y_.n, ceil_div(wanted, have)), ey), kGroup));
  tasks_ = across * ceil_div(y_.n, tile_y_) * ceil_div(z_.n, tile_z_);
  threads_ = int(std::min<ptrdiff_t>(threads_, tasks_));

  pitch_ = round_up(std::max((tile_x_ + ex) * step_, kVector + ex * step_), line);
  if (pitch_ / line % 2 == 0) pitch_ += line;  // an odd number of lines: rows spread over the cache's sets
  stream_ = samples * writer_.item > ptrdiff_t(caches().l3 ? caches().l3 : 4 * caches().l2) / 2;
}

// ---- the kernel ----------------------------------------------------------------------------------------------------

// Planes in the order of the leads' taps, then z's; in each, columns from left to right.
template <class T>
template <class Column>
void DenseSweep<T>::columns(const T* weights, Column column) const {
  for (ptrdiff_t g = 0; g < groups_; g++) {
    const T* group = weights;
    ptrdiff_t rest = g;
    for (size_t i = leads_.size(); i-- > 0; rest /= leads_[i].reach.taps)
      group += rest % leads_[i].reach.taps * leads_[i].weight;
    for (ptrdiff_t z = 0; z < z_.reach.taps; z++)
      for (ptrdiff_t k = 0; k < x_.reach.taps; k++)
        column(group + z * z_.weight + k * x_.weight, g * z_.reach.taps + z, k);
  }
}

template <class T>
typename DenseSweep<T>::Kernel DenseSweep<T>::cut(const T* weights, ptrdiff_t gap) const {
  Kernel into;
  into.taps.reserve(size_t(slots() * y_.reach.taps * x_.reach.taps));  // taps stay where they are put
  columns(weights, [&](const T* column, ptrdiff_t plane, ptrdiff_t k) { cut_column(column, plane, k, gap, into); });
  return into;
}

// The runs of nonzero weights in a column.
template <class T>
void DenseSweep<T>::cut_column(const T* weights, ptrdiff_t plane, ptrdiff_t k, ptrdiff_t gap, Kernel& into) const {
  const ptrdiff_t n = y_.reach.taps;
  for (ptrdiff_t first = 0, end; first < n; first = end) {
    end = first + 1;
    if (weights[first * y_.weight] == T(0)) continue;
    for (ptrdiff_t i = end; i < n && i - end < gap; i++)
      if (weights[i * y_.weight] != T(0)) end = i + 1;
    add_run(weights + first * y_.weight, end - first, plane, first * pitch_ + k * step_, into);
  }
}

// All taps are kept, in order: of a folded run the kernel reads the half that it needs.
template <class T>
void DenseSweep<T>::add_run(const T* weights, ptrdiff_t n, ptrdiff_t plane, ptrdiff_t offset, Kernel& into) const {
  bool same = n >= kFoldTaps, opposite = n >= kFoldTaps;
  const ptrdiff_t stride = y_.weight;
  for (ptrdiff_t i = 0; i < n; i++) {
    same = same && weights[i * stride] == weights[(n - 1 - i) * stride];
    opposite = opposite && weights[i * stride] == -weights[(n - 1 - i) * stride];
  }
  const Fold fold = same ? Fold::symmetric : opposite ? Fold::antisymmetric : Fold::none;
  into.runs.push_back({{into.taps.data() + into.taps.size(), n, fold, false}, plane, offset});
  for (ptrdiff_t i = 0; i < n; i++) into.taps.push_back(weights[i * stride]);
}

// ---- work ----------------------------------------------------------------------------------------------------------

template <class T>
void DenseSweep<T>::run() const {
  const ptrdiff_t across = ceil_div(x_.n, tile_x_), up = ceil_div(y_.n, tile_y_), deep = ceil_div(z_.n, tile_z_);
  std::vector<std::unique_ptr<Worker>> workers(threads_);
  for (auto& w : workers) w = make_worker();
  parallel(tasks_, threads_, [&](ptrdiff_t task, int worker) {
    const ptrdiff_t x = task % across * tile_x_, y = task / across % up * tile_y_;
    const ptrdiff_t z = task / across / up % deep * tile_z_;
    tile(*workers[worker], src_, dst_, task / across / up / deep,
         {x, std::min(tile_x_, x_.n - x), y, std::min(tile_y_, y_.n - y), z, std::min(tile_z_, z_.n - z)});
  });
}

// Where the planes of one group start in src for one position of the leads; null where a tap along a lead is padding.
template <class T>
Place DenseSweep<T>::base(Place src, ptrdiff_t lead, ptrdiff_t group) const {
  for (size_t i = leads_.size(); i-- > 0; lead /= leads_[i].n, group /= leads_[i].reach.taps) {
    const Reach& r = leads_[i].reach;
    const ptrdiff_t s = source_index(lead % leads_[i].n + group % r.taps - r.shift, leads_[i].n, r.mode);
    if (s == kOutside) return {nullptr, nullptr};
    src = src.moved(s, leads_[i].src, leads_[i].mask);
  }
  return src;
}

// Every slice is staged once, in the rings of all groups.
template <class T>
void DenseSweep<T>::tile(Worker& w, Place src, char* dst, ptrdiff_t lead, const Tile& t) const {
  dst += t.y0 * y_.dst + t.x0 * x_.dst;
  ptrdiff_t rest = lead;
  for (size_t i = leads_.size(); i-- > 0; rest /= leads_[i].n) dst += rest % leads_[i].n * leads_[i].dst;
  const Reach& r = z_.reach;
  const ptrdiff_t size = height() * pitch_, origin = t.z0 - r.shift;
  auto slot = [&](ptrdiff_t g, ptrdiff_t v) { return g * r.taps + (v - origin) % r.taps; };
  ptrdiff_t made = origin;
  for (ptrdiff_t z = t.z0; z < t.z0 + t.nz; z++) {
    for (; made < z - r.shift + r.taps; made++) {
      const ptrdiff_t s = source_index(made, z_.n, r.mode);
      for (ptrdiff_t g = 0; g < groups_; g++) {
        const Place from = s == kOutside ? Place{nullptr, nullptr} : base(src, lead, g);
        const ptrdiff_t at = slot(g, made);
        const Place plane = from.values ? from.moved(s, z_.src, z_.mask) : from;
        const bool whole = stage(w, plane, t, w.in + at * size, w.known_in ? w.known_in + at * size : nullptr);
        if (reader_.masked) w.masked[at] = !whole;
        staged(w, at, plane, t);
      }
    }
    bool masked = false;
    for (ptrdiff_t g = 0; g < groups_; g++)
      for (ptrdiff_t k = 0; k < r.taps; k++) {
        const ptrdiff_t at = slot(g, z - r.shift + k);
        w.slots[g * r.taps + k] = at;
        w.planes[g * r.taps + k] = w.in + at * size;
        if (!reader_.masked) continue;
        w.known_planes[g * r.taps + k] = w.masked[at] ? w.known_in + at * size : w.ones;
        masked |= w.masked[at];
      }
    slice(w, masked, dst + z * z_.dst, t);
  }
  if (stream_) target().fence();
}

// Copies a tile of a plane (null: one outside the array) with its halo as contiguous rows, and its mask, if there is
// one. Returns whether no sample is masked.
template <class T>
bool DenseSweep<T>::stage(Worker& w, Place plane, const Tile& t, T* to, T* known) const {
  const ptrdiff_t origin = t.y0 - y_.reach.shift, rows = t.ny + y_.reach.extra();
  const ptrdiff_t from = t.x0 - x_.reach.shift, end = from + t.nx + x_.reach.extra();
  const ptrdiff_t lo = std::clamp<ptrdiff_t>(0, from, end), hi = std::clamp<ptrdiff_t>(x_.n, lo, end);
  auto offset = [&](ptrdiff_t r, ptrdiff_t x) { return r * pitch_ + (x - from) * step_; };
  auto at = [&](ptrdiff_t r, ptrdiff_t x) { return to + offset(r, x); };
  auto known_at = [&](ptrdiff_t r, ptrdiff_t x) { return known ? known + offset(r, x) : nullptr; };
  bool whole = true;
  for (ptrdiff_t r = 0; r < rows; r++) {
    const ptrdiff_t s = source_index(origin + r, y_.n, y_.reach.mode), twin = s - origin;
    w.rows[r] = {{nullptr, nullptr}, s != kOutside && twin >= 0 && twin < rows ? twin : r};
    if (!plane.values || s == kOutside) {
      std::fill_n(at(r, from), pitch_, cval_);
      if (known) std::fill_n(known_at(r, from), pitch_, T(!reader_.outside_unknown));
      whole &= !reader_.outside_unknown;
    } else if (w.rows[r].twin == r) {
      w.rows[r].from = plane.moved(s, y_.src, y_.mask);
    }
  }
  const ptrdiff_t piece = reads_runs() ? x_.n : kGatherPixels;
  for (ptrdiff_t x = lo; x < hi; x += piece)
    for (ptrdiff_t r = 0; r < rows; r++) {
      const Place row = w.rows[r].from;
      if (!row.values) continue;
      whole &= reader_.read(row.moved(x, x_.src, x_.mask), std::min(piece, hi - x), source_pixel(), at(r, x),
                            known_at(r, x));
      if (x == lo) whole &= halo(row, from, lo, at(r, from), known_at(r, from));
      if (x + piece < hi) continue;
      whole &= halo(row, hi, end, at(r, hi), known_at(r, hi));
      if (t.nx * step_ < kVector) {
        std::fill(at(r, end), at(r, from) + pitch_, T(0));
        if (known) std::fill(known_at(r, end), known_at(r, from) + pitch_, T(0));
      }
    }
  for (ptrdiff_t r = 0; plane.values && r < rows; r++)
    if (w.rows[r].twin != r) {
      std::memcpy(at(r, from), at(w.rows[r].twin, from), size_t(pitch_) * sizeof(T));
      if (known) std::memcpy(known_at(r, from), known_at(w.rows[r].twin, from), size_t(pitch_) * sizeof(T));
    }
  return whole;
}

// Copies pixels [from, to) beyond the ends of the row; returns whether none is masked.
template <class T>
bool DenseSweep<T>::halo(Place row, ptrdiff_t from, ptrdiff_t to, T* out, T* known) const {
  bool whole = true;
  for (ptrdiff_t x = from; x < to; x++, out += step_, known = known ? known + step_ : nullptr) {
    const ptrdiff_t s = source_index(x, x_.n, x_.reach.mode);
    if (s == kOutside) {
      std::fill_n(out, step_, cval_);
      if (known) std::fill_n(known, step_, T(!reader_.outside_unknown));
      whole &= !reader_.outside_unknown;
    } else if (reader_.plain()) {
      for (ptrdiff_t c = 0; c < step_; c++)
        out[c] = *reinterpret_cast<const T*>(row.values + s * x_.src + c * inner_.src);
    } else {
      whole &= reader_.read(row.moved(s, x_.src, x_.mask), 1, source_pixel(), out, known);
    }
  }
  return whole;
}

// One slice of results: straight into dst where its rows are contiguous T; normalised where a masked sample is in
// reach.
template <class T>
void DenseSweep<T>::slice(Worker& w, bool masked, char* dst, const Tile& t) const {
  const ptrdiff_t item = sizeof(T), width = t.nx * step_, last = std::max<ptrdiff_t>(t.ny - kGroup, 0);
  const uintptr_t mask = uintptr_t(target().vector_bytes) - 1;
  const bool aligned = ((reinterpret_cast<uintptr_t>(dst) | uintptr_t(y_.dst)) & mask) == 0;
  const bool through = !writes_runs() || !writer_.plain() || masked || width < kVector || (stream_ && !aligned);
  for (ptrdiff_t y = 0; y < t.ny; y += kGroup) {
    const ptrdiff_t at = std::min(y, last), count = std::min<ptrdiff_t>(kGroup, t.ny);  // the last group overlaps
    char* to = dst + at * y_.dst;
    DirectArgs<T> a{w.planes,
                    pitch_,
                    at,
                    kernel_.runs.data(),
                    ptrdiff_t(kernel_.runs.size()),
                    through ? w.out : reinterpret_cast<T*>(to),
                    through ? pitch_ : y_.dst / item,
                    count,
                    std::max(width, kVector),
                    stream_ && !through};
    lines<T>().direct(a);
    if (masked) {
      a.planes = w.known_planes;
      a.dst = w.known_out;
      lines<T>().direct(a);
    }
    for (ptrdiff_t r = 0; through && r < count; r++) {
      T* row = w.out + r * pitch_;
      if (masked) writer_.normalise(row, w.known_out + r * pitch_, row, width, norm_);
      put(writer_, row, to + r * y_.dst, t.nx);
    }
  }
}

template <class T>
template <class R>
void DenseSweep<T>::put(const Writer<R>& writer, const R* from, char* row, ptrdiff_t n) const {
  const PixelStrides pixel{step_, x_.dst, inner_.dst, 0, 0};
  if (!writes_runs() && writer.plain())
    spread(reinterpret_cast<const char*>(from), row, n, pixel, sizeof(R));
  else if (!writes_runs())
    writer.scatter(from, row, n, pixel);
  else if (!writer.plain())
    writer.write(from, row, n * step_, stream_);
  else if (stream_)
    target().stream_bytes(row, reinterpret_cast<const char*>(from), n * step_ * ptrdiff_t(sizeof(R)));
  else
    std::memcpy(row, from, size_t(n * step_) * sizeof(R));
}

}  // namespace sep
