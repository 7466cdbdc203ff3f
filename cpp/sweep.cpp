#include "sweep.h"

#include <memory>

#include "machine.h"
#include "pool.h"
#include "tiles.h"

namespace sep {
namespace {

constexpr ptrdiff_t kBlock = 2 * kGroup;      // rows or slices written together: each ring line is read once for them
constexpr ptrdiff_t kChunk = 1024;            // elements of a row staged at a time
constexpr ptrdiff_t kBorder = 16;             // pixels at a border are copied in multiples of this
constexpr ptrdiff_t kFetchAhead = 768;        // bytes along a row that software prefetch runs ahead

// Which line of a ring that holds the window [from, to) serves virtual line v of n: itself, the one it mirrors, or none.
constexpr ptrdiff_t kNobody = -1;
ptrdiff_t holder(ptrdiff_t v, ptrdiff_t n, Mode mode, ptrdiff_t from, ptrdiff_t to) {
  const ptrdiff_t s = source_index(v, n, mode);
  return s != kOutside && s >= from && s < to ? s : kNobody;
}

template <class T>
Reach reach_of(const Pass<T>* p) {
  return p ? p->reach : Reach{};
}

}  // namespace

template <class T>
struct Sweep<T>::Worker {
  explicit Worker(const Sweep& s)
      : memory(s.worker_bytes()),
        stage(memory.take<T>(s.stage_elements())),
        along(memory.take<T>(s.along_elements())),
        y_ring(memory.take<T>(s.terms_ * s.y_slots_ * s.pitch_)),
        z_ring(memory.take<T>(s.terms_ * s.z_slots_ * s.slice_)),
        out(memory.take<T>(kBlock * s.pitch_)),
        constant(memory.take<T>(s.terms_ * s.pitch_)),
        strip(memory.take<T>(s.in_place_ ? s.y_.n * s.pitch_ : 0)),
        rows(memory.take<const T*>(s.terms_ * s.table_rows())),
        dst(memory.take<T*>(std::max(s.terms_ * kGroup, kBlock))),
        along_dst(memory.take<T*>(s.terms_ * kGroup)),
        in(memory.take<const T*>(kGroup)),
        slot(memory.take<T*>(s.terms_)) {}

  Scratch memory;
  T *stage, *along, *y_ring, *z_ring, *out, *constant, *strip;
  const T** rows;
  T** dst;
  T** along_dst;
  const T** in;
  T** slot;
};

// ---- geometry ------------------------------------------------------------------------------------------------------

template <class T>
Sweep<T>::Sweep(std::vector<Axis<T>> axes, ptrdiff_t terms, bool in_place, int threads)
    : terms_(terms), in_place_(in_place) {
  merge(axes);
  assign_roles(std::move(axes));
  choose_tiles(threads);
}

// Neighbouring axes that no pass touches and that lie like one axis in both arrays become one.
template <class T>
void Sweep<T>::merge(std::vector<Axis<T>>& axes) const {
  std::vector<Axis<T>> out;
  for (const Axis<T>& a : axes) {
    if (a.n == 1 && !a.pass) continue;
    if (!out.empty() && !a.pass && !out.back().pass && out.back().src == a.src * a.n && out.back().dst == a.dst * a.n) {
      out.back() = {out.back().n * a.n, a.src, a.dst, nullptr};
      continue;
    }
    out.push_back(a);
  }
  axes.swap(out);
}

// Who is the row, who is y (rows), who is z (slices); the rest is a batch.
template <class T>
void Sweep<T>::assign_roles(std::vector<Axis<T>> axes) {
  const ptrdiff_t item = sizeof(T);
  const auto filtered = std::count_if(axes.begin(), axes.end(), [](const Axis<T>& a) { return a.pass; });
  size_t last = axes.size();  // one past the last filtered axis
  while (last > 0 && !axes[last - 1].pass) last--;
  const size_t trailing = axes.size() - last;
  const bool inner_packed = trailing == 1 && axes.back().src == item && axes.back().dst == item;
  if (!in_place_ && filtered > 0 && (trailing == 0 || filtered == 3 || (inner_packed && axes.back().n <= kInnerRow))) {
    const Axis<T> x = axes[last - 1];
    x_ = x.pass;
    row_ = {x.n, 1, x.src, x.pass->reach, x.pass->cval[0]};
    row_dst_ = x.dst;
    if (inner_packed) {
      row_.step = axes.back().n;
      axes.pop_back();
    }
    axes.erase(axes.begin() + (last - 1));
  } else if (!axes.empty() && !axes.back().pass) {
    row_ = {axes.back().n, 1, axes.back().src, Reach{}, T(0)};
    row_dst_ = axes.back().dst;
    axes.pop_back();
  } else {  // in place, and nothing lies inside the filtered axis
    row_ = {1, 1, item, Reach{}, T(0)};
    row_dst_ = item;
  }
  // From the inside out: y is the innermost filtered axis left, or an unfiltered one just inside it if x is filtered.
  ptrdiff_t inner = ptrdiff_t(axes.size()) - 1;
  while (inner >= 0 && !axes[inner].pass) inner--;
  const bool two = inner > 0 && std::any_of(axes.begin(), axes.begin() + inner, [](auto& a) { return a.pass; });
  if (inner >= 0 && x_ && !two && inner + 1 < ptrdiff_t(axes.size())) inner++;
  if (inner < 0) inner = ptrdiff_t(axes.size()) - 1;
  if (inner >= 0) {
    y_ = axes[inner];
    axes.erase(axes.begin() + inner);
  }
  auto outer = std::find_if(axes.begin(), axes.end(), [](auto& a) { return a.pass; });
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
  ring_ = y_.pass && !in_place_ && (x_ || !row_.contiguous());
}

// Tiles as large as keep their rings in the cache, and enough of them for all threads.
template <class T>
void Sweep<T>::choose_tiles(int threads) {
  const ptrdiff_t item = sizeof(T), step = row_.step, ey = reach_of(y_.pass).extra(), ez = reach_of(z_.pass).extra();
  ptrdiff_t batch = 1;
  for (const auto& b : batch_) batch *= b.n;
  y_slots_ = y_.pass && ring_ ? ey + kBlock + kGroup : 0;
  z_slots_ = z_.pass ? ez + kBlock : 0;
  if (z_.pass)
    choose_volume_tile(threads, batch);
  else
    choose_plane_tile(threads, batch);

  pitch_ = round_up(tile_x_ * step, kAlign / item);
  if (pitch_ * item % 128 == 0) pitch_ += kAlign / item;  // an odd number of lines: rows spread over the cache's sets
  slice_ = tile_y_ * pitch_;
  if (slice_ * item % 128 == 0) slice_ += kAlign / item;
  const ptrdiff_t samples = batch * z_.n * y_.n * row_.n * step;
  const ptrdiff_t taps = terms_ * (row_.reach.taps + ey + ez + 2);
  threads_ = samples * taps < kSmallWork ? 1 : threads;
  stream_ = samples * item > ptrdiff_t(caches().l3 ? caches().l3 : 4 * caches().l2) / 2 && !in_place_;
}

// Whole lines of the cache, in pixels.
template <class T>
ptrdiff_t Sweep<T>::quantum() const {
  return std::max<ptrdiff_t>(1, ptrdiff_t(kAlign / sizeof(T)) / row_.step);
}

// A tile of a volume filters its halo rows as well, and turns its halo columns: of the shapes whose ring of slices fits,
// the one with the least of both; short runs of memory cost as well (all weighed by trial). The ring lies in a core's share of the L3 cache where that is larger than half the
// L2 (256^3, 25 taps: 52 ms in L2, 28 ms in 4 MiB of L3).
template <class T>
void Sweep<T>::choose_volume_tile(int threads, ptrdiff_t batch) {
  const Caches& c = caches();
  const size_t share = std::min<size_t>(c.l3 / (2 * size_t(usable_cores())), size_t(4) << 20);
  const ptrdiff_t area = ptrdiff_t(std::max(c.l2 / 2, share) / (sizeof(T) * terms_ * z_slots_ * row_.step));
  const double ey = double(reach_of(y_.pass).extra()), ex = double(row_.reach.extra());
  double least = 0;
  for (ptrdiff_t width = row_.n;; width = round_up(width / 2, quantum())) {
    const ptrdiff_t across = ceil_div(row_.n, width) * batch, most = std::min(y_.n, std::max(area / width, kBlock));
    ptrdiff_t up = ceil_div(y_.n, most);
    while (across * up % threads && across * up < 4 * threads && up * kGroup < y_.n) up++;
    const ptrdiff_t rows = round_up(ceil_div(y_.n, up), kGroup);
    const double cost = (1 + ey / double(rows)) * (1 + (0.2 * ex + 64) / double(width));
    if (width == row_.n || cost < least) {
      least = cost;
      tile_x_ = width;
      tile_y_ = std::min(rows, y_.n);
    }
    if (width * row_.step < 128 || width <= 2 * quantum()) break;
  }
}

// A plane's ring of rows stays in half of the L2 cache.
template <class T>
void Sweep<T>::choose_plane_tile(int threads, ptrdiff_t batch) {
  const ptrdiff_t item = sizeof(T), step = row_.step, ey = reach_of(y_.pass).extra();
  const ptrdiff_t rows = y_.pass ? ey + kBlock + kGroup : kBlock;
  ptrdiff_t most = std::max<ptrdiff_t>(ptrdiff_t(caches().l2) / 2 / (item * terms_) / rows / step, 4 * ptrdiff_t(kAlign) / item);
  if (in_place_) most = std::max<ptrdiff_t>(std::min(most, (1 << 20) / item / std::max<ptrdiff_t>(y_.n, 1)), 16);
  if (!y_.pass) most = std::max<ptrdiff_t>(most, 1 << 14);
  tile_x_ = std::min(row_.n, round_up(ceil_div(row_.n, ceil_div(row_.n, most)), quantum()));
  tile_y_ = y_.n;
  const ptrdiff_t across = ceil_div(row_.n, tile_x_) * batch, wanted = threads > 1 ? 4 * threads : 1;
  if (in_place_ || across >= wanted) return;
  const ptrdiff_t least = std::max<ptrdiff_t>(4 * ey, 2 * kBlock);
  tile_y_ = std::min(y_.n, std::max(round_up(ceil_div(y_.n, ceil_div(wanted, across)), kGroup), least));
  if (!y_.pass && y_.n == 1)  // one long line
    tile_x_ = std::min(row_.n, std::max<ptrdiff_t>(round_up(ceil_div(row_.n, wanted), quantum()), 4096));
}

template <class T>
ptrdiff_t Sweep<T>::table_rows() const {
  return std::max(reach_of(y_.pass).extra(), reach_of(z_.pass).extra()) + kBlock;
}

template <class T>
ptrdiff_t Sweep<T>::stage_elements() const {
  if (row_.contiguous() && !x_) return 0;
  return kGroup * ((chunk() + row_.reach.extra()) * row_.step + 16);
}

template <class T>
ptrdiff_t Sweep<T>::along_elements() const {
  return x_ ? along_scratch(row_.reach.taps, tile_x_) : 0;
}

template <class T>
ptrdiff_t Sweep<T>::chunk() const {  // pixels staged at a time
  return std::min(std::max<ptrdiff_t>(kChunk / row_.step, 16), tile_x_);
}

template <class T>
size_t Sweep<T>::worker_bytes() const {
  auto b = [](ptrdiff_t n) { return Scratch::bytes<T>(n); };
  return b(stage_elements()) + b(along_elements()) + b(terms_ * y_slots_ * pitch_) +
         b(terms_ * z_slots_ * slice_) + b(kBlock * pitch_) + b(terms_ * pitch_) +
         b(in_place_ ? y_.n * pitch_ : 0) + Scratch::bytes<T*>(terms_ * table_rows()) +
         Scratch::bytes<T*>(std::max(terms_ * kGroup, kBlock)) + Scratch::bytes<T*>(terms_ * kGroup) + Scratch::bytes<T*>(kGroup) + Scratch::bytes<T*>(terms_);
}

template <class T>
size_t Sweep<T>::scratch_bytes() const {
  return worker_bytes() * size_t(threads_);
}

// ---- work ----------------------------------------------------------------------------------------------------------

template <class T>
void Sweep<T>::run(const char* src, char* dst) const {
  const ptrdiff_t across = ceil_div(row_.n, tile_x_), up = ceil_div(y_.n, tile_y_);
  ptrdiff_t tasks = across * up;
  for (const auto& b : batch_) tasks *= b.n;
  const int threads = int(std::min<ptrdiff_t>(threads_, tasks));
  std::vector<std::unique_ptr<Worker>> workers(threads);
  for (auto& w : workers) w = std::make_unique<Worker>(*this);
  parallel(tasks, threads, [&](ptrdiff_t task, int worker) {
    const ptrdiff_t x = task % across * tile_x_, y = task / across % up * tile_y_;
    ptrdiff_t rest = task / across / up;
    const char* s = src;
    char* d = dst;
    for (size_t i = batch_.size(); i-- > 0; rest /= batch_[i].n) {
      s += rest % batch_[i].n * batch_[i].src;
      d += rest % batch_[i].n * batch_[i].dst;
    }
    tile(*workers[worker], s, d, {y, std::min(y + tile_y_, y_.n), x, std::min(x + tile_x_, row_.n)});
  });
}

template <class T>
void Sweep<T>::tile(Worker& w, const char* src, char* dst, const Tile& t) const {
  if (in_place_)  // the rows about to be overwritten
    for (ptrdiff_t y = 0; y < y_.n; y++) {
      T* to = w.strip + y * pitch_;
      const T* from = row_.get(src + y * y_.src, t.x0, t.x1, to);
      if (from != to) std::copy_n(from, t.x1 - t.x0, to);
    }
  if (y_.pass && !ring_ && y_.pass->reach.mode == Mode::constant)
    for (ptrdiff_t k = 0; k < terms_; k++) std::fill_n(w.constant + k * pitch_, pitch_, y_.pass->cval[k]);
  if (z_.pass)
    volume(w, src, dst, t);
  else
    plane(w, src, t, nullptr, dst);
  if (stream_) lines<T>().fence();
}

// Slices filtered in y and x go into a ring; blocks of output slices come out of it.
template <class T>
void Sweep<T>::volume(Worker& w, const char* src, char* dst, const Tile& t) const {
  const Pass<T>& p = *z_.pass;
  const ptrdiff_t first = -p.reach.shift, step = table_rows();
  auto slot = [&](ptrdiff_t k, ptrdiff_t v) { return w.z_ring + (k * z_slots_ + (v - first) % z_slots_) * slice_; };
  auto make = [&](ptrdiff_t v) {
    const ptrdiff_t s = source_index(v, z_.n, p.reach.mode);
    for (ptrdiff_t k = 0; k < terms_; k++) {
      w.slot[k] = slot(k, v);
      if (s == kOutside) std::fill_n(w.slot[k], (t.y1 - t.y0) * pitch_, p.cval[k]);
    }
    if (s != kOutside) plane(w, src + s * z_.src, t, w.slot, nullptr);
  };
  ptrdiff_t made = 0;
  for (ptrdiff_t z = 0; z < z_.n; z += kBlock) {
    const ptrdiff_t count = std::min(kBlock, z_.n - z), from = z + first, to = from + count + p.reach.extra();
    for (; made < std::min(to, z_.n); made++) make(made);
    for (ptrdiff_t v = from; v < to; v++)
      if (holder(v, z_.n, p.reach.mode, from, to) == kNobody) make(v);
    for (ptrdiff_t v = from; v < to; v++) {  // after all are made: `plane` uses the same table
      const ptrdiff_t h = holder(v, z_.n, p.reach.mode, from, to);
      for (ptrdiff_t k = 0; k < terms_; k++) w.rows[k * step + v - from] = slot(k, h == kNobody ? v : h);
    }
    DownArgs<T> a{w.rows, step, p.taps.data(), terms_, w.dst, count, (t.x1 - t.x0) * row_.step, 0, false, 0, 0};
    for (ptrdiff_t y = t.y0; y < t.y1; y++, a.offset += pitch_)
      down_to(w, a, dst + z * z_.dst + y * y_.dst, z_.dst, t);
  }
}

// One plane's tile: into the slots of the ring of slices (one per term), or, without slots, summed into dst.
template <class T>
void Sweep<T>::plane(Worker& w, const char* src, const Tile& t, T* const* slot, char* dst) const {
  if (!y_.pass) {
    plane_rows(w, src, t, slot, dst);
    return;
  }
  const Pass<T>& p = *y_.pass;
  const ptrdiff_t origin = t.y0 - p.reach.shift, end = std::min(y_.n, t.y1 + p.reach.extra() - p.reach.shift);
  const ptrdiff_t step = table_rows(), item = sizeof(T);
  ptrdiff_t made = std::max<ptrdiff_t>(origin, 0);
  for (ptrdiff_t y = t.y0; y < t.y1; y += kBlock) {
    const ptrdiff_t count = std::min(kBlock, t.y1 - y), from = y - p.reach.shift, to = from + count + p.reach.extra();
    for (ptrdiff_t n; ring_ && made < std::min(to, end); made += n) {
      n = std::min<ptrdiff_t>(kGroup, end - made);
      make_rows(w, src, t, made, n, origin);
    }
    if (ring_) make_border_rows(w, src, t, from, to, origin);
    for (ptrdiff_t v = from; v < to; v++) {
      const ptrdiff_t h = holder(v, y_.n, p.reach.mode, from, to), at = (h == kNobody ? v : h) - origin;
      for (ptrdiff_t k = 0; k < terms_; k++)
        w.rows[k * step + v - from] =
            ring_ ? w.y_ring + (k * y_slots_ + at % y_slots_) * pitch_ : source_row(w, src, t, v, k);
    }
    const ptrdiff_t fresh = ring_ || in_place_ ? 0 : count;
    const ptrdiff_t ahead = t.x1 - t.x0 < kChunk ? kBlock * y_.src / item : kFetchAhead / item;
    DownArgs<T> a{w.rows, step, p.taps.data(), terms_, w.dst, count, (t.x1 - t.x0) * row_.step, 0, false, fresh, ahead};
    if (!slot) {
      down_to(w, a, dst + y * y_.dst, y_.dst, t);
      continue;
    }
    a.terms = 1;
    for (ptrdiff_t k = 0; k < terms_; k++, a.rows += step, a.taps++) {
      for (ptrdiff_t r = 0; r < count; r++) w.dst[r] = slot[k] + (y - t.y0 + r) * pitch_;
      lines<T>().down(a);
    }
  }
}

// Nothing to filter over y: rows go straight through `along`.
template <class T>
void Sweep<T>::plane_rows(Worker& w, const char* src, const Tile& t, T* const* slot, char* dst) const {
  const bool packed = row_dst_ == ptrdiff_t(row_.step * sizeof(T)), through = !slot && (!packed || stream_);
  const ptrdiff_t width = (t.x1 - t.x0) * row_.step;
  for (ptrdiff_t y = t.y0; y < t.y1; y += kGroup) {
    const ptrdiff_t count = std::min<ptrdiff_t>(kGroup, t.y1 - y);
    const char* rows[kGroup];
    for (ptrdiff_t r = 0; r < count; r++) {
      rows[r] = src + (y + r) * y_.src;
      for (ptrdiff_t k = 0; k < terms_; k++)
        w.dst[k * kGroup + r] = slot      ? slot[k] + (y - t.y0 + r) * pitch_
                                : through ? w.out + r * pitch_
                                          : reinterpret_cast<T*>(dst + (y + r) * y_.dst + t.x0 * row_dst_);
    }
    along(w, rows, count, t, w.dst);
    for (ptrdiff_t r = 0; through && r < count; r++)
      put_row(w.out + r * pitch_, dst + (y + r) * y_.dst + t.x0 * row_dst_, width, packed);
  }
}

// A finished row into dst: past the cache if it is packed, else pixel by pixel.
template <class T>
void Sweep<T>::put_row(const T* row, char* dst, ptrdiff_t width, bool packed) const {
  if (packed)
    lines<T>().copy_stream(reinterpret_cast<T*>(dst), row, width);
  else
    scatter(row, dst, width / row_.step, row_.step, row_dst_);
}

// Those virtual rows of [from, to) outside the plane that no row in the ring stands for, in groups.
template <class T>
void Sweep<T>::make_border_rows(Worker& w, const char* src, const Tile& t, ptrdiff_t from, ptrdiff_t to,
                                ptrdiff_t origin) const {
  ptrdiff_t count = 0;
  for (ptrdiff_t v = from; v <= to; v++) {
    const bool wanted = v < to && holder(v, y_.n, y_.pass->reach.mode, from, to) == kNobody;
    if (count && (!wanted || count == kGroup)) {
      make_rows(w, src, t, v - count, count, origin);
      count = 0;
    }
    count += wanted;
  }
}

// Virtual rows [first, first + count) of a plane, filtered along x, into the ring of rows that starts at `origin`.
template <class T>
void Sweep<T>::make_rows(Worker& w, const char* src, const Tile& t, ptrdiff_t first, ptrdiff_t count,
                         ptrdiff_t origin) const {
  const Pass<T>& p = *y_.pass;
  const char* rows[kGroup];
  ptrdiff_t inside = 0;
  for (ptrdiff_t v = first; v < first + count; v++) {
    const ptrdiff_t s = source_index(v, y_.n, p.reach.mode);
    for (ptrdiff_t k = 0; k < terms_; k++) {
      T* to = w.y_ring + (k * y_slots_ + (v - origin) % y_slots_) * pitch_;
      if (s == kOutside)
        std::fill_n(to, pitch_, p.cval[k]);
      else
        w.dst[k * kGroup + inside] = to;
    }
    if (s != kOutside) rows[inside++] = src + s * y_.src;
  }
  if (inside) along(w, rows, inside, t, w.dst);
}

// Pixels to filter at once from x on: up to `chunk`, but only a short stretch where the taps reach over a border, since
// that stretch must be copied.
template <class T>
ptrdiff_t Sweep<T>::piece(ptrdiff_t x, ptrdiff_t end, ptrdiff_t chunk) const {
  const ptrdiff_t before = row_.reach.shift, after = row_.reach.extra() - before;
  const ptrdiff_t border = round_up(std::max(before, after), kBorder), last = row_.n - after;  // from `last` on: right border
  if (!row_.contiguous() || end - x <= 3 * border) return std::min(chunk, end - x);
  if (x < before) return border;
  if (x + kBorder >= last || last <= border) return std::min(chunk, end - x);
  return std::min({chunk, end - x, std::max<ptrdiff_t>((last - x) / kBorder * kBorder, kBorder)});
}

// `count` <= kGroup rows through the x taps of every term: dst[term * kGroup + row].
template <class T>
void Sweep<T>::along(Worker& w, const char* const* rows, ptrdiff_t count, const Tile& t, T* const* dst) const {
  const ptrdiff_t step = row_.step, width = t.x1 - t.x0;
  const ptrdiff_t group = kGroup * y_.src;  // the group that follows lies that far on: fetched ahead
  AlongArgs<T> a{w.in, x_ ? x_->taps.data() : nullptr, terms_, w.along_dst, count, 0, step, 0, 0, before_.data(),
                 after_.data(), row_.cval, group % ptrdiff_t(sizeof(T)) ? 0 : group / ptrdiff_t(sizeof(T)), w.along};
  if (x_ && row_.contiguous() && can_reach_outside(row_.reach.taps, width / (count == 1 ? kGroup : 1), step, row_.n)) {
    for (ptrdiff_t r = 0; r < kGroup; r++) w.in[r] = reinterpret_cast<const T*>(rows[std::min(r, count - 1)]);
    a.n = row_.n;
    a.from = t.x0 - row_.reach.shift;
    along_group(a, dst, 0, width);
    return;
  }
  const ptrdiff_t most = chunk(), room = (most + row_.reach.extra()) * step + 16;
  for (ptrdiff_t x = t.x0, n; x < t.x1; x += n) {
    n = piece(x, t.x1, most);
    const ptrdiff_t from = x - row_.reach.shift;
    for (ptrdiff_t r = 0; r < kGroup; r++)
      w.in[r] = r < count ? row_.get(rows[r], from, from + n + row_.reach.extra(), w.stage + r * room) : w.in[r - 1];
    a.n = (n + row_.reach.extra()) * step;
    if (x_) {
      along_group(a, dst, x - t.x0, n);
      continue;
    }
    for (ptrdiff_t r = 0; r < count; r++)
      for (ptrdiff_t k = 0; k < terms_; k++) std::copy_n(w.in[r], n * step, dst[k * kGroup + r] + (x - t.x0) * step);
  }
}

// Pixels [x, x + n) of the group's results. A lone row fills the group with its own parts, the last overlapping.
template <class T>
void Sweep<T>::along_group(AlongArgs<T>& a, T* const* dst, ptrdiff_t x, ptrdiff_t n) const {
  const bool split = a.count == 1 && n >= kGroup * 32 && a.from >= 0 && a.from + n + row_.reach.extra() <= a.n;
  const ptrdiff_t length = split ? ceil_div(n, kGroup) : n;
  T** out = const_cast<T**>(a.dst);
  const T** in = const_cast<const T**>(a.rows);
  for (ptrdiff_t r = 0; r < kGroup; r++) {
    const ptrdiff_t part = split ? std::min(r * length, n - length) : 0;
    in[r] += part * row_.step;
    for (ptrdiff_t k = 0; k < terms_; k++)
      out[k * kGroup + r] = dst[k * kGroup + std::min(r, a.count - 1)] + (x + part) * row_.step;
  }
  AlongArgs<T> part = a;
  part.count = split ? kGroup : a.count;
  part.width = length * row_.step;
  lines<T>().along(part);
}

// The row that `down` over y reads for virtual row v where no ring is needed.
template <class T>
const T* Sweep<T>::source_row(Worker& w, const char* src, const Tile& t, ptrdiff_t v, ptrdiff_t term) const {
  const ptrdiff_t s = source_index(v, y_.n, y_.pass->reach.mode);
  if (s == kOutside) return w.constant + term * pitch_;
  if (in_place_) return w.strip + s * pitch_;
  return reinterpret_cast<const T*>(src + s * y_.src) + t.x0 * row_.step;
}

// The last `down`: into dst rows `dst_step` bytes apart, whatever their layout.
template <class T>
void Sweep<T>::down_to(Worker& w, DownArgs<T> a, char* dst, ptrdiff_t dst_step, const Tile& t) const {
  dst += t.x0 * row_dst_;
  const bool packed = row_dst_ == ptrdiff_t(row_.step * sizeof(T)) || row_.n == 1;
  const uintptr_t mask = uintptr_t(target().vector_bytes) - 1;
  const bool aligned = ((reinterpret_cast<uintptr_t>(dst) | uintptr_t(dst_step)) & mask) == 0;
  const bool through = !packed || (stream_ && !aligned);
  for (ptrdiff_t r = 0; r < a.count; r++)
    w.dst[r] = through ? w.out + r * pitch_ : reinterpret_cast<T*>(dst + r * dst_step);
  a.stream = stream_ && !through;
  lines<T>().down(a);
  for (ptrdiff_t r = 0; through && r < a.count; r++) put_row(w.out + r * pitch_, dst + r * dst_step, a.width, packed);
}

template class Sweep<float>;
template class Sweep<double>;

}  // namespace sep
