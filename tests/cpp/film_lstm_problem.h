// A random problem of the LSTM alone, and what an engine computes of it.
#pragma once

#include "catch.h"
#include "problem.h"

struct LstmProblem {
  timl::FilmLstmShape shape;
  int64_t batch;
  bool filmed, masked;
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
  bool operator==(const LstmOutcome&) const = default;
};

inline void check_close(const LstmOutcome& a, const LstmOutcome& truth, double bound) {
  CHECK(relative_error(a.states, truth.states) < bound);
  CHECK(relative_error(a.x, truth.x) < bound);
  CHECK(relative_error(a.weights, truth.weights) < bound);
  CHECK(relative_error(a.film, truth.film) < bound);
  CHECK(relative_error(a.states_dot, truth.states_dot) < bound);
  CHECK(relative_error(a.x_dot, truth.x_dot) < bound);
  CHECK(relative_error(a.weights_dot, truth.weights_dot) < bound);
  CHECK(relative_error(a.film_dot, truth.film_dot) < bound);
  CHECK(relative_error(a.evaluated, truth.evaluated) < bound);
}

// Hidden states without a tape.
template <class T>
std::vector<double> evaluated(const timl::FilmLstmEngine<T>& engine,
                              const timl::FilmLstmInput<T>& input) {
  const timl::FilmLstmShape& s = input.shape;
  Buffer<T> states(input.batch * film_lstm_states_size(s)), prepared(engine.prepared_size(s));
  Buffer<T> workspace(engine.evaluate_workspace(s, input.batch));
  engine.prepare(input, prepared);
  engine.evaluate(s, prepared, input.x, input.mask, input.batch, states, workspace);
  return states.values();
}

// AnyEngine: timl::FilmLstmEngine, or what has its members and an `evaluated` of its own.
template <template <class> class AnyEngine, class T>
LstmOutcome run(const AnyEngine<T>& engine, const LstmProblem& p, const LstmInputs& in,
                const timl::Parallel& parallel = timl::kSerial) {
  const timl::FilmLstmShape& s = p.shape;
  const Buffer<T> x = buffer_of<T>(in.x), weights = buffer_of<T>(in.weights);
  const Buffer<T> film = buffer_of<T>(in.film), mask = buffer_of<T>(in.mask);
  const Buffer<T> cotangent = buffer_of<T>(in.cotangent);
  const Buffer<T> x_direction = buffer_of<T>(in.x_direction);
  const Buffer<T> weights_direction = buffer_of<T>(in.weights_direction);
  const Buffer<T> film_direction = buffer_of<T>(in.film_direction);
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
  return {.states = states.values(),
          .x = dx.values(),
          .weights = dw.values(),
          .film = df.values(),
          .states_dot = states_dot.values(),
          .x_dot = dx_dot.values(),
          .weights_dot = dw_dot.values(),
          .film_dot = df_dot.values(),
          .evaluated = evaluated(engine, input)};
}
