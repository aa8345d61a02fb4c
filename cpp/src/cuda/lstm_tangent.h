// The tangent of the LSTM: the derivatives, along a direction, of what its forward and backward
// passes compute (docs/explanation/meta-step.md, "The tangent" of "LSTM").
#pragma once

#include "lstm.h"

namespace timl {
namespace {

// Tangents of the tape's values and of the adjoints', in their shapes; input is written only where
// x or FiLM move.
template <class T>
struct LstmTangents {
  TIML_HOST_DEVICE LstmTangents(const Layout& layout, int64_t batch, Arena<T>& arena) {
    const int64_t units = layout.steps * batch * layout.hidden;
    input = arena.take(batch * layout.series);
    gates = arena.take(4 * units);
    cell = arena.take(units);
    tanh_cell = arena.take(units);
    hidden = arena.take(units);
    gate_adjoints = arena.take(4 * units);
    cell_adjoints = arena.take(units);
    input_adjoints = arena.take(batch * layout.series);
  }
  T *input, *gates, *cell, *tanh_cell, *hidden, *gate_adjoints, *cell_adjoints, *input_adjoints;
};

// A direction: weights, and, where they move, the FiLM [Phi] and x [B,T,F] (null = still).
template <class T>
struct Direction {
  Weights<T> weights;
  const T* film;
  const T* x;

  __device__ bool moves_input() const { return film != nullptr || x != nullptr; }
};

// First half of the tangent: derivatives of what the forward pass computed.
template <class T>
__device__ void lstm_tangent_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                                     const Range& rows, const Weights<T>& weights, bool staged,
                                     const LstmTape<T>& tape, const Direction<T>& direction,
                                     const LstmTangents<T>& tangents,
                                     const States<T>& states_dot = {}) {
  const int64_t bands = layout.bands, hidden = layout.hidden;
  const Range units = team.share(hidden);
  SliceRoom<T> room(team, staged);
  const auto slice_of = [&](const T* transposed) {
    return room.take(team, transposed, bands + hidden, layout.gates, units, 4, hidden);
  };
  const Slice<T> mine = slice_of(weights.transposed);
  const Slice<T> mine_dot = slice_of(direction.weights.transposed);
  if (direction.moves_input()) {
    for_each(team, rows.count() * layout.series, [&](int64_t index) {
      const int64_t film = index % layout.series, b = rows.begin + index / layout.series;
      const int64_t from = b * layout.series + film;
      T dot = 0;
      if (direction.film != nullptr)
        dot += batch.x[from] * direction.film[film] + direction.film[layout.series + film];
      if (direction.x != nullptr) dot += direction.x[from] * gamma_at(batch, film);
      tangents.input[(film / bands * batch.size + b) * bands + film % bands] = dot;
    });
  }
  simt::copy_async_wait();
  team.sync();
  const T* bias_dot = direction.weights.flat + layout.bias;
  for (int64_t t = 0; t < layout.steps; ++t) {
    const int64_t step = t * batch.size, before = t > 0 ? step - batch.size : 0;
    Term<T> terms[4];
    int count = 0;
    const auto add = [&](const T* a, int64_t depth, const Slice<T>& slice, int64_t first_row) {
      const T* b = slice.values + first_row * slice.stride;
      terms[count++] = {a, depth, 1, b, slice.stride, depth};
    };
    add(tape.input + step * bands, bands, mine_dot, 0);
    if (direction.moves_input()) add(tangents.input + step * bands, bands, mine, 0);
    if (t > 0) {
      add(tape.hidden + before * hidden, hidden, mine_dot, bands);
      add(tangents.hidden + before * hidden, hidden, mine, bands);
    }
    gate_product(
        team, rows, {0, units.count()}, mine.step, terms, count,
        [&](int64_t row, int64_t column, const T(&a_dot)[4]) {
          const int64_t u = units.begin + column;
          const int64_t at = (step + row) * hidden + u, earlier = (before + row) * hidden + u;
          const auto [i, f, g, o] =
              load_gates(tape.gates + (step + row) * layout.gates + u, hidden);
          const T tanh_c = tape.tanh_cell[at];
          const T i_dot = i * (T(1) - i) * (a_dot[0] + bias_dot[u]);
          const T f_dot = f * (T(1) - f) * (a_dot[1] + bias_dot[hidden + u]);
          const T g_dot = (T(1) - g * g) * (a_dot[2] + bias_dot[2 * hidden + u]);
          const T o_dot = o * (T(1) - o) * (a_dot[3] + bias_dot[3 * hidden + u]);
          T c_dot = i_dot * g + i * g_dot;
          if (t > 0) c_dot += f_dot * tape.cell[earlier] + f * tangents.cell[earlier];
          const T tanh_c_dot = (T(1) - tanh_c * tanh_c) * c_dot;
          store_gates(tangents.gates + (step + row) * layout.gates + u, hidden,
                      Gates<T>{i_dot, f_dot, g_dot, o_dot});
          tangents.cell[at] = c_dot;
          tangents.tanh_cell[at] = tanh_c_dot;
          tangents.hidden[at] = mask_at(layout, batch, row, u) * (o_dot * tanh_c + o * tanh_c_dot);
          if (states_dot.have(layout, t)) states_dot.at(layout, row, t, u) = tangents.hidden[at];
        });
    team.sync();
  }
}

// Second half: derivatives of what the backward pass computed, line by line. hidden_gradient_dot
// [B,H] is the tangent of what reached hd_T, null where that stands still.
template <class T>
__device__ void lstm_tangent_backward(const Team& team, const Layout& layout, const Batch<T>& batch,
                                      const Range& rows, const Weights<T>& weights, bool staged,
                                      const LstmTape<T>& tape, const LstmAdjoints<T>& adjoints,
                                      const Direction<T>& direction,
                                      const LstmTangents<T>& tangents,
                                      const T* hidden_gradient_dot) {
  const int64_t hidden = layout.hidden, gates = layout.gates;
  const Range units = team.share(hidden);
  SliceRoom<T> room(team, staged);
  const auto slice_of = [&](const T* flat) {
    return room.take(team, flat + layout.recurrent, gates, hidden, units, 1, 0);
  };
  const Slice<T> mine = slice_of(weights.flat), mine_dot = slice_of(direction.weights.flat);
  simt::copy_async_wait();
  team.sync();
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const int64_t step = t * batch.size, after = last ? 0 : step + batch.size;
    const int64_t before = step - batch.size;
    const Term<T> terms[] = {
        {tangents.gate_adjoints + after * gates, gates, 1, mine.values, mine.stride, gates},
        {adjoints.gates + after * gates, gates, 1, mine_dot.values, mine_dot.stride, gates},
    };
    const Range columns = {0, units.count()};
    product(team, rows, columns, terms, last ? 0 : 2, [&](int64_t row, int64_t column, T arriving) {
      const int64_t u = units.begin + column;
      const int64_t at = (step + row) * hidden + u, next = (after + row) * hidden + u;
      const int64_t next_gate = (after + row) * gates + hidden + u;  // its f
      const auto [i, f, g, o] = load_gates(tape.gates + (step + row) * gates + u, hidden);
      const auto [i_dot, f_dot, g_dot, o_dot] =
          load_gates(tangents.gates + (step + row) * gates + u, hidden);
      const T tanh_c = tape.tanh_cell[at], tanh_c_dot = tangents.tanh_cell[at];
      const T c0 = t == 0 ? T(0) : tape.cell[(before + row) * hidden + u];
      const T c0_dot = t == 0 ? T(0) : tangents.cell[(before + row) * hidden + u];
      const T dh = adjoints.hidden[at], dc = adjoints.cell[at];
      const T carry_dot = last ? T(0)
                               : tangents.cell_adjoints[next] * tape.gates[next_gate] +
                                     adjoints.cell[next] * tangents.gates[next_gate];

      const bool moves = last && hidden_gradient_dot != nullptr;
      const T dh_dot = mask_at(layout, batch, row, u) *
                       (moves ? hidden_gradient_dot[row * hidden + u] : arriving);
      const T dc_dot = carry_dot + (dh_dot * o + dh * o_dot) * (T(1) - tanh_c * tanh_c) -
                       T(2) * dh * o * tanh_c * tanh_c_dot;
      const T di = dc * g, di_dot = dc_dot * g + dc * g_dot;
      const T df = dc * c0, df_dot = dc_dot * c0 + dc * c0_dot;
      const T dg = dc * i, dg_dot = dc_dot * i + dc * i_dot;
      const T output = dh * tanh_c, output_dot = dh_dot * tanh_c + dh * tanh_c_dot;
      store_gates(tangents.gate_adjoints + (step + row) * gates + u, hidden,
                  Gates<T>{di_dot * i * (T(1) - i) + di * (T(1) - (i + i)) * i_dot,
                           df_dot * f * (T(1) - f) + df * (T(1) - (f + f)) * f_dot,
                           dg_dot * (T(1) - g * g) - T(2) * dg * g * g_dot,
                           output_dot * o * (T(1) - o) + output * (T(1) - (o + o)) * o_dot});
      tangents.cell_adjoints[at] = dc_dot;
    });
    team.sync();
  }
}

// Tangents of lstm_weight_gradients' results: the product rule on each factor.
template <class T>
__device__ void lstm_weight_tangents(const Team& team, const Layout& layout, int64_t batch,
                                     const Weights<T>& weights, const LstmTape<T>& tape,
                                     const LstmAdjoints<T>& adjoints, const Direction<T>& direction,
                                     const LstmTangents<T>& tangents, T* gradient_dot) {
  const int64_t bands = layout.bands, hidden = layout.hidden, gates = layout.gates;
  const int64_t all = layout.steps * batch;
  const Range mine = team.share(gates);
  const Term<T> recurrent[] = {
      {tangents.gate_adjoints + batch * gates, 1, gates, tape.hidden, hidden, all - batch},
      {adjoints.gates + batch * gates, 1, gates, tangents.hidden, hidden, all - batch},
  };
  product(team, mine, {0, hidden}, recurrent, 2, [&](int64_t gate, int64_t k, T sum) {
    gradient_dot[layout.recurrent + gate * hidden + k] = sum;
  });
  const Term<T> input[] = {
      {tangents.gate_adjoints, 1, gates, tape.input, bands, all},
      {adjoints.gates, 1, gates, tangents.input, bands, all},
  };
  product(team, mine, {0, bands}, input, direction.moves_input() ? 2 : 1,
          [&](int64_t gate, int64_t f, T sum) { gradient_dot[gate * bands + f] = sum; });
  for_each(team, gates, [&](int64_t gate) {
    T sum = 0;
    for (int64_t at = gate; at < all * gates; at += gates) sum += tangents.gate_adjoints[at];
    gradient_dot[layout.bias + gate] = sum;
  });
  const Term<T> to_input[] = {
      {tangents.gate_adjoints, gates, 1, weights.flat, bands, gates},
      {adjoints.gates, gates, 1, direction.weights.flat, bands, gates},
  };
  product(team, team.share(all), {0, bands}, to_input, 2,
          [&](int64_t at, int64_t f, T sum) { tangents.input_adjoints[at * bands + f] = sum; });
}

// Tangents of input_gradients' results.
template <class T>
__device__ void input_tangents(const Team& team, const Layout& layout, const Batch<T>& batch,
                               const LstmAdjoints<T>& adjoints, const Direction<T>& direction,
                               const LstmTangents<T>& tangents, T* film_gradient_dot,
                               T* x_gradient_dot) {
  const int64_t bands = layout.bands;
  if (film_gradient_dot != nullptr) {
    for_each(team, layout.series, [&](int64_t film) {
      const int64_t first = film / bands * batch.size * bands + film % bands;
      T gamma = 0, beta = 0;
      for (int64_t b = 0; b < batch.size; ++b) {
        const T d_dot = tangents.input_adjoints[first + b * bands];
        gamma += batch.x[b * layout.series + film] * d_dot;
        if (direction.x != nullptr)
          gamma += direction.x[b * layout.series + film] * adjoints.input[first + b * bands];
        beta += d_dot;
      }
      film_gradient_dot[film] = gamma;
      film_gradient_dot[layout.series + film] = beta;
    });
  }
  if (x_gradient_dot == nullptr) return;
  for_each(team, batch.size * layout.series, [&](int64_t index) {
    const int64_t film = index % layout.series, b = index / layout.series;
    const int64_t at = (film / bands * batch.size + b) * bands + film % bands;
    T dot = gamma_at(batch, film) * tangents.input_adjoints[at];
    if (direction.film != nullptr) dot += direction.film[film] * adjoints.input[at];
    x_gradient_dot[index] = dot;
  });
}

}  // namespace
}  // namespace timl
