// The range of an array's samples.
#pragma once
#include <limits>
#include <vector>

#include "io/exchange.h"

namespace sep {

struct Extent {  // high < low where there is no sample
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
};

// The extent of an array of any strides, without NaN and masked samples.
Extent extent_of(const std::vector<ptrdiff_t>& shape, const Input& in, int threads);

}  // namespace sep
