// The meta-step of one task: its gradients are the slopes of its own loss, for every instruction
// set, one and three inner steps, with poisoned buffers.
#include "catch.h"
#include "problem.h"

namespace {

struct MetaProblem {
  timl::MetaShape shape;
  std::vector<double> support_x, support_y, query_x, query_y, weights, film, step_sizes, mask;
  std::vector<double> class_weights;

  explicit MetaProblem(const timl::MetaShape& m)
      : shape(m),
        support_x(normals(m.inner_steps * m.support * m.network.steps * m.network.bands, 1, 0, 1)),
        query_x(normals(m.query * m.network.steps * m.network.bands, 1, 0, 2)),
        weights(normals(weights_size(m.network), 0.3, 0, 3)),
        film(normals(film_size(m.network), 0.3, 0.8, 4)),
        step_sizes(normals(m.inner_steps * tensor_count(m.network), 0.03, 0.1, 5)),
        mask(normals(m.inner_steps * m.support * m.network.hidden, 1, 0, 6)) {
    const int64_t classes = m.network.outputs == 1 ? 2 : m.network.outputs;
    for (int64_t k = 0; k < classes; ++k) class_weights.push_back(1 + 0.3 * double(k));
    // every class, and with several of them some labels that count for nothing
    const auto label = [&](int64_t i) {
      return double(m.network.outputs > 1 && i % 4 == 3 ? -1 : i % classes);
    };
    for (int64_t i = 0; i < m.inner_steps * m.support; ++i) support_y.push_back(label(i));
    for (int64_t i = 0; i < m.query; ++i) query_y.push_back(label(i));
    for (double& value : mask) value = value < 0.8 ? 1.25 : 0;
  }
};

struct MetaOutcome {
  double loss;
  std::vector<double> support_loss, mean, variance;
  std::vector<double> weights, film, step_sizes;
};

MetaOutcome run(const timl::Engine<double>& engine, const MetaProblem& p, int order,
                const timl::Parallel& parallel = timl::kSerial) {
  timl::MetaShape m = p.shape;
  m.order = order;
  const timl::Shape& s = m.network;
  Buffer<double> base(engine.base_size(s)), workspace(engine.meta_workspace(m));
  const int64_t statistics = (m.inner_steps + 1) * s.layers * s.hidden;
  Buffer<double> loss(1), support_loss(m.inner_steps), logits(m.query * s.outputs),
      mean(statistics);
  Buffer<double> variance(statistics), packed(engine.packed_size(s)), film(film_size(s));
  Buffer<double> steps(m.inner_steps * tensor_count(s)), weights(weights_size(s));
  Buffer<double> scratch(engine.packed_size(s));
  engine.pack_base(s, p.weights.data(), base);
  engine.meta_task(m, base, p.step_sizes.data(),
                   {.support_x = p.support_x.data(),
                    .support_y = p.support_y.data(),
                    .query_x = p.query_x.data(),
                    .query_y = p.query_y.data(),
                    .film = p.film.data(),
                    .support_mask = p.mask.data(),
                    .query_mask = nullptr,
                    .class_weights = p.class_weights.data()},
                   {.loss = loss,
                    .support_loss = support_loss,
                    .logits = logits,
                    .batch_mean = mean,
                    .batch_variance = variance,
                    .packed_gradient = packed,
                    .film_gradient = film,
                    .step_size_gradient = steps},
                   workspace, parallel);
  MetaOutcome outcome = {.loss = *loss.get(),
                         .support_loss = support_loss.values(),
                         .mean = mean.values(),
                         .variance = variance.values(),
                         .weights = {},
                         .film = {},
                         .step_sizes = {}};
  if (order == 0) return outcome;
  engine.reduce_gradients(s, 1, packed, 1.0, weights, scratch, timl::kSerial);
  outcome.weights = weights.values();
  outcome.film = film.values();
  outcome.step_sizes = steps.values();
  return outcome;
}

// The inner steps alone: weights, losses and statistics.
struct Adapted {
  std::vector<double> weights, support_loss, mean, variance;
};

Adapted adapt(const timl::Engine<double>& engine, const MetaProblem& p,
              const timl::Parallel& parallel = timl::kSerial) {
  const timl::MetaShape& m = p.shape;
  const int64_t statistics = m.inner_steps * m.network.layers * m.network.hidden;
  const Buffer<double> weights(weights_size(m.network)), loss(m.inner_steps), mean(statistics),
      variance(statistics), workspace(engine.adapt_workspace(m.network, m.support));
  engine.adapt(
      {.shape = m.network,
       .inner_steps = m.inner_steps,
       .support = m.support,
       .support_x = p.support_x.data(),
       .support_y = p.support_y.data(),
       .weights = p.weights.data(),
       .film = p.film.data(),
       .support_mask = p.mask.data(),
       .class_weights = p.class_weights.data(),
       .step_sizes = p.step_sizes.data()},
      {.weights = weights, .support_loss = loss, .batch_mean = mean, .batch_variance = variance},
      workspace, parallel);
  return {weights.values(), loss.values(), mean.values(), variance.values()};
}

}  // namespace

TEST_CASE("the second-order meta-gradient is the slope of the adapted loss", "[meta]") {
  for (const char* isa : instruction_sets())
    for (const auto& [inner_steps, outputs] : {std::pair{1, 1}, {3, 1}, {3, 4}}) {
      const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
      const MetaProblem p(
          {.network = {.steps = 3, .bands = 4, .hidden = 21, .layers = 2, .outputs = outputs},
           .inner_steps = inner_steps,
           .support = 6,
           .query = 4,
           .order = 2});
      const MetaOutcome exact = run(engine, p, 2);
      INFO(isa << ", inner steps " << inner_steps << ", outputs " << outputs);
      const double h = 1e-6;
      const auto slope = [&](std::vector<double> MetaProblem::* field,
                             const std::vector<double>& direction) {
        MetaProblem low = p, high = p;
        low.*field = moved(p.*field, -h, direction);
        high.*field = moved(p.*field, h, direction);
        return (run(engine, high, 0).loss - run(engine, low, 0).loss) / (2 * h);
      };
      const auto d_weights = normals(weights_size(p.shape.network), 1, 0, 7);
      const auto d_film = normals(film_size(p.shape.network), 1, 0, 8);
      const auto d_steps = normals(inner_steps * tensor_count(p.shape.network), 1, 0, 9);
      CHECK(inner_product(exact.weights, d_weights) ==
            Approx(slope(&MetaProblem::weights, d_weights)).epsilon(1e-6));
      CHECK(inner_product(exact.film, d_film) ==
            Approx(slope(&MetaProblem::film, d_film)).epsilon(1e-6));
      CHECK(inner_product(exact.step_sizes, d_steps) ==
            Approx(slope(&MetaProblem::step_sizes, d_steps)).epsilon(1e-6));
      // First order is another gradient of the same loss.
      const MetaOutcome first = run(engine, p, 1);
      CHECK(first.loss == exact.loss);
      CHECK(relative_error(first.weights, exact.weights) > 1e-3);
    }
}

TEST_CASE("a meta-step can be given up before every inner step, on both ways", "[meta]") {
  static int left;
  struct GivenUp {};
  const timl::Parallel parallel = {.run = timl::kSerial.run, .check = [] {
                                     if (left-- == 0) throw GivenUp();
                                   }};
  const MetaProblem p({.network = {.steps = 3, .bands = 4, .hidden = 21, .layers = 2, .outputs = 1},
                       .inner_steps = 3,
                       .support = 6,
                       .query = 4,
                       .order = 2});
  const timl::Engine<double>& engine = *timl::engine<double>();
  for (int checks = 0; checks < 6; ++checks) {
    left = checks;
    REQUIRE_THROWS_AS(run(engine, p, 2, parallel), GivenUp);
  }
  left = 6;
  REQUIRE(run(engine, p, 2, parallel).weights == run(engine, p, 2).weights);
}

TEST_CASE("the inner steps alone are those of the meta-step, to the bit", "[meta]") {
  for (const char* isa : instruction_sets())
    for (const auto& [inner_steps, outputs, hidden] : {std::tuple{1, 1, 64}, {3, 4, 21}}) {
      const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
      const MetaProblem p(
          {.network = {.steps = 3, .bands = 4, .hidden = hidden, .layers = 2, .outputs = outputs},
           .inner_steps = inner_steps,
           .support = 6,
           .query = 4,
           .order = 0});
      INFO(isa << ", inner steps " << inner_steps << ", outputs " << outputs);
      const Adapted adapted = adapt(engine, p);
      MetaOutcome whole = run(engine, p, 0);
      CHECK(adapted.support_loss == whole.support_loss);
      whole.mean.resize(adapted.mean.size());  // the query's come last
      whole.variance.resize(adapted.variance.size());
      CHECK((adapted.mean == whole.mean && adapted.variance == whole.variance));
      // The query's loss is that of a meta-step which begins with the adapted weights.
      MetaProblem after = p;
      after.shape.inner_steps = 0;
      after.weights = adapted.weights;
      CHECK(run(engine, after, 0).loss == whole.loss);
    }
}
