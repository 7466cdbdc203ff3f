// The engine's plain kernels put together. Compiled once per instruction set, with SEP_TARGET naming it.
#include "engine/kernels/plain.h"

#include "base/target.h"
#include "engine/kernels/images.h"
#include "engine/kernels/lines.h"
#include "engine/kernels/maps.h"
#include "engine/kernels/cells.h"
#include "engine/kernels/products.h"

namespace sep {
extern const PlainTable SEP_OF_TARGET(plain);
const PlainTable SEP_OF_TARGET(plain) = {kWide,  kPanel * kWide, copy,  fill, elementwise,
                                         reduce, softmax,        weigh, pool, product, lstm, gru, dots};
}  // namespace sep
