#include "layers/runs.h"

#include <algorithm>

#include "base/tiles.h"

namespace sep {

void Runs::build(const Window& w, const Tile& tile, const Shape3& dst_pitch, ptrdiff_t samples) {
  clear();
  const Range z = tile.at[0], y = tile.at[1];
  rows_.reserve(size_t(z.count() * y.count() * w.planes * w.kernel[0] * w.kernel[1]));
  for (ptrdiff_t i = z.from; i < z.to; i++)
    for (ptrdiff_t j = y.from; j < y.to; j++) line(w, i, j, (i - z.from) * dst_pitch[0] + (j - y.from) * dst_pitch[1]);
  const ptrdiff_t read = std::max<ptrdiff_t>(w.needs(0, z).count() * w.needs(1, y).count() * w.planes, 1);
  const ptrdiff_t strip = (samples / read - (w.kernel[2] - 1) * w.dilation[2]) / w.stride[2];
  columns(w, tile.at[2], dst_pitch[2],
          lines_.size() > 1 ? std::max(strip, kNarrowest) / kNarrowest * kNarrowest : tile.pixels());
  emit();
}

void Runs::build_adjoint(const Window& w, const Tile& region, const std::array<Range, 3>& results,
                         const Shape3& src_pitch, const Shape3& dst_pitch) {
  clear();
  const Range z = region.at[0], y = region.at[1];
  rows_.reserve(size_t(z.count() * y.count() * w.kernel[0] * w.kernel[1]));
  for (ptrdiff_t i = z.from; i < z.to; i++)
    for (ptrdiff_t j = y.from; j < y.to; j++) {
      const ptrdiff_t first = ptrdiff_t(rows_.size());
      for (ptrdiff_t kz = 0; kz < w.kernel[0]; kz++) {
        const ptrdiff_t oz = w.result(0, i, kz);
        if (oz < results[0].from || oz >= results[0].to) continue;
        for (ptrdiff_t ky = 0; ky < w.kernel[1]; ky++) {
          const ptrdiff_t oy = w.result(1, j, ky);
          if (oy < results[1].from || oy >= results[1].to) continue;
          rows_.push_back({(oz - results[0].from) * src_pitch[0] + (oy - results[1].from) * src_pitch[1],
                           (kz * w.kernel[1] + ky) * w.kernel[2]});
        }
      }
      lines_.push_back(
          {(i - z.from) * dst_pitch[0] + (j - y.from) * dst_pitch[1], first, ptrdiff_t(rows_.size()) - first});
    }
  for (ptrdiff_t phase = 0; phase < std::min(w.stride[2], region.at[2].count()); phase++)
    adjoint_columns(w, region.at[2], phase, results[2], src_pitch[2], dst_pitch[2]);
  emit();
}

void Runs::columns(const Window& w, Range x, ptrdiff_t dst_step, ptrdiff_t strip) {
  // Interior: every tap inside the array.
  auto inside = [&](ptrdiff_t o) { return w.reads(2, o, 0) >= 0 && w.reads(2, o, w.kernel[2] - 1) < w.extents[2]; };
  ptrdiff_t from = x.from;
  while (from < x.to && !inside(from)) from++;
  ptrdiff_t to = x.to;
  while (to > from && !inside(to - 1)) to--;
  for (ptrdiff_t o = x.from; o < from; o++) border(w, o, (o - x.from) * dst_step);
  // With dilation, a run takes pixels `apart`, so that neighbours in it share samples.
  const bool neighbours = w.dilation[2] % w.stride[2] == 0 && w.kernel[2] > 1;
  const ptrdiff_t apart = neighbours ? w.dilation[2] / w.stride[2] : 1;
  for (ptrdiff_t o = from; o < to; o += strip * apart)
    for (ptrdiff_t p = o; p < std::min(o + apart, to); p++)
      parts_.push_back({(p - x.from) * dst_step, ceil_div(std::min(o + strip * apart, to) - p, apart),
                        w.offset(2, w.reads(2, p, 0)), apart * dst_step, apart * w.stride[2] * w.pitch[2],
                        ptrdiff_t(columns_.size()), w.kernel[2], neighbours});
  if (to > from)
    for (ptrdiff_t k = 0; k < w.kernel[2]; k++) columns_.push_back({k * w.dilation[2] * w.pitch[2], k});
  for (ptrdiff_t o = to; o < x.to; o++) border(w, o, (o - x.from) * dst_step);
}

void Runs::border(const Window& w, ptrdiff_t o, ptrdiff_t dst) {
  const ptrdiff_t first = ptrdiff_t(columns_.size());
  for (ptrdiff_t k = 0; k < w.kernel[2]; k++) {
    const ptrdiff_t i = source_index(w.reads(2, o, k), w.extents[2], w.mode);
    if (i != kOutside) columns_.push_back({w.offset(2, i), k});
  }
  parts_.push_back({dst, 1, 0, 0, 0, first, ptrdiff_t(columns_.size()) - first, false});
}

void Runs::adjoint_columns(const Window& w, Range x, ptrdiff_t phase, Range results, ptrdiff_t src_step,
                           ptrdiff_t dst_step) {
  const ptrdiff_t stride = w.stride[2], n = ceil_div(x.count() - phase, stride);
  auto all = [&](ptrdiff_t i) {  // results of every tap that this phase has
    for (ptrdiff_t k = 0; k < w.kernel[2]; k++) {
      const ptrdiff_t o = w.result(2, x.from + phase + i * stride, k);
      if (o != kNowhere && (o < results.from || o >= results.to)) return false;
    }
    return true;
  };
  ptrdiff_t from = 0, to = n;
  while (from < n && !all(from)) from++;
  while (to > from && !all(to - 1)) to--;
  auto taps = [&](ptrdiff_t i, ptrdiff_t count) {
    const ptrdiff_t first = ptrdiff_t(columns_.size());
    for (ptrdiff_t k = w.kernel[2] - 1; k >= 0; k--) {  // backwards, so that results come in the order of memory
      const ptrdiff_t o = w.result(2, x.from + phase + i * stride, k);
      if (o >= results.from && o < results.to) columns_.push_back({(o - results.from) * src_step, k});
    }
    const ptrdiff_t taps_inside = ptrdiff_t(columns_.size()) - first;
    const bool neighbours = count > 1 && taps_inside > 1 && columns_[first + 1].at - columns_[first].at == src_step;
    parts_.push_back(
        {(phase + i * stride) * dst_step, count, 0, stride * dst_step, src_step, first, taps_inside, neighbours});
  };
  for (ptrdiff_t i = 0; i < from; i++) taps(i, 1);
  if (to > from) taps(from, to - from);
  for (ptrdiff_t i = to; i < n; i++) taps(i, 1);
}

void Runs::line(const Window& w, ptrdiff_t oz, ptrdiff_t oy, ptrdiff_t dst) {
  const ptrdiff_t first = ptrdiff_t(rows_.size());
  for (ptrdiff_t t = 0; t < w.planes; t++)
    for (ptrdiff_t kz = 0; kz < w.kernel[0]; kz++) {
      const ptrdiff_t z = source_index(w.reads(0, oz, kz), w.extents[0], w.mode);
      if (z == kOutside) continue;
      for (ptrdiff_t ky = 0; ky < w.kernel[1]; ky++) {
        const ptrdiff_t y = source_index(w.reads(1, oy, ky), w.extents[1], w.mode);
        if (y == kOutside) continue;
        rows_.push_back({t * w.plane + w.offset(0, z) + w.offset(1, y),
                         t * w.plane_weights + (kz * w.kernel[1] + ky) * w.kernel[2]});
      }
    }
  lines_.push_back({dst, first, ptrdiff_t(rows_.size()) - first});
}

void Runs::emit() {
  for (const Part& p : parts_)
    for (size_t i = 0; i < lines_.size();) {
      const Line& l = lines_[i];
      Run run{
          l.dst + p.dst, p.src, p.count,     p.dst_step, p.src_step, rows_.data() + l.first, columns_.data() + p.taps,
          l.n,           p.n,   p.neighbours};
      size_t next = i + 1;
      if (p.count == 1 && next < lines_.size() && follows(i, i)) {
        while (next < lines_.size() && follows(next - 1, i)) next++;
        run.count = ptrdiff_t(next - i);
        run.dst_step = lines_[i + 1].dst - l.dst;
        run.src_step = rows_[lines_[i + 1].first].at - rows_[l.first].at;
        run.neighbours = false;
      }
      runs_.push_back(run);
      i = next;
    }
}

bool Runs::follows(size_t i, size_t first) const {
  const Line &a = lines_[i], &b = lines_[i + 1], &c = lines_[first + 1];
  if (b.n != a.n || a.n == 0 || c.n == 0 || b.dst - a.dst != c.dst - lines_[first].dst) return false;
  const ptrdiff_t step = rows_[c.first].at - rows_[lines_[first].first].at;
  for (ptrdiff_t k = 0; k < a.n; k++)
    if (rows_[b.first + k].at - rows_[a.first + k].at != step || rows_[b.first + k].weight != rows_[a.first + k].weight)
      return false;
  return true;
}

}  // namespace sep
