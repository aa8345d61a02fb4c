// The LSTM of one task on a chunk of rows (samples): forward, backward, and both halves of the
// tangent. Rows are independent of each other, so chunks can run on different threads.
//
// Notation as in DESIGN's formulas: a gate's activation keeps its gate's name (i, f, g, o), c is
// the cell, h = o tanh(c), hd = mask * h. d(.) is a gradient, names ending in _dot are tangents.
#pragma once

#include "layout.h"

namespace timl {
namespace {

// Most rows of a chunk: enough tiles to reuse a panel from L1, few enough to stay in L2.
inline constexpr int64_t kChunkRows = 48;

inline int64_t chunk_count(int64_t batch) { return (batch + kChunkRows - 1) / kChunkRows; }
// First row of a chunk; chunks differ by at most one row.
inline int64_t chunk_begin(int64_t batch, int64_t chunk) {
  const int64_t chunks = chunk_count(batch);
  return chunk * (batch / chunks) + (chunk < batch % chunks ? chunk : batch % chunks);
}

// What the forward pass of a chunk of R rows keeps (keep) or reuses from step to step (not keep).
// Gates [blocks][steps][R][4][W]; cell, tanh_cell [blocks][steps][R][W];
// hidden (= hd) [steps][R][row]; input (x after FiLM) [T][R][F]; mask [R][row].
template <class T>
struct LstmTape {
  LstmTape(const Layout<T>& y, int64_t rows, Arena<T>& arena, bool keep_steps = true)
      : keep(keep_steps), steps(keep ? y.T_ : 1) {
    input = arena.take(y.T_ * rows * y.F);
    mask = arena.take(rows * y.row);
    gates = arena.take(y.blocks * steps * rows * y.kWide);
    cell = arena.take(y.blocks * steps * rows * y.W);
    tanh_cell = arena.take(y.blocks * steps * rows * y.W);
    hidden = arena.take((keep ? steps : 2) * rows * y.row);
  }
  int64_t slot(int64_t t) const { return keep ? t : 0; }
  int64_t hidden_slot(int64_t t) const { return keep ? t : t & 1; }

  bool keep;
  int64_t steps;
  T *input, *mask, *gates, *cell, *tanh_cell, *hidden;
};

// Gradients of the gates' sums [blocks][T][R][4][W], of h and c [blocks][T][R][W].
template <class T>
struct LstmAdjoints {
  LstmAdjoints(const Layout<T>& y, int64_t rows, Arena<T>& arena) {
    gates = arena.take(y.blocks * y.T_ * rows * y.kWide);
    hidden = arena.take(y.blocks * y.T_ * rows * y.W);
    cell = arena.take(y.blocks * y.T_ * rows * y.W);
  }
  T *gates, *hidden, *cell;
};

// Tangents of the tape's values, in its layouts; input is written only where x or FiLM move.
template <class T>
struct LstmTangents {
  LstmTangents(const Layout<T>& y, int64_t rows, Arena<T>& arena) {
    input = arena.take(y.T_ * rows * y.F);
    gates = arena.take(y.blocks * y.T_ * rows * y.kWide);
    cell = arena.take(y.blocks * y.T_ * rows * y.W);
    tanh_cell = arena.take(y.blocks * y.T_ * rows * y.W);
    hidden = arena.take(y.T_ * rows * y.row);
    gate_adjoints = arena.take(y.blocks * y.T_ * rows * y.kWide);
  }
  T *input, *gates, *cell, *tanh_cell, *hidden, *gate_adjoints;
};

// Working memory of the backward passes of a chunk.
template <class T>
struct LstmScratch {
  LstmScratch(const Layout<T>& y, int64_t rows, Arena<T>& arena) {
    hidden = arena.take(rows * y.row);
    carry = arena.take(y.blocks * rows * y.W);
    input_product = arena.take(y.F * y.kWide);
    input_product_dot = arena.take(y.F * y.kWide);
    column_sums = arena.take(2 * y.kWide);
    film_sums = arena.take(2 * y.F * y.W);
  }
  T* hidden;             // [R][row] gradient that reaches hd of the step before
  T* carry;              // [blocks][R][W] gradient that reaches c of the step before
  T* input_product;      // [F][kTile] sum over rows of x_t (gate gradients)
  T* input_product_dot;  // its tangent
  T* column_sums;        // [2][kTile] sums over rows of the gate gradients, and their tangent
  T* film_sums;          // [2][F][W] partial sums of the FiLM gradients of a step
};

// Input FiLM (or its tangent): out[t,r,:] = x[r,t,:] * scale[t,:] + shift[t,:].
template <class T>
inline void film_input(const Layout<T>& y, int64_t rows, const T* x, const T* scale, const T* shift,
                       T* out) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < y.T_; ++t) {
      T* to = out + (t * rows + r) * y.F;
      const T* from = x + (r * y.T_ + t) * y.F;
      for (int64_t f = 0; f < y.F; ++f) to[f] = from[f] * scale[t * y.F + f] + shift[t * y.F + f];
    }
}

// Copies the mask's rows [R,H] to padded ones; null = all ones.
template <class T>
inline void pad_mask(const Layout<T>& y, int64_t rows, const T* mask, T* out) {
  for (int64_t r = 0; r < rows; ++r) {
    if (mask == nullptr)
      fill<T>(y.H, 1, out + r * y.row);
    else
      copy(y.H, mask + r * y.H, out + r * y.row);
    fill<T>(y.padded - y.H, 0, out + r * y.row + y.H);
  }
}

// gamma, beta [T,F]; x [R,T,F]; mask [R,H] or null.
template <class T>
inline void lstm_forward(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                         const T* beta, const T* mask, const T* packed, const LstmTape<T>& tape) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  film_input(y, rows, x, gamma, beta, tape.input);
  pad_mask(y, rows, mask, tape.mask);
  for (int64_t t = 0; t < y.T_; ++t) {
    const T* before = t == 0 ? nullptr : tape.hidden + tape.hidden_slot(t - 1) * rows * y.row;
    T* hidden = tape.hidden + tape.hidden_slot(t) * rows * y.row;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const T* panel = packed + j * y.gate_panel;
      T* gates = tape.gates + (j * tape.steps + tape.slot(t)) * rows * kWide;
      const Term<T> terms[] = {
          {tape.input + t * rows * y.F, y.F, 1, panel, kWide, y.F},
          {before, y.row, 1, panel + y.F * kWide, kWide, y.H},
      };
      product(rows, terms, t == 0 ? 1 : 2, {packed + y.bias + j * kWide, 0}, gates, kWide);

      T* cell = tape.cell + (j * tape.steps + tape.slot(t)) * rows * W;
      const T* cell_before =
          t == 0 ? nullptr : tape.cell + (j * tape.steps + tape.slot(t - 1)) * rows * W;
      T* tanh_cell = tape.tanh_cell + (j * tape.steps + tape.slot(t)) * rows * W;
      for (int64_t r = 0; r < rows; ++r) {
        T* a = gates + r * kWide;
        const Vector<T> i = sigmoid<T>(load(a));
        const Vector<T> f = sigmoid<T>(load(a + W));
        const Vector<T> g = hyperbolic_tangent<T>(load(a + 2 * W));
        const Vector<T> o = sigmoid<T>(load(a + 3 * W));
        Vector<T> c = i * g;
        if (cell_before != nullptr) c += f * load(cell_before + r * W);
        const Vector<T> tanh_c = hyperbolic_tangent<T>(c);
        store<T>(a, i);
        store<T>(a + W, f);
        store<T>(a + 2 * W, g);
        store<T>(a + 3 * W, o);
        store<T>(cell + r * W, c);
        store<T>(tanh_cell + r * W, tanh_c);
        store<T>(hidden + r * y.row + j * W, load(tape.mask + r * y.row + j * W) * o * tanh_c);
      }
    }
  }
}

// hidden[R][row] = sum over the gate gradients at step t times the recurrent weights:
// da_t U, and for the tangent also da_t U_dot. One or two pairs (gate gradients, transposed U).
template <class T>
inline void recurrent_gradient(const Layout<T>& y, int64_t rows, int64_t t, int count,
                               const T* const* gate_gradients, const T* const* transposed,
                               T* hidden) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  for (int64_t p = 0; p < y.panels; ++p)
    for (int q = 0; q < count; ++q)
      // Two blocks' worth of gates at a time: that much of U stays in L1 for all rows.
      for (int64_t j = 0; j < y.blocks; j += 2) {
        const int terms_here = j + 1 < y.blocks ? 2 : 1;
        Term<T> terms[2];
        for (int n = 0; n < terms_here; ++n)
          terms[n] = {
              gate_gradients[q] + ((j + n) * y.T_ + t) * rows * kWide,
              kWide,
              1,
              transposed[q] + y.hidden_transposed + (p * 4 * y.padded + (j + n) * 4 * W) * kWide,
              kWide,
              kWide};
        T* out = hidden + p * kWide;
        product(rows, terms, terms_here, j == 0 && q == 0 ? Start<T>{} : Start<T>{out, y.row}, out,
                y.row);
      }
}

// sums[kTile] = sum over the rows of gate gradients [R][kTile].
template <class T>
inline void sum_rows(int64_t rows, const T* gates, T* sums) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  Vector<T> s0{}, s1{}, s2{}, s3{};
  for (int64_t r = 0; r < rows; ++r, gates += kWide) {
    s0 += load(gates);
    s1 += load(gates + W);
    s2 += load(gates + 2 * W);
    s3 += load(gates + 3 * W);
  }
  store<T>(sums, s0);
  store<T>(sums + W, s1);
  store<T>(sums + 2 * W, s2);
  store<T>(sums + 3 * W, s3);
}

// Gate gradients -> gradients of the gate weights (packed, overwritten) and of the input FiLM
// (gamma, beta [T,F], added to).
//
// The FiLM's gradient needs no product with W: with M_t = sum over rows of x_t (gate gradients)
// and s_t their plain sum, dW = sum_t gamma_t M_t + beta_t s_t, dgamma_t = <W, M_t> and
// dbeta_t = <W, s_t>.
template <class T>
inline void gate_weight_gradients(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                                  const T* beta, const T* packed, const LstmTape<T>& tape,
                                  const T* gate_gradients, const LstmScratch<T>& scratch,
                                  T* gradient, T* gamma_gradient, T* beta_gradient) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  for (int64_t j = 0; j < y.blocks; ++j) {
    const T* gates = gate_gradients + j * y.T_ * rows * kWide;
    const Term<T> recurrent = {tape.hidden,          1,     y.row,
                               gates + rows * kWide, kWide, (y.T_ - 1) * rows};
    product(y.H, &recurrent, 1, {}, gradient + j * y.gate_panel + y.F * kWide, kWide);
    fill<T>((y.padded - y.H) * kWide, 0, gradient + j * y.gate_panel + (y.F + y.H) * kWide);
    fill<T>(y.F * kWide, 0, gradient + j * y.gate_panel);
    fill<T>(kWide, 0, gradient + y.bias + j * kWide);
  }
  for (int64_t t = 0; t < y.T_; ++t) {
    fill<T>(2 * y.F * W, 0, scratch.film_sums);
    T* gamma_sums = scratch.film_sums;
    T* beta_sums = scratch.film_sums + y.F * W;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const T* gates = gate_gradients + (j * y.T_ + t) * rows * kWide;
      const Term<T> term = {x + t * y.F, 1, y.T_ * y.F, gates, kWide, rows};
      T* m = scratch.input_product;
      product(y.F, &term, 1, {}, m, kWide);
      sum_rows(rows, gates, scratch.column_sums);
      const T* weights = packed + j * y.gate_panel;
      T* out = gradient + j * y.gate_panel;
      T* bias = gradient + y.bias + j * kWide;
      for (int64_t v = 0; v < kWide; v += W) {
        const Vector<T> s = load(scratch.column_sums + v);
        store<T>(bias + v, load(bias + v) + s);
        for (int64_t f = 0; f < y.F; ++f) {
          const int64_t at = f * kWide + v;
          const Vector<T> product_f = load(m + at), w = load(weights + at);
          store<T>(out + at,
                   load(out + at) + gamma[t * y.F + f] * product_f + beta[t * y.F + f] * s);
          store<T>(gamma_sums + f * W, load(gamma_sums + f * W) + w * product_f);
          store<T>(beta_sums + f * W, load(beta_sums + f * W) + w * s);
        }
      }
    }
    for (int64_t f = 0; f < y.F; ++f) {
      gamma_gradient[t * y.F + f] += sum_lanes<T>(load(gamma_sums + f * W));
      beta_gradient[t * y.F + f] += sum_lanes<T>(load(beta_sums + f * W));
    }
  }
}

// Gradients of the chunk. hidden_gradient [R][hidden_stride] reaches hd_T. Fills the adjoints, the
// gate part of `gradient` (packed), and adds to the FiLM gradients [T,F].
template <class T>
inline void lstm_backward(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                          const T* beta, const Weights<T>& weights, const LstmTape<T>& tape,
                          const T* hidden_gradient, int64_t hidden_stride,
                          const LstmAdjoints<T>& adjoints, const LstmScratch<T>& scratch,
                          T* gradient, T* gamma_gradient, T* beta_gradient) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  fill<T>(y.blocks * rows * W, 0, scratch.carry);
  for (int64_t t = y.T_ - 1; t >= 0; --t) {
    const bool last = t == y.T_ - 1;
    const T* arriving = last ? hidden_gradient : scratch.hidden;
    const int64_t stride = last ? hidden_stride : y.row;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const int64_t at = (j * y.T_ + t) * rows;
      const T* gates = tape.gates + at * kWide;
      const T* cell_before = t == 0 ? nullptr : tape.cell + (at - rows) * W;
      for (int64_t r = 0; r < rows; ++r) {
        const T* a = gates + r * kWide;
        const Vector<T> i = load(a), f = load(a + W), g = load(a + 2 * W), o = load(a + 3 * W);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * W);
        const Vector<T> c0 = cell_before == nullptr ? Vector<T>{} : load(cell_before + r * W);
        T* carry = scratch.carry + (j * rows + r) * W;

        const Vector<T> dh =
            load(tape.mask + r * y.row + j * W) * load(arriving + r * stride + j * W);
        const Vector<T> dc = load(carry) + dh * o * (T(1) - tanh_c * tanh_c);
        T* da = adjoints.gates + (at + r) * kWide;
        store<T>(da, dc * g * i * (T(1) - i));
        store<T>(da + W, dc * c0 * f * (T(1) - f));
        store<T>(da + 2 * W, dc * i * (T(1) - g * g));
        store<T>(da + 3 * W, dh * tanh_c * o * (T(1) - o));
        store<T>(adjoints.hidden + (at + r) * W, dh);
        store<T>(adjoints.cell + (at + r) * W, dc);
        store<T>(carry, dc * f);
      }
    }
    if (t > 0) {
      const T* gate_gradients[] = {adjoints.gates};
      const T* transposed[] = {weights.transposed};
      recurrent_gradient(y, rows, t, 1, gate_gradients, transposed, scratch.hidden);
    }
  }
  gate_weight_gradients(y, rows, x, gamma, beta, weights.packed, tape, adjoints.gates, scratch,
                        gradient, gamma_gradient, beta_gradient);
}

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
inline void lstm_tangent_forward(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                                 const T* packed, const LstmTape<T>& tape,
                                 const LstmDirection<T>& direction,
                                 const LstmTangents<T>& tangents) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  const bool input_moves = direction.gamma != nullptr || direction.x != nullptr;
  if (input_moves)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t t = 0; t < y.T_; ++t)
        for (int64_t f = 0; f < y.F; ++f) {
          const int64_t from = (r * y.T_ + t) * y.F + f, at = t * y.F + f;
          T dot = 0;
          if (direction.gamma != nullptr) dot += x[from] * direction.gamma[at] + direction.beta[at];
          if (direction.x != nullptr) dot += direction.x[from] * gamma[at];
          tangents.input[(t * rows + r) * y.F + f] = dot;
        }
  for (int64_t t = 0; t < y.T_; ++t) {
    const T* before = t == 0 ? nullptr : tape.hidden + (t - 1) * rows * y.row;
    T* hidden_dot = tangents.hidden + t * rows * y.row;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const int64_t at = (j * y.T_ + t) * rows;
      const T* panel = packed + j * y.gate_panel;
      const T* panel_dot = direction.weights.packed + j * y.gate_panel;
      T* gates_dot = tangents.gates + at * kWide;
      // The direction's panel first, for all rows, then the weights': one panel in L1 at a time.
      const Term<T> moved[] = {
          {tape.input + t * rows * y.F, y.F, 1, panel_dot, kWide, y.F},
          {before, y.row, 1, panel_dot + y.F * kWide, kWide, y.H},
      };
      product(rows, moved, t == 0 ? 1 : 2, {direction.weights.packed + y.bias + j * kWide, 0},
              gates_dot, kWide);
      Term<T> still[2];
      int count = 0;
      if (input_moves)
        still[count++] = {tangents.input + t * rows * y.F, y.F, 1, panel, kWide, y.F};
      if (t > 0)
        still[count++] = {
            tangents.hidden + (t - 1) * rows * y.row, y.row, 1, panel + y.F * kWide, kWide, y.H};
      if (count > 0) product(rows, still, count, {gates_dot, kWide}, gates_dot, kWide);

      const T* gates = tape.gates + at * kWide;
      for (int64_t r = 0; r < rows; ++r) {
        const T* a = gates + r * kWide;
        T* a_dot = gates_dot + r * kWide;
        const Vector<T> i = load(a), f = load(a + W), g = load(a + 2 * W), o = load(a + 3 * W);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * W);
        const Vector<T> i_dot = i * (T(1) - i) * load(a_dot);
        const Vector<T> f_dot = f * (T(1) - f) * load(a_dot + W);
        const Vector<T> g_dot = (T(1) - g * g) * load(a_dot + 2 * W);
        const Vector<T> o_dot = o * (T(1) - o) * load(a_dot + 3 * W);
        Vector<T> c_dot = i_dot * g + i * g_dot;
        if (t > 0)
          c_dot += f_dot * load(tape.cell + (at - rows + r) * W) +
                   f * load(tangents.cell + (at - rows + r) * W);
        const Vector<T> tanh_c_dot = (T(1) - tanh_c * tanh_c) * c_dot;
        store<T>(a_dot, i_dot);
        store<T>(a_dot + W, f_dot);
        store<T>(a_dot + 2 * W, g_dot);
        store<T>(a_dot + 3 * W, o_dot);
        store<T>(tangents.cell + (at + r) * W, c_dot);
        store<T>(tangents.tanh_cell + (at + r) * W, tanh_c_dot);
        store<T>(hidden_dot + r * y.row + j * W,
                 load(tape.mask + r * y.row + j * W) * (o_dot * tanh_c + o * tanh_c_dot));
      }
    }
  }
}

// Tangents of gate_weight_gradients' results: the product rule on every factor of
// dU = sum hd_(t-1) da_t, dW = sum_t gamma_t M_t + beta_t s_t, dgamma_t = <W, M_t> and
// dbeta_t = <W, s_t>.
template <class T>
inline void gate_weight_tangents(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                                 const T* beta, const T* packed, const LstmTape<T>& tape,
                                 const T* gate_gradients, const LstmDirection<T>& direction,
                                 const LstmTangents<T>& tangents, const LstmScratch<T>& scratch,
                                 T* gradient_dot, T* gamma_gradient_dot, T* beta_gradient_dot) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  const bool film_moves = direction.gamma != nullptr;
  for (int64_t j = 0; j < y.blocks; ++j) {
    const int64_t second_step = (j * y.T_ + 1) * rows * kWide;
    const int64_t depth = (y.T_ - 1) * rows;
    T* out = gradient_dot + j * y.gate_panel + y.F * kWide;
    const Term<T> terms[] = {
        {tape.hidden, 1, y.row, tangents.gate_adjoints + second_step, kWide, depth},
        {tangents.hidden, 1, y.row, gate_gradients + second_step, kWide, depth},
    };
    product(y.H, terms, 1, {}, out, kWide);
    product(y.H, terms + 1, 1, {out, kWide}, out, kWide);
    fill<T>((y.padded - y.H) * kWide, 0, out + y.H * kWide);
    fill<T>(y.F * kWide, 0, gradient_dot + j * y.gate_panel);
    fill<T>(kWide, 0, gradient_dot + y.bias + j * kWide);
  }
  for (int64_t t = 0; t < y.T_; ++t) {
    fill<T>(2 * y.F * W, 0, scratch.film_sums);
    T* gamma_sums = scratch.film_sums;
    T* beta_sums = scratch.film_sums + y.F * W;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const int64_t at = (j * y.T_ + t) * rows * kWide;
      const T* gates = gate_gradients + at;
      const T* gates_dot = tangents.gate_adjoints + at;
      const Term<T> still = {x + t * y.F, 1, y.T_ * y.F, gates, kWide, rows};
      Term<T> moved[2] = {{x + t * y.F, 1, y.T_ * y.F, gates_dot, kWide, rows}, {}};
      if (direction.x != nullptr)
        moved[1] = {direction.x + t * y.F, 1, y.T_ * y.F, gates, kWide, rows};
      T* m = scratch.input_product;
      T* m_dot = scratch.input_product_dot;
      product(y.F, &still, 1, {}, m, kWide);
      product(y.F, moved, direction.x != nullptr ? 2 : 1, {}, m_dot, kWide);
      sum_rows(rows, gates, scratch.column_sums);
      sum_rows(rows, gates_dot, scratch.column_sums + kWide);
      const T* weights = packed + j * y.gate_panel;
      const T* weights_dot = direction.weights.packed + j * y.gate_panel;
      T* out = gradient_dot + j * y.gate_panel;
      T* bias = gradient_dot + y.bias + j * kWide;
      for (int64_t v = 0; v < kWide; v += W) {
        const Vector<T> s = load(scratch.column_sums + v);
        const Vector<T> s_dot = load(scratch.column_sums + kWide + v);
        store<T>(bias + v, load(bias + v) + s_dot);
        for (int64_t f = 0; f < y.F; ++f) {
          const int64_t tile = f * kWide + v, film = t * y.F + f;
          const Vector<T> m_f = load(m + tile), m_f_dot = load(m_dot + tile);
          const Vector<T> w = load(weights + tile), w_dot = load(weights_dot + tile);
          Vector<T> dw_dot = gamma[film] * m_f_dot + beta[film] * s_dot;
          if (film_moves) dw_dot += direction.gamma[film] * m_f + direction.beta[film] * s;
          store<T>(out + tile, load(out + tile) + dw_dot);
          store<T>(gamma_sums + f * W, load(gamma_sums + f * W) + w_dot * m_f + w * m_f_dot);
          store<T>(beta_sums + f * W, load(beta_sums + f * W) + w_dot * s + w * s_dot);
        }
      }
    }
    for (int64_t f = 0; f < y.F; ++f) {
      gamma_gradient_dot[t * y.F + f] += sum_lanes<T>(load(gamma_sums + f * W));
      beta_gradient_dot[t * y.F + f] += sum_lanes<T>(load(beta_sums + f * W));
    }
  }
}

// Second half of the tangent: derivatives of what the backward pass computed, line by line.
// hidden_gradient_dot [R][hidden_stride] is the tangent of what reached hd_T.
template <class T>
inline void lstm_tangent_backward(const Layout<T>& y, int64_t rows, const T* x, const T* gamma,
                                  const T* beta, const Weights<T>& weights, const LstmTape<T>& tape,
                                  const LstmAdjoints<T>& adjoints,
                                  const LstmDirection<T>& direction,
                                  const LstmTangents<T>& tangents, const T* hidden_gradient_dot,
                                  int64_t hidden_stride, const LstmScratch<T>& scratch,
                                  T* gradient_dot, T* gamma_gradient_dot, T* beta_gradient_dot) {
  constexpr int64_t W = kLanes<T>, kWide = kTile<T>;
  fill<T>(y.blocks * rows * W, 0, scratch.carry);
  for (int64_t t = y.T_ - 1; t >= 0; --t) {
    const bool last = t == y.T_ - 1;
    const T* arriving = last ? hidden_gradient_dot : scratch.hidden;
    const int64_t stride = last ? hidden_stride : y.row;
    for (int64_t j = 0; j < y.blocks; ++j) {
      const int64_t at = (j * y.T_ + t) * rows;
      for (int64_t r = 0; r < rows; ++r) {
        const T* a = tape.gates + (at + r) * kWide;
        const T* a_dot = tangents.gates + (at + r) * kWide;
        const Vector<T> i = load(a), f = load(a + W), g = load(a + 2 * W), o = load(a + 3 * W);
        const Vector<T> i_dot = load(a_dot), f_dot = load(a_dot + W);
        const Vector<T> g_dot = load(a_dot + 2 * W), o_dot = load(a_dot + 3 * W);
        const Vector<T> tanh_c = load(tape.tanh_cell + (at + r) * W);
        const Vector<T> tanh_c_dot = load(tangents.tanh_cell + (at + r) * W);
        const Vector<T> c0 = t == 0 ? Vector<T>{} : load(tape.cell + (at - rows + r) * W);
        const Vector<T> c0_dot = t == 0 ? Vector<T>{} : load(tangents.cell + (at - rows + r) * W);
        const Vector<T> dh = load(adjoints.hidden + (at + r) * W);
        const Vector<T> dc = load(adjoints.cell + (at + r) * W);
        T* carry = scratch.carry + (j * rows + r) * W;

        const Vector<T> dh_dot =
            load(tape.mask + r * y.row + j * W) * load(arriving + r * stride + j * W);
        const Vector<T> slope = T(1) - tanh_c * tanh_c;
        const Vector<T> dc_dot =
            load(carry) + (dh_dot * o + dh * o_dot) * slope - T(2) * dh * o * tanh_c * tanh_c_dot;
        const Vector<T> di = dc * g, di_dot = dc_dot * g + dc * g_dot;
        const Vector<T> df = dc * c0, df_dot = dc_dot * c0 + dc * c0_dot;
        const Vector<T> dg = dc * i, dg_dot = dc_dot * i + dc * i_dot;
        const Vector<T> output = dh * tanh_c, output_dot = dh_dot * tanh_c + dh * tanh_c_dot;
        T* da_dot = tangents.gate_adjoints + (at + r) * kWide;
        store<T>(da_dot, di_dot * i * (T(1) - i) + di * (T(1) - (i + i)) * i_dot);
        store<T>(da_dot + W, df_dot * f * (T(1) - f) + df * (T(1) - (f + f)) * f_dot);
        store<T>(da_dot + 2 * W, dg_dot * (T(1) - g * g) - T(2) * dg * g * g_dot);
        store<T>(da_dot + 3 * W, output_dot * o * (T(1) - o) + output * (T(1) - (o + o)) * o_dot);
        store<T>(carry, dc_dot * f + dc * f_dot);
      }
    }
    if (t > 0) {
      const T* gate_gradients[] = {tangents.gate_adjoints, adjoints.gates};
      const T* transposed[] = {weights.transposed, direction.weights.transposed};
      recurrent_gradient(y, rows, t, 2, gate_gradients, transposed, scratch.hidden);
    }
  }
  gate_weight_tangents(y, rows, x, gamma, beta, weights.packed, tape, adjoints.gates, direction,
                       tangents, scratch, gradient_dot, gamma_gradient_dot, beta_gradient_dot);
}

// Gradient of x (or the tangent of it): out[r,t,:] (+)= scale[t,:] * (gate gradients_t W), for the
// callers that ask for it. input_transposed [4*padded][padded F] is made by transpose_input.
template <class T>
inline int64_t input_panels(const Layout<T>& y) {
  return (y.F + y.kWide - 1) / y.kWide;
}

template <class T>
inline void transpose_input(const Layout<T>& y, const T* packed, T* out) {
  fill<T>(input_panels(y) * 4 * y.padded * y.kWide, 0, out);
  for (int64_t j = 0; j < y.blocks; ++j)
    for (int64_t f = 0; f < y.F; ++f)
      for (int64_t column = 0; column < y.kWide; ++column)
        out[((f / y.kWide) * 4 * y.padded + j * y.kWide + column) * y.kWide + f % y.kWide] =
            packed[j * y.gate_panel + f * y.kWide + column];
}

template <class T>
inline void input_gradient(const Layout<T>& y, int64_t rows, const T* gate_gradients,
                           const T* input_transposed, const T* scale, bool accumulate, T* tile,
                           T* out) {
  constexpr int64_t kWide = kTile<T>;
  for (int64_t t = 0; t < y.T_; ++t)
    for (int64_t p = 0; p < input_panels(y); ++p) {
      for (int64_t j = 0; j < y.blocks; ++j) {
        const Term<T> term = {gate_gradients + (j * y.T_ + t) * rows * kWide,
                              kWide,
                              1,
                              input_transposed + (p * 4 * y.padded + j * kWide) * kWide,
                              kWide,
                              kWide};
        product(rows, &term, 1, j == 0 ? Start<T>{} : Start<T>{tile, kWide}, tile, kWide);
      }
      const int64_t first = p * kWide, count = first + kWide <= y.F ? kWide : y.F - first;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t n = 0; n < count; ++n) {
          const int64_t band = t * y.F + first + n;
          T& target = out[r * y.T_ * y.F + band];
          const T value = scale[band] * tile[r * kWide + n];
          target = accumulate ? target + value : value;
        }
    }
}

}  // namespace
}  // namespace timl
