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
    input = arena.take(layout.steps * batch * layout.padded_bands);
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

// What lstm_tangent_forward has in shared memory for so many rows.
template <class T>
struct TangentRoom {
  TIML_HOST_DEVICE TangentRoom(const Layout& layout, int64_t blocks, int64_t rows, Arena<T> arena)
      : each(Team::fours_each(layout.hidden, blocks)),
        width(staggered(layout.hidden + layout.bands)) {
    weights = arena.take((layout.hidden + layout.bands + 1) * 4 * each);
    weights_dot = arena.take((layout.hidden + layout.bands + 1) * 4 * each);
    input = arena.take(rows * width);
    inputs_dot = arena.take(2 * rows * width);
    cell_dot = arena.take(rows * each);
    used = arena.used();
  }
  int64_t each, width, used;
  T *weights, *weights_dot;  // [H+F+1,units,4]
  T* input;                  // [rows,width] h of the step before, and x after FiLM, from the tape
  T* inputs_dot;             // [2,rows,width] their tangents, of even and of odd steps
  T* cell_dot;               // [rows,units]
};

template <bool kStaged, class T>
__device__ __forceinline__ void lstm_tangent_forward_steps(
    const Team& team, const Layout& layout, const Batch<T>& batch, const Range& rows,
    const Weights<T>& weights, const LstmTape<T>& tape, const Direction<T>& direction,
    const LstmTangents<T>& tangents, const States<T>& states_dot) {
  const int64_t bands = layout.bands, hidden = layout.hidden, padded = layout.padded_bands;
  const bool moves_input = direction.moves_input();
  const Range units = team.share_in_fours(hidden), local = {0, rows.count()};
  const TangentRoom<T> room(layout, team.blocks, rows.count(), shared_arena<T>(team));
  Slice<T> slice = {weights.transposed + 4 * units.begin, layout.gates};
  Slice<T> slice_dot = {direction.weights.transposed + 4 * units.begin, layout.gates};
  if constexpr (kStaged) {
    slice = {room.weights, 4 * room.each};
    slice_dot = {room.weights_dot, 4 * room.each};
    stage_gates(team, layout, units, weights.transposed, room.weights, slice.stride);
    stage_gates(team, layout, units, direction.weights.transposed, room.weights_dot, slice.stride);
  }
  if (moves_input) {
    for_each(team, rows.count() * layout.steps * (bands + 1), [&](int64_t index) {
      const int i = static_cast<int>(index), width = static_cast<int>(bands) + 1;
      const int f = i % width, t = i / width % static_cast<int>(layout.steps);
      const int64_t b = rows.begin + i / width / static_cast<int>(layout.steps);
      const int64_t film = t * bands + f, from = b * layout.series + film;
      T dot = 0;  // that of the last, which is 1
      if (f < bands && direction.film != nullptr)
        dot += batch.x[from] * direction.film[film] + direction.film[layout.series + film];
      if (f < bands && direction.x != nullptr) dot += direction.x[from] * gamma_at(batch, film);
      tangents.input[(t * batch.size + b) * padded + f] = dot;
    });
  }
  team.sync();
  // Where a step's rows of [T,B,width] begin.
  const auto rows_of = [&](const T* all, int64_t t, int64_t width) {
    return all + (t * batch.size + rows.begin) * width;
  };
  const auto shared_dot = [&](int64_t t) {
    return room.inputs_dot + t % 2 * rows.count() * room.width;
  };
  const auto copy_inputs = [&](int64_t t) {
    copy_rows(team, rows.count(), bands, rows_of(tape.input, t, padded), padded,
              room.input + hidden, room.width);
    if (t > 0)
      copy_rows(team, rows.count(), hidden, rows_of(tape.hidden, t - 1, hidden), hidden, room.input,
                room.width);
    if (moves_input)
      copy_rows(team, rows.count(), bands, rows_of(tangents.input, t, padded), padded,
                shared_dot(t) + hidden, room.width);
  };
  if constexpr (kStaged) {
    copy_inputs(0);
    simt::copy_async_wait();
    __syncthreads();
  }
  for (int64_t t = 0; t < layout.steps; ++t) {
    const int64_t step = t * batch.size, before = t > 0 ? step - batch.size : 0;
    Term<T> terms[4];
    int count = 0;
    const auto add = [&](const T* a, int64_t width, const Slice<T>& b, int64_t skipped,
                         int64_t depth) {
      terms[count++] = {a, width, b.values + skipped * b.stride, b.stride, depth};
    };
    if constexpr (kStaged) {
      // Before the first step h is 0, and where the input is still, so is its tangent.
      const int64_t skipped = t == 0 ? hidden : 0;
      const int64_t depth_dot = (t > 0 ? hidden : 0) + (moves_input ? bands : 0);
      add(room.input + skipped, room.width, slice_dot, skipped, hidden + bands - skipped);
      if (depth_dot > 0) add(shared_dot(t) + skipped, room.width, slice, skipped, depth_dot);
    } else {
      add(rows_of(tape.input, t, padded), padded, slice_dot, hidden, bands);
      if (moves_input) add(rows_of(tangents.input, t, padded), padded, slice, hidden, bands);
      if (t > 0) {
        add(rows_of(tape.hidden, t - 1, hidden), hidden, slice_dot, 0, hidden);
        add(rows_of(tangents.hidden, t - 1, hidden), hidden, slice, 0, hidden);
      }
    }
    quad_product<kStaged ? Operands::kShared : Operands::kAnywhere>(
        team, local, {0, 4 * units.count()}, terms, count,
        [&](int64_t in_chunk, int64_t column, const T(&sums)[4]) {
          const int64_t row = rows.begin + in_chunk, mine = column / 4, u = units.begin + mine;
          const int64_t at = (step + row) * hidden + u, earlier = (before + row) * hidden + u;
          const auto [i, f, g, o] =
              load_gates(tape.gates + (step + row) * layout.gates + u, hidden);
          const T tanh_c = tape.tanh_cell[at];
          const auto bias_dot =
              load_packed<Quad<T>>(slice_dot.values + (hidden + bands) * slice_dot.stride + column);
          const T i_dot = i * (T(1) - i) * (sums[0] + bias_dot.values[0]);
          const T f_dot = f * (T(1) - f) * (sums[1] + bias_dot.values[1]);
          const T g_dot = (T(1) - g * g) * (sums[2] + bias_dot.values[2]);
          const T o_dot = o * (T(1) - o) * (sums[3] + bias_dot.values[3]);
          T* const cell_dot = room.cell_dot + in_chunk * room.each + mine;
          T c_dot = i_dot * g + i * g_dot;
          if (t > 0)
            c_dot +=
                f_dot * tape.cell[earlier] + f * (kStaged ? *cell_dot : tangents.cell[earlier]);
          const T tanh_c_dot = (T(1) - tanh_c * tanh_c) * c_dot;
          const T h_dot = mask_at(layout, batch, row, u) * (o_dot * tanh_c + o * tanh_c_dot);
          store_gates(tangents.gates + (step + row) * layout.gates + u, hidden,
                      Gates<T>{i_dot, f_dot, g_dot, o_dot});
          tangents.cell[at] = c_dot;
          tangents.tanh_cell[at] = tanh_c_dot;
          tangents.hidden[at] = h_dot;
          if (states_dot.have(layout, t)) states_dot.at(layout, row, t, u) = h_dot;
          if constexpr (kStaged) {
            *cell_dot = c_dot;
            T* const place = shared_dot(t + 1) + in_chunk * room.width + u;
#pragma unroll 4
            for (int block = 0; block < team.blocks; ++block)
              *simt::cluster_map(place, block) = h_dot;
          }
        });
    if (kStaged && t + 1 < layout.steps) {
      copy_inputs(t + 1);
      simt::copy_async_wait();
    }
    team.sync();
  }
}

// First half of the tangent: derivatives of what the forward pass computed.
template <class T>
__device__ void lstm_tangent_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                                     const Range& rows, const Weights<T>& weights, bool staged,
                                     const LstmTape<T>& tape, const Direction<T>& direction,
                                     const LstmTangents<T>& tangents,
                                     const States<T>& states_dot = {}) {
  if (staged)
    lstm_tangent_forward_steps<true>(team, layout, batch, rows, weights, tape, direction, tangents,
                                     states_dot);
  else
    lstm_tangent_forward_steps<false>(team, layout, batch, rows, weights, tape, direction, tangents,
                                      states_dot);
}

template <bool kStaged, class T>
__device__ __forceinline__ void lstm_tangent_backward_steps(
    const Team& team, const Layout& layout, const Batch<T>& batch, const Range& rows,
    const Weights<T>& weights, const LstmTape<T>& tape, const LstmAdjoints<T>& adjoints,
    const Direction<T>& direction, const LstmTangents<T>& tangents, const T* hidden_gradient_dot) {
  const int64_t hidden = layout.hidden, gates = layout.gates;
  const Range units = team.share_in_fours(hidden), local = {0, rows.count()};
  const BackwardRoom<T> room(layout, team.blocks, rows.count(), true, shared_arena<T>(team));
  if constexpr (kStaged) {
    stage_recurrent(team, layout, units, weights.flat, room.weights[0], room.width);
    stage_recurrent(team, layout, units, direction.weights.flat, room.weights[1], room.width);
    simt::copy_async_wait();
  }
  team.sync();
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const int64_t step = t * batch.size, after = last ? 0 : step + batch.size;
    const int64_t before = step - batch.size;
    // arriving: the tangent of the gradient of hd_t.
    const auto finish = [&](int64_t in_chunk, int64_t mine, T arriving) {
      const int64_t row = rows.begin + in_chunk, u = units.begin + mine;
      const int64_t at = (step + row) * hidden + u, next = (after + row) * hidden + u;
      const int64_t next_gate = (after + row) * gates + hidden + u;  // its f
      const auto [i, f, g, o] = load_gates(tape.gates + (step + row) * gates + u, hidden);
      const auto [i_dot, f_dot, g_dot, o_dot] =
          load_gates(tangents.gates + (step + row) * gates + u, hidden);
      const T tanh_c = tape.tanh_cell[at], tanh_c_dot = tangents.tanh_cell[at];
      const T c0 = t == 0 ? T(0) : tape.cell[(before + row) * hidden + u];
      const T c0_dot = t == 0 ? T(0) : tangents.cell[(before + row) * hidden + u];
      const T dh = adjoints.hidden[at], dc = adjoints.cell[at];
      T* const carried = room.carry + in_chunk * room.each + mine;
      const T carry_dot = last      ? T(0)
                          : kStaged ? *carried
                                    : tangents.cell_adjoints[next] * tape.gates[next_gate] +
                                          adjoints.cell[next] * tangents.gates[next_gate];

      const T dh_dot = mask_at(layout, batch, row, u) * arriving;
      const T dc_dot = carry_dot + (dh_dot * o + dh * o_dot) * (T(1) - tanh_c * tanh_c) -
                       T(2) * dh * o * tanh_c * tanh_c_dot;
      const T di = dc * g, di_dot = dc_dot * g + dc * g_dot;
      const T df = dc * c0, df_dot = dc_dot * c0 + dc * c0_dot;
      const T dg = dc * i, dg_dot = dc_dot * i + dc * i_dot;
      const T output = dh * tanh_c, output_dot = dh_dot * tanh_c + dh * tanh_c_dot;
      const Gates<T> d_dot = {di_dot * i * (T(1) - i) + di * (T(1) - (i + i)) * i_dot,
                              df_dot * f * (T(1) - f) + df * (T(1) - (f + f)) * f_dot,
                              dg_dot * (T(1) - g * g) - T(2) * dg * g * g_dot,
                              output_dot * o * (T(1) - o) + output * (T(1) - (o + o)) * o_dot};
      store_gates(tangents.gate_adjoints + (step + row) * gates + u, hidden, d_dot);
      if constexpr (kStaged) {
        *carried = dc_dot * f + dc * f_dot;
        const Gates<T> d =
            load_gates(static_cast<const T*>(adjoints.gates) + (step + row) * gates + u, hidden);
        const int64_t place = in_chunk * room.gates_width + 4 * mine;
        store_packed(room.gates[0] + place, Quad<T>{{d_dot.i, d_dot.f, d_dot.g, d_dot.o}});
        store_packed(room.gates[1] + place, Quad<T>{{d.i, d.f, d.g, d.o}});
      } else {
        tangents.cell_adjoints[at] = dc_dot;
      }
    };
    if (last) {
      for_each_element(team, rows.count(), units.count(), [&](int64_t in_chunk, int64_t mine) {
        const int64_t at = (rows.begin + in_chunk) * hidden + units.begin + mine;
        finish(in_chunk, mine, hidden_gradient_dot == nullptr ? T(0) : hidden_gradient_dot[at]);
      });
    } else if constexpr (kStaged) {
      T* const arriving = room.arriving + t % 2 * team.blocks * rows.count() * room.each;
      const int64_t depth = 4 * units.count();
      const Term<T> terms[] = {
          {room.gates[0], room.gates_width, room.weights[0], room.width, depth},
          {room.gates[1], room.gates_width, room.weights[1], room.width, depth},
      };
      send_hidden_gradients(team, layout, rows.count(), terms, 2, room.each, arriving);
      for_each_element(team, rows.count(), units.count(), [&](int64_t in_chunk, int64_t mine) {
        finish(
            in_chunk, mine,
            sum_of_blocks(team, arriving, rows.count() * room.each, in_chunk * room.each + mine));
      });
    } else {
      const auto term_of = [&](const T* all, const T* flat) {
        return Term<T>{all + (after + rows.begin) * gates, gates,
                       flat + layout.recurrent + units.begin, hidden, gates};
      };
      const Term<T> terms[] = {term_of(tangents.gate_adjoints, weights.flat),
                               term_of(adjoints.gates, direction.weights.flat)};
      product(team, local, {0, units.count()}, terms, 2, finish);
    }
    if constexpr (kStaged)
      __syncthreads();
    else
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
  if (staged)
    lstm_tangent_backward_steps<true>(team, layout, batch, rows, weights, tape, adjoints, direction,
                                      tangents, hidden_gradient_dot);
  else
    lstm_tangent_backward_steps<false>(team, layout, batch, rows, weights, tape, adjoints,
                                       direction, tangents, hidden_gradient_dot);
}

// Tangents of lstm_weight_gradients' results: the product rule on each factor.
template <class T>
__device__ void lstm_weight_tangents(const Team& team, const Layout& layout, int64_t batch,
                                     const Weights<T>& weights, const LstmTape<T>& tape,
                                     const LstmAdjoints<T>& adjoints, const Direction<T>& direction,
                                     const LstmTangents<T>& tangents, T* gradient_dot) {
  const int64_t bands = layout.bands, hidden = layout.hidden, gates = layout.gates;
  const int64_t all = layout.steps * batch;
  const Range mine = team.share_in_fours(gates);
  const Term<T> recurrent[] = {
      {tangents.gate_adjoints + batch * gates, gates, tape.hidden, hidden, all - batch},
      {adjoints.gates + batch * gates, gates, tangents.hidden, hidden, all - batch},
  };
  quad_product<Operands::kTransposed>(
      team, mine, {0, hidden}, recurrent, 2, [&](int64_t gate, int64_t k, const T(&sums)[4]) {
        store_sums(gradient_dot + layout.recurrent + gate * hidden + k, sums, hidden - k);
      });
  const Term<T> input[] = {
      {tangents.gate_adjoints, gates, tape.input, layout.padded_bands, all},
      {adjoints.gates, gates, tangents.input, layout.padded_bands, all},
  };
  product<Operands::kTransposed>(
      team, mine, {0, bands + 1}, input, direction.moves_input() ? 2 : 1,
      [&](int64_t gate, int64_t f, T sum) { gradient_dot[layout.input_or_bias(gate, f)] = sum; });
  const Term<T> to_input[] = {
      {tangents.gate_adjoints, gates, weights.flat, bands, gates},
      {adjoints.gates, gates, direction.weights.flat, bands, gates},
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
