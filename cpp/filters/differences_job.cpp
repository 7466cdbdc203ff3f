#include "filters/differences_job.h"

#include <bit>
#include <cmath>
#include <stdexcept>

#include "filters/dense_sweep.h"

namespace sep {
namespace {

// Running sums in float64. Where one is not finite, the samples themselves are staged again.
class DoubleSweep : public DenseSweep<double> {
 public:
  DoubleSweep(std::vector<DenseAxis> axes, const double* weights, const double* differences, double cval, int threads,
              const Input& in, const Output& out)
      : DenseSweep(std::move(axes), weights, cval, threads, in, out), differences_(cut(differences)) {
    kernel_ = cut(weights, 0);  // no run multiplies by 0: 0 times infinity is NaN
  }
  size_t scratch_bytes() const override { return DoubleWorker::bytes(*this) * size_t(threads_); }

 private:
  struct DoubleWorker : Worker {
    static size_t bytes(const DoubleSweep& d) { return Worker::bytes(d) + more(d); }
    static size_t more(const DoubleSweep& d) {
      const ptrdiff_t planes = d.slots();
      return Scratch::bytes<double>(planes * d.height() * d.pitch_) + Scratch::bytes<double>(kGroup * d.pitch_) +
             Scratch::bytes<const double*>(planes) + Scratch::bytes<Place>(planes) +
             Scratch::bytes<bool>(planes * d.height()) + 2 * Scratch::bytes<bool>(planes) +
             Scratch::bytes<bool>(d.height());
    }
    explicit DoubleWorker(const DoubleSweep& d)
        : Worker(d),
          further(more(d)),
          raw(further.take<double>(d.slots() * d.height() * d.pitch_)),
          raw_out(further.take<double>(kGroup * d.pitch_)),
          raw_planes(further.take<const double*>(d.slots())),
          from(further.take<Place>(d.slots())),
          row_nonfinite(further.take<bool>(d.slots() * d.height())),
          plane_nonfinite(further.take<bool>(d.slots())),
          has_raw(further.take<bool>(d.slots())),
          slice_nonfinite(further.take<bool>(d.height())) {}
    Scratch further;
    double *raw, *raw_out;
    const double** raw_planes;
    Place* from;                      // where each slice of the ring was staged from
    bool* row_nonfinite;              // of each of its rows: a running sum is not finite
    bool *plane_nonfinite, *has_raw;  // of each slice: one of its rows is; its samples are staged, too
    bool* slice_nonfinite;            // of rows in any slice that a slice of results needs
  };

  std::unique_ptr<Worker> make_worker() const override { return std::make_unique<DoubleWorker>(*this); }
  void staged(Worker& w, ptrdiff_t at, Place from, const Tile& t) const override;
  void slice(Worker& w, bool masked, char* dst, const Tile& t) const override;
  bool find_nonfinite(DoubleWorker& w, const Tile& t) const;
  void apply_weights(DoubleWorker& w, ptrdiff_t at, ptrdiff_t count, const Tile& t) const;

  Kernel differences_;
};

// Running sums modulo 2**32 of integers: the samples, or floats times `scale` rounded to integers.
class IntegerSweep : public DenseSweep<float> {
 public:
  // Results are sums times `factor`, before they are stored as `out` says.
  IntegerSweep(std::vector<DenseAxis> axes, const float* differences, float cval, float scale, double factor,
               int threads, const Input& in, const Output& out);
  size_t scratch_bytes() const override { return IntegerWorker::bytes(*this) * size_t(threads_); }

 private:
  struct IntegerWorker : Worker {
    static size_t more(const IntegerSweep& d) { return Scratch::bytes<double>(d.pitch_); }
    static size_t bytes(const IntegerSweep& d) { return Worker::bytes(d) + more(d); }
    explicit IntegerWorker(const IntegerSweep& d) : Worker(d), further(more(d)), row(further.take<double>(d.pitch_)) {}
    Scratch further;
    double* row;
  };
  std::unique_ptr<Worker> make_worker() const override { return std::make_unique<IntegerWorker>(*this); }
  void staged(Worker& w, ptrdiff_t at, Place from, const Tile& t) const override;
  void slice(Worker& w, bool masked, char* dst, const Tile& t) const override;

  Writer<double> wide_;
  float scale_;
  double factor_;
  std::vector<IntegerRun> runs_;
};

// ---- float64 -------------------------------------------------------------------------------------------------------

void DoubleSweep::staged(Worker& worker, ptrdiff_t at, Place from, const Tile& t) const {
  DoubleWorker& w = static_cast<DoubleWorker&>(worker);
  const ptrdiff_t rows = t.ny + y_.reach.extra(), pixels = t.nx + x_.reach.extra();
  double* plane = w.in + at * height() * pitch_;
  bool* nonfinite = w.row_nonfinite + at * height();
  w.from[at] = from;
  w.has_raw[at] = w.plane_nonfinite[at] = false;
  if (x_.summed) {
    for (ptrdiff_t r = 0; r < rows; r++) {
      double* row = plane + r * pitch_;
      differences().along(row, pixels, step_, 1);
      nonfinite[r] = !differences().finite(row + (pixels - 1) * step_, step_);  // the sums of all that counts
      w.plane_nonfinite[at] |= nonfinite[r];
    }
    return;
  }
  std::fill_n(w.out, pitch_, 0.0);
  for (ptrdiff_t r = 0; r < rows; r++) differences().down(plane + r * pitch_, w.out, pixels * step_, 1);
  w.plane_nonfinite[at] = !differences().finite(plane + (rows - 1) * pitch_, pixels * step_);
  std::fill_n(nonfinite, rows, w.plane_nonfinite[at]);
}

// Finds the rows whose sums are not finite in the slices that the results need; returns whether there are any. If so,
// the samples of all these slices are staged.
bool DoubleSweep::find_nonfinite(DoubleWorker& w, const Tile& t) const {
  const ptrdiff_t size = height() * pitch_, rows = t.ny + y_.reach.extra();
  bool any = false;
  for (ptrdiff_t i = 0; i < slots(); i++) any |= w.plane_nonfinite[w.slots[i]];
  if (!any) return false;
  std::fill_n(w.slice_nonfinite, rows, false);
  for (ptrdiff_t i = 0; i < slots(); i++) {
    const ptrdiff_t at = w.slots[i];
    for (ptrdiff_t r = 0; w.plane_nonfinite[at] && r < rows; r++)
      w.slice_nonfinite[r] |= w.row_nonfinite[at * height() + r];
    if (!w.has_raw[at]) stage(w, w.from[at], t, w.raw + at * size, nullptr);
    w.has_raw[at] = true;
    w.raw_planes[i] = w.raw + at * size;
  }
  return true;
}

void DoubleSweep::slice(Worker& worker, bool, char* dst, const Tile& t) const {
  DoubleWorker& w = static_cast<DoubleWorker&>(worker);
  const ptrdiff_t width = t.nx * step_, last = std::max<ptrdiff_t>(t.ny - kGroup, 0);
  const uintptr_t mask = uintptr_t(target().vector_bytes) - 1;
  const bool aligned = ((reinterpret_cast<uintptr_t>(dst) | uintptr_t(y_.dst)) & mask) == 0;
  const bool nonfinite = find_nonfinite(w, t);
  const bool through = !writes_runs() || !writer_.plain() || nonfinite || width < kVector || (stream_ && !aligned);
  for (ptrdiff_t y = 0; y < t.ny; y += kGroup) {
    const ptrdiff_t at = std::min(y, last), count = std::min<ptrdiff_t>(kGroup, t.ny);  // the last group overlaps
    char* to = dst + at * y_.dst;
    lines<double>().direct({w.planes, pitch_, at, differences_.runs.data(), ptrdiff_t(differences_.runs.size()),
                            through ? w.out : reinterpret_cast<double*>(to),
                            through ? pitch_ : y_.dst / ptrdiff_t(sizeof(double)), count, std::max(width, kVector),
                            stream_ && !through});
    if (nonfinite) apply_weights(w, at, count, t);
    for (ptrdiff_t r = 0; through && r < count; r++) put(writer_, w.out + r * pitch_, to + r * y_.dst, t.nx);
  }
}

// Computes results whose running sums are not finite from the samples and weights.
void DoubleSweep::apply_weights(DoubleWorker& w, ptrdiff_t at, ptrdiff_t count, const Tile& t) const {
  const ptrdiff_t width = t.nx * step_;
  bool done = false;
  for (ptrdiff_t r = 0; r < count; r++) {
    const bool* first = w.slice_nonfinite + at + r;
    if (std::none_of(first, first + y_.reach.taps, [](bool b) { return b; })) continue;
    if (!done)
      lines<double>().direct({w.raw_planes, pitch_, at, kernel_.runs.data(), ptrdiff_t(kernel_.runs.size()), w.raw_out,
                              pitch_, count, std::max(width, kVector), false});
    done = true;
    std::copy_n(w.raw_out + r * pitch_, width, w.out + r * pitch_);
  }
}

// ---- integers ------------------------------------------------------------------------------------------------------

IntegerSweep::IntegerSweep(std::vector<DenseAxis> axes, const float* differences, float cval, float scale,
                           double factor, int threads, const Input& in, const Output& out)
    : DenseSweep(std::move(axes), differences, cval, threads, in, out), wide_(out), scale_(scale), factor_(factor) {
  columns(differences, [&](const float* column, ptrdiff_t plane, ptrdiff_t k) {
    const ptrdiff_t n = y_.reach.taps, stride = y_.weight;
    for (ptrdiff_t first = 0, end; first < n; first = end) {
      end = first + 1;
      const float value = column[first * stride];
      while (end < n && column[end * stride] == value) end++;
      if (value != 0) runs_.push_back({plane, first * pitch_ + k * step_, end - first, uint32_t(int32_t(value))});
    }
  });
}

void IntegerSweep::staged(Worker& w, ptrdiff_t at, Place, const Tile& t) const {
  const ptrdiff_t rows = t.ny + y_.reach.extra(), pixels = t.nx + x_.reach.extra();
  float* plane = w.in + at * height() * pitch_;
  uint32_t* sum = reinterpret_cast<uint32_t*>(w.out);
  if (!x_.summed) std::fill_n(sum, pitch_, 0u);
  for (ptrdiff_t r = 0; r < rows; r++)
    if (x_.summed)
      differences().along_integers(plane + r * pitch_, pixels, step_, scale_);
    else
      differences().down_integers(plane + r * pitch_, sum, pixels * step_, scale_);
}

void IntegerSweep::slice(Worker& worker, bool, char* dst, const Tile& t) const {
  IntegerWorker& w = static_cast<IntegerWorker&>(worker);
  const ptrdiff_t width = t.nx * step_, last = std::max<ptrdiff_t>(t.ny - kGroup, 0);
  uint32_t* out = reinterpret_cast<uint32_t*>(w.out);
  for (ptrdiff_t y = 0; y < t.ny; y += kGroup) {
    const ptrdiff_t at = std::min(y, last), count = std::min<ptrdiff_t>(kGroup, t.ny);
    differences().integers({reinterpret_cast<const uint32_t* const*>(w.planes), pitch_, at, runs_.data(),
                            ptrdiff_t(runs_.size()), out, pitch_, count, std::max(width, kVector)});
    for (ptrdiff_t r = 0; r < count; r++) {
      differences().widen(out + r * pitch_, w.row, width, factor_);
      put(wide_, w.row, dst + (at + r) * y_.dst, t.nx);
    }
  }
}

constexpr double kResultLimit = 2147483648.0;  // results are smaller in magnitude: they fit int32
constexpr double kSmallestPeak = 1e-30;        // of the samples: below it the scale would overflow float32

// The largest magnitude of a small integer type; infinity for other types.
double largest(Element type) {
  switch (type) {
    case Element::boolean:
      return 1;
    case Element::i8:
      return 128;
    case Element::u8:
      return 255;
    case Element::i16:
      return 32768;
    case Element::u16:
      return 65535;
    default:
      return std::numeric_limits<double>::infinity();
  }
}

bool is_integer(double v) { return v == std::nearbyint(v) && std::abs(v) <= kLargestInteger; }

// The bits of the largest magnitude in an array of floats.
uint32_t peak(std::vector<ptrdiff_t> shape, const Input& in, int threads) {
  std::vector<std::pair<ptrdiff_t, ptrdiff_t>> axes;  // stride and length, the rows last
  for (size_t i = 0; i < shape.size(); i++)
    if (shape[i] > 1) axes.push_back({std::abs(in.strides[i]), ptrdiff_t(i)});
  std::sort(axes.rbegin(), axes.rend());
  ptrdiff_t n = 1, stride = sizeof(float), rows = 1;
  if (!axes.empty()) {
    n = shape[axes.back().second], stride = in.strides[axes.back().second];
    axes.pop_back();
  }
  for (const auto& axis : axes) rows *= shape[axis.second];
  constexpr ptrdiff_t kTask = 1 << 16;  // samples
  const ptrdiff_t rows_a_task = ceil_div(kTask, n), tasks = ceil_div(rows, rows_a_task);
  threads = int(std::min<ptrdiff_t>(threads, tasks));
  std::vector<uint32_t> peaks(size_t(threads), 0);
  parallel(tasks, threads, [&](ptrdiff_t task, int worker) {
    for (ptrdiff_t row = task * rows_a_task; row < std::min(rows, (task + 1) * rows_a_task); row++) {
      const char* at = in.values;
      ptrdiff_t rest = row;
      for (size_t i = axes.size(); i-- > 0; rest /= shape[axes[i].second])
        at += rest % shape[axes[i].second] * in.strides[axes[i].second];
      if (stride == sizeof(float)) {
        peaks[worker] = std::max(peaks[worker], differences().peak(reinterpret_cast<const float*>(at), n));
        continue;
      }
      for (ptrdiff_t i = 0; i < n; i++)
        peaks[worker] = std::max(peaks[worker], differences().peak(reinterpret_cast<const float*>(at + i * stride), 1));
    }
  });
  return *std::max_element(peaks.begin(), peaks.end());
}

}  // namespace

DifferencesJob::DifferencesJob(std::vector<ptrdiff_t> shape, const std::vector<ptrdiff_t>& extents,
                               const double* weights, ptrdiff_t axis, const std::vector<ptrdiff_t>& shifts,
                               const std::vector<Mode>& modes, double cval, double divisor, bool fixed_point)
    : shape_(std::move(shape)), axis_(axis), cval_(cval), divisor_(divisor), fixed_point_(fixed_point) {
  const size_t d = shape_.size();
  if (d < 1 || extents.size() != d || shifts.size() != d || modes.size() != d)
    throw std::invalid_argument("shape, weights, shifts and modes must have the same number of axes");
  if (axis < 0 || size_t(axis) >= d || extents[axis] < 2)
    throw std::invalid_argument("sums run along an axis of several weights");
  ptrdiff_t lines = 1, inner = 1;
  for (size_t i = 0; i < d; i++) {
    if (extents[i] < 1 || shifts[i] < 0 || shifts[i] >= extents[i])
      throw std::invalid_argument("each axis needs at least one weight and a shift within them");
    const bool summed = ptrdiff_t(i) == axis;
    reach_.push_back({extents[i] + summed, shifts[i], modes[i]});
    if (!summed) (ptrdiff_t(i) < axis ? lines : inner) *= extents[i];
  }
  const ptrdiff_t n = extents[axis];
  weights_.assign(size_t(lines * (n + 1) * inner), 0.0);
  differences_ = weights_;
  // A sum over a stretch is the difference of the running sums at its ends: each gets the weight before it less that
  // after.
  for (ptrdiff_t line = 0; line < lines; line++)
    for (ptrdiff_t k = 0; k < n; k++)
      for (ptrdiff_t i = 0; i < inner; i++) {
        const double w = weights[(line * n + k) * inner + i];
        const ptrdiff_t at = (line * (n + 1) + k) * inner + i;
        weights_[at] = w;
        differences_[at] -= w;
        differences_[at + inner] += w;
        norm_ += std::abs(w);
      }
  if (std::all_of(differences_.begin(), differences_.end(), is_integer))
    integers_.assign(differences_.begin(), differences_.end());
}

// Whether results for samples of this type fit int32; intermediate sums may wrap around.
bool DifferencesJob::fits_uint32(Element type) const {
  return !integers_.empty() && is_integer(cval_) && norm_ * std::max(largest(type), std::abs(cval_)) < kResultLimit;
}

// The power of two by which floats are scaled so that results fit int32; 0 where there is none.
double DifferencesJob::scale_of(const Input& in, int threads) const {
  if (!fixed_point_ || integers_.empty() || in.type != Element::f32) return 0;
  const double limit = std::min(kResultLimit / norm_ - 1, kLargestInteger);
  const double most = std::max(double(std::bit_cast<float>(peak(shape_, in, threads))), std::abs(cval_));
  if (!(limit >= 1 && most > kSmallestPeak && most <= std::numeric_limits<float>::max())) return 0;
  return std::exp2(std::floor(std::log2(limit / most)));
}

namespace {

std::vector<DenseAxis> dense_axes(const std::vector<ptrdiff_t>& shape, const std::vector<Reach>& reach,
                                  ptrdiff_t summed, const Input& in, const Output& out) {
  std::vector<DenseAxis> axes(shape.size());
  ptrdiff_t weight = 1;
  for (size_t i = axes.size(); i-- > 0; weight *= reach[i].taps)
    axes[i] = {shape[i], in.strides[i], out.strides[i], 0, weight, reach[i], ptrdiff_t(i) == summed};
  return axes;
}

}  // namespace

// Whether sum * (1 / divisor) is stored as sum / divisor would be. Floats: the product is off by less than 2**-52
// before it is rounded to 2**-24. Integers: a quotient by an odd number is never halfway between two integers, and
// further from there than the product is off.
bool DifferencesJob::reciprocal_serves(const Output& out) const {
  if (out.type == Element::f32) return true;
  return out.type != Element::f64 && out.rounding == Rounding::nearest && std::fmod(divisor_, 2) == 1 &&
         divisor_ < 2147483648.0;
}

void DifferencesJob::run(const Input& in, const Output& out, int threads) const {
  if (std::count(shape_.begin(), shape_.end(), 0)) return;
  std::vector<DenseAxis> axes = dense_axes(shape_, reach_, axis_, in, out);
  Output divided = out;
  divided.divisor = divisor_;
  const double scale = fits_uint32(in.type) ? 1 : scale_of(in, threads);
  if (scale == 0) {
    DoubleSweep(std::move(axes), weights_.data(), differences_.data(), cval_, threads, in, divided).run();
    return;
  }
  double factor = 1 / scale;
  if (reciprocal_serves(out)) {
    factor /= divisor_;
    divided.divisor = 1;
  }
  IntegerSweep(std::move(axes), integers_.data(), float(cval_), float(scale), factor, threads, in, divided).run();
}

size_t DifferencesJob::scratch_bytes(int threads) const {
  if (std::count(shape_.begin(), shape_.end(), 0)) return 0;
  std::vector<ptrdiff_t> strides(shape_.size());
  ptrdiff_t stride = sizeof(double);
  for (size_t i = strides.size(); i-- > 0; stride *= shape_[i]) strides[i] = stride;
  const Input in{nullptr, strides.data(), Element::f64};
  const Output out{nullptr, strides.data(), Element::f64};
  const DoubleSweep sweep(dense_axes(shape_, reach_, axis_, in, out), weights_.data(), differences_.data(), cval_,
                          threads, in, out);
  return sweep.scratch_bytes();
}

}  // namespace sep
