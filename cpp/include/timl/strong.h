// The strong protocol's classifier: sizes, inputs, and trees packed for prediction.
// docs/explanation/strong.md has the formulas; timl.reference.strong is the readable twin.
#pragma once

#include <cstdint>

namespace timl {

// The description of a series: its numbers, indices of each month, and statistics of the year of
// each index and of the first bands, which are measured by satellites.
inline constexpr int64_t kRecordBands = 18, kIndices = 8, kMeasuredBands = 13, kStatistics = 7;
inline constexpr int64_t kLeastSteps = 4;  // of a series that is described
// Greatest absolute value of a standardised number of a description.
inline constexpr double kMostDeviations = 8;
inline int64_t description_size(int64_t steps) {
  return steps * (kRecordBands + kIndices) + kStatistics * (kIndices + kMeasuredBands);
}

// Sizes of a fitted classifier. D = description_size(steps).
struct StrongShape {
  int64_t steps;       // T, at least kLeastSteps
  int64_t networks;    // M
  int64_t dimensions;  // d, of the metric space
  int64_t width;       // W, hidden units of a network, or 0
  int64_t labels;      // n, labels in the kernel
  int64_t known;       // R, points that distances are measured to, or 0
  int64_t outputs;     // K, logits of a series: 1 for two classes, else one for each class
};

// A fitted classifier but for its trees.
template <class T>
struct StrongInput {
  StrongShape shape;
  const T* bands;           // [2,18] mean and standard deviation of the bands' normalisation
  const T* columns;         // [2,D] mean and scale of the descriptions
  const T* axes;            // [M,D,d]
  const T* hidden_weight;   // [M,W,D]
  const T* hidden_vectors;  // [M,3+K,W] bias, gain and bias of the normalisation, prior means
  const T* point_weight;    // [M,d,W]
  const T* heads;           // [M,2+K] length, scale, levels
  const T* points;          // [M,n,d] of the labelled series
  const T* coefficients;    // [M,K,n]
  const T* known;           // [R,d] known points in the space of the first network's axes
  const T* constants;       // [3+K] kernel weight, slope, shifts, usual distance
};

// A node of a packed tree. Its children lie side by side; those of a leaf would be the leaf itself
// and what follows, and its threshold is infinite, so that nothing ever leaves it.
struct ForestNode {
  float threshold;  // greatest value that goes to the left
  uint32_t offset;  // of the feature's row in a block of descriptions [D, kChunkRows]
  uint32_t left;    // node number of the left child
};

// Trees ready for prediction.
struct Forest {
  int64_t trees;
  const uint32_t* roots;    // [trees]
  const ForestNode* nodes;  // those of a tree in breadth-first order
  const float* values;      // [nodes,K] shares of the classes, or of the positives, in each node
};

// Trees as timl.nn.Trees holds them: both children of a leaf are the leaf itself. value is
// [nodes,outputs].
template <class T>
struct PlainTrees {
  int64_t trees, nodes, outputs;
  const int64_t *roots, *left, *right, *feature;
  const T *threshold, *value;
};

// Packs the nodes that the roots lead to; roots [trees], nodes [nodes], values [nodes,outputs] are
// written.
// False if these are no trees; then `bad` is the number of a node that is outside or reached twice,
// whose child is so or alone the node itself, or that compares no feature of `features`.
template <class T>
bool pack_forest(const PlainTrees<T>& trees, int64_t features, uint32_t* roots, ForestNode* nodes,
                 float* values, int64_t* bad);

}  // namespace timl
