// Packs the strong protocol's trees for prediction. Compiled with baseline flags only.
#include <cstddef>
#include <limits>
#include <vector>

#include "timl/engine.h"

namespace timl {

template <class T>
bool pack_forest(const PlainTrees<T>& trees, int64_t features, uint32_t* roots, ForestNode* nodes,
                 float* values, int64_t* bad) {
  const auto inside = [](int64_t number, int64_t count) { return number >= 0 && number < count; };
  std::vector<int64_t> queue;  // the plain number of each packed node
  std::vector<bool> reached(static_cast<std::size_t>(trees.nodes));
  // A node joins the queue once, so the queue is never longer than the nodes are many.
  const auto join = [&](int64_t node) {
    if (!inside(node, trees.nodes) || reached[static_cast<std::size_t>(node)]) return false;
    reached[static_cast<std::size_t>(node)] = true;
    queue.push_back(node);
    return true;
  };
  std::size_t packed = 0;
  for (int64_t tree = 0; tree < trees.trees; ++tree) {
    roots[tree] = static_cast<uint32_t>(queue.size());
    *bad = trees.roots[tree];
    if (!join(*bad)) return false;
    for (; packed < queue.size(); ++packed) {
      const int64_t node = queue[packed], left = trees.left[node], right = trees.right[node];
      for (int64_t k = 0; k < trees.outputs; ++k)
        values[static_cast<int64_t>(packed) * trees.outputs + k] =
            static_cast<float>(trees.value[node * trees.outputs + k]);
      if (left == node && right == node) {
        nodes[packed] = {.threshold = std::numeric_limits<float>::infinity(),
                         .offset = 0,
                         .left = static_cast<uint32_t>(packed)};
        continue;
      }
      nodes[packed] = {.threshold = static_cast<float>(trees.threshold[node]),
                       .offset = static_cast<uint32_t>(trees.feature[node] * kChunkRows),
                       .left = static_cast<uint32_t>(queue.size())};
      *bad = node;
      if (!inside(trees.feature[node], features) || !join(left) || !join(right)) return false;
    }
  }
  return true;
}

template bool pack_forest(const PlainTrees<float>&, int64_t, uint32_t*, ForestNode*, float*,
                          int64_t*);
template bool pack_forest(const PlainTrees<double>&, int64_t, uint32_t*, ForestNode*, float*,
                          int64_t*);

}  // namespace timl
