// The engine's interface to the LSTM alone, with FiLM at its input: all hidden states or the last
// ones, their gradients, and the tangents of both. A part of engine.h, whose rules hold here.
#pragma once

#include <cstdint>

#include "timl/shape.h"

namespace timl {

struct Parallel;

// Sizes of an LSTM, and what of it is wanted.
struct FilmLstmShape {
  int64_t steps;    // T, time steps of a series
  int64_t bands;    // F, values per step
  int64_t hidden;   // H, units
  bool every_step;  // the hidden states of every step, [B,T,H]; else of the last, [B,H]

  // As the shape of a network that has no head.
  Shape network() const {
    return {.steps = steps, .bands = bands, .hidden = hidden, .layers = 1, .outputs = 0};
  }
};

// Flat weights [W]: input [4H,F], hidden [4H,H], bias [4H] (gates in the order i,f,g,o).
inline int64_t film_lstm_weights_size(const FilmLstmShape& s) { return weights_size(s.network()); }

// Elements of the hidden states that are wanted of one series.
inline int64_t film_lstm_states_size(const FilmLstmShape& s) {
  return (s.every_step ? s.steps : 1) * s.hidden;
}

template <class T>
struct FilmLstmInput {
  FilmLstmShape shape;
  int64_t batch;     // B
  const T* x;        // [B,T,F]
  const T* weights;  // [W]
  const T* film;     // gamma, beta [2,T,F], or null for none
  const T* mask;     // [B,H] by which the hidden states of every step are multiplied, or null
};

// Gradients, each null where it is not wanted (that of the weights always is).
template <class T>
struct FilmLstmGradient {
  T* x;        // [B,T,F] or null
  T* weights;  // [W]
  T* film;     // [2,T,F] or null
};

// A direction in (x, weights, film); null = zero.
template <class T>
struct FilmLstmDirection {
  const T* x;        // [B,T,F] or null
  const T* weights;  // [W]
  const T* film;     // [2,T,F] or null
};

template <class T>
struct FilmLstmEngine {
  // Elements that a tape, the adjoints and the working memory of these calls take (aligned).
  int64_t (*tape_size)(const FilmLstmShape&, int64_t batch);
  int64_t (*adjoint_size)(const FilmLstmShape&, int64_t batch);
  int64_t (*forward_workspace)(const FilmLstmShape&, int64_t batch);
  int64_t (*backward_workspace)(const FilmLstmShape&, int64_t batch);
  int64_t (*tangent_workspace)(const FilmLstmShape&, int64_t batch);
  int64_t (*evaluate_workspace)(const FilmLstmShape&, int64_t batch);

  // states [B,T,H] or [B,H], and the tape.
  void (*forward)(const FilmLstmInput<T>&, T* states, T* tape, T* workspace, const Parallel&);
  // Gradients of sum(cotangent * states), and the adjoints that tangent needs.
  void (*backward)(const FilmLstmInput<T>&, const T* cotangent, const T* tape,
                   const FilmLstmGradient<T>&, T* adjoints, T* workspace, const Parallel&);
  // Derivatives, along a direction, of the states and of backward's gradients (Pearlmutter 1994).
  void (*tangent)(const FilmLstmInput<T>&, const T* tape, const T* adjoints,
                  const FilmLstmDirection<T>&, T* states_tangent, const FilmLstmGradient<T>&,
                  T* workspace, const Parallel&);

  // Without a tape: weights and film are prepared once, then any number of calls on rows of x and
  // mask (null for ones), each with its own workspace.
  int64_t (*prepared_size)(const FilmLstmShape&);
  void (*prepare)(const FilmLstmInput<T>&, T* prepared);
  void (*evaluate)(const FilmLstmShape&, const T* prepared, const T* x, const T* mask, int64_t rows,
                   T* states, T* workspace);
};

}  // namespace timl
