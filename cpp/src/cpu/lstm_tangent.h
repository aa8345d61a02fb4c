// The tangent of the LSTM on a chunk of rows: the derivatives, along a direction, of what its
// forward and backward passes compute (docs/explanation/meta-step.md, "The tangent" of "LSTM").
#pragma once

#include "lstm.h"

namespace timl {
namespace {

// Whether the second half computes what the direction's recurrent weights add for all steps before
// the first, or in each step after what the weights themselves add: where vectors have 64 bytes, L2
// holds both matrices. Only the order of the sum differs.
inline constexpr bool kDirectionAtOnce = kVectorBytes < 64;

// Tangents of the tape's values, in its shapes; input is written only where x or FiLM move.
template <class T>
struct LstmTangents {
  LstmTangents(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena) {
    input = arena.take(layout.steps * rows * layout.bands);
    gates = arena.take(layout.blocks * layout.steps * rows * kTileColumns<T>);
    cell = arena.take(layout.blocks * layout.steps * rows * kLanes<T>);
    tanh_cell = arena.take(layout.blocks * layout.steps * rows * kLanes<T>);
    hidden = arena.take(layout.steps * rows * layout.row);
    gate_adjoints = arena.take(layout.blocks * layout.steps * rows * kTileColumns<T>);
    hidden_adjoints = arena.take((kDirectionAtOnce ? layout.steps : 1) * rows * layout.row);
  }
  T *input, *gates, *cell, *tanh_cell, *hidden, *gate_adjoints;
  T* hidden_adjoints;  // [T or 1][R][row] of what reaches hd of the step before
};

// The direction of a tangent: packed weights and their transposes, and, where they move, the FiLM
// [T,F] and x [R,T,F] (null = still).
template <class T>
struct LstmDirection {
  Weights<T> weights;
  const T* gamma;
  const T* beta;
  const T* x;
};

// First half of the tangent: derivatives of what the forward pass computed.
template <class T>
inline void lstm_tangent_forward(const PackedLayout<T>& layout, int64_t rows, const T* x,
                                 const T* gamma, const T* packed, const LstmTape<T>& tape,
                                 const LstmDirection<T>& direction,
                                 const LstmTangents<T>& tangents) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  const bool input_moves = direction.gamma != nullptr || direction.x != nullptr;
  if (input_moves)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t t = 0; t < layout.steps; ++t)
        for (int64_t f = 0; f < layout.bands; ++f) {
          const int64_t from = (r * layout.steps + t) * layout.bands + f, at = t * layout.bands + f;
          T dot = 0;
          if (direction.gamma != nullptr) dot += x[from] * direction.gamma[at] + direction.beta[at];
          if (direction.x != nullptr) dot += direction.x[from] * gamma[at];
          tangents.input[(t * rows + r) * layout.bands + f] = dot;
        }
  // What the direction's weights add, for all steps at once, so that a panel is read once. The
  // first step has no hidden state before it.
  for (int64_t j = 0; j < layout.blocks; ++j) {
    const T* panel_dot = direction.weights.packed + j * layout.gate_panel;
    const Start<T> bias = {direction.weights.packed + layout.bias + j * columns, 0};
    T* gates_dot = tangents.gates + j * layout.steps * rows * columns;
    const Term<T> first = {tape.input, layout.bands, 1, panel_dot, columns, layout.bands};
    const Term<T> others[] = {
        {tape.input + rows * layout.bands, layout.bands, 1, panel_dot, columns, layout.bands},
        {tape.hidden, layout.row, 1, panel_dot + layout.bands * columns, columns, layout.hidden}};
    product(rows, &first, 1, bias, gates_dot, columns);
    product((layout.steps - 1) * rows, others, 2, bias, gates_dot + rows * columns, columns);
  }
  for (int64_t t = 0; t < layout.steps; ++t) {
    T* hidden_dot = tangents.hidden + t * rows * layout.row;
    for (int64_t j = 0; j < layout.blocks; ++j) {
      const int64_t at = (j * layout.steps + t) * rows;
      const T* panel = packed + j * layout.gate_panel;
      T* gates_dot = tangents.gates + at * columns;
      Term<T> still[2];
      int count = 0;
      if (input_moves)
        still[count++] = {tangents.input + t * rows * layout.bands,
                          layout.bands,
                          1,
                          panel,
                          columns,
                          layout.bands};
      if (t > 0)
        still[count++] = {tangents.hidden + (t - 1) * rows * layout.row,
                          layout.row,
                          1,
                          panel + layout.bands * columns,
                          columns,
                          layout.hidden};
      if (count > 0) product(rows, still, count, {gates_dot, columns}, gates_dot, columns);

      const T* gates = tape.gates + at * columns;
      for (int64_t r = 0; r < rows; ++r) {
        const T* a = gates + r * columns;
        T* a_dot = gates_dot + r * columns;
        const Vector<T> i = load(a), f = load(a + lanes), g = load(a + 2 * lanes),
                        o = load(a + 3 * lanes);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * lanes);
        const Vector<T> i_dot = i * (T(1) - i) * load(a_dot);
        const Vector<T> f_dot = f * (T(1) - f) * load(a_dot + lanes);
        const Vector<T> g_dot = (T(1) - g * g) * load(a_dot + 2 * lanes);
        const Vector<T> o_dot = o * (T(1) - o) * load(a_dot + 3 * lanes);
        Vector<T> c_dot = i_dot * g + i * g_dot;
        if (t > 0)
          c_dot += f_dot * load(tape.cell + (at - rows + r) * lanes) +
                   f * load(tangents.cell + (at - rows + r) * lanes);
        const Vector<T> tanh_c_dot = (T(1) - tanh_c * tanh_c) * c_dot;
        store<T>(a_dot, i_dot);
        store<T>(a_dot + lanes, f_dot);
        store<T>(a_dot + 2 * lanes, g_dot);
        store<T>(a_dot + 3 * lanes, o_dot);
        store<T>(tangents.cell + (at + r) * lanes, c_dot);
        store<T>(tangents.tanh_cell + (at + r) * lanes, tanh_c_dot);
        store<T>(hidden_dot + r * layout.row + j * lanes,
                 load(tape.mask + r * layout.row + j * lanes) * (o_dot * tanh_c + o * tanh_c_dot));
      }
    }
  }
}

// Tangents of gate_weight_gradients' results: the product rule on every factor of
// dU = sum hd_(t-1) da_t, dW = sum_t gamma_t M_t + beta_t s_t, dgamma_t = <W, M_t> and
// dbeta_t = <W, s_t>.
template <class T>
inline void gate_weight_tangents(const PackedLayout<T>& layout, int64_t rows, const T* x,
                                 const T* gamma, const T* beta, const T* packed,
                                 const LstmTape<T>& tape, const T* gate_gradients,
                                 const LstmDirection<T>& direction, const LstmTangents<T>& tangents,
                                 const LstmScratch<T>& scratch, T* gradient_dot,
                                 T* gamma_gradient_dot, T* beta_gradient_dot) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  const bool film_moves = direction.gamma != nullptr;
  fill<T>(layout.steps * 2 * layout.bands * lanes, 0, scratch.film_sums);
  for (int64_t j = 0; j < layout.blocks; ++j) {
    const int64_t first_step = j * layout.steps * rows * columns;
    const int64_t second_step = first_step + rows * columns, depth = (layout.steps - 1) * rows;
    const T* weights = packed + j * layout.gate_panel;
    const T* weights_dot = direction.weights.packed + j * layout.gate_panel;
    T* out = gradient_dot + j * layout.gate_panel;
    T* recurrent = out + layout.bands * columns;
    T* bias = gradient_dot + layout.bias + j * columns;
    const Term<T> terms[] = {
        {tape.hidden, 1, layout.row, tangents.gate_adjoints + second_step, columns, depth},
        {tangents.hidden, 1, layout.row, gate_gradients + second_step, columns, depth},
    };
    deep_product(layout.hidden, terms[0], {}, recurrent, columns);
    deep_product(layout.hidden, terms[1], {recurrent, columns}, recurrent, columns);
    fill<T>((layout.padded - layout.hidden) * columns, 0, recurrent + layout.hidden * columns);
    fill<T>(layout.bands * columns, 0, out);
    fill<T>(columns, 0, bias);
    for (int64_t t = 0; t < layout.steps; ++t) {
      const T* gates = gate_gradients + first_step + t * rows * columns;
      const T* gates_dot = tangents.gate_adjoints + first_step + t * rows * columns;
      const Term<T> still = {
          x + t * layout.bands, 1, layout.steps * layout.bands, gates, columns, rows};
      Term<T> moved[2] = {
          {x + t * layout.bands, 1, layout.steps * layout.bands, gates_dot, columns, rows}, {}};
      if (direction.x != nullptr)
        moved[1] = {
            direction.x + t * layout.bands, 1, layout.steps * layout.bands, gates, columns, rows};
      T* m = scratch.input_product;
      T* m_dot = scratch.input_product_dot;
      product(layout.bands, &still, 1, {}, m, columns);
      product(layout.bands, moved, direction.x != nullptr ? 2 : 1, {}, m_dot, columns);
      Vector<T> s[4], s_dot[4];
      sum_rows(rows, gates, s);
      sum_rows(rows, gates_dot, s_dot);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) store<T>(bias + v * lanes, load(bias + v * lanes) + s_dot[v]);
      T* gamma_sums = scratch.film_sums + t * 2 * layout.bands * lanes;
      T* beta_sums = gamma_sums + layout.bands * lanes;
      for (int64_t f = 0; f < layout.bands; ++f) {
        const int64_t film = t * layout.bands + f;
        Vector<T> gamma_sum = load(gamma_sums + f * lanes), beta_sum = load(beta_sums + f * lanes);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const int64_t tile = f * columns + v * lanes;
          const Vector<T> m_f = load(m + tile), m_f_dot = load(m_dot + tile);
          const Vector<T> w = load(weights + tile), w_dot = load(weights_dot + tile);
          Vector<T> dw_dot = gamma[film] * m_f_dot + beta[film] * s_dot[v];
          if (film_moves) dw_dot += direction.gamma[film] * m_f + direction.beta[film] * s[v];
          store<T>(out + tile, load(out + tile) + dw_dot);
          gamma_sum = gamma_sum + w_dot * m_f + w * m_f_dot;
          beta_sum = beta_sum + w_dot * s[v] + w * s_dot[v];
        }
        store<T>(gamma_sums + f * lanes, gamma_sum);
        store<T>(beta_sums + f * lanes, beta_sum);
      }
    }
  }
  add_film_sums(layout, scratch.film_sums, gamma_gradient_dot, beta_gradient_dot);
}

// Second half of the tangent: derivatives of what the backward pass computed, line by line.
// hidden_gradient_dot [R][hidden_stride] is the tangent of what reached hd_T.
template <class T>
inline void lstm_tangent_backward(const PackedLayout<T>& layout, int64_t rows, const T* x,
                                  const T* gamma, const T* beta, const Weights<T>& weights,
                                  const LstmTape<T>& tape, const LstmAdjoints<T>& adjoints,
                                  const LstmDirection<T>& direction,
                                  const LstmTangents<T>& tangents, const T* hidden_gradient_dot,
                                  int64_t hidden_stride, const LstmScratch<T>& scratch,
                                  T* gradient_dot, T* gamma_gradient_dot, T* beta_gradient_dot) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  fill<T>(layout.blocks * rows * lanes, 0, scratch.carry);
  if constexpr (kDirectionAtOnce)
    recurrent_gradient<T>(layout, rows, 1, (layout.steps - 1) * rows, adjoints.gates,
                          direction.weights.transposed, false, tangents.hidden_adjoints);
  // What reaches hd_(t-1) from step t.
  const auto reaching = [&](int64_t t) {
    return tangents.hidden_adjoints + (kDirectionAtOnce ? (t - 1) * rows * layout.row : 0);
  };
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const T* arriving = last ? hidden_gradient_dot : reaching(t + 1);
    const int64_t stride = last ? hidden_stride : layout.row;
    for (int64_t j = 0; j < layout.blocks; ++j) {
      const int64_t at = (j * layout.steps + t) * rows;
      const int64_t next = next_block(layout, rows, j, at);
      for (int64_t r = 0; r < rows; ++r) {
        read_soon(tape.gates + (next + r) * columns, 4);
        read_soon(tangents.gates + (next + r) * columns, 4);
        read_soon(tape.tanh_cell + (next + r) * lanes, 1);
        read_soon(tangents.tanh_cell + (next + r) * lanes, 1);
        read_soon(adjoints.hidden + (next + r) * lanes, 1);
        read_soon(adjoints.cell + (next + r) * lanes, 1);
        write_soon(tangents.gate_adjoints + (next + r) * columns, 4);
        const T* a = tape.gates + (at + r) * columns;
        const T* a_dot = tangents.gates + (at + r) * columns;
        const Vector<T> i = load(a), f = load(a + lanes), g = load(a + 2 * lanes),
                        o = load(a + 3 * lanes);
        const Vector<T> i_dot = load(a_dot), f_dot = load(a_dot + lanes);
        const Vector<T> g_dot = load(a_dot + 2 * lanes), o_dot = load(a_dot + 3 * lanes);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * lanes);
        const Vector<T> tanh_c_dot = load(tangents.tanh_cell + (at + r) * lanes);
        const Vector<T> c0 = t == 0 ? Vector<T>{} : load(tape.cell + (at - rows + r) * lanes);
        const Vector<T> c0_dot =
            t == 0 ? Vector<T>{} : load(tangents.cell + (at - rows + r) * lanes);
        const Vector<T> dh = load(adjoints.hidden + (at + r) * lanes);
        const Vector<T> dc = load(adjoints.cell + (at + r) * lanes);
        T* carry = scratch.carry + (j * rows + r) * lanes;

        const Vector<T> dh_dot =
            load(tape.mask + r * layout.row + j * lanes) * load(arriving + r * stride + j * lanes);
        const Vector<T> slope = T(1) - tanh_c * tanh_c;
        const Vector<T> dc_dot =
            load(carry) + (dh_dot * o + dh * o_dot) * slope - T(2) * dh * o * tanh_c * tanh_c_dot;
        const Vector<T> di = dc * g, di_dot = dc_dot * g + dc * g_dot;
        const Vector<T> df = dc * c0, df_dot = dc_dot * c0 + dc * c0_dot;
        const Vector<T> dg = dc * i, dg_dot = dc_dot * i + dc * i_dot;
        const Vector<T> output = dh * tanh_c, output_dot = dh_dot * tanh_c + dh * tanh_c_dot;
        T* da_dot = tangents.gate_adjoints + (at + r) * columns;
        store<T>(da_dot, di_dot * i * (T(1) - i) + di * (T(1) - (i + i)) * i_dot);
        store<T>(da_dot + lanes, df_dot * f * (T(1) - f) + df * (T(1) - (f + f)) * f_dot);
        store<T>(da_dot + 2 * lanes, dg_dot * (T(1) - g * g) - T(2) * dg * g * g_dot);
        store<T>(da_dot + 3 * lanes,
                 output_dot * o * (T(1) - o) + output * (T(1) - (o + o)) * o_dot);
        store<T>(carry, dc_dot * f + dc * f_dot);
      }
    }
    if (t > 0)
      recurrent_gradient<T>(layout, rows, t, rows, tangents.gate_adjoints, weights.transposed,
                            kDirectionAtOnce, reaching(t));
    if (t > 0 && !kDirectionAtOnce)
      recurrent_gradient<T>(layout, rows, t, rows, adjoints.gates, direction.weights.transposed,
                            true, reaching(t));
  }
  gate_weight_tangents(layout, rows, x, gamma, beta, weights.packed, tape, adjoints.gates,
                       direction, tangents, scratch, gradient_dot, gamma_gradient_dot,
                       beta_gradient_dot);
}

}  // namespace
}  // namespace timl
