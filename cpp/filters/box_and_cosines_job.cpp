#include "filters/box_and_cosines_job.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>

#include "base/pool.h"
#include "base/progress.h"
#include "base/scratch.h"
#include "base/tiles.h"
#include "filters/tables.h"

namespace sep {
namespace {

void check(bool ok, const char* what) {
  if (!ok) throw std::invalid_argument(what);
}

// Rounding errors of an oscillator grow in proportion to its run: it restarts from direct sums after this many
// elements.
constexpr ptrdiff_t kRestart = 1 << 14;

// Minimum number of lines side by side in memory that are read row by row instead of line by line.
constexpr ptrdiff_t kAdjacent = 8;

}  // namespace

BoxAndCosinesJob::BoxAndCosinesJob(std::vector<ptrdiff_t> shape, std::vector<BoxOrCosinesPass> passes, double cval,
                                   double factor, double divisor, std::vector<ptrdiff_t> frame,
                                   std::vector<ptrdiff_t> starts)
    : shape_(std::move(shape)),
      frame_(frame.empty() ? shape_ : std::move(frame)),
      starts_(starts.empty() ? std::vector<ptrdiff_t>(shape_.size()) : std::move(starts)),
      cval_(cval),
      factor_(factor),
      divisor_(divisor) {
  check(frame_.size() == shape_.size() && starts_.size() == shape_.size(), "frame and starts have all axes of shape");
  for (ptrdiff_t n : frame_) check(n >= 1 || shape_ == frame_, "the frame of a part is not empty");
  check(!passes.empty(), "a job needs at least one pass");
  std::vector<bool> taken(shape_.size());
  passes_.reserve(passes.size());
  for (BoxOrCosinesPass& q : passes) {
    check(q.axis >= 0 && size_t(q.axis) < shape_.size() && !taken[q.axis], "each pass has an axis of its own");
    taken[q.axis] = true;
    check(q.taps >= 1 && q.taps < std::numeric_limits<int32_t>::max(), "a pass needs at least one tap");
    check(q.shift >= 0 && q.shift < q.taps, "the shift lies within the taps");
    const size_t count = q.frequency.size();
    check(count == q.amplitude.size() && count <= size_t(kMaxCosines),
          "an amplitude for each of at most 12 frequencies");
    check(count == 0 || q.taps % 2 == 1, "cosines are centred on an odd number of taps");
    passes_.push_back({std::move(q), {}, {}, {}, 0});
    Prepared& p = passes_.back();
    p.gain = count ? 0 : double(p.pass.taps);
    if (!count) continue;
    const ptrdiff_t radius = p.pass.taps / 2;
    p.edges.resize(4 * count);
    double *cosine = p.edges.data(), *sine = cosine + count, *edge = sine + count, *beyond = edge + count;
    for (size_t m = 0; m < count; m++) {
      const double w = p.pass.frequency[m], a = p.pass.amplitude[m], r = double(radius);
      cosine[m] = std::cos(w), sine[m] = std::sin(w);
      edge[m] = a * (p.pass.odd ? std::sin(w * r) : std::cos(w * r));
      beyond[m] = a * (p.pass.odd ? std::sin(w * (r + 1)) : std::cos(w * (r + 1)));
    }
    for (ptrdiff_t k = 0; k <= radius; k++)
      for (bool sines : {false, true})
        for (size_t m = 0; m < count; m++) {
          const double angle = p.pass.frequency[m] * double(k);
          p.table.push_back(sines ? std::sin(angle) : std::cos(angle));
          if (!sines && !p.pass.odd) p.gain += p.pass.amplitude[m] * std::cos(angle) * (k ? 2 : 1);
        }
    p.cosines = {int(count), radius, p.pass.odd, p.table.data(), p.pass.amplitude.data(), cosine, sine, edge, beyond};
  }
}

// The buffers of a thread.
struct BoxAndCosinesJob::Worker {
  Worker(const Prepared& p, ptrdiff_t width)
      : memory(worker_bytes(p, width)),
        rows(memory.take<double>(2 * kPanelRows * width)),
        ring(memory.take<double>(p.ring_rows() * width)),
        after(memory.take<double>(p.after() * width)),
        state(memory.take<double>(std::max<ptrdiff_t>(1, 2 * p.cosines.count) * width)) {
    std::fill_n(rows, 2 * kPanelRows * width, 0.0);
  }
  float* floats(ptrdiff_t width) const { return reinterpret_cast<float*>(rows + kPanelRows * width); }
  Scratch memory;
  double *rows, *ring, *after, *state;
  std::vector<ptrdiff_t> last;           // of each line: the place of its last nonfinite sample
  std::vector<unsigned char> nonfinite;  // of each result of this block: there is one in its window
};

size_t BoxAndCosinesJob::worker_bytes(const Prepared& p, ptrdiff_t width) {
  return Scratch::bytes<double>(2 * kPanelRows * width) + Scratch::bytes<double>(p.ring_rows() * width) +
         Scratch::bytes<double>(p.after() * width) +
         Scratch::bytes<double>(std::max<ptrdiff_t>(1, 2 * p.cosines.count) * width);
}

// Panels as wide as keep their ring in half of the L2 cache.
ptrdiff_t BoxAndCosinesJob::width_of(const Prepared& p, ptrdiff_t lines) {
  ptrdiff_t width = kPanelLines;
  while (width > kPanelStep && size_t(p.ring_rows() * width) * sizeof(double) > caches().l2 / 2) width /= 2;
  return std::min(width, round_up(lines, kPanelStep));
}

// One panel of lines in one pass.
struct BoxAndCosinesJob::Sheet {
  const Prepared& p;
  Worker& worker;
  ptrdiff_t n, width;
  Range part;  // of the results: they go to elements 0, 1, ... of `to`
  ptrdiff_t origin;  // of element 0 in the whole array, by which blocks of boxes are laid
  LineSet from, to;
  Element in, out;
  bool in_place;
  double cval;
  Storing how;

  ptrdiff_t taps() const { return p.pass.taps; }

  // Virtual elements [v, v + count) into rows.
  void read(ptrdiff_t v, ptrdiff_t count, double* rows) const {
    for (ptrdiff_t end = v + count; v < end;) {
      if (v >= 0 && v < n) {
        const ptrdiff_t rows_read = std::min({end - v, n - v, kPanelRows});
        box_and_cosines().read[int(in)](from, v, rows_read, rows, width);
        v += rows_read, rows += rows_read * width;
        continue;
      }
      if (v >= n && in_place) {
        const ptrdiff_t rows_read = end - v;
        std::copy_n(worker.after + (v - n) * width, rows_read * width, rows);
        v += rows_read;
        continue;
      }
      const ptrdiff_t rows_read = outside(v, v < 0 ? std::min<ptrdiff_t>(end, 0) : end, rows);
      v += rows_read, rows += rows_read * width;
    }
  }
  // Reads virtual elements from v on, beyond the ends of the line and before `end`, as far as their sources are
  // neighbours; returns how many.
  ptrdiff_t outside(ptrdiff_t v, ptrdiff_t end, double* rows) const {
    const ptrdiff_t s = source_index(v, n, p.pass.mode);
    if (s == kOutside) {
      std::fill_n(rows, width, cval);
      return 1;
    }
    const ptrdiff_t step = v + 1 < end ? source_index(v + 1, n, p.pass.mode) - s : 0;
    ptrdiff_t rows_read = 1;
    if (step == 1 || step == -1)
      while (rows_read < kPanelRows && v + rows_read < end &&
             source_index(v + rows_read, n, p.pass.mode) == s + rows_read * step)
        rows_read++;
    box_and_cosines().read[int(in)](from, step < 0 ? s - rows_read + 1 : s, rows_read, rows, width);
    for (ptrdiff_t a = 0, b = rows_read - 1; step < 0 && a < b; a++, b--)
      std::swap_ranges(rows + a * width, rows + (a + 1) * width, rows + b * width);
    return rows_read;
  }
  // In place: keeps what lies beyond the end before results overwrite its sources.
  void keep_after() const {
    if (in_place)
      for (ptrdiff_t v = n, end = n + p.after(); v < end;) v += outside(v, end, worker.after + (v - n) * width);
  }
  void write(const double* rows, ptrdiff_t first, ptrdiff_t count) const {
    box_and_cosines().write[int(out)](rows, width, to, first, count, how);
  }

  void box() const {
    keep_after();
    double* prefix = worker.state;
    std::fill_n(prefix, width, 0.0);
    std::fill_n(worker.ring, (taps() + 1) * width, 0.0);
    BoxArgs a{nullptr, 0, nullptr, 0, 1, 0, width, worker.ring, prefix, taps(), 0};
    // Element t of the windows is virtual element t + start of the line; the first sum is complete at t = first.
    const ptrdiff_t start = part.from - p.pass.shift, first = taps() - 1, total = part.to - part.from + first;
    a.at = ((part.from + origin) % taps() + taps()) % taps();  // as if it had run since the array's first result
    const ptrdiff_t ends[] = {-start, n - start, first, total};  // blocks do not straddle these
    for (ptrdiff_t t = 0; t < total; t += a.count) {
      a.count = kPanelRows;
      for (ptrdiff_t end : ends)
        if (t < end) a.count = std::min(a.count, end - t);
      const ptrdiff_t v = t + start, i = t - first;
      const bool floats_in = take(a, v), floats_out = place(a, i);
      box_and_cosines().box[floats_in][floats_out](a);
      a.at = (a.at + a.count) % taps();
      if (i < 0) continue;
      if (!floats_out)
        write(worker.rows, i, a.count);
      else if (!to.adjacent)
        box_and_cosines().scatter(worker.floats(width), to, i, a.count);
    }
  }
  // Makes elements [v, v + count) the input: floats, in memory or in a panel of floats (true); or doubles in `rows`.
  bool take(BoxArgs& a, ptrdiff_t v) const {
    const bool inside = v >= 0 && v < n, whole = from.lines == width;
    a.in_step = width;
    if (in == Element::f32 && inside && whole && from.adjacent) {
      a.in = from.at[0] + v * from.stride;
      a.in_step = from.stride / ptrdiff_t(sizeof(float));
      return true;
    }
    if (in == Element::f32 && inside && from.lines == kPanelStep && from.stride == sizeof(float)) {
      box_and_cosines().gather(from, v, a.count, worker.floats(width));
      a.in = worker.floats(width);
      return true;
    }
    read(v, a.count, worker.rows);
    a.in = worker.rows;
    return false;
  }
  // Chooses where results [i, i + count) go in the same way; those before result 0 are dropped.
  bool place(BoxArgs& a, ptrdiff_t i) const {
    a.out = worker.rows, a.out_step = width, a.factor = 1;
    if (out != Element::f32 || i < 0) return false;
    const bool direct = to.adjacent && to.lines == width;
    if (!direct && (to.adjacent || to.lines != kPanelStep || to.stride != sizeof(float) || a.count < kScatterRows))
      return false;
    a.factor = how.factor / how.divisor;  // off by less than 2**-52 before it is rounded to 2**-24
    a.out = direct ? to.at[0] + i * to.stride : static_cast<void*>(worker.floats(width));
    if (direct) a.out_step = to.stride / ptrdiff_t(sizeof(float));
    return true;
  }

  void oscillate() {
    keep_after();
    worker.last.assign(size_t(width), kNever);
    latest = kNever;
    const ptrdiff_t radius = p.cosines.radius, length = 2 * radius + 2, count = part.to - part.from;
    const ptrdiff_t moved = radius - p.pass.shift + part.from;
    for (ptrdiff_t t = 0; t < length; t += kPanelRows) {
      const ptrdiff_t rows_read = std::min(kPanelRows, length - t);
      read(t - radius - 1 + moved, rows_read, worker.ring + t * width);
      mark(worker.ring + t * width, t - radius - 1, rows_read);
    }
    CosinesArgs a{&p.cosines, worker.rows, 0, width, worker.ring, 0, worker.state};
    box_and_cosines().start_cosines(a);
    if (latest >= -radius)
      for (ptrdiff_t line = 0; line < width; line++)
        if (worker.last[line] >= -radius) a.rows[line] = kNaN;
    write(a.rows, 0, 1);
    for (ptrdiff_t i = 1, since = 1; i < count; i += a.count, since += a.count) {
      if (since >= kRestart) {
        box_and_cosines().start_cosines(a);
        since = 0;
      }
      a.count = std::min(kPanelRows, count - i);
      read(i + radius + moved, a.count, a.rows);
      const bool nonfinite = mark(a.rows, i + radius, a.count);
      box_and_cosines().cosines(a);
      a.at = (a.at + a.count) % length;
      for (ptrdiff_t k = 0; nonfinite && k < a.count * width; k++)
        if (worker.nonfinite[k]) a.rows[k] = kNaN;
      write(a.rows, i, a.count);
    }
  }

  // A recursion never forgets a NaN: it runs on zeros instead, and results whose window [v - 2 radius, v] holds a
  // nonfinite sample are marked, v being the newest element. Returns whether there may be any.
  bool mark(double* rows, ptrdiff_t v, ptrdiff_t count) {
    if (box_and_cosines().finite(rows, count * width) && latest < v - 2 * p.cosines.radius) return false;
    worker.nonfinite.resize(size_t(count * width));
    for (ptrdiff_t r = 0, k = 0; r < count; r++, v++)
      for (ptrdiff_t line = 0; line < width; line++, k++) {
        if (!std::isfinite(rows[k])) {
          worker.last[line] = latest = v;
          rows[k] = 0;
        }
        worker.nonfinite[k] = worker.last[line] >= v - 2 * p.cosines.radius;
      }
    return true;
  }

  static constexpr ptrdiff_t kNever = std::numeric_limits<ptrdiff_t>::min() / 2;
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  ptrdiff_t latest = kNever;
};

namespace {

// How the lines of an array along one axis are divided into panels.
struct LinePlan {
  LinePlan(const std::vector<ptrdiff_t>& shape, int axis, const Samples& from, const Samples& to) {
    std::vector<int> others;
    for (int i = 0; i < int(shape.size()); i++)
      if (i != axis && shape[i] > 1) others.push_back(i);
    std::stable_sort(others.begin(), others.end(),
                     [&](int a, int b) { return std::abs(to.strides[a]) > std::abs(to.strides[b]); });
    for (int i : others) {
      counts.push_back(shape[i]);
      in.push_back(from.strides[i]);
      out.push_back(to.strides[i]);
      lines *= shape[i];
    }
    if (others.empty()) return;
    const bool inner = in.back() == size_of(from.item) && out.back() == size_of(to.item);
    adjacent = inner && counts.back() >= kAdjacent;
  }
  // Panels never straddle the end of a row of adjacent lines.
  void cut(ptrdiff_t width) {
    row = adjacent ? counts.back() : lines;
    panels_a_row = ceil_div(row, width);
    size = round_up(ceil_div(row, panels_a_row), kPanelStep);
    panels_a_row = ceil_div(row, size);
  }
  ptrdiff_t panels() const { return lines / row * panels_a_row; }
  ptrdiff_t offset(ptrdiff_t line, const std::vector<ptrdiff_t>& strides) const {
    ptrdiff_t at = 0;
    for (size_t i = counts.size(); i-- > 0; line /= counts[i]) at += line % counts[i] * strides[i];
    return at;
  }

  std::vector<ptrdiff_t> counts, in, out;
  ptrdiff_t lines = 1, row = 1, panels_a_row = 1, size = kPanelStep;
  bool adjacent = false;
};

}  // namespace

void BoxAndCosinesJob::run_pass(const Prepared& p, const std::vector<ptrdiff_t>& shape, Range part, const Samples& from,
                                const Samples& to, double cval, const Storing& how, int threads) const {
  LinePlan plan(shape, p.pass.axis, from, to);
  const ptrdiff_t width = plan.adjacent ? width_of(p, plan.counts.back()) : kPanelStep;
  plan.cut(width);
  const ptrdiff_t n = shape_[p.pass.axis];
  if ((part.to - part.from) * plan.lines < kSmallWork / 16) threads = 1;
  std::vector<std::unique_ptr<Worker>> workers{size_t(threads)};
  parallel(plan.panels(), threads, [&](ptrdiff_t task, int who) {
    if (!workers[who]) workers[who] = std::make_unique<Worker>(p, width);
    const ptrdiff_t first = task / plan.panels_a_row * plan.row + task % plan.panels_a_row * plan.size;
    const ptrdiff_t count = std::min(plan.size, plan.row - task % plan.panels_a_row * plan.size);
    char *in[kPanelLines], *out[kPanelLines];
    for (ptrdiff_t i = 0; i < (plan.adjacent ? 1 : count); i++) {
      in[i] = from.data + plan.offset(first + i, plan.in);
      out[i] = to.data + plan.offset(first + i, plan.out);
    }
    Sheet sheet{.p = p,
                .worker = *workers[who],
                .n = n,
                .width = round_up(count, kPanelStep),
                .part = part,
                .origin = starts_[size_t(p.pass.axis)],
                .from = {in, count, from.strides[p.pass.axis], plan.adjacent},
                .to = {out, count, to.strides[p.pass.axis], plan.adjacent},
                .in = from.item,
                .out = to.item,
                .in_place = from.data == to.data,
                .cval = cval,
                .how = how};
    if (p.box())
      sheet.box();
    else
      sheet.oscillate();
  });
}

// The passes as dst lies in memory, rows last.
std::vector<size_t> BoxAndCosinesJob::order(const ptrdiff_t* strides) const {
  std::vector<size_t> order(passes_.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(strides[passes_[a].pass.axis]) > std::abs(strides[passes_[b].pass.axis]);
  });
  return order;
}

// Elements of the whole array for one along the axis of a pass.
ptrdiff_t BoxAndCosinesJob::across(const Prepared& p) const {
  ptrdiff_t elements = 1;
  for (size_t i = 0; i < frame_.size(); i++) elements *= int(i) == p.pass.axis ? 1 : frame_[i];
  return elements;
}

// Results of the first pass that the further passes filter while they are in the cache; all of them where that gains
// nothing.
ptrdiff_t BoxAndCosinesJob::band(const Prepared& first) const {
  const ptrdiff_t n = frame_[first.pass.axis], row = across(first) * ptrdiff_t(sizeof(double));
  const ptrdiff_t least = (first.box() ? 2 : 4) * first.pass.taps;  // every band reads `taps` rows more
  const ptrdiff_t rows = std::max(least, ptrdiff_t(caches().l2) / row);
  return 2 * rows > n ? n : ceil_div(n, n / rows);
}

bool BoxAndCosinesJob::in_cache(ptrdiff_t doubles) {
  return size_t(doubles) * sizeof(double) <= std::max(2 * caches().l2, caches().l3 / 4);
}

void BoxAndCosinesJob::run(const Samples& src, const Samples& dst, const Storing& stored, int threads) const {
  ptrdiff_t samples = 1;
  for (ptrdiff_t n : shape_) samples *= n;
  if (samples == 0) return;
  const std::vector<size_t> passes = order(dst.strides);
  const Prepared& first = passes_[passes[0]];
  const bool boxes = std::all_of(passes_.begin(), passes_.end(), [](const Prepared& p) { return p.box(); });
  Samples between = dst;
  std::vector<ptrdiff_t> shape = shape_, strides(shape_.size());
  std::unique_ptr<Scratch> sums;
  // Between the passes, sums are kept in dst if its type is precise enough, else as doubles, band by band. Sums of
  // boxes may be kept as floats, which costs one more rounding: they are where bands would not stay in the cache.
  const ptrdiff_t height = passes.size() > 1 ? band(first) : 0;
  const bool cached = in_cache(height * across(first));
  if (passes.size() > 1 && dst.item != Element::f64 && (dst.item != Element::f32 || (boxes && cached))) {
    shape[first.pass.axis] = std::min(height, shape_[first.pass.axis]);
    std::vector<int> axes(shape.size());
    for (size_t i = 0; i < axes.size(); i++) axes[i] = int(i);
    std::stable_sort(axes.begin(), axes.end(),
                     [&](int a, int b) { return std::abs(dst.strides[a]) < std::abs(dst.strides[b]); });
    ptrdiff_t step = sizeof(double);
    for (int i : axes) strides[i] = step, step *= shape[i];
    sums = std::make_unique<Scratch>(size_t(step));
    between = {sums->take<char>(step), strides.data(), Element::f64};
  }
  double samples_of_box = 1;
  for (const Prepared& p : passes_) samples_of_box *= p.box() ? double(p.pass.taps) : 1.0;
  const bool means = !sums && dst.item == Element::f32 && divisor_ == samples_of_box;
  const ptrdiff_t n = shape_[first.pass.axis], rows = shape[first.pass.axis];
  Steps counted(Level::sweeps, ceil_div(n, rows) * ptrdiff_t(passes.size()));
  for (ptrdiff_t from = 0; from < n; from += rows) {
    const Range part{from, std::min(from + rows, n)};
    shape[first.pass.axis] = part.to - part.from;
    const Samples out{dst.data + part.from * dst.strides[first.pass.axis], dst.strides, dst.item};
    run_band(passes, shape, part, src, sums ? between : out, out, means, stored, threads, counted);
  }
}

// Every pass over results `part` of the first one, which are kept in `between` until they are stored in dst. Floats are
// kept as means, which leaves constants exact, or sums scaled by powers of two; neither overflows.
void BoxAndCosinesJob::run_band(const std::vector<size_t>& passes, const std::vector<ptrdiff_t>& shape, Range part,
                                const Samples& src, const Samples& between, const Samples& dst, bool means,
                                const Storing& stored, int threads, Steps& counted) const {
  Samples from = src;
  double cval = cval_;
  int power = 0;  // of two, by which sums were divided so far
  for (size_t i = 0; i < passes.size(); i++) {
    const Prepared& p = passes_[passes[i]];
    const bool last = i + 1 == passes.size();
    const int down = p.box() && !means ? int(std::bit_width(size_t(p.pass.taps))) : 0;
    const double mean = p.box() && means ? double(p.pass.taps) : 1;
    Storing how = stored;
    how.factor = std::ldexp(1.0, -down), how.divisor = mean;
    if (last) how.factor = std::ldexp(factor_, power), how.divisor = means ? mean : divisor_;
    const Samples& to = last ? dst : between;
    run_pass(p, shape, i ? Range{0, shape[p.pass.axis]} : part, from, to, cval, how, threads);
    counted.step();
    cval *= std::ldexp(p.gain, -down) / mean;
    power += down;
    from = to;
  }
}

size_t BoxAndCosinesJob::scratch_bytes(int threads) const {
  size_t most = 0;
  ptrdiff_t samples = 1;
  for (ptrdiff_t n : shape_) samples *= n;
  if (samples == 0) return 0;
  for (const Prepared& p : passes_) {
    const bool inner = p.pass.axis + 1 == ptrdiff_t(shape_.size());
    most = std::max(most, worker_bytes(p, inner ? kPanelStep : width_of(p, shape_.back())));
  }
  most *= size_t(threads);
  if (passes_.size() > 1 && std::all_of(passes_.begin(), passes_.end(), [](const Prepared& p) { return p.box(); })) {
    const auto first = std::min_element(passes_.begin(), passes_.end(),
                                        [](const Prepared& a, const Prepared& b) { return a.pass.axis < b.pass.axis; });
    const ptrdiff_t n = shape_[first->pass.axis], height = band(*first);
    if (in_cache(across(*first) * height)) most += size_t(samples / n * std::min(height, n)) * sizeof(double);
  }
  return most;
}

}  // namespace sep
