// The strong protocol's classifier in every instruction set: a plain reading of its formulas in
// double, sorting of any number of months, and trees that are none.
#include <algorithm>
#include <string>

#include "catch.h"
#include "description.h"
#include "strong_problem.h"

namespace {

using timl::StrongShape;

// Logits and distance of one series by the formulas, from its description.
std::pair<std::vector<double>, double> plainly(const Strong& p, const double* described) {
  const int64_t d = p.s.dimensions, width = p.s.width, features = p.features;
  std::vector<double> standard(described, described + features);
  for (int64_t i = 0; i < features; ++i)
    standard[i] = std::clamp((described[i] - p.columns[i]) / p.columns[features + i], -8.0, 8.0);
  const int64_t outputs = p.s.outputs;
  std::vector<double> kernel(outputs);
  double nearest = std::numeric_limits<double>::infinity();
  for (int64_t m = 0; m < p.s.networks; ++m) {
    std::vector<double> z(d), h(width);
    for (int64_t i = 0; i < features; ++i)
      for (int64_t k = 0; k < d; ++k) z[k] += standard[i] * p.axes[(m * features + i) * d + k];
    for (int64_t j = 0; m == 0 && j < p.s.known; ++j) {
      double squared = 0;
      for (int64_t k = 0; k < d; ++k) squared += std::pow(z[k] - p.known[j * d + k], 2);
      nearest = std::min(nearest, std::sqrt(squared));
    }
    const double* vectors = p.hidden_vectors.data() + m * (3 + outputs) * width;
    double mean = 0, variance = 0;
    std::vector<double> prior(outputs);
    for (int64_t u = 0; u < width; ++u) {
      h[u] = vectors[u];
      for (int64_t i = 0; i < features; ++i)
        h[u] += p.hidden_weight[(m * width + u) * features + i] * standard[i];
      mean += h[u] / double(width);
    }
    for (const double v : h) variance += (v - mean) * (v - mean) / double(width);
    for (int64_t u = 0; u < width; ++u) {
      const double v =
          (h[u] - mean) / std::sqrt(variance + 1e-5) * vectors[width + u] + vectors[2 * width + u];
      h[u] = v * 0.5 * std::erfc(-v / std::sqrt(2.0));
      for (int64_t k = 0; k < outputs; ++k) prior[k] += h[u] * vectors[(3 + k) * width + u];
      for (int64_t k = 0; k < d; ++k) z[k] += p.point_weight[(m * d + k) * width + u] * h[u];
    }
    const double* head = p.heads.data() + m * (2 + outputs);
    std::vector<double> learned(outputs);
    for (int64_t j = 0; j < p.s.labels; ++j) {
      double squared = 0;
      for (int64_t k = 0; k < d; ++k)
        squared += std::pow(z[k] - p.points[(m * p.s.labels + j) * d + k], 2);
      for (int64_t k = 0; k < outputs; ++k)
        learned[k] +=
            std::exp(-squared / head[0]) * p.coefficients[(m * outputs + k) * p.s.labels + j];
    }
    for (int64_t k = 0; k < outputs; ++k)
      kernel[k] += head[1] * (learned[k] + prior[k] - head[2 + k]) / double(p.s.networks);
  }
  const int64_t leaf = static_cast<float>(described[5]) <= 0.25f ? 1 : 2;
  std::vector<double> logits;
  for (int64_t k = 0; k < outputs; ++k) {
    const double vote = p.value[leaf * outputs + k];
    const double forest = std::log((vote + 0.5) / (outputs == 1 ? 1 - vote + 0.5 : 1));
    logits.push_back(p.constants[1] * (p.constants[0] * kernel[k] + forest) + p.constants[2 + k]);
  }
  return {logits, nearest / p.constants.back()};
}

}  // namespace

TEST_CASE("the classifier computes its formulas in every instruction set", "[strong]") {
  const char* names[3];
  const int count = timl::usable_isas(names);
  for (const StrongShape& shape : kStrong)
    for (const int64_t rows : {1, 50})
      for (int i = 0; i < count; ++i) {
        CAPTURE(std::string(names[i]), shape.steps, rows);
        const Strong problem(shape, rows);
        const StrongOutcome exact = run(*timl::engine_for<double>(names[i]), problem);
        const StrongOutcome single = run(*timl::engine_for<float>(names[i]), problem);
        std::vector<double> logits, distances;
        for (int64_t r = 0; r < rows; ++r) {
          const auto [of_series, distance] =
              plainly(problem, exact.described.data() + r * problem.features);
          logits.insert(logits.end(), of_series.begin(), of_series.end());
          distances.push_back(distance);
        }
        CHECK(relative_error(exact.logits, logits) < 1e-12);
        CHECK(relative_error(single.logits, logits) < 1e-5);
        CHECK(relative_error(single.described, exact.described) < 1e-6);
        if (shape.known > 0) {
          CHECK(relative_error(exact.distances, distances) < 1e-12);
          CHECK(relative_error(single.distances, distances) < 1e-5);
        }
      }
}

TEST_CASE("merge exchange sorts any number of values", "[strong]") {
  for (int64_t count = 1; count <= 40; ++count)
    for (unsigned seed = 0; seed < 20; ++seed) {
      std::vector<double> values = normals(count, 1, 0, seed);
      timl::merge_exchange(count, [&](int64_t i, int64_t j) {
        REQUIRE((0 <= i && i < j && j < count));
        if (values[j] < values[i]) std::swap(values[i], values[j]);
      });
      CHECK(std::is_sorted(values.begin(), values.end()));
    }
}

TEST_CASE("what is no tree is refused", "[strong]") {
  const auto packs = [](std::vector<int64_t> roots, std::vector<int64_t> left,
                        std::vector<int64_t> right, std::vector<int64_t> feature) {
    const std::vector<double> numbers(left.size());
    std::vector<uint32_t> packed_roots(roots.size());
    std::vector<timl::ForestNode> nodes(left.size());
    std::vector<float> values(left.size());
    int64_t bad = 0;
    const timl::PlainTrees<double> plain = {.trees = static_cast<int64_t>(roots.size()),
                                            .nodes = static_cast<int64_t>(left.size()),
                                            .outputs = 1,
                                            .roots = roots.data(),
                                            .left = left.data(),
                                            .right = right.data(),
                                            .feature = feature.data(),
                                            .threshold = numbers.data(),
                                            .value = numbers.data()};
    return timl::pack_forest(plain, 4, packed_roots.data(), nodes.data(), values.data(), &bad);
  };
  CHECK(packs({0, 3}, {1, 1, 2, 3}, {2, 1, 2, 3}, {3, 9, 9, 9}));
  CHECK_FALSE(packs({-1}, {0}, {0}, {0}));  // a root outside
  CHECK_FALSE(packs({1}, {0}, {0}, {0}));
  CHECK_FALSE(packs({0}, {1, 1, 2}, {3, 1, 2}, {0, 0, 0}));  // a child outside
  CHECK_FALSE(packs({0}, {1, 1, 2}, {-1, 1, 2}, {0, 0, 0}));
  CHECK_FALSE(packs({0}, {1, 1, 2}, {1, 1, 2}, {0, 0, 0}));  // reached twice
  CHECK_FALSE(packs({0, 0}, {0}, {0}, {0}));
  CHECK_FALSE(packs({0}, {1, 2, 0}, {2, 1, 0}, {0, 0, 0}));  // a circle
  CHECK_FALSE(packs({0}, {0, 1}, {1, 1}, {0, 0}));           // one child is the node itself
  CHECK_FALSE(packs({0}, {1, 1, 2}, {2, 1, 2}, {4, 0, 0}));  // no such feature
  CHECK_FALSE(packs({0}, {1, 1, 2}, {2, 1, 2}, {-1, 0, 0}));
}
