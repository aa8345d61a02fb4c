// A random classifier of the strong protocol and series for it, and what the CPU engine computes of
// them.
#pragma once

#include "problem.h"

inline const timl::StrongShape kStrong[] = {
    {.steps = 12,
     .networks = 3,
     .dimensions = 20,
     .width = 33,
     .labels = 35,
     .known = 7,
     .outputs = 1},
    {.steps = 4, .networks = 1, .dimensions = 3, .width = 0, .labels = 1, .known = 0, .outputs = 1},
    {.steps = 5,
     .networks = 2,
     .dimensions = 9,
     .width = 20,
     .labels = 35,
     .known = 2,
     .outputs = 5},
};

// A classifier with inputs in double, one tree of three nodes, and every network its own points.
struct Strong {
  explicit Strong(const timl::StrongShape& strong, int64_t batch)
      : s(strong),
        features(timl::description_size(s.steps)),
        rows(batch),
        x(normals(rows * s.steps * timl::kRecordBands, 0.7, 0, 1)),
        bands(normals(2 * timl::kRecordBands, 0, 0, 2)),
        columns(normals(2 * features, 0.1, 0, 3)),
        axes(normals(s.networks * features * s.dimensions,
                     0.7 / std::sqrt(double(features * s.dimensions)), 0, 4)),
        hidden_weight(normals(s.networks * s.width * features, 0.05, 0, 5)),
        hidden_vectors(normals(s.networks * (3 + s.outputs) * s.width, 0.3, 0.5, 6)),
        point_weight(normals(s.networks * s.dimensions * s.width, 0.05, 0, 7)),
        heads(normals(s.networks * (2 + s.outputs), 0.1, 1, 8)),
        points(normals(s.networks * s.labels * s.dimensions, 0.3, 0, 9)),
        coefficients(normals(s.networks * s.outputs * s.labels, 0.5, 0, 10)),
        known(normals(s.known * s.dimensions, 0.3, 0, 11)) {
    for (int64_t i = 0; i < timl::kRecordBands; ++i) {
      bands[i] = 2000;
      bands[timl::kRecordBands + i] = 800;
    }
    for (int64_t i = 0; i < features; ++i) columns[features + i] = 1 + std::abs(columns[i]);
    std::fill(point_weight.begin(), point_weight.begin() + s.dimensions * s.width, 0);
    for (int64_t k = 0; k < s.outputs; ++k)
      constants.insert(constants.end() - 1, -0.1 + 0.2 * double(k));
    for (int64_t node = 0; node < 3; ++node)
      for (int64_t k = 0; k < s.outputs; ++k)
        value.push_back(shares[static_cast<size_t>((node + k) % 3)]);
  }

  timl::StrongShape s;
  int64_t features, rows;
  std::vector<double> x, bands, columns, axes, hidden_weight, hidden_vectors, point_weight, heads,
      points, coefficients, known, constants = {0.6, 0.8, 0.5};
  std::vector<int64_t> roots = {0}, left = {1, 1, 2}, right = {2, 1, 2}, feature = {5, 0, 0};
  std::vector<double> threshold = {0.25, 0, 0}, shares = {0.5, 0.25, 1}, value;
};

struct StrongOutcome {
  std::vector<double> logits, distances, described;
};

// A problem's arrays in T.
template <class T>
struct StrongArrays {
  explicit StrongArrays(const Strong& p)
      : x(buffer_of<T>(p.x)),
        bands(buffer_of<T>(p.bands)),
        columns(buffer_of<T>(p.columns)),
        axes(buffer_of<T>(p.axes)),
        hidden_weight(buffer_of<T>(p.hidden_weight)),
        hidden_vectors(buffer_of<T>(p.hidden_vectors)),
        point_weight(buffer_of<T>(p.point_weight)),
        heads(buffer_of<T>(p.heads)),
        points(buffer_of<T>(p.points)),
        coefficients(buffer_of<T>(p.coefficients)),
        known(buffer_of<T>(p.known)),
        constants(buffer_of<T>(p.constants)),
        threshold(buffer_of<T>(p.threshold)),
        value(buffer_of<T>(p.value)),
        roots(buffer_of<int64_t>(p.roots)),
        left(buffer_of<int64_t>(p.left)),
        right(buffer_of<int64_t>(p.right)),
        feature(buffer_of<int64_t>(p.feature)),
        logits(p.rows * p.s.outputs),
        distances(p.s.known > 0 ? p.rows : 0),
        described(p.rows * p.features) {}
  timl::StrongInput<T> input(const Strong& p) const {
    return {.shape = p.s,
            .bands = bands,
            .columns = columns,
            .axes = axes,
            .hidden_weight = hidden_weight,
            .hidden_vectors = hidden_vectors,
            .point_weight = point_weight,
            .heads = heads,
            .points = points,
            .coefficients = coefficients,
            .known = known,
            .constants = constants};
  }
  timl::PlainTrees<T> trees(const Strong& p) const {
    return {.trees = static_cast<int64_t>(p.roots.size()),
            .nodes = static_cast<int64_t>(p.left.size()),
            .outputs = p.s.outputs,
            .roots = roots,
            .left = left,
            .right = right,
            .feature = feature,
            .threshold = threshold,
            .value = value};
  }
  StrongOutcome outcome() const {
    return {logits.values(), distances.values(), described.values()};
  }
  T* wanted_distances() const { return distances.size() > 0 ? distances.get() : nullptr; }

  Buffer<T> x, bands, columns, axes, hidden_weight, hidden_vectors, point_weight, heads, points;
  Buffer<T> coefficients, known, constants, threshold, value;
  Buffer<int64_t> roots, left, right, feature;
  Buffer<T> logits, distances, described;
};

template <class T>
StrongOutcome run(const timl::Engine<T>& engine, const Strong& p) {
  const StrongArrays<T> a(p);
  const timl::PlainTrees<T> plain = a.trees(p);
  std::vector<uint32_t> roots(p.roots.size());
  std::vector<timl::ForestNode> nodes(p.left.size());
  std::vector<float> values(p.value.size());
  int64_t bad = 0;
  if (!timl::pack_forest(plain, p.features, roots.data(), nodes.data(), values.data(), &bad))
    throw std::runtime_error("no trees");
  const Buffer<T> prepared(engine.strong_prepared_size(p.s));
  engine.strong_prepare(a.input(p), prepared);
  const Buffer<T> workspace(engine.strong_workspace(p.s));
  const timl::Forest forest = {
      .trees = plain.trees, .roots = roots.data(), .nodes = nodes.data(), .values = values.data()};
  engine.strong_evaluate(p.s, prepared, forest, a.x, p.rows, a.logits, a.wanted_distances(),
                         workspace);
  const Buffer<T> scratch(engine.describe_workspace(p.s.steps));
  engine.describe(p.s.steps, a.bands, a.x, p.rows, a.described, scratch);
  return a.outcome();
}
