// The passes of sums of terms: every pass that terms have in common runs once. Plain integers; no samples here.
#pragma once
#include <cstddef>
#include <vector>

namespace sep {

// A pass of a program: a node of the level before (0: the array) filtered with taps (an index among those of its
// level).
struct Edge {
  int source, taps;
  auto operator<=>(const Edge&) const = default;
};
using Node = std::vector<Edge>;  // the sum of its edges

// [level][node]; level 0 runs first, and its nodes have one edge each. The last level has a node for each output.
using Program = std::vector<std::vector<Node>>;

// terms[t] = {output, index of its taps at level 0, at level 1, ...}. Equal taps at level 0 run once; from level 2 on,
// terms with the same taps are added before they are filtered, and equal sums are one node.
Program share(const std::vector<std::vector<int>>& terms, size_t levels);

}  // namespace sep
