#include "layers/fused_gradients.h"

#include <algorithm>
#include <memory>

#include "base/pool.h"
#include "base/scratch.h"
#include "layers/grid.h"
#include "layers/tables.h"

namespace sep {
namespace {

constexpr ptrdiff_t kTilePixels = 256;          // as in the forward pass
constexpr double kTileShare = 0.5;              // of the L2 cache, for all buffers of a tile
constexpr ptrdiff_t kTasks = 16;                // maximum, each with its own sums: independent of the number of threads
constexpr ptrdiff_t kTaskPixels = 384;          // minimum pixels of a task
constexpr size_t kSumBytes = size_t(64) << 20;  // maximum for the sums of all tasks

ptrdiff_t linear(const Shape3& pitch, const Tile& t) {
  return t.at[0].from * pitch[0] + t.at[1].from * pitch[1] + t.at[2].from * pitch[2];
}

template <class T>
class Backward {
 public:
  Backward(const FusedSpec& spec, const FusedWeights<T>& weights, const Tensor<const T>& x, const Tensor<const T>& grad,
           const Tensor<const T>* output, const Tensor<T>& x_out, const FusedResults<T>& results, const Shape3& before)
      : spec_(spec),
        kernels_(layers<T>()),
        x_(x),
        grad_(grad),
        output_(output),
        x_out_(x_out),
        results_(results),
        depth_(spec.c_depth(), kernels_.lanes),
        in_(spec.c_in, kernels_.lanes),
        out_(spec.c_out, kernels_.lanes) {
    window_ = {spec.kernel, spec.stride, spec.dilation, before, x.extents, spec.mode, x.pitch, {0, 0, 0}, x.extents};
    pack(weights);
    size();
  }

  void run(int threads) {
    std::vector<std::vector<Piece>> tasks = share();
    std::vector<std::unique_ptr<Sums>> sums(tasks.size());
    std::vector<std::unique_ptr<Worker>> workers(std::max(threads, 1));
    // Neighbouring slabs of one sample write to the same samples of the gradient: first the even slabs, then the odd
    // ones.
    for (int color = 0; color < 2; color++)
      parallel(ptrdiff_t(tasks.size()), threads, [&](ptrdiff_t i, int seat) {
        for (const Piece& piece : tasks[i]) {
          if (piece.color != color) continue;
          if (!sums[i]) sums[i] = std::make_unique<Sums>(*this);
          if (!workers[seat]) workers[seat] = std::make_unique<Worker>(*this);
          go(piece, *workers[seat], *sums[i]);
        }
      });
    if (results_.depthwise) {
      Sums total(*this);
      for (const auto& s : sums)
        if (s)
          for (size_t k = 0; k < total.all.size(); k++) total.all[k] += s->all[k];
      unpack(total);
    }
  }

 private:
  // A part of the pixels of one batch entry: of the results, or of the source where pointwise comes first.
  struct Piece {
    ptrdiff_t batch;
    std::array<Range, 3> at;
    int color;
  };

  // Sums over pixels, in the order of the blocks.
  struct Sums {
    explicit Sums(const Backward& b) : all(b.sum_elements_, T(0)) {
      depthwise = all.data();
      pointwise = depthwise + b.spec_.multiplier * b.depth_.count * b.spec_.taps() * b.kernels_.lanes;
      middle = pointwise + b.rows_ * b.columns_;
      end = middle + b.mid_blocks() * b.kernels_.lanes;
    }
    std::vector<T> all;
    T *depthwise, *pointwise, *middle, *end;  // weights; gradients between the convolutions and behind the last
  };

  struct Worker {
    explicit Worker(const Backward& b)
        : memory(Scratch::bytes<T>(b.tile_elements()) + Scratch::bytes<ptrdiff_t>(b.pixels_)),
          panels(b.to_mid_.panels()),
          first(b.spec_.pointwise_first ? b.from_x_.panels() : b.to_mid_.panels()) {
      const ptrdiff_t mid = b.mid_blocks() * b.block_;
      value = memory.take<T>(b.tile_elements());
      std::fill_n(value, b.tile_elements(), T(0));  // lanes without a channel stay zero
      slope = b.keeps_ ? value + mid : value;
      middle = slope + mid;
      other = middle + mid;
      output = other + b.other().blocks * b.block_;
      offsets = memory.take<ptrdiff_t>(b.pixels_);
      for (ptrdiff_t p = 0; p < b.pixels_; p++) offsets[p] = p * b.kernels_.lanes;
      for (auto* list : {&panels, &first})
        for (Panel<T>& p : *list)
          for (ptrdiff_t& at : p.at) at *= b.block_;
    }
    Scratch memory;
    // Blocks of the tile: the intermediate tensor; the same before its activation (one array where the slope follows
    // from the result); its gradient; the source or gradient at the other side of the pointwise convolution; and the
    // result there.
    T *value, *slope, *middle, *other, *output;
    ptrdiff_t* offsets;  // pixel by pixel
    std::vector<ptrdiff_t> places;
    std::vector<Panel<T>> panels, first;
    Runs runs;
  };

  ptrdiff_t mid_blocks() const { return spec_.multiplier * depth_.blocks; }
  const Slices& other() const { return spec_.pointwise_first ? in_ : out_; }
  Activation act() const { return spec_.pointwise_first ? spec_.pointwise_act : spec_.depthwise_act; }
  ptrdiff_t tile_blocks() const { return (keeps_ ? 3 : 2) * mid_blocks() + (output_ ? 2 : 1) * other().blocks; }
  ptrdiff_t tile_elements() const { return tile_blocks() * block_; }

  void pack(const FusedWeights<T>& w) {
    const ptrdiff_t m = spec_.multiplier, c = spec_.c_depth(), taps = spec_.taps(), mid = spec_.c_mid();
    const bool first = spec_.pointwise_first;
    const std::vector<ptrdiff_t> order = group_order(c, m);
    auto zero = [](auto...) { return T(0); };
    auto one = [](auto...) { return T(1); };
    auto kernel = [&](ptrdiff_t g, ptrdiff_t i, ptrdiff_t k) { return w.depthwise[(i * m + g) * taps + k]; };
    copy_ = PackedDepthwise<T>(other(), 1, 1, one, zero);
    if (first) {
      back_ = PackedDepthwise<T>(depth_, m, taps, kernel, zero);
      from_x_ = PackedPointwise<T>::blocked(
          depth_, spec_.c_in, m, [&](ptrdiff_t j, ptrdiff_t o) { return w.pointwise[order[o] * spec_.c_in + j]; },
          [&](ptrdiff_t o) { return w.bias ? w.bias[order[o]] : T(0); });
      to_x_ = PackedPointwise<T>::flat(
          kernels_.lanes, mid, spec_.c_in,
          [&](ptrdiff_t j, ptrdiff_t o) { return w.pointwise[order[j] * spec_.c_in + o]; }, zero);
    } else {
      forth_ = PackedDepthwise<T>(depth_, m, taps, kernel, [&](ptrdiff_t g, ptrdiff_t i) {
        return w.depthwise_bias ? w.depthwise_bias[i * m + g] : T(0);
      });
      // Gradients are accumulated: a channel that two slices share counts in the first only.
      back_ = PackedDepthwise<T>(depth_, m, taps, kernel, zero, true);
      to_mid_ = PackedPointwise<T>::blocked(
          depth_, spec_.c_out, m, [&](ptrdiff_t j, ptrdiff_t o) { return w.pointwise[j * mid + order[o]]; }, zero);
    }
  }

  void size() {
    const ptrdiff_t lanes = kernels_.lanes;
    keeps_ = act() > Activation::relu6;
    const ptrdiff_t pixel_bytes = tile_blocks() * lanes * ptrdiff_t(sizeof(T));
    pixels_ = std::clamp<ptrdiff_t>(ptrdiff_t(kTileShare * double(caches().l2)) / pixel_bytes, 32, kTilePixels);
    const Shape3& n = spec_.pointwise_first ? x_.extents : grad_.extents;
    const Cut cut(1, n, pixels_, 1);
    pixels_ = cut.size[0] * cut.size[1] * cut.size[2];
    block_ = pixels_ * lanes;
    rows_ = (spec_.pointwise_first ? in_.blocks : mid_blocks()) * lanes;
    columns_ = (spec_.pointwise_first ? mid_blocks() : out_.blocks) * lanes;
    sum_elements_ = size_t(spec_.multiplier * depth_.count * spec_.taps() * lanes + rows_ * columns_ +
                           (mid_blocks() + other().blocks) * lanes);
  }

  // Divides the work into tasks, by sizes alone.
  std::vector<std::vector<Piece>> share() const {
    const Tensor<const T>& t = spec_.pointwise_first ? x_ : grad_;
    const ptrdiff_t pixels = t.extents[0] * t.extents[1] * t.extents[2];
    const ptrdiff_t room = std::max<ptrdiff_t>(ptrdiff_t(kSumBytes / (sum_elements_ * sizeof(T))), 2);
    const ptrdiff_t tasks = std::clamp<ptrdiff_t>(t.batch * pixels / kTaskPixels, 1, std::min(kTasks, room));
    const int axis = t.extents[0] > 1 ? 0 : t.extents[1] > 1 ? 1 : 2;
    const ptrdiff_t span = (spec_.kernel[axis] - 1) * spec_.dilation[axis] + 1;
    const ptrdiff_t thick = spec_.pointwise_first ? 1 : ceil_div(span, spec_.stride[axis]);
    const ptrdiff_t slabs =
        std::clamp<ptrdiff_t>(ceil_div(tasks, t.batch), 1, std::max<ptrdiff_t>(t.extents[axis] / thick, 1));
    std::vector<std::vector<Piece>> out(std::min(tasks, t.batch * slabs));
    for (ptrdiff_t i = 0; i < t.batch * slabs; i++) {
      const ptrdiff_t slab = i % slabs;
      Piece piece{i / slabs, {Range{0, t.extents[0]}, {0, t.extents[1]}, {0, t.extents[2]}}, int(slab % 2)};
      piece.at[axis] = {slab * t.extents[axis] / slabs, (slab + 1) * t.extents[axis] / slabs};
      out[i * ptrdiff_t(out.size()) / (t.batch * slabs)].push_back(piece);
    }
    return out;
  }

  void go(const Piece& piece, Worker& w, Sums& sums) const {
    Shape3 n;
    for (int axis = 0; axis < 3; axis++) n[axis] = piece.at[axis].count();
    const Cut cut(1, n, pixels_, 1);
    auto place = [&](ptrdiff_t i) {
      Tile tile = cut.tile(i);
      tile.batch = piece.batch;
      for (int axis = 0; axis < 3; axis++) {
        tile.at[axis].from += piece.at[axis].from;
        tile.at[axis].to += piece.at[axis].from;
      }
      return tile;
    };
    Tile next = place(0);
    for (ptrdiff_t i = 0; i < cut.tiles(); i++) {
      const Tile tile = next;
      if (i + 1 < cut.tiles()) next = place(i + 1);
      if (spec_.pointwise_first)
        pointwise_first(tile, w, sums);
      else
        depthwise_first(tile, next, w, sums);
    }
  }

  // The memory of `box` of one batch entry, for prefetching.
  template <class U>
  static Fetch stretch(const Tensor<U>& t, const T* data, ptrdiff_t batch, const std::array<Range, 3>& box) {
    if (!data || box[0].count() <= 0 || box[1].count() <= 0 || box[2].count() <= 0) return {};
    const T* at =
        data + batch * t.batch_pitch + box[0].from * t.pitch[0] + box[1].from * t.pitch[1] + box[2].from * t.pitch[2];
    const int rows = box[0].count() > 1 ? 0 : 1;  // several slices: each is one stretch, or nearly
    ptrdiff_t line = box[2].count() * t.pitch[2];
    if (rows == 0) line += (box[1].count() - 1) * t.pitch[1];
    return {reinterpret_cast<const char*>(at), box[rows].count(), line * ptrdiff_t(sizeof(T)),
            t.pitch[rows] * ptrdiff_t(sizeof(T))};
  }

  // Pixel by pixel, row by row, as a tile's blocks have them.
  Shape3 packed(const Tile& t) const {
    const ptrdiff_t lanes = kernels_.lanes, wide = t.at[2].count();
    return {t.at[1].count() * wide * lanes, wide * lanes, lanes};
  }

  // Copies a tile at the other side of the pointwise convolution into blocks.
  void load(const Tensor<const T>& t, const Tile& tile, Worker& w, T* blocks) const {
    const T* from = t.data + tile.batch * t.batch_pitch + linear(t.pitch, tile);
    const Shape3 to = packed(tile);
    w.runs.clear();
    for (ptrdiff_t z = 0; z < tile.at[0].count(); z++)
      for (ptrdiff_t y = 0; y < tile.at[1].count(); y++)
        w.runs.copy(z * to[0] + y * to[1], z * t.pitch[0] + y * t.pitch[1], tile.at[2].count(), to[2], t.pitch[2]);
    const Slices& s = other();
    for (ptrdiff_t i = 0; i < s.count; i++)
      kernels_.depthwise({from + s.start(i), copy_.weights(0, i), kernels_.lanes, copy_.bias(0, i),
                          blocks + s.block(i) * block_ + s.lane(i), nullptr, w.runs.data(), w.runs.size(), s.width,
                          Activation::none, false});
  }

  template <class Visit>
  void slices(Visit visit) const {
    for (ptrdiff_t g = 0; g < spec_.multiplier; g++)
      for (ptrdiff_t i = 0; i < depth_.count; i++)
        visit(g, i, (g * depth_.blocks + depth_.block(i)) * block_ + depth_.lane(i),
              (g * depth_.count + i) * spec_.taps() * kernels_.lanes);
  }

  void activate(const Tile& tile, Worker& w) const {
    const ptrdiff_t n = tile.pixels() * kernels_.lanes;
    for (ptrdiff_t b = 0; b < mid_blocks(); b++) {
      if (keeps_) {
        std::copy_n(w.slope + b * block_, n, w.value + b * block_);
        kernels_.apply(w.value + b * block_, n, act());
      }
    }
  }

  void derive(const Tile& tile, Worker& w, T* sums) const {
    for (ptrdiff_t b = 0; b < mid_blocks(); b++) {
      kernels_.derive(w.middle + b * block_, w.slope + b * block_, tile.pixels() * kernels_.lanes, act());
      kernels_.lane_sums(w.middle + b * block_, tile.pixels(), sums + b * kernels_.lanes);
    }
  }

  void depthwise_first(const Tile& tile, const Tile& next, Worker& w, Sums& sums) const {
    const ptrdiff_t lanes = kernels_.lanes;
    const T* x = x_.data + tile.batch * x_.batch_pitch;
    load(grad_, tile, w, w.other);
    if (output_) {
      load(*output_, tile, w, w.output);
      for (ptrdiff_t b = 0; b < out_.blocks; b++)
        kernels_.derive(w.other + b * block_, w.output + b * block_, tile.pixels() * lanes, spec_.pointwise_act);
    }
    w.runs.build(window_, tile, packed(tile), ptrdiff_t(caches().l1d / 2) / (lanes * ptrdiff_t(sizeof(T))));
    slices([&](ptrdiff_t g, ptrdiff_t i, ptrdiff_t at, ptrdiff_t) {
      kernels_.depthwise({x + depth_.start(i), forth_.weights(g, i), lanes, forth_.bias(g, i), w.slope + at, nullptr,
                          w.runs.data(), w.runs.size(), depth_.width, keeps_ ? Activation::none : act(), false});
    });
    activate(tile, w);
    const std::vector<Channels> channels = channels_of(out_, 1, block_);
    std::array<Range, 3> soon;  // samples of the next tile that this one does not read: prefetched
    for (int axis = 0; axis < 3; axis++) {
      soon[axis] = window_.needs(axis, next.at[axis]);
      if (next.at[axis].from > tile.at[axis].from)
        soon[axis].from = std::max(soon[axis].from, window_.needs(axis, tile.at[axis]).to);
    }
    kernels_.pointwise({w.other, channels.data(), ptrdiff_t(channels.size()), w.panels.data(),
                        ptrdiff_t(w.panels.size()), tile.pixels(), w.middle, nullptr, w.offsets, Activation::none,
                        false, stretch(x_, x_.data, next.batch, soon)});
    if (results_.depthwise) {
      kernels_.outer(
          {.a = w.value,
           .b = w.other,
           .block = block_,
           .a_blocks = mid_blocks(),
           .b_blocks = out_.blocks,
           .pixels = tile.pixels(),
           .sums = sums.pointwise,
           .pitch = columns_,
           .fetch = {stretch(grad_, grad_.data, next.batch, next.at), stretch(x_out_, results_.x, next.batch, soon)}});
      for (ptrdiff_t b = 0; b < out_.blocks; b++)
        kernels_.lane_sums(w.other + b * block_, tile.pixels(), sums.end + b * lanes);
    }
    derive(tile, w, sums.middle);
    if (results_.depthwise)
      slices([&](ptrdiff_t, ptrdiff_t i, ptrdiff_t at, ptrdiff_t taps) {
        kernels_.tap_sums({w.middle + at, x + depth_.start(i), sums.depthwise + taps, lanes, w.runs.data(),
                           w.runs.size(), depth_.width});
      });
    if (!results_.x) return;
    Tile region{tile.batch, {}};
    for (int axis = 0; axis < 3; axis++) region.at[axis] = window_.needs(axis, tile.at[axis]);
    if (region.pixels() <= 0) return;
    w.runs.build_adjoint(window_, region, tile.at, packed(tile), x_out_.pitch);
    T* to = results_.x + region.batch * x_out_.batch_pitch + linear(x_out_.pitch, region);
    slices([&](ptrdiff_t g, ptrdiff_t i, ptrdiff_t at, ptrdiff_t) {
      kernels_.depthwise({w.middle + at, back_.weights(g, i), lanes, back_.bias(g, i), to + depth_.start(i), nullptr,
                          w.runs.data(), w.runs.size(), depth_.width, Activation::none, true});
    });
  }

  void pointwise_first(const Tile& tile, Worker& w, Sums& sums) const {
    const ptrdiff_t lanes = kernels_.lanes;
    load(x_, tile, w, w.other);
    const std::vector<Channels> in = channels_of(in_, 1, block_);
    kernels_.pointwise({w.other, in.data(), ptrdiff_t(in.size()), w.first.data(), ptrdiff_t(w.first.size()),
                        tile.pixels(), w.slope, nullptr, w.offsets, keeps_ ? Activation::none : act(), false, Fetch{}});
    activate(tile, w);
    std::array<Range, 3> results;
    for (int axis = 0; axis < 3; axis++) results[axis] = {0, grad_.extents[axis]};
    w.runs.build_adjoint(window_, tile, results, grad_.pitch, packed(tile));
    const T* grad = grad_.data + tile.batch * grad_.batch_pitch;
    slices([&](ptrdiff_t g, ptrdiff_t i, ptrdiff_t at, ptrdiff_t taps) {
      kernels_.depthwise({grad + depth_.start(i), back_.weights(g, i), lanes, back_.bias(g, i), w.middle + at, nullptr,
                          w.runs.data(), w.runs.size(), depth_.width, Activation::none, false});
      if (results_.depthwise)
        kernels_.tap_sums({w.value + at, grad + depth_.start(i), sums.depthwise + taps, lanes, w.runs.data(),
                           w.runs.size(), depth_.width});
    });
    derive(tile, w, sums.middle);
    if (results_.depthwise)
      kernels_.outer(
          {w.other, w.middle, block_, in_.blocks, mid_blocks(), tile.pixels(), sums.pointwise, columns_, {}});
    if (!results_.x) return;
    w.places.clear();
    for (ptrdiff_t z = 0; z < tile.at[0].count(); z++)
      for (ptrdiff_t y = 0; y < tile.at[1].count(); y++)
        for (ptrdiff_t x = 0; x < tile.at[2].count(); x++)
          w.places.push_back(z * x_out_.pitch[0] + y * x_out_.pitch[1] + x * x_out_.pitch[2]);
    const std::vector<Channels> mid = channels_of(depth_, spec_.multiplier, block_);
    kernels_.pointwise({w.middle, mid.data(), ptrdiff_t(mid.size()), to_x_.panels().data(),
                        ptrdiff_t(to_x_.panels().size()), tile.pixels(),
                        results_.x + tile.batch * x_out_.batch_pitch + linear(x_out_.pitch, tile), nullptr,
                        w.places.data(), Activation::none, false, Fetch{}});
  }

  // The position of channel c of one group in the blocks.
  static ptrdiff_t lane_of(const Slices& s, ptrdiff_t c) {
    if (!s.wide()) return c;
    const ptrdiff_t i = c / s.lanes;
    return i * s.lanes + c - s.start(i);
  }

  void unpack(const Sums& sums) const {
    const ptrdiff_t m = spec_.multiplier, c = spec_.c_depth(), taps = spec_.taps(), lanes = kernels_.lanes;
    const bool first = spec_.pointwise_first;
    const ptrdiff_t n = first ? spec_.c_in : spec_.c_out;
    for (ptrdiff_t g = 0; g < m; g++)
      for (ptrdiff_t i = 0; i < c; i++) {
        const ptrdiff_t j = i * m + g, lane = g * depth_.blocks * lanes + lane_of(depth_, i);
        const ptrdiff_t slice = std::min(i / depth_.width, depth_.count - 1);
        for (ptrdiff_t k = 0; k < taps; k++)
          results_.depthwise[j * taps + k] =
              sums.depthwise[((g * depth_.count + slice) * taps + k) * lanes + i - depth_.start(slice)];
        for (ptrdiff_t o = 0; o < n; o++) {
          const ptrdiff_t end = lane_of(other(), o);
          if (first)
            results_.pointwise[j * n + o] = sums.pointwise[end * columns_ + lane];
          else
            results_.pointwise[o * spec_.c_mid() + j] = sums.pointwise[lane * columns_ + end];
        }
        (first ? results_.bias : results_.depthwise_bias)[j] = sums.middle[lane];
      }
    if (!first)
      for (ptrdiff_t o = 0; o < n; o++) results_.bias[o] = sums.end[lane_of(out_, o)];
  }

  const FusedSpec spec_;
  const Layers<T>& kernels_;
  const Tensor<const T> x_, grad_;
  const Tensor<const T>* output_;
  const Tensor<T> x_out_;
  const FusedResults<T> results_;
  const Slices depth_, in_, out_;
  Window window_;
  PackedDepthwise<T> forth_, back_, copy_;
  PackedPointwise<T> from_x_, to_mid_, to_x_;
  bool keeps_ = false;  // the intermediate tensor before its activation as well as after it
  ptrdiff_t pixels_ = 0, block_ = 0, rows_ = 0, columns_ = 0;
  size_t sum_elements_ = 0;
};

}  // namespace

template <class T>
void fused_gradients(const FusedSpec& spec, const FusedWeights<T>& weights, const Tensor<const T>& x,
                     const Tensor<const T>& grad, const Tensor<const T>* output, const Tensor<T>& x_out,
                     const FusedResults<T>& results, const Shape3& before, int threads) {
  if (grad.batch * grad.extents[0] * grad.extents[1] * grad.extents[2] == 0) return;
  if (x.batch * x.extents[0] * x.extents[1] * x.extents[2] == 0) return;
  Backward<T>(spec, weights, x, grad, output, x_out, results, before).run(threads);
}

#define SEP_INSTANTIATE(T)                                                                           \
  template void fused_gradients<T>(const FusedSpec&, const FusedWeights<T>&, const Tensor<const T>&, \
                                   const Tensor<const T>&, const Tensor<const T>*, const Tensor<T>&, \
                                   const FusedResults<T>&, const Shape3&, int);
SEP_INSTANTIATE(float)
SEP_INSTANTIATE(double)

}  // namespace sep
