// The strong protocol's classifier on CUDA: the CPU's, whatever else is evaluated, and of trees
// that are none NaN.
#include <algorithm>

#include "catch.h"
#include "cuda_strong_problem.h"

namespace {

using timl::StrongShape;

TEST_CASE("the classifier of CUDA is that of the CPU, whatever else is evaluated", "[cuda]") {
  uint64_t seed = 0;
  for (const StrongShape& shape : kStrong) {
    const Strong problem(shape, 85), first(shape, 1);
    const StrongOutcome truth = run(*timl::engine<double>(), problem);
    const auto check = [&](const StrongOutcome& found, double bound) {
      CHECK(relative_error(found.logits, truth.logits) < bound);
      CHECK(relative_error(found.distances, truth.distances) < bound);
      CHECK(relative_error(found.described, truth.described) < bound);
    };
    for (const timl::cuda::Plan& plan : plans()) {
      const Order order(seed++);
      CAPTURE(shape.steps, plan.cluster);
      const StrongOutcome found = run(CudaEngine<double>{plan}, problem);
      check(found, 1e-11);
      const StrongOutcome alone = run(CudaEngine<double>{plan}, first);
      CHECK(std::equal(alone.logits.begin(), alone.logits.end(), found.logits.begin()));
      CHECK(std::equal(alone.distances.begin(), alone.distances.end(), found.distances.begin()));
    }
    check(run(CudaEngine<float>{plans()[0]}, problem), 1e-4);
  }
}

TEST_CASE("CUDA reads nothing outside of what are no trees, and says NaN", "[cuda]") {
  const StrongShape shape = {.steps = 4,
                             .networks = 1,
                             .dimensions = 3,
                             .width = 0,
                             .labels = 1,
                             .known = 0,
                             .outputs = 1};
  const CudaEngine<float> engine = {plans()[0]};
  Strong good(shape, 2);
  CHECK(std::isfinite(run(engine, good).logits[0]));
  const auto spoiled = [&](auto&& spoil) {
    Strong problem = good;
    spoil(problem);
    return run(engine, problem).logits[0];
  };
  for (const int64_t outside : {int64_t{-1}, int64_t{3}, INT64_MAX, INT64_MIN}) {
    CHECK(std::isnan(spoiled([&](Strong& p) { p.roots[0] = outside; })));
    CHECK(std::isnan(spoiled([&](Strong& p) { p.left[0] = p.right[0] = outside; })));
  }
  CHECK(std::isnan(spoiled([&](Strong& p) { p.feature[0] = p.features; })));
  CHECK(std::isnan(spoiled([&](Strong& p) { p.left = {1, 2, 0}, p.right = {2, 0, 1}; })));
}

}  // namespace
