// The LSTM of one task by a team of blocks: forward and backward; lstm_tangent.h has the tangent.
//
// The formulas and their names are those of docs/explanation/meta-step.md, "LSTM", as in the CPU's
// file of this name. A block has a part of the units, and their weights in shared memory where
// there is room (`staged`): at each step it computes their gates from all units of the step before,
// which the team exchanges through global memory. Rows (samples) are independent of each other.
#pragma once

#include "../common/task.h"
#include "elementary.h"
#include "weights.h"

namespace timl {
namespace {

// The dropout mask's value of a unit in a row.
template <class T>
__device__ __forceinline__ T mask_at(const Layout& layout, const Batch<T>& batch, int64_t row,
                                     int64_t unit) {
  return batch.mask == nullptr ? T(1) : batch.mask[row * layout.hidden + unit];
}

// The input FiLM's gamma and beta of a value of a series; none changes nothing.
template <class T>
__device__ __forceinline__ T gamma_at(const Batch<T>& batch, int64_t film) {
  return batch.film == nullptr ? T(1) : batch.film[film];
}
template <class T>
__device__ __forceinline__ T beta_at(const Layout& layout, const Batch<T>& batch, int64_t film) {
  return batch.film == nullptr ? T(0) : batch.film[layout.series + film];
}

// Hidden states, or their gradients, as the caller has them: of every step [B,T,H], or of the last
// alone [B,H]; null for none.
template <class T>
struct States {
  T* values;
  bool every_step;

  __device__ bool have(const Layout& layout, int64_t step) const {
    return values != nullptr && (every_step || step == layout.steps - 1);
  }
  __device__ T& at(const Layout& layout, int64_t row, int64_t step, int64_t unit) const {
    return values[(every_step ? row * layout.steps + step : row) * layout.hidden + unit];
  }
};

// What the forward pass keeps: input (x after FiLM) [T,B,F]; gates (activations) [T,B,4H]; cell,
// tanh_cell and hidden (= hd) [T,B,H]. Without keep, what it needs: cell of one step, hidden of
// two.
template <class T>
struct LstmTape {
  TIML_HOST_DEVICE LstmTape(const Layout& layout, int64_t batch, Arena<T>& arena,
                            bool keep = true) {
    const int64_t units = batch * layout.hidden;
    input = arena.take(batch * layout.series);
    gates = keep ? arena.take(layout.steps * batch * layout.gates) : nullptr;
    cell = arena.take((keep ? layout.steps : 1) * units);
    tanh_cell = keep ? arena.take(layout.steps * units) : nullptr;
    hidden = arena.take((keep ? layout.steps : 2) * units);
  }
  T *input, *gates, *cell, *tanh_cell, *hidden;
};

// Gradients of the gates' sums [T,B,4H], of h and c [T,B,H], of the input after FiLM [T,B,F].
template <class T>
struct LstmAdjoints {
  TIML_HOST_DEVICE LstmAdjoints(const Layout& layout, int64_t batch, Arena<T>& arena) {
    const int64_t units = layout.steps * batch * layout.hidden;
    gates = arena.take(4 * units);
    hidden = arena.take(units);
    cell = arena.take(units);
    input = arena.take(batch * layout.series);
  }
  T *gates, *hidden, *cell, *input;
};

// The activations of a unit's gates, side by side for one sample and step.
template <class T>
struct Gates {
  T i, f, g, o;
};
template <class T>
__device__ __forceinline__ Gates<T> load_gates(const T* at, int64_t hidden) {
  return {at[0], at[hidden], at[2 * hidden], at[3 * hidden]};
}
template <class T>
__device__ __forceinline__ void store_gates(T* at, int64_t hidden, const Gates<T>& gates) {
  at[0] = gates.i;
  at[hidden] = gates.f;
  at[2 * hidden] = gates.g;
  at[3 * hidden] = gates.o;
}

// Where hd_T lies.
template <class T>
__device__ __forceinline__ T* last_hidden(const Layout& layout, int64_t batch, T* hidden,
                                          bool keep = true) {
  return hidden + (keep ? layout.steps - 1 : (layout.steps - 1) % 2) * batch * layout.hidden;
}

// The rows of a batch.
template <class T, bool kKeep = true>
__device__ void lstm_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                             const Range& rows, const Weights<T>& weights, bool staged,
                             const LstmTape<T>& tape, const States<T>& states = {}) {
  const int64_t bands = layout.bands, hidden = layout.hidden;
  const Range units = team.share(hidden);
  SliceRoom<T> room(team, staged);
  const Slice<T> mine =
      room.take(team, weights.transposed, bands + hidden, layout.gates, units, 4, hidden);
  for_each(team, rows.count() * layout.series, [&](int64_t index) {
    const int64_t f = index % bands, t = index / bands % layout.steps;
    const int64_t b = rows.begin + index / layout.series, film = t * bands + f;
    const T x = batch.x[b * layout.series + film];
    // x - x: the gates of an infinite value would be finite, and nobody would know of it
    tape.input[(t * batch.size + b) * bands + f] =
        x * gamma_at(batch, film) + beta_at(layout, batch, film) + (x - x);
  });
  simt::copy_async_wait();
  team.sync();
  const T* bias = weights.flat + layout.bias;
  for (int64_t t = 0; t < layout.steps; ++t) {
    const int64_t step = t * batch.size;  // rows before this step
    const int64_t now = kKeep ? step : t % 2 * batch.size;
    const int64_t before = kKeep ? step - batch.size : (t + 1) % 2 * batch.size;
    const int64_t cells = kKeep ? step : 0, cells_before = kKeep ? before : 0;
    const Term<T> terms[] = {
        {tape.input + step * bands, bands, 1, mine.values, mine.stride, bands},
        {tape.hidden + (t > 0 ? before * hidden : 0), hidden, 1, mine.values + bands * mine.stride,
         mine.stride, hidden},
    };
    gate_product(
        team, rows, {0, units.count()}, mine.step, terms, t == 0 ? 1 : 2,
        [&](int64_t row, int64_t column, const T(&a)[4]) {
          const int64_t u = units.begin + column;
          const Gates<T> gates = {sigmoid(a[0] + bias[u]), sigmoid(a[1] + bias[hidden + u]),
                                  std::tanh(a[2] + bias[2 * hidden + u]),
                                  sigmoid(a[3] + bias[3 * hidden + u])};
          T c = gates.i * gates.g;
          if (t > 0) c += gates.f * tape.cell[(cells_before + row) * hidden + u];
          const T tanh_c = std::tanh(c);
          tape.cell[(cells + row) * hidden + u] = c;
          tape.hidden[(now + row) * hidden + u] = mask_at(layout, batch, row, u) * gates.o * tanh_c;
          if (states.have(layout, t))
            states.at(layout, row, t, u) = tape.hidden[(now + row) * hidden + u];
          if constexpr (kKeep) {
            store_gates(tape.gates + (step + row) * layout.gates + u, hidden, gates);
            tape.tanh_cell[(step + row) * hidden + u] = tanh_c;
          }
        });
    team.sync();
  }
}

// Gradients of the gates of the rows; `given` are those of the hidden states hd.
template <class T>
__device__ void lstm_backward(const Team& team, const Layout& layout, const Batch<T>& batch,
                              const Range& rows, const Weights<T>& weights, bool staged,
                              const LstmTape<T>& tape, const States<const T>& given,
                              const LstmAdjoints<T>& adjoints) {
  const int64_t hidden = layout.hidden;
  const Range units = team.share(hidden);
  SliceRoom<T> room(team, staged);
  const Slice<T> mine =
      room.take(team, weights.flat + layout.recurrent, layout.gates, hidden, units, 1, 0);
  simt::copy_async_wait();
  team.sync();
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const int64_t step = t * batch.size, after = step + batch.size, before = step - batch.size;
    // The gradient of hd_t is U^T da_(t+1).
    const Term<T> term = {adjoints.gates + (last ? 0 : after * layout.gates),
                          layout.gates,
                          1,
                          mine.values,
                          mine.stride,
                          layout.gates};
    const Range columns = {0, units.count()};
    product(team, rows, columns, &term, last ? 0 : 1, [&](int64_t row, int64_t column, T arriving) {
      const int64_t u = units.begin + column;
      const int64_t at = (step + row) * hidden + u, next = (after + row) * hidden + u;
      const auto [i, f, g, o] = load_gates(tape.gates + (step + row) * layout.gates + u, hidden);
      const T tanh_c = tape.tanh_cell[at];
      const T c0 = t == 0 ? T(0) : tape.cell[(before + row) * hidden + u];
      const T carry =
          last ? T(0) : adjoints.cell[next] * tape.gates[(after + row) * layout.gates + hidden + u];
      const T more = given.have(layout, t) ? given.at(layout, row, t, u) : T(0);
      const T dh = mask_at(layout, batch, row, u) * (arriving + more);
      const T dc = carry + dh * o * (T(1) - tanh_c * tanh_c);
      store_gates(adjoints.gates + (step + row) * layout.gates + u, hidden,
                  Gates<T>{dc * g * i * (T(1) - i), dc * c0 * f * (T(1) - f),
                           dc * i * (T(1) - g * g), dh * tanh_c * o * (T(1) - o)});
      adjoints.hidden[at] = dh;
      adjoints.cell[at] = dc;
    });
    team.sync();
  }
}

// Gate gradients -> gradients of the LSTM's weights (flat) and of its input after FiLM, each
// element on one thread. The team may be one without a barrier.
template <class T>
__device__ void lstm_weight_gradients(const Team& team, const Layout& layout, int64_t batch,
                                      const Weights<T>& weights, const LstmTape<T>& tape,
                                      const LstmAdjoints<T>& adjoints, T* gradient) {
  const int64_t bands = layout.bands, hidden = layout.hidden, gates = layout.gates;
  const int64_t all = layout.steps * batch;
  const Range mine = team.share(gates);
  const Term<T> recurrent = {
      adjoints.gates + batch * gates, 1, gates, tape.hidden, hidden, all - batch};
  product(team, mine, {0, hidden}, &recurrent, 1, [&](int64_t gate, int64_t k, T sum) {
    gradient[layout.recurrent + gate * hidden + k] = sum;
  });
  const Term<T> input = {adjoints.gates, 1, gates, tape.input, bands, all};
  product(team, mine, {0, bands}, &input, 1,
          [&](int64_t gate, int64_t f, T sum) { gradient[gate * bands + f] = sum; });
  for_each(team, gates, [&](int64_t gate) {
    T sum = 0;
    for (int64_t at = gate; at < all * gates; at += gates) sum += adjoints.gates[at];
    gradient[layout.bias + gate] = sum;
  });
  const Term<T> to_input = {adjoints.gates, gates, 1, weights.flat, bands, gates};
  product(team, team.share(all), {0, bands}, &to_input, 1,
          [&](int64_t at, int64_t f, T sum) { adjoints.input[at * bands + f] = sum; });
}

// The input FiLM's gradients [T,F] each and that of x [B,T,F], each unless null, from the gradient
// of the input after FiLM.
template <class T>
__device__ void input_gradients(const Team& team, const Layout& layout, const Batch<T>& batch,
                                const LstmAdjoints<T>& adjoints, T* film_gradient, T* x_gradient) {
  const int64_t bands = layout.bands;
  if (film_gradient != nullptr) {
    for_each(team, layout.series, [&](int64_t film) {
      const int64_t first = film / bands * batch.size * bands + film % bands;
      T gamma = 0, beta = 0;
      for (int64_t b = 0; b < batch.size; ++b) {
        const T d = adjoints.input[first + b * bands];
        gamma += batch.x[b * layout.series + film] * d;
        beta += d;
      }
      film_gradient[film] = gamma;
      film_gradient[layout.series + film] = beta;
    });
  }
  if (x_gradient == nullptr) return;
  for_each(team, batch.size * layout.series, [&](int64_t index) {
    const int64_t film = index % layout.series, b = index / layout.series;
    x_gradient[index] = gamma_at(batch, film) *
                        adjoints.input[(film / bands * batch.size + b) * bands + film % bands];
  });
}

}  // namespace
}  // namespace timl
