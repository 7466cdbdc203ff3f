#include "layers/fused_job.h"

#include <algorithm>
#include <cstring>

#include "base/pool.h"
#include "base/scratch.h"
#include "layers/grid.h"
#include "layers/tables.h"

namespace sep {
namespace {

constexpr ptrdiff_t kTilePixels = 256;  // maximum; larger tiles gain nothing (measured)
constexpr double kTileShare = 0.35;     // of the L2 cache, for a tile of the intermediate tensor
constexpr double kSampleShare = 0.5;    // of the L1 cache, for the samples of a strip of columns
constexpr double kStreamShare = 0.2;    // of the L3 cache: larger results are written with non-temporal stores
constexpr ptrdiff_t kRunsAThread = 6;   // runs of tiles per thread: fewer recompute less, more balance the load better

}  // namespace

// One call: its arrays, how its results are divided into tiles, and where their samples lie.
template <class T>
struct FusedJob<T>::Grid {
  Grid(const FusedJob& job, const Tensor<const T>& s, const Tensor<T>& d, const T* r, const Shape3& before, int threads)
      : src(s), dst(d), residual(r) {
    const FusedSpec& spec = job.spec_;
    window = {spec.kernel, spec.stride, spec.dilation, before, s.extents, spec.mode, s.pitch, {0, 0, 0}, s.extents};
    const ptrdiff_t mid = round_up(spec.c_depth(), job.kernels_->lanes) * spec.multiplier;
    const ptrdiff_t fits = ptrdiff_t(kTileShare * double(caches().l2)) / (mid * ptrdiff_t(sizeof(T)));
    const ptrdiff_t step = spec.pointwise_first ? spec.stride[0] * spec.stride[1] * spec.stride[2] : 1;
    pixels = std::clamp<ptrdiff_t>(std::min(fits, kTilePixels) / step, 32, kTilePixels);
    cut = {d.batch, d.extents, pixels, threads};
    if (spec.pointwise_first) ring(job);
  }

  // Pointwise first: its results are kept in a ring along the march axis, so that each is computed once per strip. The
  // width axis has no ring, since a row must not wrap around.
  void ring(const FusedJob& job) {
    Shape3 most;  // samples that a tile reads
    for (int axis = 0; axis < 3; axis++)
      most[axis] = std::min(window.extents[axis], (cut.size[axis] - 1) * window.stride[axis] +
                                                      (window.kernel[axis] - 1) * window.dilation[axis] + 1);
    const ptrdiff_t lanes = job.kernels_->lanes;
    window.pitch = {most[1] * most[2] * lanes, most[2] * lanes, lanes};
    if (cut.march < 2) window.slots[cut.march] = most[cut.march];
    ring_block = most[0] * most[1] * most[2] * lanes;
    window.planes = job.spec_.multiplier;
    window.plane = job.slices_.blocks * ring_block;
    window.plane_weights = job.slices_.count * job.spec_.taps();
    source_row = most[2];
    source_pixels = std::max(pixels / source_row, ptrdiff_t(1)) * source_row;
  }
  ptrdiff_t place(const Tile& t) const {  // of its first pixel in dst
    return t.batch * dst.batch_pitch + t.at[0].from * dst.pitch[0] + t.at[1].from * dst.pitch[1] +
           t.at[2].from * dst.pitch[2];
  }

  // What the next tile reads and this one did not.
  Fetch fresh(const Tile& tile, const Tile& next) const {
    std::array<Range, 3> need;
    for (int axis = 0; axis < 3; axis++) need[axis] = window.needs(axis, next.at[axis]);
    const int march = cut.march;
    bool same = next.batch == tile.batch;  // strip: only the march axis moves on
    for (int axis = 0; axis < 3; axis++) same = same && (axis == march || next.at[axis].from == tile.at[axis].from);
    if (same) need[march].from = std::max(need[march].from, window.needs(march, tile.at[march]).to);
    ptrdiff_t at = next.batch * src.batch_pitch, line = 1;
    for (int axis = 0; axis < 3; axis++) {
      if (need[axis].count() <= 0) return {};
      at += need[axis].from * src.pitch[axis];
      if (axis != std::min(march, 1)) line += (need[axis].count() - 1) * src.pitch[axis];
    }
    // Rows of the march axis; a slice of the others is one stretch of memory, or nearly.
    const int rows = std::min(march, 1);
    return {reinterpret_cast<const char*>(src.data + at), need[rows].count(), line * ptrdiff_t(sizeof(T)),
            src.pitch[rows] * ptrdiff_t(sizeof(T))};
  }

  Tensor<const T> src;
  Tensor<T> dst;
  const T* residual;
  Window window;
  Cut cut;
  ptrdiff_t pixels;
  ptrdiff_t ring_block = 0, source_row = 0, source_pixels = 0;
  bool stream = false;
};

template <class T>
struct FusedJob<T>::Worker {
  Worker(const FusedJob& job, const Grid& g) : panels(job.pointwise_.panels()) {
    const ptrdiff_t lanes = job.kernels_->lanes, groups = job.spec_.multiplier;
    const bool ring = job.spec_.pointwise_first;
    pixels = ring ? g.source_pixels : g.cut.size[0] * g.cut.size[1] * g.cut.size[2];
    block = pixels * lanes;
    const Slices& s = ring ? job.in_ : job.slices_;
    const ptrdiff_t blocks = s.blocks * (ring ? 1 : groups);
    const ptrdiff_t ring_size = ring ? job.slices_.blocks * groups * g.ring_block : 0;
    memory =
        Scratch(Scratch::bytes<T>(blocks * block) + Scratch::bytes<T>(ring_size) + Scratch::bytes<ptrdiff_t>(pixels));
    mid = memory.take<T>(blocks * block);
    results = memory.take<T>(ring_size);
    offsets = memory.take<ptrdiff_t>(pixels);
    channels = channels_of(s, ring ? 1 : groups, block);
    if (ring)
      for (Panel<T>& p : panels)
        for (ptrdiff_t& at : p.at) at *= g.ring_block;
  }
  Scratch memory{0};
  ptrdiff_t pixels, block;  // the size of a channel block of `mid`, in pixels and in elements
  T *mid, *results;         // the source of the pointwise convolution; where that comes first, the ring of its results
  ptrdiff_t* offsets;       // of a tile's pixels in the destination
  Shape3 placed{0, 0, 0};   // the size of the tile that `offsets` are for
  std::vector<Channels> channels;
  std::vector<Panel<T>> panels;
  Runs runs;
  Range filled{0, 0};  // of the march axis, in the ring
};

template <class T>
FusedJob<T>::FusedJob(const FusedSpec& spec, const T* depthwise, const T* pointwise, const T* depthwise_bias,
                      const T* bias)
    : spec_(spec), kernels_(&layers<T>()), slices_(spec.c_depth(), kernels_->lanes), in_(spec.c_in, kernels_->lanes) {
  const ptrdiff_t m = spec.multiplier, taps = spec.taps(), mid = spec.c_mid(), c = spec.c_depth();
  const std::vector<ptrdiff_t> order = group_order(c, m);
  depthwise_ = PackedDepthwise<T>(
      slices_, m, taps, [&](ptrdiff_t g, ptrdiff_t i, ptrdiff_t k) { return depthwise[(i * m + g) * taps + k]; },
      [&](ptrdiff_t g, ptrdiff_t i) {
        if (!depthwise_bias) return T(0);
        return spec.pointwise_first ? depthwise_bias[i] : depthwise_bias[i * m + g];
      });
  if (spec.pointwise_first) {
    pointwise_ = PackedPointwise<T>::blocked(
        slices_, spec.c_in, m, [&](ptrdiff_t j, ptrdiff_t o) { return pointwise[order[o] * spec.c_in + j]; },
        [&](ptrdiff_t o) { return bias ? bias[order[o]] : T(0); });
    auto one = [](ptrdiff_t, ptrdiff_t, ptrdiff_t) { return T(1); };
    copy_ = PackedDepthwise<T>(in_, 1, 1, one, [](ptrdiff_t, ptrdiff_t) { return T(0); });
  } else {
    pointwise_ = PackedPointwise<T>::flat(
        kernels_->lanes, mid, spec.c_out, [&](ptrdiff_t j, ptrdiff_t o) { return pointwise[o * mid + order[j]]; },
        [&](ptrdiff_t o) { return bias ? bias[o] : T(0); });
  }
}

// Vectors of source that stay in the L1 cache between the rows that read them.
template <class T>
ptrdiff_t FusedJob<T>::samples() const {
  return ptrdiff_t(kSampleShare * double(caches().l1d)) / (kernels_->lanes * ptrdiff_t(sizeof(T)));
}

template <class T>
void FusedJob<T>::first_depthwise(const Grid& g, const Tile& tile, const Tile* next, Range panels, Worker& w) const {
  const ptrdiff_t lanes = kernels_->lanes, wide = tile.at[2].count();
  w.runs.build(g.window, tile, {tile.at[1].count() * wide * lanes, wide * lanes, lanes}, samples());
  const T* src = g.src.data + tile.batch * g.src.batch_pitch;
  for (ptrdiff_t group = 0; group < spec_.multiplier; group++)
    for (ptrdiff_t i = 0; i < slices_.count; i++)
      kernels_->depthwise({src + slices_.start(i), depthwise_.weights(group, i), lanes, depthwise_.bias(group, i),
                           w.mid + (group * slices_.blocks + slices_.block(i)) * w.block + slices_.lane(i), nullptr,
                           w.runs.data(), w.runs.size(), slices_.width, spec_.depthwise_act, false});
  const Shape3 size{tile.at[0].count(), tile.at[1].count(), wide};
  if (size != w.placed) {
    w.placed = size;
    ptrdiff_t* offset = w.offsets;
    for (ptrdiff_t z = 0; z < size[0]; z++)
      for (ptrdiff_t y = 0; y < size[1]; y++)
        for (ptrdiff_t x = 0; x < size[2]; x++)
          *offset++ = z * g.dst.pitch[0] + y * g.dst.pitch[1] + x * g.dst.pitch[2];
  }
  const ptrdiff_t place = g.place(tile);
  kernels_->pointwise({w.mid, w.channels.data(), ptrdiff_t(w.channels.size()), pointwise_.panels().data() + panels.from,
                       panels.count(), tile.pixels(), g.dst.data + place, g.residual ? g.residual + place : nullptr,
                       w.offsets, spec_.pointwise_act, g.stream, next ? g.fresh(tile, *next) : Fetch{}});
}

// The pointwise results of samples `rows` of the march axis, into the ring.
template <class T>
void FusedJob<T>::fill(const Grid& g, const Tile& tile, Range rows, Worker& w) const {
  std::array<Range, 3> need;
  for (int axis = 0; axis < 3; axis++) need[axis] = axis == g.cut.march ? rows : g.window.needs(axis, tile.at[axis]);
  const ptrdiff_t lanes = kernels_->lanes, wide = need[2].count(), lines = need[0].count() * need[1].count();
  if (wide <= 0 || lines <= 0) return;
  const T* src = g.src.data + tile.batch * g.src.batch_pitch + need[2].from * g.src.pitch[2];
  const ptrdiff_t at_once = std::max<ptrdiff_t>(w.pixels / wide, 1);
  for (ptrdiff_t line = 0; line < lines; line += at_once) {
    const ptrdiff_t pixels = std::min(at_once, lines - line) * wide;
    w.runs.clear();
    for (ptrdiff_t p = 0; p < pixels; p += wide) {
      const ptrdiff_t l = line + p / wide;
      const ptrdiff_t z = need[0].from + l / need[1].count(), y = need[1].from + l % need[1].count();
      w.runs.copy(p * lanes, z * g.src.pitch[0] + y * g.src.pitch[1], wide, lanes, g.src.pitch[2]);
      const ptrdiff_t at = g.window.offset(0, z) + g.window.offset(1, y);
      for (ptrdiff_t x = 0; x < wide; x++) w.offsets[p + x] = at + g.window.offset(2, need[2].from + x);
    }
    for (ptrdiff_t i = 0; i < in_.count; i++)
      kernels_->depthwise({src + in_.start(i), copy_.weights(0, i), lanes, copy_.bias(0, i),
                           w.mid + in_.block(i) * w.block + in_.lane(i), nullptr, w.runs.data(), w.runs.size(),
                           in_.width, Activation::none, false});
    kernels_->pointwise({w.mid, w.channels.data(), ptrdiff_t(w.channels.size()), w.panels.data(),
                         ptrdiff_t(w.panels.size()), pixels, w.results, nullptr, w.offsets, spec_.pointwise_act, false,
                         Fetch{}});
  }
}

template <class T>
void FusedJob<T>::first_pointwise(const Grid& grid, const Tile& tile, bool fresh, Worker& w) const {
  Grid g = grid;
  for (int axis = 0; axis < 3; axis++)
    if (axis != g.cut.march || axis == 2) g.window.origin[axis] = g.window.needs(axis, tile.at[axis]).from;
  const Range need = g.window.needs(g.cut.march, tile.at[g.cut.march]);
  if (fresh || g.cut.march == 2) w.filled = {need.from, need.from};
  fill(g, tile, {std::max(need.from, w.filled.to), need.to}, w);
  w.filled.to = std::max(w.filled.to, need.to);
  w.runs.build(g.window, tile, g.dst.pitch, samples());
  const ptrdiff_t place = g.place(tile);
  for (ptrdiff_t i = 0; i < slices_.count; i++)
    kernels_->depthwise({w.results + slices_.block(i) * g.ring_block + slices_.lane(i), depthwise_.weights(0, i),
                         kernels_->lanes, depthwise_.bias(0, i), g.dst.data + place + slices_.start(i),
                         g.residual ? g.residual + place + slices_.start(i) : nullptr, w.runs.data(), w.runs.size(),
                         slices_.width, spec_.depthwise_act, false});
}

template <class T>
void FusedJob<T>::run(const Tensor<const T>& src, const Tensor<T>& dst, const T* residual, const Shape3& before,
                      int threads) const {
  const ptrdiff_t pixels = dst.batch * dst.extents[0] * dst.extents[1] * dst.extents[2];
  if (pixels == 0) return;
  const ptrdiff_t macs = spec_.c_mid() * (spec_.taps() + (spec_.pointwise_first ? spec_.c_in : spec_.c_out));
  if (macs * pixels < kSmallWork) threads = 1;
  Grid g(*this, src, dst, residual, before, threads);
  const ptrdiff_t tiles = g.cut.tiles();
  const ptrdiff_t n_panels = ptrdiff_t(pointwise_.panels().size());
  const bool large = double(pixels * spec_.c_out) * sizeof(T) > kStreamShare * double(caches().l3);
  const ptrdiff_t bytes = ptrdiff_t(sizeof(T)) * kernels_->lanes;
  bool aligned = reinterpret_cast<uintptr_t>(dst.data) % bytes == 0 && spec_.c_out % kernels_->lanes == 0;
  for (ptrdiff_t p : {dst.batch_pitch, dst.pitch[0], dst.pitch[1], dst.pitch[2]})
    aligned = aligned && p % kernels_->lanes == 0;
  g.stream = large && aligned;
  const ptrdiff_t parts = tiles < threads && !spec_.pointwise_first ? std::min(ceil_div(threads, tiles), n_panels) : 1;
  const ptrdiff_t runs_a_thread = spec_.pointwise_first ? 2 : kRunsAThread;           // a new run fills the ring again
  const bool single = tiles < 2 * runs_a_thread * threads && !spec_.pointwise_first;  // tiles one by one
  const ptrdiff_t runs = threads == 1 ? 1 : single ? tiles : std::min(tiles, runs_a_thread * threads);
  std::vector<std::unique_ptr<Worker>> workers(std::max(threads, 1));
  parallel(runs * parts, threads, [&](ptrdiff_t task, int seat) {
    auto& worker = workers[seat];
    if (!worker) worker = std::make_unique<Worker>(*this, g);
    const ptrdiff_t run = task / parts, part = task % parts;
    const Range mine{run * tiles / runs, (run + 1) * tiles / runs};
    const Range panels{part * n_panels / parts, (part + 1) * n_panels / parts};
    Tile tile = g.cut.tile(mine.from);
    for (ptrdiff_t i = mine.from; i < mine.to; i++) {
      const bool more = i + 1 < mine.to;
      const Tile next = more ? g.cut.tile(i + 1) : tile;
      if (spec_.pointwise_first)
        first_pointwise(g, tile, i == mine.from || i % g.cut.along(g.cut.march) == 0, *worker);
      else
        first_depthwise(g, tile, more ? &next : nullptr, panels, *worker);
      tile = next;
    }
  });
}

template class FusedJob<float>;
template class FusedJob<double>;

}  // namespace sep
