// The CUDA engine's kernels, on the device or in the emulator, against the CPU engine: networks and
// meta-batches of many sizes, plans of many shapes, threads in many orders; and that the emulator
// notices a planted mistake.
#include "catch.h"
#include "meta_batch.h"

namespace {

const Problem kProblems[] = {
    {{4, 3, 6, 2, 1}, 5, true, true},     {{1, 2, 3, 1, 1}, 4, true, false},
    {{3, 5, 20, 3, 1}, 3, false, true},   {{2, 35, 70, 2, 1}, 60, true, true},
    {{2, 4, 33, 2, 5}, 97, false, false}, {{2, 2, 33, 1, 19}, 41, true, false},
};

void check_close(const Outcome& a, const Outcome& truth, double bound) {
  CHECK(relative_error(a.logits, truth.logits) < bound);
  CHECK(relative_error(a.mean, truth.mean) < bound);
  CHECK(relative_error(a.variance, truth.variance) < bound);
  CHECK(relative_error(a.x, truth.x) < bound);
  CHECK(relative_error(a.weights, truth.weights) < bound);
  CHECK(relative_error(a.film, truth.film) < bound);
  CHECK(relative_error(a.logits_dot, truth.logits_dot) < bound);
  CHECK(relative_error(a.x_dot, truth.x_dot) < bound);
  CHECK(relative_error(a.weights_dot, truth.weights_dot) < bound);
  CHECK(relative_error(a.film_dot, truth.film_dot) < bound);
}

void check_close(const MetaBatchOutcome& a, const MetaBatchOutcome& truth, double bound) {
  CHECK(relative_error(a.loss, truth.loss) < bound);
  CHECK(relative_error(a.support_loss, truth.support_loss) < bound);
  CHECK(relative_error(a.logits, truth.logits) < bound);
  CHECK(relative_error(a.mean, truth.mean) < bound);
  CHECK(relative_error(a.variance, truth.variance) < bound);
  CHECK(relative_error(a.weights, truth.weights) < bound);
  CHECK(relative_error(a.film, truth.film) < bound);
  CHECK(relative_error(a.step_sizes, truth.step_sizes) < bound);
}

}  // namespace

TEST_CASE("the passes of CUDA are those of the CPU", "[cuda]") {
  uint64_t seed = 0;
  for (const Problem& p : kProblems) {
    const Inputs in(p);
    const Outcome truth = run(*timl::engine<double>(), p, in);
    for (const timl::cuda::Plan& plan : plans()) {
      const Order order(seed++);
      INFO("batch " << p.batch << ", hidden " << p.shape.hidden << ", cluster " << plan.cluster);
      check_close(run(CudaEngine<double>{plan}, p, in), truth, 1e-11);
    }
    check_close(run(CudaEngine<float>{plans()[0]}, p, in), truth, 2e-4);
  }
}

TEST_CASE("evaluation on CUDA is that of the CPU, whatever else is evaluated", "[cuda]") {
  for (Problem p : kProblems) {
    p.batch_statistics = p.masked = false;
    const Inputs in(p);
    const InputArrays<double> arrays(in);
    const Outcome truth = run(*timl::engine<double>(), p, in);
    for (const timl::cuda::Plan& plan : plans()) {
      const Buffer<double> logits(p.batch * p.shape.outputs);
      const Buffer<double> workspace(timl::cuda::evaluate_workspace<double>(p.shape, plan));
      require_no_trouble(timl::cuda::evaluate(plan, arrays.of(p), logits.get(), workspace.get()));
      CHECK(relative_error(logits.values(), truth.logits) < 1e-12);
    }
  }
}

TEST_CASE("the meta-step of CUDA is that of the CPU", "[cuda]") {
  uint64_t seed = 0;
  for (const auto& [inner_steps, outputs, order, support] :
       {std::tuple{1, 1, 2, 43}, {3, 4, 2, 12}, {2, 1, 1, 12}, {2, 3, 0, 12}}) {
    const MetaBatch batch(
        {.network = {.steps = 3, .bands = 4, .hidden = 21, .layers = 2, .outputs = outputs},
         .inner_steps = inner_steps,
         .support = support,
         .query = 9,
         .order = order},
        3, inner_steps != 2);
    const MetaBatchOutcome truth = run(*timl::engine<double>(), batch);
    INFO("inner steps " << inner_steps << ", outputs " << outputs << ", order " << order);
    for (const timl::cuda::Plan& plan : plans()) {
      const Order of_threads(seed++);
      check_close(run(CudaEngine<double>{plan}, batch), truth, 1e-10);
    }
    check_close(run(CudaEngine<float>{plans()[0]}, batch), truth, 1e-3);
  }
}

TEST_CASE("the inner steps alone on CUDA are those of the CPU", "[cuda]") {
  for (const auto& [inner_steps, outputs] : {std::pair{1, 1}, {3, 4}}) {
    const MetaBatch batch(
        {.network = {.steps = 3, .bands = 4, .hidden = 21, .layers = 2, .outputs = outputs},
         .inner_steps = inner_steps,
         .support = 12,
         .query = 2,
         .order = 0},
        1, inner_steps == 3);
    INFO("inner steps " << inner_steps << ", outputs " << outputs);
    const Adapted truth = adapt(*timl::engine<double>(), batch);
    for (const timl::cuda::Plan& plan : plans()) {
      const Adapted found = adapt(CudaEngine<double>{plan}, batch);
      CHECK(relative_error(found.weights, truth.weights) < 1e-10);
      CHECK(relative_error(found.support_loss, truth.support_loss) < 1e-10);
      CHECK(relative_error(found.mean, truth.mean) < 1e-10);
      CHECK(relative_error(found.variance, truth.variance) < 1e-10);
    }
  }
}

TEST_CASE("a label that is no class makes its task's loss NaN, and no other's", "[cuda]") {
  MetaBatch batch({.network = {.steps = 1, .bands = 2, .hidden = 3, .layers = 1, .outputs = 3},
                   .inner_steps = 1,
                   .support = 4,
                   .query = 4,
                   .order = 0},
                  3, false);
  for (const double label : {3.0, -2.0, 0.5, 1e30, std::nan("")}) {
    batch.query_y[5] = label;
    const std::vector<double> loss = run(CudaEngine<float>{plans()[0]}, batch).loss;
    CHECK((std::isfinite(loss[0]) && std::isnan(loss[1]) && std::isfinite(loss[2])));
  }
}

TEST_CASE("a meta-batch of the paper's size", "[cuda]") {
  const MetaBatch batch(
      {.network = {.steps = 12, .bands = 18, .hidden = 128, .layers = 2, .outputs = 1},
       .inner_steps = 1,
       .support = 20,
       .query = 8,
       .order = 2},
      1, true);
  timl::cuda::Plan plan = plans()[0];
#if !defined(TIML_ON_DEVICE)
  plan.threads = 256;
  plan.clusters = 1;
#endif
  const MetaBatchOutcome truth = run(*timl::engine<double>(), batch);
  check_close(run(CudaEngine<float>{plan}, batch), truth, 1e-4);
}

TEST_CASE("the order of threads and clusters changes no bit", "[cuda]") {
  const MetaBatch batch(
      {.network = {.steps = 2, .bands = 3, .hidden = 17, .layers = 3, .outputs = 3},
       .inner_steps = 2,
       .support = 6,
       .query = 4,
       .order = 2},
      3, true);
  const CudaEngine<float> engine = {plans()[0]};
  const MetaBatchOutcome first = run(engine, batch);
  for (uint64_t seed = 1; seed < 5; ++seed) {
    const Order order(seed);
    const MetaBatchOutcome other = run(engine, batch);
    CHECK(other.weights == first.weights);
    CHECK(other.film == first.film);
    CHECK(other.step_sizes == first.step_sizes);
    CHECK(other.variance == first.variance);
  }
}

#if !defined(TIML_ON_DEVICE)
TEST_CASE("a plan has clusters of as many blocks as fit, and as many as fit at once", "[cuda]") {
  for (const auto& [blocks, cluster, clusters] :
       {std::tuple{132, 4, 33}, {7, 4, 1}, {3, 2, 1}, {1, 1, 1}}) {
    const Order order(0);
    timl::simt::options().blocks_in_reach = blocks;
    timl::cuda::Plan plan = {.threads = 256, .cluster = 4, .shared = 1024};
    require_no_trouble(timl::cuda::fit_clusters(&plan));
    CHECK((plan.cluster == cluster && plan.clusters == clusters));
  }
  const Order order(0);
  timl::simt::options().blocks_in_reach = 0;
  timl::cuda::Plan plan;
  CHECK_THROWS(require_no_trouble(timl::cuda::fit_clusters(&plan)));
}

TEST_CASE("kernels without their clusters' barriers are noticed", "[cuda]") {
  const Problem p = kProblems[0];
  const Inputs in(p);
  const Outcome truth = run(*timl::engine<double>(), p, in);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const Order order(seed);
    timl::simt::options().without_cluster_barriers = true;
    // With shared memory of other blocks the emulator complains by itself.
    CHECK_THROWS(run(CudaEngine<double>{plans()[0]}, p, in));
    timl::cuda::Plan without_room = plans()[0];
    without_room.shared = 0;
    const Outcome wrong = run(CudaEngine<double>{without_room}, p, in);
    CHECK_FALSE(relative_error(wrong.weights_dot, truth.weights_dot) < 1e-3);
  }
}
#endif
