#include "filters/shared_passes.h"

#include <algorithm>
#include <map>
#include <stdexcept>

namespace sep {
namespace {

using Term = std::vector<int>;
using Terms = std::vector<const Term*>;

class Builder {
 public:
  explicit Builder(size_t levels) : program(levels), seen_(levels) {}

  // The node that is the sum of `terms`, filtered from level 0 to `level`.
  int node(size_t level, const Terms& terms) {
    const Node edges = sum(level, terms);
    const auto [at, fresh] = seen_[level].try_emplace(edges, int(program[level].size()));
    if (fresh) program[level].push_back(edges);
    return at->second;
  }

  // As `node`, but always a new one: equal outputs are stored twice.
  void output(const Terms& terms) { program.back().push_back(sum(program.size() - 1, terms)); }

  Program program;

 private:
  Node sum(size_t level, const Terms& terms) {
    auto taps = [&](const Term* t) { return (*t)[level + 1]; };
    Node edges;
    if (level == 0) {
      for (const Term* t : terms) edges.push_back({0, taps(t)});
    } else if (level == 1) {
      for (const Term* t : terms) edges.push_back({node(0, {t}), taps(t)});
    } else {
      std::map<int, Terms> groups;
      for (const Term* t : terms) groups[taps(t)].push_back(t);
      for (const auto& [index, group] : groups) edges.push_back({node(level - 1, group), index});
    }
    std::sort(edges.begin(), edges.end());
    return edges;
  }

  std::vector<std::map<Node, int>> seen_;
};

}  // namespace

Program share(const std::vector<std::vector<int>>& terms, size_t levels) {
  std::map<int, Terms> outputs;
  for (const Term& t : terms) {
    if (levels == 0 || t.size() != levels + 1)
      throw std::invalid_argument("a term names an output and taps at every level");
    outputs[t[0]].push_back(&t);
  }
  Builder builder(levels);
  for (const auto& [output, group] : outputs) {
    if (output < 0 || size_t(output) >= outputs.size()) throw std::invalid_argument("outputs are numbered from 0 on");
    if (levels == 1 && group.size() > 1) throw std::invalid_argument("terms of one axis are added up before");
    builder.output(group);
  }
  return std::move(builder.program);
}

}  // namespace sep
