// The LSTM alone, of every instruction set: against central differences, against each other, and
// bit for bit whatever the order in which chunks run.
#include "catch.h"
#include "problem.h"

namespace {

struct LstmProblem {
  timl::FilmLstmShape shape;
  int64_t batch;
  bool filmed, masked;
};

const LstmProblem kLstmProblems[] = {
    {{4, 3, 6, true}, 5, true, true},     {{1, 2, 3, true}, 1, true, false},
    {{3, 5, 20, false}, 3, false, true},  {{2, 31, 70, true}, 60, true, true},
    {{3, 20, 33, false}, 97, true, true}, {{12, 18, 40, true}, 7, false, false},
};

struct LstmInputs {
  explicit LstmInputs(const LstmProblem& p)
      : x(normals(p.batch * p.shape.steps * p.shape.bands, 1, 0, 1)),
        weights(
            normals(film_lstm_weights_size(p.shape), 1 / std::sqrt(double(p.shape.hidden)), 0, 2)),
        film(normals(2 * p.shape.steps * p.shape.bands, 0.3, 0.8, 3)),
        mask(normals(p.batch * p.shape.hidden, 1, 0, 4)),
        cotangent(normals(p.batch * film_lstm_states_size(p.shape), 1, 0, 5)),
        x_direction(normals(p.batch * p.shape.steps * p.shape.bands, 1, 0, 6)),
        weights_direction(normals(film_lstm_weights_size(p.shape), 1, 0, 7)),
        film_direction(normals(2 * p.shape.steps * p.shape.bands, 1, 0, 8)) {
    for (double& m : mask) m = m < 0.8 ? 1.25 : 0;
  }
  std::vector<double> x, weights, film, mask, cotangent;
  std::vector<double> x_direction, weights_direction, film_direction;
};

// Hidden states and gradients, then the tangents of both.
struct LstmOutcome {
  std::vector<double> states, x, weights, film;
  std::vector<double> states_dot, x_dot, weights_dot, film_dot;
  std::vector<double> evaluated;
};

template <class T>
LstmOutcome run(const timl::Engine<T>& all, const LstmProblem& p, const LstmInputs& in,
                const timl::Parallel& parallel = timl::kSerial) {
  const timl::FilmLstmEngine<T>& engine = all.film_lstm;
  const timl::FilmLstmShape& s = p.shape;
  const auto cast = [](const std::vector<double>& values) {
    Buffer<T> buffer(static_cast<int64_t>(values.size()));
    for (size_t i = 0; i < values.size(); ++i) buffer.get()[i] = static_cast<T>(values[i]);
    return buffer;
  };
  const Buffer<T> x = cast(in.x), weights = cast(in.weights), film = cast(in.film);
  const Buffer<T> mask = cast(in.mask), cotangent = cast(in.cotangent);
  const Buffer<T> x_direction = cast(in.x_direction);
  const Buffer<T> weights_direction = cast(in.weights_direction);
  const Buffer<T> film_direction = cast(in.film_direction);
  const timl::FilmLstmInput<T> input = {.shape = s,
                                        .batch = p.batch,
                                        .x = x,
                                        .weights = weights,
                                        .film = p.filmed ? film.get() : nullptr,
                                        .mask = p.masked ? mask.get() : nullptr};

  Buffer<T> states(cotangent.size()), tape(engine.tape_size(s, p.batch));
  Buffer<T> forward_workspace(engine.forward_workspace(s, p.batch));
  engine.forward(input, states, tape, forward_workspace, parallel);

  const int64_t film_size = p.filmed ? film.size() : 0;
  Buffer<T> dx(x.size()), dw(weights.size()), df(film_size);
  Buffer<T> adjoints(engine.adjoint_size(s, p.batch));
  Buffer<T> backward_workspace(engine.backward_workspace(s, p.batch));
  engine.backward(input, cotangent, tape,
                  {.x = dx, .weights = dw, .film = p.filmed ? df.get() : nullptr}, adjoints,
                  backward_workspace, parallel);

  Buffer<T> states_dot(states.size()), dx_dot(x.size()), dw_dot(weights.size()), df_dot(film_size);
  Buffer<T> tangent_workspace(engine.tangent_workspace(s, p.batch));
  engine.tangent(input, tape, adjoints,
                 {.x = x_direction,
                  .weights = weights_direction,
                  .film = p.filmed ? film_direction.get() : nullptr},
                 states_dot,
                 {.x = dx_dot, .weights = dw_dot, .film = p.filmed ? df_dot.get() : nullptr},
                 tangent_workspace, parallel);

  Buffer<T> prepared(engine.prepared_size(s)), evaluated(states.size());
  Buffer<T> evaluate_workspace(engine.evaluate_workspace(s, p.batch));
  engine.prepare(input, prepared);
  engine.evaluate(s, prepared, x, input.mask, p.batch, evaluated, evaluate_workspace);
  return {.states = states.values(),
          .x = dx.values(),
          .weights = dw.values(),
          .film = df.values(),
          .states_dot = states_dot.values(),
          .x_dot = dx_dot.values(),
          .weights_dot = dw_dot.values(),
          .film_dot = df_dot.values(),
          .evaluated = evaluated.values()};
}

}  // namespace

TEST_CASE("the LSTM alone: backward is the slope of forward, tangent that of backward",
          "[film_lstm]") {
  for (const char* isa : instruction_sets())
    for (const LstmProblem& p : kLstmProblems) {
      const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
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
      const auto slope = [&](const std::vector<double>& a, const std::vector<double>& b) {
        std::vector<double> out(a.size());
        for (size_t i = 0; i < a.size(); ++i) out[i] = (b[i] - a[i]) / (2 * h);
        return out;
      };
      const double exact = inner_product(here.x, in.x_direction) +
                           inner_product(here.weights, in.weights_direction) +
                           inner_product(here.film, in.film_direction);
      const double measured = inner_product(slope(low.states, high.states), in.cotangent);
      CHECK(exact == Approx(measured).epsilon(1e-6));
      CHECK(relative_error(here.states_dot, slope(low.states, high.states)) < 1e-6);
      CHECK(relative_error(here.x_dot, slope(low.x, high.x)) < 1e-6);
      CHECK(relative_error(here.weights_dot, slope(low.weights, high.weights)) < 1e-6);
      if (p.filmed) CHECK(relative_error(here.film_dot, slope(low.film, high.film)) < 1e-6);
      CHECK(here.evaluated == here.states);
    }
}

TEST_CASE("the LSTM alone: instruction sets and precisions agree", "[film_lstm]") {
  for (const LstmProblem& p : kLstmProblems) {
    const LstmInputs in(p);
    const LstmOutcome truth = run(*timl::engine_for<double>("baseline"), p, in);
    const auto check = [&](const LstmOutcome& other, double bound) {
      CHECK(relative_error(other.states, truth.states) < bound);
      CHECK(relative_error(other.x, truth.x) < bound);
      CHECK(relative_error(other.weights, truth.weights) < bound);
      CHECK(relative_error(other.x_dot, truth.x_dot) < bound);
      CHECK(relative_error(other.weights_dot, truth.weights_dot) < bound);
    };
    for (const char* isa : instruction_sets()) {
      INFO(isa << ", batch " << p.batch << ", hidden " << p.shape.hidden);
      check(run(*timl::engine_for<double>(isa), p, in), 1e-11);
      check(run(*timl::engine_for<float>(isa), p, in), 2e-4);
    }
  }
}

TEST_CASE("the LSTM alone: the order in which chunks run changes no bit", "[film_lstm]") {
  for (const char* isa : instruction_sets())
    for (const LstmProblem& p : kLstmProblems) {
      const LstmInputs in(p);
      const timl::Engine<float>& engine = *timl::engine_for<float>(isa);
      const LstmOutcome forwards = run(engine, p, in), backwards = run(engine, p, in, kBackwards);
      CHECK(forwards.states == backwards.states);
      CHECK(forwards.x == backwards.x);
      CHECK(forwards.weights == backwards.weights);
      CHECK(forwards.x_dot == backwards.x_dot);
      CHECK(forwards.weights_dot == backwards.weights_dot);
      CHECK(forwards.film_dot == backwards.film_dot);
    }
}
