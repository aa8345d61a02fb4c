// forward, backward and tangent of every instruction set: against central differences, against each
// other, and bit for bit whatever the order in which chunks run.
#include "catch.h"
#include "problem.h"

namespace {

// The paper's; fewer where the tests run slowly: under the sanitizers, and for another processor.
#ifdef TIML_SLOW
constexpr int64_t kSteps = 3;
#else
constexpr int64_t kSteps = 12;
#endif

const Problem kProblems[] = {
    {{4, 3, 6, 2, 1}, 5, true, true},      {{1, 2, 3, 1, 1}, 4, true, false},
    {{3, 5, 20, 3, 1}, 3, false, true},    {{2, 31, 70, 2, 1}, 60, true, true},
    {{2, 18, 33, 2, 1}, 97, false, false}, {{kSteps, 18, 128, 2, 1}, 20, true, true},
    {{3, 6, 20, 2, 5}, 97, false, true},   {{2, 2, 33, 1, 19}, 60, true, false},
};

}  // namespace

TEST_CASE("backward is the slope of forward, tangent that of backward", "[network]") {
  for (const char* isa : instruction_sets())
    for (const Problem& p : kProblems) {
      const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
      const Inputs in(p);
      const Outcome here = run(engine, p, in);
      INFO(isa << ", batch " << p.batch << ", hidden " << p.shape.hidden);
      const double h = 1e-5;
      Inputs sides[2] = {in, in};
      for (int side = 0; side < 2; ++side) {
        const double step = side == 0 ? -h : h;
        sides[side].x = moved(in.x, step, in.x_direction);
        sides[side].weights = moved(in.weights, step, in.weights_direction);
        sides[side].film = moved(in.film, step, in.film_direction);
        sides[side].cotangent = moved(in.cotangent, step, in.cotangent_direction);
      }
      const Outcome low = run(engine, p, sides[0]), high = run(engine, p, sides[1]);
      // <gradient, direction> is the derivative of <cotangent, logits>.
      const double exact = inner_product(here.x, in.x_direction) +
                           inner_product(here.weights, in.weights_direction) +
                           inner_product(here.film, in.film_direction);
      const double measured =
          (inner_product(high.logits, in.cotangent) - inner_product(low.logits, in.cotangent)) /
          (2 * h);
      CHECK(exact == Approx(measured).epsilon(1e-6));
      CHECK(relative_error(here.logits_dot, slopes(low.logits, high.logits, h)) < 1e-6);
      CHECK(relative_error(here.x_dot, slopes(low.x, high.x, h)) < 1e-6);
      CHECK(relative_error(here.weights_dot, slopes(low.weights, high.weights, h)) < 1e-6);
      CHECK(relative_error(here.film_dot, slopes(low.film, high.film, h)) < 1e-6);
    }
}

TEST_CASE("instruction sets and precisions agree, and the order of chunks changes no bit",
          "[network]") {
  for (const Problem& p : kProblems) {
    Inputs in(p);
    const Outcome truth = run(*timl::engine_for<double>("baseline"), p, in);
    const auto check = [&](const Outcome& other, double bound) {
      CHECK(relative_error(other.logits, truth.logits) < bound);
      CHECK(relative_error(other.x, truth.x) < bound);
      CHECK(relative_error(other.weights, truth.weights) < bound);
      CHECK(relative_error(other.film, truth.film) < bound);
      CHECK(relative_error(other.weights_dot, truth.weights_dot) < bound);
      CHECK(relative_error(other.film_dot, truth.film_dot) < bound);
      CHECK(relative_error(other.x_dot, truth.x_dot) < bound);
    };
    for (const char* isa : instruction_sets()) {
      INFO(isa << ", batch " << p.batch << ", hidden " << p.shape.hidden);
      check(run(*timl::engine_for<double>(isa), p, in), 1e-11);
      const timl::Engine<float>& single = *timl::engine_for<float>(isa);
      const Outcome found = run(single, p, in);
      check(found, 2e-4);
      CHECK(run(single, p, in, kBackwards) == found);
    }
  }
}

TEST_CASE("evaluation without a tape equals forward with running statistics", "[network]") {
  for (const char* isa : instruction_sets())
    for (Problem p : kProblems) {
      p.batch_statistics = p.masked = false;
      const Inputs in(p);
      const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
      const Outcome expected = run(engine, p, in);
      const InputArrays<double> arrays(in);
      Buffer<double> prepared(engine.prepared_size(p.shape)), logits(p.batch * p.shape.outputs);
      Buffer<double> workspace(engine.evaluate_workspace(p.shape, p.batch));
      engine.prepare(arrays.of(p), prepared);
      engine.evaluate(p.shape, prepared, in.x.data(), p.batch, logits, workspace);
      CHECK(logits.values() == expected.logits);
    }
}
