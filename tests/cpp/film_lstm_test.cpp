// The LSTM alone, of every instruction set: against central differences, against each other, and
// bit for bit whatever the order in which chunks run.
#include "catch.h"
#include "film_lstm_problem.h"

namespace {

const LstmProblem kLstmProblems[] = {
    {{4, 3, 6, true}, 5, true, true},     {{1, 2, 3, true}, 1, true, false},
    {{3, 5, 20, false}, 3, false, true},  {{2, 31, 70, true}, 60, true, true},
    {{3, 20, 33, false}, 97, true, true}, {{12, 18, 40, true}, 7, false, false},
};

}  // namespace

TEST_CASE("the LSTM alone: backward is the slope of forward, tangent that of backward",
          "[film_lstm]") {
  for (const char* isa : instruction_sets())
    for (const LstmProblem& p : kLstmProblems) {
      const timl::FilmLstmEngine<double>& engine = timl::engine_for<double>(isa)->film_lstm;
      const LstmInputs in(p);
      const LstmOutcome here = run(engine, p, in);
      INFO(isa << ", batch " << p.batch << ", hidden " << p.shape.hidden);
      const double h = 1e-5;
      LstmInputs sides[2] = {in, in};
      for (int side = 0; side < 2; ++side) {
        const double step = side == 0 ? -h : h;
        sides[side].x = moved(in.x, step, in.x_direction);
        sides[side].weights = moved(in.weights, step, in.weights_direction);
        sides[side].film = moved(in.film, step, in.film_direction);
      }
      const LstmOutcome low = run(engine, p, sides[0]), high = run(engine, p, sides[1]);
      const double exact = inner_product(here.x, in.x_direction) +
                           inner_product(here.weights, in.weights_direction) +
                           inner_product(here.film, in.film_direction);
      const double measured = inner_product(slopes(low.states, high.states, h), in.cotangent);
      CHECK(exact == Approx(measured).epsilon(1e-6));
      CHECK(relative_error(here.states_dot, slopes(low.states, high.states, h)) < 1e-6);
      CHECK(relative_error(here.x_dot, slopes(low.x, high.x, h)) < 1e-6);
      CHECK(relative_error(here.weights_dot, slopes(low.weights, high.weights, h)) < 1e-6);
      if (p.filmed) CHECK(relative_error(here.film_dot, slopes(low.film, high.film, h)) < 1e-6);
      CHECK(here.evaluated == here.states);
    }
}

TEST_CASE(
    "the LSTM alone: instruction sets and precisions agree, the order of chunks changes no bit",
    "[film_lstm]") {
  for (const LstmProblem& p : kLstmProblems) {
    const LstmInputs in(p);
    const LstmOutcome truth = run(timl::engine_for<double>("baseline")->film_lstm, p, in);
    for (const char* isa : instruction_sets()) {
      INFO(isa << ", batch " << p.batch << ", hidden " << p.shape.hidden);
      check_close(run(timl::engine_for<double>(isa)->film_lstm, p, in), truth, 1e-11);
      const timl::FilmLstmEngine<float>& single = timl::engine_for<float>(isa)->film_lstm;
      const LstmOutcome found = run(single, p, in);
      check_close(found, truth, 2e-4);
      CHECK(run(single, p, in, kBackwards) == found);
    }
  }
}
