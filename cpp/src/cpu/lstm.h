// The LSTM of one task on a chunk of rows (samples): forward and backward; lstm_tangent.h has the
// tangent. Rows are independent of each other, so chunks can run on different threads.
//
// The formulas and their names are those of docs/explanation/meta-step.md, "LSTM": i, f, g, o are a
// gate's activation, c the cell, hd = mask * o * tanh(c). A name that begins with d is a gradient,
// one that ends in _dot a tangent.
#pragma once

#include "packed_weights.h"

namespace timl {
namespace {

inline int64_t chunk_count(int64_t batch) { return (batch + kChunkRows - 1) / kChunkRows; }
// First row of a chunk; chunks differ by at most one row.
inline int64_t chunk_begin(int64_t batch, int64_t chunk) {
  const int64_t chunks = chunk_count(batch);
  return chunk * (batch / chunks) + (chunk < batch % chunks ? chunk : batch % chunks);
}

// What the forward pass of a chunk of R rows keeps (keep), or reuses from step to step, and gates
// and tanh_cell also from block to block (not keep). Gates [blocks][steps][R][4][lanes]; cell,
// tanh_cell [blocks][steps][R][lanes]; hidden (= hd) [steps][R][row]; input (x after FiLM)
// [T][R][F]; mask [R][row].
template <class T>
struct LstmTape {
  LstmTape(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena, bool keep_steps = true)
      : keep(keep_steps), steps(keep ? layout.steps : 1) {
    input = arena.take(layout.steps * rows * layout.bands);
    mask = arena.take(rows * layout.row);
    const int64_t kept = keep ? layout.blocks * steps : 1;
    gates = arena.take(kept * rows * kTileColumns<T>);
    cell = arena.take(layout.blocks * steps * rows * kLanes<T>);
    tanh_cell = arena.take(kept * rows * kLanes<T>);
    hidden = arena.take((keep ? steps : 2) * rows * layout.row);
  }
  // Which of the [R]-sized pieces of gates and tanh_cell, and of cell, are block j's at step t.
  int64_t kept_slot(int64_t j, int64_t t) const { return keep ? j * steps + t : 0; }
  int64_t cell_slot(int64_t j, int64_t t) const { return keep ? j * steps + t : j; }
  int64_t hidden_slot(int64_t t) const { return keep ? t : t & 1; }

  bool keep;
  int64_t steps;
  T *input, *mask, *gates, *cell, *tanh_cell, *hidden;
};

// Gradients of the gates' sums [blocks][T][R][4][lanes], of h and c [blocks][T][R][lanes].
template <class T>
struct LstmAdjoints {
  LstmAdjoints(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena) {
    gates = arena.take(layout.blocks * layout.steps * rows * kTileColumns<T>);
    hidden = arena.take(layout.blocks * layout.steps * rows * kLanes<T>);
    cell = arena.take(layout.blocks * layout.steps * rows * kLanes<T>);
  }
  T *gates, *hidden, *cell;
};

// Working memory of the backward passes of a chunk.
template <class T>
struct LstmScratch {
  LstmScratch(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena) {
    hidden = arena.take(rows * layout.row);
    carry = arena.take(layout.blocks * rows * kLanes<T>);
    input_product = arena.take(layout.bands * kTileColumns<T>);
    input_product_dot = arena.take(layout.bands * kTileColumns<T>);
    film_sums = arena.take(layout.steps * 2 * layout.bands * kLanes<T>);
  }
  T* hidden;             // [R][row] gradient that reaches hd of the step before
  T* carry;              // [blocks][R][lanes] gradient that reaches c of the step before
  T* input_product;      // [F][columns] sum over rows of x_t (gate gradients)
  T* input_product_dot;  // its tangent
  T* film_sums;          // [T][2][F][lanes] partial sums of the FiLM gradients
};

// Input FiLM (or its tangent): out[t,r,:] = x[r,t,:] * scale[t,:] + shift[t,:].
template <class T>
inline void film_input(const PackedLayout<T>& layout, int64_t rows, const T* x, const T* scale,
                       const T* shift, T* out) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < layout.steps; ++t) {
      T* to = out + (t * rows + r) * layout.bands;
      const T* from = x + (r * layout.steps + t) * layout.bands;
      for (int64_t f = 0; f < layout.bands; ++f)
        to[f] = from[f] * scale[t * layout.bands + f] + shift[t * layout.bands + f];
    }
}

// Copies the mask's rows [R,H] to padded ones; null = all ones.
template <class T>
inline void pad_mask(const PackedLayout<T>& layout, int64_t rows, const T* mask, T* out) {
  for (int64_t r = 0; r < rows; ++r) {
    if (mask == nullptr)
      fill<T>(layout.hidden, 1, out + r * layout.row);
    else
      copy(layout.hidden, mask + r * layout.hidden, out + r * layout.row);
    fill<T>(layout.padded - layout.hidden, 0, out + r * layout.row + layout.hidden);
  }
}

// tanh(c) and hd = mask * o * tanh(c) of one block of units, Rows rows from first_row.
template <class T, int Rows>
TIML_INLINE void hidden_states(const PackedLayout<T>& layout, int64_t first_row, const T* gates,
                               const T* cell, const T* mask, T* tanh_cell, T* hidden) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  Vector<T> c[Rows], tanh_c[Rows];
#pragma GCC unroll 4
  for (int n = 0; n < Rows; ++n) c[n] = load(cell + (first_row + n) * lanes);
  hyperbolic_tangents<T>(c, tanh_c);
#pragma GCC unroll 4
  for (int n = 0; n < Rows; ++n) {
    const int64_t r = first_row + n;
    const Vector<T> o = load(gates + r * columns + 3 * lanes);
    store<T>(tanh_cell + r * lanes, tanh_c[n]);
    store<T>(hidden + r * layout.row, load(mask + r * layout.row) * o * tanh_c[n]);
  }
}

// gamma, beta [T,F]; x [R,T,F]; mask [R,H] or null.
template <class T>
inline void lstm_forward(const PackedLayout<T>& layout, int64_t rows, const T* x, const T* gamma,
                         const T* beta, const T* mask, const T* packed, const LstmTape<T>& tape) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  film_input(layout, rows, x, gamma, beta, tape.input);
  pad_mask(layout, rows, mask, tape.mask);
  for (int64_t t = 0; t < layout.steps; ++t) {
    const T* before = t == 0 ? nullptr : tape.hidden + tape.hidden_slot(t - 1) * rows * layout.row;
    T* hidden = tape.hidden + tape.hidden_slot(t) * rows * layout.row;
    for (int64_t j = 0; j < layout.blocks; ++j) {
      const T* panel = packed + j * layout.gate_panel;
      T* gates = tape.gates + tape.kept_slot(j, t) * rows * columns;
      const Term<T> terms[] = {
          {tape.input + t * rows * layout.bands, layout.bands, 1, panel, columns, layout.bands},
          {before, layout.row, 1, panel + layout.bands * columns, columns, layout.hidden},
      };
      product(rows, terms, t == 0 ? 1 : 2, {packed + layout.bias + j * columns, 0}, gates, columns);

      T* cell = tape.cell + tape.cell_slot(j, t) * rows * lanes;
      const T* cell_before = t == 0 ? nullptr : tape.cell + tape.cell_slot(j, t - 1) * rows * lanes;
      T* tanh_cell = tape.tanh_cell + tape.kept_slot(j, t) * rows * lanes;
      for (int64_t r = 0; r < rows; ++r) {
        T* a = gates + r * columns;
        Vector<T> i = load(a), f = load(a + lanes), g = load(a + 2 * lanes),
                  o = load(a + 3 * lanes);
        activate_gates<T>(i, f, g, o);
        Vector<T> c = i * g;
        if (cell_before != nullptr) c += f * load(cell_before + r * lanes);
        store<T>(a, i);
        store<T>(a + lanes, f);
        store<T>(a + 2 * lanes, g);
        store<T>(a + 3 * lanes, o);
        store<T>(cell + r * lanes, c);
      }
      const T* mask_block = tape.mask + j * lanes;
      T* hidden_block = hidden + j * lanes;
      int64_t r = 0;
      for (; r + 4 <= rows; r += 4)
        hidden_states<T, 4>(layout, r, gates, cell, mask_block, tanh_cell, hidden_block);
      for (; r < rows; ++r)
        hidden_states<T, 1>(layout, r, gates, cell, mask_block, tanh_cell, hidden_block);
    }
  }
}

// hidden (+)= gate gradients times the recurrent weights, da_t U, for `rows` rows from step t on,
// which are those of one step, [R][row], or of several. Of each piece of U, what fits L1 is used
// for all rows.
template <class T>
inline void recurrent_gradient(const PackedLayout<T>& layout, int64_t rows_of_step, int64_t t,
                               int64_t rows, const T* gate_gradients, const T* transposed,
                               bool accumulate, T* hidden) {
  constexpr int64_t columns = kTileColumns<T>, together = 128 / columns;
  for (int64_t p = 0; p < layout.panels; ++p)
    for (int64_t j = 0; j < layout.blocks; j += together) {
      const Term<T> term = {.a = gate_gradients + (j * layout.steps + t) * rows_of_step * columns,
                            .row_stride = columns,
                            .depth_stride = 1,
                            .b = transposed + (p * 4 * layout.padded + j * columns) * columns,
                            .b_stride = columns,
                            .depth = columns,
                            .pieces = j + together <= layout.blocks ? together : layout.blocks - j,
                            .piece_stride = layout.steps * rows_of_step * columns};
      T* out = hidden + p * columns;
      product(rows, &term, 1, j == 0 && !accumulate ? Start<T>{} : Start<T>{out, layout.row}, out,
              layout.row);
    }
}

// sums = sum over the rows of gate gradients [R][columns].
template <class T>
TIML_INLINE void sum_rows(int64_t rows, const T* gates, Vector<T> (&sums)[4]) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  for (Vector<T>& sum : sums) sum = Vector<T>{};
  for (int64_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) sums[v] += load(gates + r * columns + v * lanes);
}

// Adds the lanes of sums [T][2][F][lanes] to the input FiLM's gradients [T,F].
template <class T>
inline void add_film_sums(const PackedLayout<T>& layout, const T* sums, T* gamma_gradient,
                          T* beta_gradient) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t t = 0; t < layout.steps; ++t, sums += 2 * layout.bands * lanes)
    for (int64_t f = 0; f < layout.bands; ++f) {
      gamma_gradient[t * layout.bands + f] += sum_lanes<T>(load(sums + f * lanes));
      beta_gradient[t * layout.bands + f] += sum_lanes<T>(load(sums + (layout.bands + f) * lanes));
    }
}

// Gate gradients -> gradients of the gate weights (packed, overwritten) and of the input FiLM
// (gamma, beta [T,F], added to).
//
// The FiLM's gradient needs no product with W: with M_t = sum over rows of x_t (gate gradients)
// and s_t their plain sum, dW = sum_t gamma_t M_t + beta_t s_t, dgamma_t = <W, M_t> and
// dbeta_t = <W, s_t>.
template <class T>
inline void gate_weight_gradients(const PackedLayout<T>& layout, int64_t rows, const T* x,
                                  const T* gamma, const T* beta, const T* packed,
                                  const LstmTape<T>& tape, const T* gate_gradients,
                                  const LstmScratch<T>& scratch, T* gradient, T* gamma_gradient,
                                  T* beta_gradient) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  fill<T>(layout.steps * 2 * layout.bands * lanes, 0, scratch.film_sums);
  for (int64_t j = 0; j < layout.blocks; ++j) {
    const T* block = gate_gradients + j * layout.steps * rows * columns;
    const Term<T> recurrent = {
        tape.hidden, 1, layout.row, block + rows * columns, columns, (layout.steps - 1) * rows};
    const T* weights = packed + j * layout.gate_panel;
    T* out = gradient + j * layout.gate_panel;
    T* bias = gradient + layout.bias + j * columns;
    deep_product(layout.hidden, recurrent, {}, out + layout.bands * columns, columns);
    fill<T>((layout.padded - layout.hidden) * columns, 0,
            out + (layout.bands + layout.hidden) * columns);
    fill<T>(layout.bands * columns, 0, out);
    fill<T>(columns, 0, bias);
    for (int64_t t = 0; t < layout.steps; ++t) {
      const T* gates = block + t * rows * columns;
      const Term<T> term = {
          x + t * layout.bands, 1, layout.steps * layout.bands, gates, columns, rows};
      T* m = scratch.input_product;
      product(layout.bands, &term, 1, {}, m, columns);
      Vector<T> s[4];
      sum_rows(rows, gates, s);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) store<T>(bias + v * lanes, load(bias + v * lanes) + s[v]);
      T* gamma_sums = scratch.film_sums + t * 2 * layout.bands * lanes;
      T* beta_sums = gamma_sums + layout.bands * lanes;
      for (int64_t f = 0; f < layout.bands; ++f) {
        const T scale = gamma[t * layout.bands + f], shift = beta[t * layout.bands + f];
        Vector<T> gamma_sum = load(gamma_sums + f * lanes), beta_sum = load(beta_sums + f * lanes);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const int64_t at = f * columns + v * lanes;
          const Vector<T> product_f = load(m + at), w = load(weights + at);
          store<T>(out + at, load(out + at) + scale * product_f + shift * s[v]);
          gamma_sum += w * product_f;
          beta_sum += w * s[v];
        }
        store<T>(gamma_sums + f * lanes, gamma_sum);
        store<T>(beta_sums + f * lanes, beta_sum);
      }
    }
  }
  add_film_sums(layout, scratch.film_sums, gamma_gradient, beta_gradient);
}

// Where the block lies that the backward passes come to after block j of a step, which lies at
// `at`: the next of that step, or the first of the step before.
template <class T>
inline int64_t next_block(const PackedLayout<T>& layout, int64_t rows, int64_t j, int64_t at) {
  const int64_t block = layout.steps * rows;
  if (j + 1 < layout.blocks) return at + block;
  return at >= j * block + rows ? at - j * block - rows : at;
}

// Gradients of the chunk. hidden_gradient [R][hidden_stride] reaches hd_T from outside the LSTM; so
// do those that lie step_stride, twice step_stride .. before it reach the steps before, unless
// step_stride is 0. Fills the adjoints, the gate part of `gradient` (packed), and adds to the FiLM
// gradients [T,F].
template <class T>
inline void lstm_backward(const PackedLayout<T>& layout, int64_t rows, const T* x, const T* gamma,
                          const T* beta, const Weights<T>& weights, const LstmTape<T>& tape,
                          const T* hidden_gradient, int64_t hidden_stride,
                          const LstmAdjoints<T>& adjoints, const LstmScratch<T>& scratch,
                          T* gradient, T* gamma_gradient, T* beta_gradient,
                          int64_t step_stride = 0) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  fill<T>(layout.blocks * rows * lanes, 0, scratch.carry);
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const T* arriving = last ? hidden_gradient : scratch.hidden;
    const int64_t stride = last ? hidden_stride : layout.row;
    for (int64_t j = 0; j < layout.blocks; ++j) {
      const int64_t at = (j * layout.steps + t) * rows;
      const T* gates = tape.gates + at * columns;
      const T* cell_before = t == 0 ? nullptr : tape.cell + (at - rows) * lanes;
      const int64_t next = next_block(layout, rows, j, at);
      for (int64_t r = 0; r < rows; ++r) {
        read_soon(tape.gates + (next + r) * columns, 4);
        read_soon(tape.tanh_cell + (next + r) * lanes, 1);
        write_soon(adjoints.gates + (next + r) * columns, 4);
        write_soon(adjoints.hidden + (next + r) * lanes, 1);
        write_soon(adjoints.cell + (next + r) * lanes, 1);
        const T* a = gates + r * columns;
        const Vector<T> i = load(a), f = load(a + lanes), g = load(a + 2 * lanes),
                        o = load(a + 3 * lanes);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * lanes);
        const Vector<T> c0 = cell_before == nullptr ? Vector<T>{} : load(cell_before + r * lanes);
        T* carry = scratch.carry + (j * rows + r) * lanes;

        const Vector<T> dh =
            load(tape.mask + r * layout.row + j * lanes) * load(arriving + r * stride + j * lanes);
        const Vector<T> dc = load(carry) + dh * o * (T(1) - tanh_c * tanh_c);
        T* da = adjoints.gates + (at + r) * columns;
        store<T>(da, dc * g * i * (T(1) - i));
        store<T>(da + lanes, dc * c0 * f * (T(1) - f));
        store<T>(da + 2 * lanes, dc * i * (T(1) - g * g));
        store<T>(da + 3 * lanes, dh * tanh_c * o * (T(1) - o));
        store<T>(adjoints.hidden + (at + r) * lanes, dh);
        store<T>(adjoints.cell + (at + r) * lanes, dc);
        store<T>(carry, dc * f);
      }
    }
    if (t > 0) {
      if (step_stride != 0)
        for (int64_t r = 0; r < rows; ++r)
          copy(layout.wide, hidden_gradient - (layout.steps - t) * step_stride + r * hidden_stride,
               scratch.hidden + r * layout.row);
      recurrent_gradient<T>(layout, rows, t, rows, adjoints.gates, weights.transposed,
                            step_stride != 0, scratch.hidden);
    }
  }
  gate_weight_gradients(layout, rows, x, gamma, beta, weights.packed, tape, adjoints.gates, scratch,
                        gradient, gamma_gradient, beta_gradient);
}

// Gradient of x (or the tangent of it): out[r,t,:] (+)= scale[t,:] * (gate gradients_t W), for the
// callers that ask for it. input_transposed [4*padded][padded F] is made by transpose_input.
template <class T>
inline int64_t input_panels(const PackedLayout<T>& layout) {
  return (layout.bands + kTileColumns<T> - 1) / kTileColumns<T>;
}

template <class T>
inline void transpose_input(const PackedLayout<T>& layout, const T* packed, T* out) {
  fill<T>(input_panels(layout) * 4 * layout.padded * kTileColumns<T>, 0, out);
  for (int64_t j = 0; j < layout.blocks; ++j)
    for (int64_t f = 0; f < layout.bands; ++f)
      for (int64_t column = 0; column < kTileColumns<T>; ++column)
        out[((f / kTileColumns<T>)*4 * layout.padded + j * kTileColumns<T> + column) *
                kTileColumns<T> +
            f % kTileColumns<T>] = packed[j * layout.gate_panel + f * kTileColumns<T> + column];
}

template <class T>
inline void input_gradient(const PackedLayout<T>& layout, int64_t rows, const T* gate_gradients,
                           const T* input_transposed, const T* scale, bool accumulate, T* tile,
                           T* out) {
  constexpr int64_t columns = kTileColumns<T>;
  for (int64_t t = 0; t < layout.steps; ++t)
    for (int64_t p = 0; p < input_panels(layout); ++p) {
      for (int64_t j = 0; j < layout.blocks; ++j) {
        const Term<T> term = {
            gate_gradients + (j * layout.steps + t) * rows * columns,           columns, 1,
            input_transposed + (p * 4 * layout.padded + j * columns) * columns, columns, columns};
        product(rows, &term, 1, j == 0 ? Start<T>{} : Start<T>{tile, columns}, tile, columns);
      }
      const int64_t first = p * columns,
                    count = first + columns <= layout.bands ? columns : layout.bands - first;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t n = 0; n < count; ++n) {
          const int64_t band = t * layout.bands + first + n;
          T& target = out[r * layout.steps * layout.bands + band];
          const T value = scale[band] * tile[r * columns + n];
          target = accumulate ? target + value : value;
        }
    }
}

}  // namespace
}  // namespace timl
