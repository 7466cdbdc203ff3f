// The kernels of bfloat16: packing, and products by tiles. Compiled once per instruction set and once per matrix unit,
// with SEP_TARGET naming it; no STL, nothing inline is shared.
#include "engine/bfloats/kernels.h"

#include "base/target.h"
#include "engine/bfloats/matrix_unit.h"
#include "layers/kernels/endings.h"

namespace {

using sep::BfloatLine;
using sep::BfloatPackArgs;
using sep::BfloatProductArgs;

// ---- packing -------------------------------------------------------------------------------------------------------

constexpr int G = W < 8 ? 4 : 8;  // channels that are packed together: a part of every block and of every chunk
typedef vec<float, G> FG;
typedef vec<uint32_t, G> UG;
typedef vec<uint16_t, G> HG;

SEP_INLINE HG rounded(FG x) {
  const UG u = (UG)x, size = u & 0x7fffffffu;
  UG y = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  y = size > 0x7f800000u ? (u >> 16 | 0x40u) : y;       // NaN stays one
  y = size < 0x00800000u ? (u >> 16 & 0x8000u) : y;     // denormal
  return __builtin_convertvector(y, HG);
}

SEP_INLINE uint16_t rounded_one(float x) {
  FG all{};
  all[0] = x;
  return rounded(all)[0];
}

SEP_INLINE uint16_t* packed_at(const BfloatPackArgs& g, ptrdiff_t c) {
  return g.dst + (g.first + c) / g.chunk * g.chunk_pitch + (g.first + c) % g.chunk;
}

// Channels [c, c + n), of which G are written.
SEP_INLINE void pack_group(const BfloatPackArgs& g, ptrdiff_t c, ptrdiff_t n) {
  uint16_t* dst = packed_at(g, c);
  const float* src = g.src + c / g.block * g.block_pitch + c % g.block;
  FG scale = splat<float, G>(1.0f);
  if (g.scale)
    for (ptrdiff_t i = 0; i < n; i++) scale[i] = g.scale[c + i];
  if (n == G) {
    for (ptrdiff_t p = 0; p < g.pixels; p++)
      store<uint16_t, G>(dst + p * g.chunk, rounded(load<float, G>(src + p * g.pixel_pitch) * scale));
    return;
  }
  for (ptrdiff_t p = 0; p < g.pixels; p++) {
    FG x{};
    for (ptrdiff_t i = 0; i < n; i++) x[i] = src[p * g.pixel_pitch + i] * scale[i];
    store<uint16_t, G>(dst + p * g.chunk, rounded(x));
  }
}

void pack(const BfloatPackArgs& g) {
  const bool even = g.chunk % G == 0 && g.filled % G == 0;
  if (even && (g.block % G == 0 || g.block >= g.channels)) {
    for (ptrdiff_t c = 0; c < g.filled; c += G) {
      const ptrdiff_t left = g.channels - c;
      pack_group(g, c, left >= G ? G : left > 0 ? left : 0);
    }
    return;
  }
  for (ptrdiff_t c = 0; c < g.filled; c++) {
    uint16_t* dst = packed_at(g, c);
    const float* src = g.src + c / g.block * g.block_pitch + c % g.block;
    const float scale = g.scale && c < g.channels ? g.scale[c] : 1.0f;
    for (ptrdiff_t p = 0; p < g.pixels; p++)
      dst[p * g.chunk] = c < g.channels ? rounded_one(src[p * g.pixel_pitch] * scale) : uint16_t(0);
  }
}

// ---- what follows the sums -----------------------------------------------------------------------------------------

// Results of n neighbouring pixels of one vector; add: their residuals, or null.
SEP_INLINE void store_ended(const V* held, int n, const Ending& end, const float* add, float* dst) {
  if (add || !is_simple(end.act)) return finish(held, n, end, add, dst);
  const bool clamps = end.act != Activation::none, above = clamps && end.act != Activation::relu;
  const float low = end.act == Activation::clip ? end.low : 0.0f, high = end.act == Activation::clip ? end.high : 6.0f;
  for (int i = 0; i < n; i++) {
    V v = held[i];
    if (clamps) v = at_least<float, W>(v, low);
    if (above) v = at_most<float, W>(v, high);
    store<float, W>(dst + i * W, v);
  }
}

// Pixels [first, first + n) of a line, of which `sums` holds rows of 32.
void finish_tile(const BfloatProductArgs& g, const BfloatLine& line, ptrdiff_t first, int n, const float* sums) {
  for (ptrdiff_t c = 0, vector = 0; c < g.columns; c += W, vector++) {
    V held[kTileRows];
    const V bias = load<float, W>(g.bias + c);
    for (int i = 0; i < n; i++) held[i] = load<float, W>(sums + i * kStorePitch + c) + bias;
    const ptrdiff_t lanes = g.columns - c;
    const bool together = g.dst_pixel == W && (!g.add || g.add_pixel == W) && (lanes >= W || g.whole);
    for (int i = 0, run; i < n; i += run) {
      const ptrdiff_t pixel = first + i, row = pixel / line.row, left = line.row - pixel % line.row;
      run = left < n - i ? int(left) : n - i;
      float* dst = g.dst + vector * g.dst_block + line.dst + pixel * g.dst_pixel + row * line.dst_gap;
      const float* add =
          g.add ? g.add + vector * g.add_block + line.add + pixel * g.add_pixel + row * line.add_gap : nullptr;
      if (together) {
        store_ended(held + i, run, g.end, add, dst);
        continue;
      }
      for (int p = 0; p < run; p++) {
        float made[W], residual[W] = {};
        const ptrdiff_t count = lanes < W ? lanes : W;
        for (ptrdiff_t lane = 0; add && lane < count; lane++) residual[lane] = add[p * g.add_pixel + lane];
        store_ended(held + i + p, 1, g.end, add ? residual : nullptr, made);
        for (ptrdiff_t lane = 0; lane < count; lane++) dst[p * g.dst_pixel + lane] = made[lane];
      }
    }
  }
}

// ---- products ------------------------------------------------------------------------------------------------------

// Pixels of one line that are a tile.
struct RowTile {
  const BfloatLine* line;
  ptrdiff_t first;
  int rows;  // 0: none
};

// All lines cut into tiles of nearly equal size.
class RowTiles {
 public:
  explicit RowTiles(const BfloatProductArgs& g) : line_(g.lines), end_(g.lines + g.n_lines) {}
  SEP_INLINE RowTile next() {
    while (line_ != end_ && first_ == line_->pixels) line_++, first_ = tile_ = 0;
    if (line_ == end_) return {nullptr, 0, 0};
    const ptrdiff_t tiles = (line_->pixels + kTileRows - 1) / kTileRows;
    const RowTile tile{line_, first_, int(line_->pixels / tiles + (tile_ < line_->pixels % tiles))};
    first_ += tile.rows, tile_++;
    return tile;
  }

 private:
  const BfloatLine *line_, *end_;
  ptrdiff_t first_ = 0, tile_ = 0;
};

template <int Tiles, bool Two>
SEP_INLINE void multiply(MatrixUnit& unit, const BfloatProductArgs& g, const uint16_t* a, const uint16_t* b,
                         float* sums) {
  unit.clear<0>();
  if constexpr (Tiles == 2) unit.clear<1>();
  if constexpr (Two) unit.clear<2>();
  if constexpr (Two && Tiles == 2) unit.clear<3>();
  const uint16_t* w = g.weights;
  const ptrdiff_t tile = 2 * kTileColumns * ptrdiff_t(g.pairs);
  for (ptrdiff_t s = 0; s < g.n_steps; s++, w += Tiles * tile) {
    unit.load<6>(w, 2 * kTileColumns);
    if constexpr (Tiles == 2) unit.load<7>(w + tile, 2 * kTileColumns);
    unit.load<4>(a + g.steps[s], g.pixel);
    unit.add_products<0, 4, 6>();
    if constexpr (Tiles == 2) unit.add_products<1, 4, 7>();
    if constexpr (Two) {
      unit.load<5>(b + g.steps[s], g.pixel);
      unit.add_products<2, 5, 6>();
      if constexpr (Tiles == 2) unit.add_products<3, 5, 7>();
    }
  }
  unit.store<0>(sums);
  if constexpr (Tiles == 2) unit.store<1>(sums + kTileColumns);
  if constexpr (Two) unit.store<2>(sums + kTileRows * kStorePitch);
  if constexpr (Two && Tiles == 2) unit.store<3>(sums + kTileRows * kStorePitch + kTileColumns);
}

template <int Tiles>
void product_of(const BfloatProductArgs& g) {
  alignas(64) float sums[2 * kTileRows * kStorePitch];
  MatrixUnit unit;
  RowTiles tiles(g);
  int rows = -1, more = -1;  // as configured
  for (RowTile one = tiles.next(); one.rows; one = tiles.next()) {
    const RowTile other = tiles.next();
    if (one.rows != rows || other.rows != more) {
      rows = one.rows, more = other.rows;
      unit.configure(rows, more, g.pairs);
    }
    const uint16_t* a = g.a + one.line->src + one.first * g.pixel;
    if (other.rows)
      multiply<Tiles, true>(unit, g, a, g.a + other.line->src + other.first * g.pixel, sums);
    else
      multiply<Tiles, false>(unit, g, a, nullptr, sums);
    finish_tile(g, *one.line, one.first, one.rows, sums);
    if (!other.rows) break;
    finish_tile(g, *other.line, other.first, other.rows, sums + kTileRows * kStorePitch);
  }
}

void product(const BfloatProductArgs& g) { g.tiles == 2 ? product_of<2>(g) : product_of<1>(g); }

}  // namespace

namespace sep {
extern const BfloatTable SEP_OF_TARGET(bfloats);
const BfloatTable SEP_OF_TARGET(bfloats) = {pack, product};
}  // namespace sep
