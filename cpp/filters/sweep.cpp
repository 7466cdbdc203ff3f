#include "filters/sweep.h"

#include <cmath>
#include <limits>
#include <memory>

#include "base/pool.h"
#include "base/progress.h"
#include "base/scratch.h"
#include "base/tiles.h"
#include "filters/tables.h"

namespace sep {
namespace {

constexpr ptrdiff_t kBlock = 2 * kGroup;    // output rows (or slices) per step: a line of the ring is read once for all
constexpr ptrdiff_t kChunk = 1024;          // elements of a row that are staged (copied with their halo) at a time
constexpr ptrdiff_t kBatchNodes = 8;        // intermediate volumes of a 3-D sum whose rings of slices exist at once
constexpr ptrdiff_t kBorder = 16;           // pixels: the stretch staged at a border is a multiple of this
constexpr ptrdiff_t kOutWidth = 1024;       // elements of a row of results that are converted at a time
constexpr ptrdiff_t kConflictPitch = 2048;  // bytes: rows a multiple of this apart share a few sets of the L1 cache
// Minimum extra taps for which rows at such a pitch are copied into a ring; results in cache, and beyond the L3.
constexpr ptrdiff_t kConflictTapsInCache = 4, kConflictTapsBeyond = 12;
constexpr ptrdiff_t kCountedRows = 64;  // rows of results between a worker's updates of the common progress count
constexpr ptrdiff_t kFetchAhead = 768;  // bytes along a row that software prefetch runs ahead

// Which line of a ring that holds the window [from, to) serves virtual line v of n: itself, its source, or none.
constexpr ptrdiff_t kNotHeld = -1;
ptrdiff_t holder(ptrdiff_t v, ptrdiff_t n, Mode mode, ptrdiff_t from, ptrdiff_t to) {
  const ptrdiff_t s = source_index(v, n, mode);
  return s != kOutside && s >= from && s < to ? s : kNotHeld;
}

template <class T>
Reach reach_of(const Step<T>* s) {
  return s ? s->reach : Reach{};
}

// Makes `a` the sum of one node of the step: of its edges those with sources [first, first + count). A node's sources
// are sorted.
template <class T>
void select(DownArgs<T>& a, const Step<T>& s, ptrdiff_t node, ptrdiff_t first = 0, ptrdiff_t count = PTRDIFF_MAX) {
  ptrdiff_t from = s.first[size_t(node)], to = s.first[size_t(node) + 1];
  while (from < to && s.source[size_t(from)] < first) from++;
  while (to > from && s.source[size_t(to) - 1] - first >= count) to--;
  a.source = s.source.data() + from;
  a.taps = s.taps.data() + from;
  a.terms = to - from;
}

}  // namespace

template <class T>
struct Sweep<T>::Worker {
  explicit Worker(const Sweep& s)
      : memory(s.worker_bytes()),
        stage(memory.take<T>(s.stage_elements())),
        along(memory.take<T>(s.along_elements())),
        y_ring(memory.take<T>(s.most_together() * s.y_slots_ * s.pitch_)),
        z_ring(memory.take<T>(s.batches_[0].count * s.z_slots_ * s.slice_)),
        out(memory.take<T>(s.out_rows() * s.pitch_)),
        constant(memory.take<T>(s.pitch_)),
        strip(memory.take<T>(s.in_place_ ? s.y_.n * s.pitch_ : 0)),
        rows(memory.take<const T*>(std::max(s.x_nodes(), s.y_nodes()) * s.table_rows())),
        dst(memory.take<T*>(s.out_rows())),
        along_dst(memory.take<T*>(s.x_nodes() * kGroup)),
        in(memory.take<const T*>(kGroup)),
        slot(memory.take<T*>(s.y_nodes())) {
    if (!s.reader_.masked) return;
    known_stage = memory.take<T>(s.stage_elements());
    y_known = memory.take<T>(s.y_slots_ * s.pitch_);
    z_known = memory.take<T>(s.z_slots_ * s.slice_);
    known_out = memory.take<T>(kBlock * s.pitch_);
    all_x = memory.take<T>(s.pitch_);
    all_xy = memory.take<T>(s.pitch_);
    known_rows = memory.take<const T*>(s.table_rows());
    y_masked = memory.take<uint8_t>(s.y_slots_);
    z_masked = memory.take<uint8_t>(s.z_slots_ * s.tile_y_);
    std::fill_n(all_x, s.pitch_, s.known_x_);
    std::fill_n(all_xy, s.pitch_, s.known_xy_);
  }

  Scratch memory;
  T *stage, *along, *y_ring, *z_ring, *out, *constant, *strip;
  const T** rows;
  T** dst;
  T** along_dst;
  const T** in;
  T** slot;
  // The same buffers for the filtered mask (1 where a sample is known, 0 where it is masked).
  T *known_stage = nullptr, *y_known = nullptr, *z_known = nullptr, *known_out = nullptr;
  T *all_x = nullptr, *all_xy = nullptr;  // a row of ones after the pass over x, and after that over y
  const T** known_rows = nullptr;
  uint8_t *y_masked = nullptr, *z_masked = nullptr;  // of each row in the rings: it depends on a masked sample
  Steps* counted = nullptr;
  ptrdiff_t rows_done = 0;

  // Updates the common count seldom enough to cost nothing.
  void count(ptrdiff_t n) {
    rows_done += n;
    if (rows_done < kCountedRows) return;
    counted->step(rows_done);
    rows_done = 0;
  }
};

// ---- geometry ------------------------------------------------------------------------------------------------------

template <class T>
Sweep<T>::Sweep(std::vector<Axis<T>> axes, bool in_place, int threads, const Input& in, const Output& out)
    : in_place_(in_place), reader_(in), writer_(out), src_{in.values, in.mask}, dst_(out.values), output_(out.step) {
  merge(axes);
  assign_roles(std::move(axes));
  bundle();
  choose_tiles(threads);
  if (reader_.masked) weigh();
  if (reader_.outside_unknown) row_.cval = T(0);
}

// Merges neighbouring axes without a pass whose strides are those of one axis in both arrays.
template <class T>
void Sweep<T>::merge(std::vector<Axis<T>>& axes) const {
  std::vector<Axis<T>> out;
  for (const Axis<T>& a : axes) {
    if (a.n == 1 && !a.step) continue;
    if (!out.empty() && !a.step && !out.back().step && out.back().src == a.src * a.n && out.back().dst == a.dst * a.n &&
        out.back().mask == a.mask * a.n) {
      out.back() = {out.back().n * a.n, a.src, a.dst, a.mask, nullptr};
      continue;
    }
    out.push_back(a);
  }
  axes.swap(out);
}

// Which axis is the row (x), which counts rows (y), which slices (z); the rest is a batch.
template <class T>
void Sweep<T>::assign_roles(std::vector<Axis<T>> axes) {
  const ptrdiff_t src_item = reader_.item, dst_item = writer_.item;
  const auto filtered = std::count_if(axes.begin(), axes.end(), [](const Axis<T>& a) { return a.step; });
  size_t last = axes.size();  // one past the last filtered axis
  while (last > 0 && !axes[last - 1].step) last--;
  const size_t trailing = axes.size() - last;
  const bool inner_packed = trailing == 1 && axes.back().src == src_item && axes.back().dst == dst_item;
  if (!in_place_ && filtered > 0 && (trailing == 0 || filtered == 3 || (inner_packed && axes.back().n <= kInnerRow))) {
    const Axis<T> x = axes[last - 1];
    x_ = x.step;
    row_ = {x.n, {1, x.src, 0, x.mask, 0}, x.step->reach, x.step->cval[0]};
    row_dst_ = x.dst;
    if (inner_packed) {
      row_.pixel.step = axes.back().n;
      row_.pixel.inner = src_item;
      row_.pixel.mask_inner = axes.back().mask;
      axes.pop_back();
    }
    axes.erase(axes.begin() + (last - 1));
  } else if (!axes.empty() && !axes.back().step) {
    row_ = {axes.back().n, {1, axes.back().src, 0, axes.back().mask, 0}, Reach{}, T(0)};
    row_dst_ = axes.back().dst;
    axes.pop_back();
  } else {  // in place, and nothing lies inside the filtered axis
    row_ = {1, {1, src_item, 0, 1, 0}, Reach{}, T(0)};
    row_dst_ = dst_item;
  }
  row_.plain = !reader_.widen;
  // From the inside out: y is the innermost filtered axis left, or an unfiltered one just inside it if x is filtered.
  ptrdiff_t inner = ptrdiff_t(axes.size()) - 1;
  while (inner >= 0 && !axes[inner].step) inner--;
  const bool outer_filtered =
      inner > 0 && std::any_of(axes.begin(), axes.begin() + inner, [](auto& a) { return a.step; });
  if (inner >= 0 && x_ && !outer_filtered && inner + 1 < ptrdiff_t(axes.size())) inner++;
  if (inner < 0) inner = ptrdiff_t(axes.size()) - 1;
  if (inner >= 0) {
    y_ = axes[inner];
    axes.erase(axes.begin() + inner);
  }
  auto outer = std::find_if(axes.begin(), axes.end(), [](auto& a) { return a.step; });
  if (outer != axes.end()) {
    z_ = *outer;
    axes.erase(outer);
  }
  batch_ = std::move(axes);
  if (x_) {
    const Reach& r = row_.reach;
    for (ptrdiff_t i = 1; i <= r.shift; i++) before_.push_back(source_index(-i, row_.n, r.mode));
    for (ptrdiff_t i = 0; i < r.extra() - r.shift; i++) after_.push_back(source_index(row_.n + i, row_.n, r.mode));
  }
}

// In a volume, nodes of y that share no source are computed one after the other, so that fewer rings of rows are live;
// and a sum over many nodes is accumulated a batch at a time, so that the rings of slices stay in the cache.
template <class T>
void Sweep<T>::bundle() {
  everything_ = {0, int(x_nodes()), {}};
  for (int j = 0; j < y_nodes(); j++) everything_.nodes.push_back(j);
  const bool sums = z_.step && y_.step && x_;
  const bool split = sums && z_.step->nodes() == 1 && writer_.plain() && !reader_.masked;
  const int nodes = int(y_nodes()), most = split ? int(kBatchNodes) : nodes;
  for (int from = 0, count; from < nodes; from += count) {
    count = int(ceil_div(nodes - from, ceil_div(nodes - from, most)));
    batches_.push_back({from, count, sums ? bundles(from, count) : std::vector<Bundle>{everything_}});
  }
}

// The nodes of y [from, from + count) in bundles: those that share sources in one.
template <class T>
std::vector<typename Sweep<T>::Bundle> Sweep<T>::bundles(int from, int count) const {
  const Step<T>& p = *y_.step;
  std::vector<Bundle> parts, merged;
  for (int j = from; j < from + count; j++) {
    const auto begin = p.source.begin() + p.first[size_t(j)], end = p.source.begin() + p.first[size_t(j) + 1];
    const auto [least, most] = std::minmax_element(begin, end);
    parts.push_back({*least, *most - *least + 1, {j}});
  }
  std::sort(parts.begin(), parts.end(), [](const Bundle& a, const Bundle& b) { return a.first < b.first; });
  for (Bundle& part : parts) {
    Bundle* last = merged.empty() ? nullptr : &merged.back();
    if (!last || part.first >= last->first + last->count) {
      merged.push_back(std::move(part));
      continue;
    }
    last->count = std::max(last->first + last->count, part.first + part.count) - last->first;
    last->nodes.push_back(part.nodes[0]);
  }
  return merged;
}

template <class T>
ptrdiff_t Sweep<T>::most_together() const {
  int most = 1;
  for (const Batch& batch : batches_)
    for (const Bundle& b : batch.bundles) most = std::max(most, b.count);
  return most;
}

// Tiles as large as keep their rings in the cache, and enough of them for all threads.
template <class T>
void Sweep<T>::choose_tiles(int threads) {
  const ptrdiff_t item = sizeof(T), step = row_.pixel.step;
  const ptrdiff_t ey = reach_of(y_.step).extra(), ez = reach_of(z_.step).extra();
  ptrdiff_t batch = 1;
  for (const auto& b : batch_) batch *= b.n;
  const ptrdiff_t samples = batch * z_.n * y_.n * row_.n * step;
  stream_ = samples * writer_.item > ptrdiff_t(caches().l3 ? caches().l3 : 4 * caches().l2) / 2 && !in_place_;
  const bool conflicts = y_.src % kConflictPitch == 0 && ey >= (stream_ ? kConflictTapsBeyond : kConflictTapsInCache);
  ring_ = y_.step && !in_place_ && (x_ || !row_.contiguous() || reader_.masked || conflicts);
  y_slots_ = y_.step && ring_ ? ey + kBlock + kGroup : 0;
  z_slots_ = z_.step ? ez + kBlock : 0;
  if (z_.step)
    choose_volume_tile(threads, batch);
  else
    choose_plane_tile(threads, batch);

  pitch_ = round_up(tile_x_ * step, kAlign / item);
  if (pitch_ * item % 128 == 0) pitch_ += kAlign / item;  // an odd number of lines: rows spread over the cache's sets
  slice_ = tile_y_ * pitch_;
  if (slice_ * item % 128 == 0) slice_ += kAlign / item;
  auto macs = [](const Step<T>* s) { return s ? s->reach.taps * ptrdiff_t(s->taps.size()) : 1; };
  threads_ = samples * (macs(x_) + macs(y_.step) + macs(z_.step)) < kSmallWork ? 1 : threads;
}

// Whole lines of the cache, in pixels.
template <class T>
ptrdiff_t Sweep<T>::quantum() const {
  return std::max<ptrdiff_t>(1, ptrdiff_t(kAlign / sizeof(T)) / row_.pixel.step);
}

// A tile of a volume filters its halo rows and transposes its halo columns in addition to its own: of the tile shapes
// whose ring of slices fits the cache, the one with the least overhead; short runs of memory cost as well (weights
// found by trial). The ring lies in a core's share of the L3 cache where that is larger than half the L2 (256^3, 25
// taps: 52 ms in L2, 28 ms in 4 MiB of L3).
template <class T>
void Sweep<T>::choose_volume_tile(int threads, ptrdiff_t batch) {
  const Caches& c = caches();
  const size_t share = std::min<size_t>(c.l3 / (2 * size_t(usable_cores())), size_t(4) << 20);
  const ptrdiff_t area =
      ptrdiff_t(std::max(c.l2 / 2, share) / (sizeof(T) * batches_[0].count * arrays() * z_slots_ * row_.pixel.step));
  const ptrdiff_t wide = ptrdiff_t(
      c.l2 / 2 / (sizeof(T) * most_together() * arrays() * std::max<ptrdiff_t>(y_slots_, 1) * row_.pixel.step));
  const double ey = double(reach_of(y_.step).extra()), ex = double(row_.reach.extra());
  double least = 0;
  for (ptrdiff_t width = row_.n;; width = round_up(width / 2, quantum())) {
    const ptrdiff_t across = ceil_div(row_.n, width) * batch, most = std::min(y_.n, std::max(area / width, kBlock));
    ptrdiff_t up = ceil_div(y_.n, most);
    while (across * up % threads && across * up < 4 * threads && up * kGroup < y_.n) up++;
    const ptrdiff_t rows = round_up(ceil_div(y_.n, up), kGroup);
    const double cost = (1 + ey / double(rows)) * (1 + (0.2 * ex + 64) / double(width));
    if (width == row_.n || cost < least || tile_x_ > wide) {
      least = cost;
      tile_x_ = width;
      tile_y_ = std::min(rows, y_.n);
    }
    if (width * row_.pixel.step < 128 || width <= 2 * quantum()) break;
  }
}

// As wide as keeps a plane's ring of rows in half of the L2 cache.
template <class T>
void Sweep<T>::choose_plane_tile(int threads, ptrdiff_t batch) {
  const ptrdiff_t item = sizeof(T), step = row_.pixel.step, ey = reach_of(y_.step).extra();
  const ptrdiff_t rows = y_.step ? ey + kBlock + kGroup : kBlock;
  ptrdiff_t most = std::max<ptrdiff_t>(ptrdiff_t(caches().l2) / 2 / (item * x_nodes() * arrays()) / rows / step,
                                       4 * ptrdiff_t(kAlign) / item);
  if (in_place_) most = std::max<ptrdiff_t>(std::min(most, (1 << 20) / item / std::max<ptrdiff_t>(y_.n, 1)), 16);
  if (!y_.step && !through()) most = std::max<ptrdiff_t>(most, 1 << 14);
  tile_x_ = std::min(row_.n, round_up(ceil_div(row_.n, ceil_div(row_.n, most)), quantum()));
  tile_y_ = y_.n;
  const ptrdiff_t across = ceil_div(row_.n, tile_x_) * batch, wanted = threads > 1 ? 4 * threads : 1;
  if (in_place_ || across >= wanted) return;
  const ptrdiff_t least = std::max<ptrdiff_t>(4 * ey, 2 * kBlock);
  tile_y_ = std::min(y_.n, std::max(round_up(ceil_div(y_.n, ceil_div(wanted, across)), kGroup), least));
  if (!y_.step && y_.n == 1)  // one long line
    tile_x_ = std::min(row_.n, std::max<ptrdiff_t>(round_up(ceil_div(row_.n, wanted), quantum()), 4096));
}

template <class T>
ptrdiff_t Sweep<T>::table_rows() const {
  return std::max(reach_of(y_.step).extra(), reach_of(z_.step).extra()) + kBlock;
}

// Rows of results before they are stored: a block of one output, or a group for each list of taps of `along`.
template <class T>
ptrdiff_t Sweep<T>::out_rows() const {
  return std::max(x_nodes() * kGroup, kBlock);
}

template <class T>
ptrdiff_t Sweep<T>::stage_elements() const {
  if (row_.contiguous() && !x_ && !reader_.masked) return 0;
  return kGroup * ((chunk() + row_.reach.extra()) * row_.pixel.step + 16);
}

template <class T>
ptrdiff_t Sweep<T>::along_elements() const {
  return x_ ? along_scratch(row_.reach.taps, tile_x_) : 0;
}

// Pixels staged at a time.
template <class T>
ptrdiff_t Sweep<T>::chunk() const {
  const ptrdiff_t most = reader_.plain() ? kChunk : 2 * kChunk / arrays();  // converted: longer runs pay
  return std::min(std::max<ptrdiff_t>(most / row_.pixel.step, 16), tile_x_);
}

// Elements of a row of results that are stored at a time, where they are converted or normalised first.
template <class T>
ptrdiff_t Sweep<T>::out_width() const {
  const ptrdiff_t step = row_.pixel.step;
  return through()
             ? std::min(std::max(kOutWidth / step, ptrdiff_t(1)) * step, round_up(tile_x_ * step, kAlign / sizeof(T)))
             : pitch_;
}

// The response to ones, by which results without a masked sample are told to the last bit: the line kernels add in the
// same order at every position.
template <class T>
void Sweep<T>::weigh() {
  constexpr ptrdiff_t kWide = 16;  // elements: a vector of any target
  double sum = 1;
  auto pass = [&](const Step<T>* p, T ones) {
    if (!p) return ones;
    sum *= p->sum;
    alignas(kAlign) T row[kWide], out[kWide];
    std::fill_n(row, kWide, ones);
    const std::vector<const T*> rows(size_t(p->reach.taps), row);
    const int source = 0;
    T* const dst = out;
    lines<T>().down({rows.data(), p->reach.taps, &source, p->taps.data(), 1, &dst, 1, kWide, 0, false, 0, 0});
    return out[0];
  };
  known_x_ = pass(x_, T(1));
  known_xy_ = pass(y_.step, known_x_);
  const T full = pass(z_.step, known_xy_);
  norm_ = writer_.norm(sum, full);
}

template <class T>
size_t Sweep<T>::worker_bytes() const {
  auto b = [](ptrdiff_t n) { return Scratch::bytes<T>(n); };
  const size_t known = b(stage_elements()) + b(y_slots_ * pitch_) + b(z_slots_ * slice_) + b(kBlock * pitch_) +
                       2 * b(pitch_) + Scratch::bytes<T*>(table_rows()) + Scratch::bytes<uint8_t>(y_slots_) +
                       Scratch::bytes<uint8_t>(z_slots_ * tile_y_);
  return (reader_.masked ? known : 0) + b(stage_elements()) + b(along_elements()) +
         b(most_together() * y_slots_ * pitch_) + b(batches_[0].count * z_slots_ * slice_) + b(out_rows() * pitch_) +
         b(pitch_) + b(in_place_ ? y_.n * pitch_ : 0) +
         Scratch::bytes<T*>(std::max(x_nodes(), y_nodes()) * table_rows()) + Scratch::bytes<T*>(out_rows()) +
         Scratch::bytes<T*>(x_nodes() * kGroup) + Scratch::bytes<T*>(kGroup) + Scratch::bytes<T*>(y_nodes());
}

template <class T>
size_t Sweep<T>::scratch_bytes() const {
  return worker_bytes() * size_t(threads_);
}

// ---- work ----------------------------------------------------------------------------------------------------------

// What `Worker::count` adds up to per tile column: rows, once for each time that they are traversed.
template <class T>
ptrdiff_t Sweep<T>::rows_of_results() const {
  ptrdiff_t rows = y_.n * z_.n, times = 0;
  for (const auto& b : batch_) rows *= b.n;
  for (const Batch& b : batches_) times += z_.step || !y_.step ? 1 : ptrdiff_t(b.bundles.size());
  return rows * times;
}

template <class T>
void Sweep<T>::run() const {
  const ptrdiff_t across = ceil_div(row_.n, tile_x_), up = ceil_div(y_.n, tile_y_);
  ptrdiff_t tasks = across * up;
  for (const auto& b : batch_) tasks *= b.n;
  const int threads = int(std::min<ptrdiff_t>(threads_, tasks));
  std::vector<std::unique_ptr<Worker>> workers(threads);
  Steps counted(Level::tasks, rows_of_results() * across > kCountedRows ? rows_of_results() * across : 0);
  for (auto& w : workers) {
    w = std::make_unique<Worker>(*this);
    w->counted = &counted;
  }
  parallel(tasks, threads, [&](ptrdiff_t task, int worker) {
    const ptrdiff_t x = task % across * tile_x_, y = task / across % up * tile_y_;
    ptrdiff_t rest = task / across / up;
    Place s = src_;
    char* d = dst_;
    for (size_t i = batch_.size(); i-- > 0; rest /= batch_[i].n) {
      s = s.moved(rest % batch_[i].n, batch_[i].src, batch_[i].mask);
      d += rest % batch_[i].n * batch_[i].dst;
    }
    tile(*workers[worker], s, d, {y, std::min(y + tile_y_, y_.n), x, std::min(x + tile_x_, row_.n)});
  });
}

template <class T>
void Sweep<T>::tile(Worker& w, Place src, char* dst, const Tile& t) const {
  if (in_place_)  // the rows about to be overwritten
    for (ptrdiff_t y = 0; y < y_.n; y++) {
      T* to = w.strip + y * pitch_;
      bool whole;
      const T* from = row_.get(reader_, src.moved(y, y_.src, 0), t.x0, t.x1, to, nullptr, &whole);
      if (from != to) std::copy_n(from, t.x1 - t.x0, to);
    }
  if (y_.step && !ring_ && y_.step->reach.mode == Mode::constant) std::fill_n(w.constant, pitch_, y_.step->cval[0]);
  for (const Batch& batch : batches_)
    if (z_.step)
      volume(w, src, dst, t, batch);
    else
      plane(w, src, t, batch, {}, dst);
  if (stream_) target().fence();
}

// Slices filtered in y and x go into a ring; blocks of output slices come out of it.
template <class T>
void Sweep<T>::volume(Worker& w, Place src, char* dst, const Tile& t, const Batch& batch) const {
  const Step<T>& p = *z_.step;
  const ptrdiff_t first = -p.reach.shift, step = table_rows(), height = t.y1 - t.y0;
  auto place = [&](ptrdiff_t v) { return (v - first) % z_slots_; };
  auto slot = [&](ptrdiff_t k, ptrdiff_t v) { return w.z_ring + (k * z_slots_ + place(v)) * slice_; };
  auto make = [&](ptrdiff_t v) {
    const ptrdiff_t s = source_index(v, z_.n, p.reach.mode);
    for (ptrdiff_t k = 0; k < batch.count; k++) {
      w.slot[batch.first + k] = slot(k, v);
      if (s == kOutside) std::fill_n(slot(k, v), height * pitch_, outside(p, batch.first + k));
    }
    Slots slots{w.slot};
    if (reader_.masked) {
      slots.known = w.z_known + place(v) * slice_;
      slots.masked = w.z_masked + place(v) * tile_y_;
      if (s == kOutside) std::fill_n(slots.masked, height, reader_.outside_unknown);
      if (s == kOutside && reader_.outside_unknown) std::fill_n(slots.known, height * pitch_, T(0));
    }
    if (s != kOutside) plane(w, src.moved(s, z_.src, z_.mask), t, batch, slots, nullptr);
  };
  ptrdiff_t made = 0;
  for (ptrdiff_t z = 0; z < z_.n; z += kBlock) {
    const ptrdiff_t count = std::min(kBlock, z_.n - z), from = z + first, to = from + count + p.reach.extra();
    for (; made < std::min(to, z_.n); made++) make(made);
    for (ptrdiff_t v = from; v < to; v++)
      if (holder(v, z_.n, p.reach.mode, from, to) == kNotHeld) make(v);
    auto held = [&](ptrdiff_t v) {
      const ptrdiff_t h = holder(v, z_.n, p.reach.mode, from, to);
      return h == kNotHeld ? v : h;
    };
    for (ptrdiff_t v = from; v < to; v++)  // after all slices are computed: `plane` uses the same table
      for (ptrdiff_t k = 0; k < batch.count; k++) w.rows[(batch.first + k) * step + v - from] = slot(k, held(v));
    DownArgs<T> a{w.rows, step, nullptr, nullptr, 0, w.dst, count, (t.x1 - t.x0) * row_.pixel.step, 0, false, 0, 0};
    for (ptrdiff_t y = 0; y < height; y++, a.offset += pitch_) {
      bool masked = false;
      for (ptrdiff_t v = from; reader_.masked && v < to; v++) {
        const ptrdiff_t at = place(held(v));
        const bool row_masked = w.z_masked[at * tile_y_ + y];
        w.known_rows[v - from] = row_masked ? w.z_known + at * slice_ + y * pitch_ : w.all_xy;
        masked |= row_masked;
      }
      for (ptrdiff_t k = 0; k < p.nodes(); k++) {
        select(a, p, k, batch.first, batch.count);
        down_to(w, a, masked, batch.first > 0, dst + k * output_ + z * z_.dst + (t.y0 + y) * y_.dst, z_.dst, t);
      }
    }
    w.count(count * height);
  }
}

// One plane's tile: into the slots of the ring of slices, or without slots into dst.
template <class T>
void Sweep<T>::plane(Worker& w, Place src, const Tile& t, const Batch& batch, const Slots& slots, char* dst) const {
  if (!y_.step) {
    plane_rows(w, src, t, slots, dst);
    return;
  }
  for (const Bundle& b : batch.bundles) plane(w, src, t, b, slots, dst);
}

template <class T>
void Sweep<T>::plane(Worker& w, Place src, const Tile& t, const Bundle& b, const Slots& slots, char* dst) const {
  const Step<T>& p = *y_.step;
  const ptrdiff_t origin = t.y0 - p.reach.shift, end = std::min(y_.n, t.y1 + p.reach.extra() - p.reach.shift);
  const ptrdiff_t step = table_rows(), item = sizeof(T);
  ptrdiff_t made = std::max<ptrdiff_t>(origin, 0);
  for (ptrdiff_t y = t.y0; y < t.y1; y += kBlock) {
    const ptrdiff_t count = std::min(kBlock, t.y1 - y), from = y - p.reach.shift, to = from + count + p.reach.extra();
    for (ptrdiff_t n; ring_ && made < std::min(to, end); made += n) {
      n = std::min<ptrdiff_t>(kGroup, end - made);
      make_rows(w, src, t, b, made, n, origin);
    }
    if (ring_) make_border_rows(w, src, t, b, from, to, origin);
    bool masked = false;
    for (ptrdiff_t v = from; v < to; v++) {
      const ptrdiff_t h = holder(v, y_.n, p.reach.mode, from, to), at = (h == kNotHeld ? v : h) - origin;
      for (ptrdiff_t k = 0; k < b.count; k++)
        w.rows[(b.first + k) * step + v - from] =
            ring_ ? w.y_ring + (k * y_slots_ + at % y_slots_) * pitch_ : source_row(w, src.values, t, v);
      if (!reader_.masked) continue;
      const bool row_masked = w.y_masked[at % y_slots_];
      w.known_rows[v - from] = row_masked ? w.y_known + at % y_slots_ * pitch_ : w.all_x;
      masked |= row_masked;
    }
    const ptrdiff_t fresh = ring_ || in_place_ ? 0 : count;
    const ptrdiff_t ahead = t.x1 - t.x0 < kChunk ? kBlock * y_.src / item : kFetchAhead / item;
    DownArgs<T> a{w.rows, step,  nullptr, nullptr, 0, w.dst, count, (t.x1 - t.x0) * row_.pixel.step,
                  0,      false, fresh,   ahead};
    auto into = [&](T* slice) {
      for (ptrdiff_t r = 0; r < count; r++) w.dst[r] = slice + (y - t.y0 + r) * pitch_;
      lines<T>().down(a);
    };
    for (const int k : b.nodes) {
      select(a, p, k);
      if (slots)
        into(slots.values[k]);
      else
        down_to(w, a, masked, false, dst + k * output_ + y * y_.dst, y_.dst, t);
    }
    if (!slots) w.count(count);
    if (!slots || !reader_.masked) continue;
    std::fill_n(slots.masked + (y - t.y0), count, uint8_t(masked));
    a.rows = w.known_rows;
    if (masked) into(slots.known);
  }
}

// Nothing to filter over y: rows go straight through `along`.
template <class T>
void Sweep<T>::plane_rows(Worker& w, Place src, const Tile& t, const Slots& slots, char* dst) const {
  const bool packed = row_dst_ == row_.pixel.step * writer_.item, direct = !slots && packed && !stream_ && !through();
  const ptrdiff_t width = (t.x1 - t.x0) * row_.pixel.step;
  for (ptrdiff_t y = t.y0; y < t.y1; y += kGroup) {
    const ptrdiff_t count = std::min<ptrdiff_t>(kGroup, t.y1 - y);
    Place rows[kGroup];
    T* known[kGroup];
    for (ptrdiff_t r = 0; r < count; r++) {
      rows[r] = src.moved(y + r, y_.src, y_.mask);
      known[r] = slots ? slots.known + (y - t.y0 + r) * pitch_ : w.known_out + r * pitch_;
      for (ptrdiff_t k = 0; k < x_nodes(); k++)
        w.dst[k * kGroup + r] = slots    ? slots.values[k] + (y - t.y0 + r) * pitch_
                                : direct ? reinterpret_cast<T*>(dst + k * output_ + (y + r) * y_.dst + t.x0 * row_dst_)
                                         : w.out + (k * kGroup + r) * pitch_;
    }
    const unsigned masked = along(w, rows, count, t, everything_, w.dst, known);
    if (!slots) w.count(count);
    for (ptrdiff_t r = 0; r < count; r++) {
      const bool row_masked = masked >> r & 1;
      if (slots.masked) slots.masked[y - t.y0 + r] = row_masked;
      for (ptrdiff_t k = 0; !slots && !direct && k < x_nodes(); k++)
        finish(w.out + (k * kGroup + r) * pitch_, row_masked ? known[r] : nullptr,
               dst + k * output_ + (y + r) * y_.dst + t.x0 * row_dst_, width, packed);
    }
  }
}

// A row of results into dst; first normalised by the filtered mask, unless `known` is null.
template <class T>
void Sweep<T>::finish(T* row, const T* known, char* dst, ptrdiff_t width, bool packed) const {
  const bool last = writer_.plain() && packed && !stream_;  // normalising also stores
  if (known) writer_.normalise(row, known, last ? reinterpret_cast<T*>(dst) : row, width, norm_);
  if (!known || !last) put_row(row, dst, width, packed);
}

// Adds what earlier batches left in dst to a row of this batch.
template <class T>
void Sweep<T>::add_row(const char* partial, T* row, ptrdiff_t width, bool packed) const {
  const ptrdiff_t step = row_.pixel.step;
  for (ptrdiff_t x = 0; x < width; x += step)
    for (ptrdiff_t c = 0; c < step; c++) {
      const ptrdiff_t at = packed ? (x + c) * ptrdiff_t(sizeof(T)) : x / step * row_dst_ + c * ptrdiff_t(sizeof(T));
      row[x + c] += *reinterpret_cast<const T*>(partial + at);
    }
}

// With non-temporal stores where `stream_` says so; pixel by pixel where dst is not contiguous.
template <class T>
void Sweep<T>::put_row(const T* row, char* dst, ptrdiff_t width, bool packed) const {
  const PixelStrides pixel{row_.pixel.step, row_dst_, writer_.item, 0, 0};
  if (!packed && writer_.plain())
    spread(reinterpret_cast<const char*>(row), dst, width / pixel.step, pixel, sizeof(T));
  else if (!packed)
    writer_.scatter(row, dst, width / pixel.step, pixel);
  else if (!writer_.plain())
    writer_.write(row, dst, width, stream_);
  else if (stream_)
    target().stream_bytes(dst, reinterpret_cast<const char*>(row), width * ptrdiff_t(sizeof(T)));
  else
    std::memcpy(dst, row, size_t(width) * sizeof(T));
}

// Computes the virtual rows of [from, to) outside the plane that no row of the ring can serve, in groups.
template <class T>
void Sweep<T>::make_border_rows(Worker& w, Place src, const Tile& t, const Bundle& b, ptrdiff_t from, ptrdiff_t to,
                                ptrdiff_t origin) const {
  ptrdiff_t count = 0;
  for (ptrdiff_t v = from; v <= to; v++) {
    const bool wanted = v < to && holder(v, y_.n, y_.step->reach.mode, from, to) == kNotHeld;
    if (count && (!wanted || count == kGroup)) {
      make_rows(w, src, t, b, v - count, count, origin);
      count = 0;
    }
    count += wanted;
  }
}

// Virtual rows [first, first + count) of a plane, filtered along x, into the ring of rows that starts at `origin`.
template <class T>
void Sweep<T>::make_rows(Worker& w, Place src, const Tile& t, const Bundle& b, ptrdiff_t first, ptrdiff_t count,
                         ptrdiff_t origin) const {
  const Step<T>& p = *y_.step;
  Place rows[kGroup];
  T* known[kGroup];
  ptrdiff_t inside = 0, places[kGroup];
  for (ptrdiff_t v = first; v < first + count; v++) {
    const ptrdiff_t s = source_index(v, y_.n, p.reach.mode), place = (v - origin) % y_slots_;
    for (ptrdiff_t k = 0; k < b.count; k++) {
      T* to = w.y_ring + (k * y_slots_ + place) * pitch_;
      if (s == kOutside)
        std::fill_n(to, pitch_, outside(p, b.first + k));
      else
        w.dst[k * kGroup + inside] = to;
    }
    if (s == kOutside && reader_.masked) w.y_masked[place] = reader_.outside_unknown;
    if (s == kOutside && reader_.outside_unknown) std::fill_n(w.y_known + place * pitch_, pitch_, T(0));
    if (s == kOutside) continue;
    places[inside] = place;
    known[inside] = w.y_known + place * pitch_;
    rows[inside++] = src.moved(s, y_.src, y_.mask);
  }
  if (!inside) return;
  const unsigned masked = along(w, rows, inside, t, b, w.dst, known);
  for (ptrdiff_t r = 0; reader_.masked && r < inside; r++) w.y_masked[places[r]] = masked >> r & 1;
}

// Pixels to filter at once from x on: up to `chunk`, but a short stretch where the taps reach beyond the row, since
// only that stretch must be copied.
template <class T>
ptrdiff_t Sweep<T>::piece(ptrdiff_t x, ptrdiff_t end, ptrdiff_t chunk, bool in_place) const {
  const ptrdiff_t before = row_.reach.shift, after = row_.reach.extra() - before;
  const ptrdiff_t border = round_up(std::max(before, after), kBorder);
  const ptrdiff_t last = row_.n - after;  // from here on the taps reach beyond the end
  if (!in_place || end - x <= 3 * border) return std::min(chunk, end - x);
  if (x < before) return border;
  if (x + kBorder >= last || last <= border) return std::min(chunk, end - x);
  return std::min({chunk, end - x, std::max<ptrdiff_t>((last - x) / kBorder * kBorder, kBorder)});
}

// Filters `count` <= kGroup rows along x with the lists of taps of a bundle: list n goes to dst[n * kGroup + row].
// Returns a bit for each row that depends on a masked sample: its filtered mask goes to known[row].
template <class T>
unsigned Sweep<T>::along(Worker& w, const Place* rows, ptrdiff_t count, const Tile& t, const Bundle& b, T* const* dst,
                         T* const* known) const {
  const ptrdiff_t step = row_.pixel.step, width = t.x1 - t.x0;
  const ptrdiff_t group = row_.plain ? kGroup * y_.src : 0;  // bytes to the next group of rows, which is prefetched
  AlongArgs<T> a{.rows = w.in,
                 .taps = x_ ? x_->taps.data() + b.first : nullptr,
                 .terms = b.count,
                 .dst = w.along_dst,
                 .count = count,
                 .width = 0,
                 .step = step,
                 .from = 0,
                 .n = 0,
                 .before = before_.data(),
                 .after = after_.data(),
                 .cval = row_.cval,
                 .next = group % ptrdiff_t(sizeof(T)) ? 0 : group / ptrdiff_t(sizeof(T)),
                 .scratch = w.along};
  const bool sift = reader_.masked && !clean(rows, count, t), in_place = row_.contiguous() && !sift;
  if (x_ && in_place &&
      can_reach_outside(row_.reach.taps, width / (count == 1 ? kGroup : 1), step, row_.n, target().vector_bytes)) {
    for (ptrdiff_t r = 0; r < kGroup; r++) w.in[r] = reinterpret_cast<const T*>(rows[std::min(r, count - 1)].values);
    a.n = row_.n;
    a.from = t.x0 - row_.reach.shift;
    along_group(a, dst, 0, width);
    return 0;
  }
  const ptrdiff_t most = chunk(), room = (most + row_.reach.extra()) * step + 16;
  unsigned masked = 0;
  for (ptrdiff_t x = t.x0, n; x < t.x1; x += n) {
    n = piece(x, t.x1, most, in_place);
    const ptrdiff_t from = x - row_.reach.shift;
    unsigned here = 0;
    for (ptrdiff_t r = 0; r < kGroup; r++) {
      bool whole = true;
      w.in[r] = r < count ? row_.get(reader_, rows[r], from, from + n + row_.reach.extra(), w.stage + r * room,
                                     sift ? w.known_stage + r * room : nullptr, &whole)
                          : w.in[r - 1];
      here |= unsigned(!whole) << r;
    }
    a.n = (n + row_.reach.extra()) * step;
    if (x_)
      along_group(a, dst, x - t.x0, n);
    else
      for (ptrdiff_t r = 0; r < count; r++) std::copy_n(w.in[r], n * step, dst[r] + (x - t.x0) * step);
    if (sift) along_known(w, a, room, known, x - t.x0, n, here, &masked);
  }
  return masked;
}

// Whether no sample that the tile needs of these rows is masked.
template <class T>
bool Sweep<T>::clean(const Place* rows, ptrdiff_t count, const Tile& t) const {
  ptrdiff_t from = t.x0 - row_.reach.shift, to = t.x1 - row_.reach.shift + row_.reach.extra();
  if (from < 0 || to > row_.n) {
    if (reader_.outside_unknown && row_.reach.mode == Mode::constant) return false;
    from = 0, to = row_.n;  // the samples that stand in beyond the ends may lie anywhere
  }
  const PixelStrides& p = row_.pixel;
  for (ptrdiff_t r = 0; r < count; r++)
    if (!reader_.clean(rows[r].moved(from, p.stride, p.mask_stride), to - from, p)) return false;
  return true;
}

// Filters the mask of pixels [x, x + n) of the rows. `here`: a bit for each row with a masked sample in this stretch;
// `masked` gathers them over the row. Nothing is written until the first one.
template <class T>
void Sweep<T>::along_known(Worker& w, AlongArgs<T> a, ptrdiff_t room, T* const* known, ptrdiff_t x, ptrdiff_t n,
                           unsigned here, unsigned* masked) const {
  const ptrdiff_t step = row_.pixel.step;
  if (here && !*masked)
    for (ptrdiff_t r = 0; r < a.count; r++) std::fill_n(known[r], x * step, known_x_);
  if (!here && *masked)
    for (ptrdiff_t r = 0; r < a.count; r++) std::fill_n(known[r] + x * step, n * step, known_x_);
  *masked |= here;
  if (!here) return;
  for (ptrdiff_t r = 0; r < kGroup; r++) w.in[r] = w.known_stage + std::min(r, a.count - 1) * room;
  if (!x_) {
    for (ptrdiff_t r = 0; r < a.count; r++) std::copy_n(w.in[r], n * step, known[r] + x * step);
    return;
  }
  along_group(a, known, x, n);
}

// Pixels [x, x + n) of a group of rows. A single row is split into kGroup parts that take the places of rows; the last
// one overlaps the one before.
template <class T>
void Sweep<T>::along_group(AlongArgs<T>& a, T* const* dst, ptrdiff_t x, ptrdiff_t n) const {
  const bool split = a.count == 1 && n >= kGroup * 32 && a.from >= 0 && a.from + n + row_.reach.extra() <= a.n;
  const ptrdiff_t length = split ? ceil_div(n, kGroup) : n;
  T** out = const_cast<T**>(a.dst);
  const T** in = const_cast<const T**>(a.rows);
  for (ptrdiff_t r = 0; r < kGroup; r++) {
    const ptrdiff_t part = split ? std::min(r * length, n - length) : 0;
    in[r] += part * row_.pixel.step;
    for (ptrdiff_t k = 0; k < a.terms; k++)
      out[k * kGroup + r] = dst[k * kGroup + std::min(r, a.count - 1)] + (x + part) * row_.pixel.step;
  }
  AlongArgs<T> part = a;
  part.count = split ? kGroup : a.count;
  part.width = length * row_.pixel.step;
  lines<T>().along(part);
}

// The row that `down` over y reads for virtual row v where there is no ring.
template <class T>
const T* Sweep<T>::source_row(Worker& w, const char* src, const Tile& t, ptrdiff_t v) const {
  const ptrdiff_t s = source_index(v, y_.n, y_.step->reach.mode);
  if (s == kOutside) return w.constant;
  if (in_place_) return w.strip + s * pitch_;
  return reinterpret_cast<const T*>(src + s * y_.src) + t.x0 * row_.pixel.step;
}

// The last `down`: into rows of dst `dst_step` bytes apart, whatever their layout; normalised by the filtered mask,
// which `known_rows` give, where a masked sample is in reach (`masked`).
template <class T>
void Sweep<T>::down_to(Worker& w, const DownArgs<T>& args, bool masked, bool add, char* dst, ptrdiff_t dst_step,
                       const Tile& t) const {
  dst += t.x0 * row_dst_;
  const bool packed = row_dst_ == row_.pixel.step * writer_.item || row_.n == 1;
  const uintptr_t mask = uintptr_t(target().vector_bytes) - 1;
  const bool aligned = ((reinterpret_cast<uintptr_t>(dst) | uintptr_t(dst_step)) & mask) == 0;
  DownArgs<T> a = args;
  const bool past = stream_ && batches_.size() == 1;  // nothing is added to it later
  if (packed && writer_.plain() && !masked && !add && (!past || aligned)) {
    for (ptrdiff_t r = 0; r < a.count; r++) w.dst[r] = reinterpret_cast<T*>(dst + r * dst_step);
    a.stream = past;
    lines<T>().down(a);
    return;
  }
  const ptrdiff_t most = out_width();
  for (ptrdiff_t x = 0; x < args.width; x += most, a.offset += most, dst += most / row_.pixel.step * row_dst_) {
    a.width = std::min(most, args.width - x);
    for (ptrdiff_t r = 0; r < a.count; r++) w.dst[r] = w.out + r * most;
    lines<T>().down(a);
    if (masked) {
      for (ptrdiff_t r = 0; r < a.count; r++) w.dst[r] = w.known_out + r * most;
      DownArgs<T> b = a;
      b.rows = w.known_rows;
      b.offset = x;
      lines<T>().down(b);
    }
    for (ptrdiff_t r = 0; r < a.count; r++) {
      T* row = w.out + r * most;
      if (add) add_row(dst + r * dst_step, row, a.width, packed);
      finish(row, masked ? w.known_out + r * most : nullptr, dst + r * dst_step, a.width, packed);
    }
  }
}

template class Sweep<float>;
template class Sweep<double>;

}  // namespace sep
