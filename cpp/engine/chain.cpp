#include "engine/chain.h"

#include <algorithm>
#include <cstring>

#include "base/machine.h"
#include "engine/bfloats/bfloat_stage.h"
#include "engine/winograd/winograd.h"

namespace sep {
namespace {

constexpr double kRingShare = 0.4;         // of the L2 cache, for all rings of a chain
constexpr ptrdiff_t kBandRows = 8;         // of results made at once, at most
constexpr ptrdiff_t kPieceMacs = 1 << 17;  // of the smallest piece that is worth a thread's while
constexpr ptrdiff_t kPartsAThread = 4;     // more balance the load better, fewer read the input less often
constexpr ptrdiff_t kBandsAThread = 2;     // fewer compute fewer rows twice
constexpr ptrdiff_t kRowsAThread = 6;      // at least, where pieces are bands of rows
constexpr double kSharedWeights = 0.25;    // of the L2 cache, at most, where every thread reads all weights

Range share(ptrdiff_t n, ptrdiff_t piece, ptrdiff_t pieces) { return {n * piece / pieces, n * (piece + 1) / pieces}; }

std::unique_ptr<Stage> stage_of(const StageSpec& s, const Image& src, const Image& dst, bool scaled) {
  if (s.conv && s.conv->winograd()) return std::make_unique<WinogradStage>(s.geometry, s.end, src, dst, s.conv);
  if (s.filter) {
    const StageSpec& f = *s.filter;
    Image made;  // its results, of which some are there at a time
    made.channels = f.channels, made.height = f.height, made.width = f.width;
    made.block = made.pixel_pitch = target().blocks->lanes;
    auto filter = std::make_unique<DepthwiseStage>(f.geometry, f.end, src, made, f.depthwise);
    return std::make_unique<BfloatStage>(s.end, dst, s.bfloats, std::move(filter));
  }
  if (s.bfloats) return std::make_unique<BfloatStage>(s.geometry, s.end, src, dst, s.bfloats, s.whole);
  if (s.conv) return std::make_unique<ConvStage>(s.geometry, s.end, src, dst, s.conv, scaled);
  return std::make_unique<DepthwiseStage>(s.geometry, s.end, src, dst, s.depthwise);
}

}  // namespace

ChainStep::ChainStep(const ChainSpec& spec) : spec_(spec) {
  join_filters();
  plan_rings();
  for (size_t i = 0; i < spec_.stages.size(); i++) {
    const Image& src = i == 0 ? spec.src : between_[i - 1];
    const Image& dst = i + 1 == spec_.stages.size() ? spec.dst : between_[i];
    stages_.push_back(stage_of(spec_.stages[i], src, dst, i == 0 && spec.scale));
    macs_ += stages_.back()->macs_a_row() * dst.height * dst.batch;
    stage_scratch_ = std::max(stage_scratch_, stages_.back()->scratch_bytes());
  }
}

// A depthwise convolution and the pointwise one of bfloat16 behind it become one stage.
void ChainStep::join_filters() {
  std::vector<StageSpec> joined;
  for (const StageSpec& s : spec_.stages) {
    const bool follows = s.bfloats && !joined.empty() && joined.back().depthwise;
    const Geometry& g = s.geometry;
    if (follows && s.bfloats->shape().height == 1 && s.bfloats->shape().width == 1 && g.stride_y == 1 &&
        g.stride_x == 1 && !g.top && !g.left) {
      StageSpec both = s;
      both.filter = std::make_shared<StageSpec>(joined.back());
      both.geometry = both.filter->geometry;
      joined.back() = both;
    } else {
      joined.push_back(s);
    }
  }
  spec_.stages = joined;
}

// How many rows are made at once, so that all rings fit their share of the cache, and where rings lie in scratch
// memory.
void ChainStep::plan_rings() {
  const int lanes = target().blocks->lanes;
  const size_t n = spec_.stages.size();
  for (size_t i = 0; i + 1 < n; i++) {
    const StageSpec &s = spec_.stages[i], &next = spec_.stages[i + 1];
    Image image;
    image.batch = spec_.dst.batch, image.channels = s.channels, image.height = s.height, image.width = s.width;
    image.block = image.pixel_pitch = lanes;
    image.left = next.geometry.left;
    const ptrdiff_t last = i + 2 == n ? spec_.dst.width : next.width;
    const ptrdiff_t kernel = next.kernel_width();
    image.right = std::max<ptrdiff_t>(
        0, (last - 1) * next.geometry.stride_x + (kernel - 1) * next.geometry.dilation_x + 1 - image.left - s.width);
    image.row_pitch = (image.left + image.width + image.right) * lanes;
    between_.push_back(image);
  }
  slots_.resize(between_.size());
  if (n == 1) {  // rows are divided among pieces as they come; with sums, channels are
    const StageSpec& s = spec_.stages[0];
    band_rows_ = spec_.sums ? spec_.dst.height : s.conv && s.conv->winograd() ? ptrdiff_t(kWinogradTile) : 1;
    return;
  }
  for (band_rows_ = std::min(kBandRows, spec_.dst.height);; band_rows_--) {
    ptrdiff_t bytes = 0, rows = band_rows_;
    for (size_t i = between_.size(); i-- > 0;) {
      const StageSpec& next = spec_.stages[i + 1];
      const ptrdiff_t kernel = next.kernel_height();
      rows = (rows - 1) * next.geometry.stride_y + (kernel - 1) * next.geometry.dilation_y + 1;
      slots_[i] = rows;
      between_[i].block_pitch = rows * between_[i].row_pitch;
      bytes += between_[i].blocks() * between_[i].block_pitch * ptrdiff_t(sizeof(float));
    }
    if (band_rows_ == 1 || double(bytes) <= kRingShare * double(caches().l2)) break;
  }
}

size_t ChainStep::scratch_bytes() const {
  size_t bytes = stage_scratch_;
  for (const Image& image : between_) bytes += Scratch::bytes<float>(image.blocks() * image.block_pitch);
  return bytes;
}

ptrdiff_t ChainStep::bands() const { return ceil_div(spec_.dst.height, band_rows_); }

Step::Fetched ChainStep::weights() const { return stages_[0]->weights(); }

// Depthwise convolutions whose samples two neighbouring pieces both compute.
ptrdiff_t ChainStep::recomputed() const {
  ptrdiff_t n = 0;
  for (size_t i = 1; i < spec_.stages.size(); i++) n += spec_.stages[i].depthwise || spec_.stages[i].filter;
  return n;
}

// Whether pieces are bands of rows, so that a thread finds in its cache what it made in the step before; else they
// divide the channels, where rows are too few or weights so large that each thread should read its part only.
bool ChainStep::by_rows(int threads) const {
  if (chained()) return true;
  if (spec_.sums) return false;
  return spec_.dst.height >= kRowsAThread * threads &&
         double(stages_[0]->weight_bytes()) <= kSharedWeights * double(caches().l2);
}

ptrdiff_t ChainStep::pieces(int threads) const {
  const ptrdiff_t batch = spec_.dst.batch;
  if (threads == 1) return batch;
  const ptrdiff_t each = std::max<ptrdiff_t>(1, (by_rows(threads) ? kBandsAThread : kPartsAThread) >> recomputed());
  const ptrdiff_t work = spec_.stages[0].depthwise ? 3 * macs_ : macs_;  // memory takes longer than arithmetic
  // Parts of the channels each read all of an input that another thread has just made.
  const ptrdiff_t least = by_rows(threads) ? kPieceMacs : 4 * kPieceMacs;
  const ptrdiff_t wanted = std::clamp<ptrdiff_t>(work / least, 1, threads * each);
  return batch * std::max<ptrdiff_t>(1, ceil_div(wanted, batch));
}

// How the pieces of one image divide its rows and its channels.
ChainStep::Cut ChainStep::cut(ptrdiff_t pieces) const {
  const ptrdiff_t parts = stages_.back()->parts(), rows = spec_.dst.height;
  if (chained()) return {pieces, 1};
  if (spec_.sums) return {1, pieces};
  const bool whole = by_rows(1) && rows >= pieces * kRowsAThread / kBandsAThread;
  return whole || parts < std::min(pieces, rows) ? Cut{pieces, 1} : Cut{1, pieces};
}

struct ChainStep::Band {
  ptrdiff_t batch;
  Rows src, dst, add;
  std::vector<Rows> rings;
  std::vector<Range> made;  // rows that each ring holds, or held
  Range rows, parts;
  const float* scale;
  float* sums;  // of the first band
  char* scratch;
  WeightStream stream;
};

void ChainStep::run(ptrdiff_t piece, ptrdiff_t pieces, const Memory& memory, char* scratch) const {
  const ptrdiff_t each = pieces / spec_.dst.batch, batch = piece / each, own = piece % each;
  const Cut cuts = cut(each);
  Band b{};
  b.batch = batch;
  b.src = rows_of(spec_.src, memory, batch);
  b.dst = rows_of(spec_.dst, memory, batch);
  if (spec_.add) b.add = rows_of(*spec_.add, memory, batch);
  b.rows = share(bands(), own % cuts.bands, cuts.bands);
  b.rows = {b.rows.from * band_rows_, std::min(b.rows.to * band_rows_, spec_.dst.height)};
  b.parts = share(stages_.back()->parts(), own / cuts.bands, cuts.parts);
  if (b.rows.count() <= 0 || b.parts.count() <= 0) return;
  const ptrdiff_t lanes = target().blocks->lanes;
  b.scale = spec_.scale ? memory.at(*spec_.scale) + batch * round_up(spec_.src.channels, lanes) : nullptr;
  if (spec_.sums) {
    const ptrdiff_t channels = round_up(spec_.dst.channels, lanes);
    b.sums = memory.at(*spec_.sums) + batch * bands() * channels;
    for (ptrdiff_t i = b.rows.from / band_rows_; i < ceil_div(b.rows.to, band_rows_); i++)
      std::memset(b.sums + i * channels + b.parts.from * lanes, 0, size_t(b.parts.count() * lanes) * sizeof(float));
  }
  for (size_t i = 0; i < between_.size(); i++) {
    const Image& image = between_[i];
    float* at = reinterpret_cast<float*>(scratch);
    const size_t size = Scratch::bytes<float>(image.blocks() * image.block_pitch);
    scratch += size;
    if (image.left || image.right) std::memset(at, 0, size);
    b.rings.push_back(
        {at + image.left * image.pixel_pitch, image.block_pitch, image.row_pitch, image.pixel_pitch, slots_[i]});
    b.made.push_back({0, PTRDIFF_MIN});
  }
  b.scratch = scratch;
  b.stream = {nullptr, following_.data(), following_.data() + following_.size(), 0};
  march(b);
}

void ChainStep::march(Band& b) const {
  if (stages_.size() == 1) return produce(b, 0, b.rows);
  std::vector<Range> need(stages_.size());
  for (ptrdiff_t y = b.rows.from; y < b.rows.to; y += band_rows_) {
    need.back() = {y, std::min(y + band_rows_, b.rows.to)};
    for (size_t i = stages_.size() - 1; i > 0; i--) need[i - 1] = stages_[i]->needs(need[i]);
    for (size_t i = 0; i + 1 < stages_.size(); i++) {
      produce(b, i, {std::max(need[i].from, b.made[i].to), need[i].to});
      b.made[i] = need[i];
    }
    produce(b, stages_.size() - 1, need.back());
  }
}

// Rows of one stage's results; in a ring those beyond the image's ends too, which are zero.
void ChainStep::produce(Band& b, size_t i, Range rows) const {
  const bool last = i + 1 == stages_.size();
  StageCall call{i == 0 ? b.src : b.rings[i - 1],
                 last ? b.dst : b.rings[i],
                 nullptr,
                 i == 0 ? b.scale : nullptr,
                 nullptr,
                 rows,
                 {0, stages_[i]->parts()},
                 b.scratch,
                 nullptr};
  if (last) {
    call.parts = b.parts;
    call.add = spec_.add ? &b.add : nullptr;
    if (b.sums) call.sums = b.sums + rows.from / band_rows_ * round_up(spec_.dst.channels, target().blocks->lanes);
    call.stream = &b.stream;
    return stages_[i]->run(call);
  }
  const Image& image = between_[i];
  for (ptrdiff_t y = rows.from; y < rows.to; y++)
    if (y < 0 || y >= image.height)
      for (ptrdiff_t block = 0; block < image.blocks(); block++)
        std::memset(call.dst.at + block * image.block_pitch + call.dst.offset(y), 0,
                    size_t(image.width * image.pixel_pitch) * sizeof(float));
  call.rows = {std::max<ptrdiff_t>(rows.from, 0), std::min(rows.to, image.height)};
  if (call.rows.count() > 0) stages_[i]->run(call);
}

void MeansStep::run(ptrdiff_t, ptrdiff_t, const Memory& memory, char*) const {
  const float factor = 1.0f / float(pixels_);
  for (ptrdiff_t n = 0; n < batch_; n++) {
    const float* sums = memory.at(sums_) + n * bands_ * channels_;
    float* means = memory.at(means_) + n * channels_;
    for (ptrdiff_t c = 0; c < channels_; c++) means[c] = sums[c];
    for (ptrdiff_t band = 1; band < bands_; band++)
      for (ptrdiff_t c = 0; c < channels_; c++) means[c] += sums[band * channels_ + c];
    for (ptrdiff_t c = 0; c < channels_; c++) means[c] *= factor;
  }
}

}  // namespace sep
