#include "direct_job.h"

#include <functional>
#include <numeric>
#include <stdexcept>

#include "machine.h"
#include "pool.h"

namespace sep {
namespace {

constexpr ptrdiff_t kTileRows = 32, kTileColumns = 512;  // output and input tile stay in the L2 cache
constexpr ptrdiff_t kSmallWork = 1 << 18;                // multiply-adds below which one thread does it

ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }

}  // namespace

template <class T>
struct DirectJob<T>::Worker {
  static size_t bytes(const DirectJob& j) {
    const ptrdiff_t rows = j.tile_y_ + j.reach_.end()[-2].extra();
    return Scratch::bytes<T>(rows * pitch(j)) + Scratch::bytes<T>(j.tile_y_ * j.tile_x_) +
           Scratch::bytes<T*>(rows) + Scratch::bytes<T*>(j.tile_y_);
  }
  static ptrdiff_t pitch(const DirectJob& j) { return j.tile_x_ + j.reach_.back().extra() + 16; }

  explicit Worker(const DirectJob& j)
      : memory(bytes(j)),
        in(memory.take<T>((j.tile_y_ + j.reach_.end()[-2].extra()) * pitch(j))),
        out(memory.take<T>(j.tile_y_ * j.tile_x_)),
        rows(memory.take<const T*>(j.tile_y_ + j.reach_.end()[-2].extra())),
        dst(memory.take<T*>(j.tile_y_)) {}

  Scratch memory;
  T *in, *out;
  const T** rows;
  T** dst;
};

template <class T>
struct DirectJob<T>::Run {
  const char* src;
  char* dst;
  std::vector<ptrdiff_t> src_strides, dst_strides;
  ptrdiff_t across, up;
};

template <class T>
DirectJob<T>::DirectJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents, const double* weights,
                        const std::vector<ptrdiff_t>& shifts, const std::vector<Mode>& modes, double cval)
    : shape_(std::move(shape)), cval_(T(cval)), pad_(shape_.size() < 2) {
  const size_t d = shape_.size();
  if (d < 1 || extents.size() != d || shifts.size() != d || modes.size() != d)
    throw std::invalid_argument("shape, weights, shifts and modes must have the same number of axes");
  ptrdiff_t total = 1;
  for (size_t i = 0; i < d; i++) {
    if (extents[i] < 1 || shifts[i] < 0 || shifts[i] >= extents[i])
      throw std::invalid_argument("each axis needs at least one weight and a shift within them");
    reach_.push_back({extents[i], shifts[i], modes[i]});
    total *= extents[i];
  }
  weights_.assign(weights, weights + total);
  if (pad_) {
    shape_.insert(shape_.begin(), 1);
    reach_.insert(reach_.begin(), Reach{});
  }
  tile_y_ = std::min(kTileRows, std::max<ptrdiff_t>(shape_.end()[-2], 1));
  tile_x_ = std::min(kTileColumns, std::max<ptrdiff_t>(shape_.back(), 1));
}

template <class T>
size_t DirectJob<T>::scratch_bytes(int threads) const {
  return Worker::bytes(*this) * size_t(threads);
}

template <class T>
void DirectJob<T>::run(const char* src, const ptrdiff_t* src_strides, char* dst, const ptrdiff_t* dst_strides,
                       int threads) const {
  const size_t d = shape_.size() - pad_;
  Run run{src, dst, {src_strides, src_strides + d}, {dst_strides, dst_strides + d}, 0, 0};
  if (pad_) {
    run.src_strides.insert(run.src_strides.begin(), 0);
    run.dst_strides.insert(run.dst_strides.begin(), 0);
  }
  ptrdiff_t samples = 1;
  for (ptrdiff_t n : shape_) samples *= n;
  if (samples == 0) return;
  run.across = ceil_div(shape_.back(), tile_x_);
  run.up = ceil_div(shape_.end()[-2], tile_y_);
  ptrdiff_t tasks = run.across * run.up;
  for (size_t i = 0; i + 2 < shape_.size(); i++) tasks *= shape_[i];
  if (double(samples) * double(weights_.size()) < kSmallWork) threads = 1;
  threads = int(std::min<ptrdiff_t>(threads, tasks));
  std::vector<std::unique_ptr<Worker>> workers(threads);
  for (auto& w : workers) w = std::make_unique<Worker>(*this);
  parallel(tasks, threads, [&](ptrdiff_t task, int worker) { tile(run, *workers[worker], task); });
}

// One tile of one plane: the sum over the leading axes' taps of two-dimensional correlations.
template <class T>
void DirectJob<T>::tile(const Run& run, Worker& w, ptrdiff_t task) const {
  const size_t lead = shape_.size() - 2;
  const Reach &ry = reach_[lead], &rx = reach_[lead + 1];
  const ptrdiff_t x0 = task % run.across * tile_x_, nx = std::min(tile_x_, shape_[lead + 1] - x0);
  const ptrdiff_t y0 = task / run.across % run.up * tile_y_, ny = std::min(tile_y_, shape_[lead] - y0);
  std::vector<ptrdiff_t> at(lead), tap(lead, 0);
  ptrdiff_t rest = task / run.across / run.up;
  char* dst = run.dst + y0 * run.dst_strides[lead] + x0 * run.dst_strides[lead + 1];
  for (size_t i = lead; i-- > 0; rest /= shape_[i]) {
    at[i] = rest % shape_[i];
    dst += at[i] * run.dst_strides[i];
  }
  const RowShape<T> row{shape_[lead + 1], 1, run.src_strides[lead + 1], rx, cval_};
  const ptrdiff_t pitch = Worker::pitch(*this), plane = ry.taps * rx.taps;
  for (ptrdiff_t r = 0; r < ny; r++) w.dst[r] = w.out + r * tile_x_;
  for (const T* weights = weights_.data();; weights += plane) {
    const char* base = run.src;
    bool outside = false;
    for (size_t i = 0; i < lead; i++) {
      const ptrdiff_t s = source_index(at[i] + tap[i] - reach_[i].shift, shape_[i], reach_[i].mode);
      outside = outside || s == kOutside;
      base += s * run.src_strides[i];
    }
    for (ptrdiff_t r = 0; r < ny + ry.extra(); r++) {
      T* buffer = w.in + r * pitch;
      const ptrdiff_t s = source_index(y0 + r - ry.shift, shape_[lead], ry.mode);
      if (outside || s == kOutside) {
        std::fill_n(buffer, nx + rx.extra(), cval_);
        w.rows[r] = buffer;
      } else {
        w.rows[r] = row.get(base + s * run.src_strides[lead], x0 - rx.shift, x0 - rx.shift + nx + rx.extra(), buffer);
      }
    }
    lines<T>().direct({w.rows, weights, ry.taps, rx.taps, 1, w.dst, ny, nx, weights != weights_.data()});
    size_t i = lead;  // the next tap of the leading axes
    while (i > 0 && ++tap[i - 1] == reach_[i - 1].taps) tap[--i] = 0;
    if (i == 0) break;
  }
  for (ptrdiff_t r = 0; r < ny; r++)
    scatter(w.dst[r], dst + r * run.dst_strides[lead], nx, 1, run.dst_strides[lead + 1]);
}

template class DirectJob<float>;
template class DirectJob<double>;

}  // namespace sep
