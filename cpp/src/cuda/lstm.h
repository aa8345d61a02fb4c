// The LSTM of one task by a team of blocks: forward and backward; lstm_tangent.h has the tangent.
//
// The formulas and their names are those of docs/explanation/meta-step.md, "LSTM", as in the CPU's
// file of this name. A block has a part of the units. Where there is room (`staged`), their weights
// are in shared memory, and what the blocks of a team have to tell each other at a step they write
// into each other's shared memory, into one of two places in turn, so that one barrier a step is
// enough; else the weights are read where they are, and all goes through global memory. Rows
// (samples) are independent of each other.
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

// What the forward pass keeps: input (x after FiLM, then 1, by which the bias is a weight like
// others) [T,B,padded F]; gates (activations) [T,B,4H];
// cell, tanh_cell and hidden (= hd) [T,B,H]. Without keep, what it needs: cell of one step, hidden
// of two.
template <class T>
struct LstmTape {
  TIML_HOST_DEVICE LstmTape(const Layout& layout, int64_t batch, Arena<T>& arena,
                            bool keep = true) {
    const int64_t units = batch * layout.hidden;
    input = arena.take(layout.steps * batch * layout.padded_bands);
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

// From one row to the next in shared memory that products read as A: an odd number of fours, so
// that two rows of neighbouring tiles lie in different banks.
TIML_HOST_DEVICE inline int64_t staggered(int64_t columns) {
  return round_to_fours(columns) / 4 % 2 == 1 ? round_to_fours(columns)
                                              : round_to_fours(columns) + 4;
}

// A block's shared memory beyond that of products.
template <class T>
__device__ __forceinline__ Arena<T> shared_arena(const Team& team) {
  return Arena<T>(simt::shared_memory<T>() + product_shared<T>(team.threads) / sizeof(T));
}

// Copies the weights of the units' gates, for products with rows of [h, x], and their bias.
template <class T>
__device__ __forceinline__ void stage_gates(const Team& team, const Layout& layout,
                                            const Range& units, const T* transposed, T* staged,
                                            int64_t stride) {
  copy_rows(team, layout.hidden + layout.bands + 1, 4 * units.count(), transposed + 4 * units.begin,
            layout.gates, staged, stride);
}

// What lstm_forward has in shared memory for so many rows.
template <class T>
struct ForwardRoom {
  TIML_HOST_DEVICE ForwardRoom(const Layout& layout, int64_t blocks, int64_t rows, Arena<T> arena)
      : each(Team::fours_each(layout.hidden, blocks)),
        width(staggered(layout.hidden + layout.bands)) {
    weights = arena.take((layout.hidden + layout.bands + 1) * 4 * each);
    inputs = arena.take(2 * rows * width);
    cell = arena.take(rows * each);
    used = arena.used();
  }
  int64_t each, width, used;
  T* weights;  // [H+F+1,units,4]
  T* inputs;   // [2,rows,width] h of the step before, and x after FiLM, of even and of odd steps
  T* cell;     // [rows,units]
};

template <bool kStaged, bool kKeep, class T>
__device__ __forceinline__ void lstm_forward_steps(const Team& team, const Layout& layout,
                                                   const Batch<T>& batch, const Range& rows,
                                                   const Weights<T>& weights,
                                                   const LstmTape<T>& tape,
                                                   const States<T>& states) {
  const int64_t bands = layout.bands, hidden = layout.hidden, padded = layout.padded_bands;
  const Range units = team.share_in_fours(hidden), local = {0, rows.count()};
  const ForwardRoom<T> room(layout, team.blocks, rows.count(), shared_arena<T>(team));
  Slice<T> slice = {weights.transposed + 4 * units.begin, layout.gates};
  if constexpr (kStaged) {
    slice = {room.weights, 4 * room.each};
    stage_gates(team, layout, units, weights.transposed, room.weights, slice.stride);
  }
  for_each(team, rows.count() * layout.steps * (bands + 1), [&](int64_t index) {
    const int i = static_cast<int>(index), width = static_cast<int>(bands) + 1;
    const int f = i % width, t = i / width % static_cast<int>(layout.steps);
    const int64_t b = rows.begin + i / width / static_cast<int>(layout.steps);
    const int64_t film = t * bands + f;
    T value = 1;
    if (f < bands) {
      const T x = batch.x[b * layout.series + film];
      // x - x: the gates of an infinite value would be finite, and nobody would know of it
      value = x * gamma_at(batch, film) + beta_at(layout, batch, film) + (x - x);
    }
    tape.input[(t * batch.size + b) * padded + f] = value;
  });
  team.sync();
  const auto input_of = [&](int64_t t) {
    return tape.input + (t * batch.size + rows.begin) * padded;
  };
  const auto shared_input = [&](int64_t t) {
    return room.inputs + t % 2 * rows.count() * room.width;
  };
  const auto copy_input = [&](int64_t t) {
    copy_rows(team, rows.count(), bands, input_of(t), padded, shared_input(t) + hidden, room.width);
  };
  if constexpr (kStaged) {
    copy_input(0);
    simt::copy_async_wait();
    __syncthreads();
  }
  for (int64_t t = 0; t < layout.steps; ++t) {
    const int64_t step = t * batch.size;  // rows before this step
    const int64_t now = kKeep ? step : t % 2 * batch.size;
    const int64_t before = kKeep ? step - batch.size : (t + 1) % 2 * batch.size;
    const int64_t cells = kKeep ? step : 0, cells_before = kKeep ? before : 0;
    const int64_t skipped = t == 0 ? hidden : 0;  // of the depth: h is 0 before the first step
    Term<T> terms[2];
    if constexpr (kStaged) {
      if (t + 1 < layout.steps) copy_input(t + 1);
      terms[0] = {shared_input(t) + skipped, room.width, room.weights + skipped * slice.stride,
                  slice.stride, hidden + bands - skipped};
    } else {
      terms[0] = {input_of(t), padded, slice.values + hidden * slice.stride, slice.stride, bands};
      terms[1] = {tape.hidden + (t > 0 ? before + rows.begin : 0) * hidden, hidden, slice.values,
                  slice.stride, hidden};
    }
    quad_product<kStaged ? Operands::kShared : Operands::kAnywhere>(
        team, local, {0, 4 * units.count()}, terms, kStaged || t == 0 ? 1 : 2,
        [&](int64_t in_chunk, int64_t column, const T(&sums)[4]) {
          const int64_t row = rows.begin + in_chunk, mine = column / 4, u = units.begin + mine;
          const auto bias =
              load_packed<Quad<T>>(slice.values + (hidden + bands) * slice.stride + column);
          const Gates<T> gates = {
              sigmoid(sums[0] + bias.values[0]), sigmoid(sums[1] + bias.values[1]),
              std::tanh(sums[2] + bias.values[2]), sigmoid(sums[3] + bias.values[3])};
          T c = gates.i * gates.g;
          T* const cell = kStaged ? room.cell + in_chunk * room.each + mine
                                  : tape.cell + (cells + row) * hidden + u;
          if (t > 0)
            c += gates.f * (kStaged ? *cell : tape.cell[(cells_before + row) * hidden + u]);
          *cell = c;
          const T tanh_c = std::tanh(c);
          const T h = mask_at(layout, batch, row, u) * gates.o * tanh_c;
          tape.hidden[(now + row) * hidden + u] = h;
          if (states.have(layout, t)) states.at(layout, row, t, u) = h;
          if constexpr (kStaged) {
            T* const place = shared_input(t + 1) + in_chunk * room.width + u;
#pragma unroll 4
            for (int block = 0; block < team.blocks; ++block) *simt::cluster_map(place, block) = h;
          }
          if constexpr (kKeep) {
            store_gates(tape.gates + (step + row) * layout.gates + u, hidden, gates);
            tape.cell[(step + row) * hidden + u] = c;
            tape.tanh_cell[(step + row) * hidden + u] = tanh_c;
          }
        });
    if constexpr (kStaged) simt::copy_async_wait();
    team.sync();
  }
}

// The rows of a batch.
template <class T, bool kKeep = true>
__device__ void lstm_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                             const Range& rows, const Weights<T>& weights, bool staged,
                             const LstmTape<T>& tape, const States<T>& states = {}) {
  if (staged)
    lstm_forward_steps<true, kKeep>(team, layout, batch, rows, weights, tape, states);
  else
    lstm_forward_steps<false, kKeep>(team, layout, batch, rows, weights, tape, states);
}

// Copies the recurrent weights of the units' gates, for products with rows of their gradients: row
// 4 u + gate of `staged` is that of the gate of the u-th of them.
template <class T>
__device__ __forceinline__ void stage_recurrent(const Team& team, const Layout& layout,
                                                const Range& units, const T* flat, T* staged,
                                                int64_t stride) {
  const int64_t hidden = layout.hidden;
  const T* const recurrent = flat + layout.recurrent;
  copy_each_row(team, 4 * units.count(), hidden, staged, stride,
                hidden % 4 == 0 && aligned_rows<Quad<T>>(recurrent, hidden), [&](int64_t k) {
                  return recurrent + (k % 4 * hidden + units.begin + k / 4) * hidden;
                });
}

// What lstm_backward has in shared memory for so many rows. Its tangent has two of `weights` and of
// `gates`.
template <class T>
struct BackwardRoom {
  TIML_HOST_DEVICE BackwardRoom(const Layout& layout, int64_t blocks, int64_t rows, bool tangent,
                                Arena<T> arena)
      : each(Team::fours_each(layout.hidden, blocks)),
        width(round_to_fours(layout.hidden)),
        gates_width(staggered(4 * each)) {
    for (int i = 0; i < (tangent ? 2 : 1); ++i) {
      weights[i] = arena.take(4 * each * width);
      gates[i] = arena.take(rows * gates_width);
    }
    arriving = arena.take(2 * blocks * rows * each);
    carry = arena.take(rows * each);
    used = arena.used();
  }
  int64_t each, width, gates_width, used;
  T* weights[2];  // [units,4,width]
  T* gates[2];    // [rows,gates_width] gradients of the units' gates, four side by side
  T* arriving;    // [2,blocks,rows,units] what each block adds to the gradients of the units' h
  T* carry;       // [rows,units] what the next step adds to that of c
};

// U^T da for all units from the gates of this block's, each sum to the block that has the unit.
template <class T>
__device__ __forceinline__ void send_hidden_gradients(const Team& team, const Layout& layout,
                                                      int64_t rows, const Term<T>* terms, int count,
                                                      int64_t each, T* arriving) {
  quad_product<Operands::kShared>(
      team, {0, rows}, {0, layout.hidden}, terms, count,
      [&](int64_t row, int64_t column, const T(&sums)[4]) {
        const int owner = static_cast<int>(column) / static_cast<int>(each);
        T* const place = arriving + (team.rank * rows + row) * each + column - owner * each;
        store_packed(simt::cluster_map(place, owner),
                     Quad<T>{{sums[0], sums[1], sums[2], sums[3]}});
      });
  team.sync();
}

// The sum of what all blocks sent for an element of [rows,units], in their order.
template <class T>
__device__ __forceinline__ T sum_of_blocks(const Team& team, const T* arriving, int64_t size,
                                           int64_t at) {
  T sum = arriving[at];
#pragma unroll 4
  for (int block = 1; block < team.blocks; ++block) sum += arriving[block * size + at];
  return sum;
}

template <bool kStaged, class T>
__device__ __forceinline__ void lstm_backward_steps(const Team& team, const Layout& layout,
                                                    const Batch<T>& batch, const Range& rows,
                                                    const Weights<T>& weights,
                                                    const LstmTape<T>& tape,
                                                    const States<const T>& given,
                                                    const LstmAdjoints<T>& adjoints) {
  const int64_t hidden = layout.hidden, gates = layout.gates;
  const Range units = team.share_in_fours(hidden), local = {0, rows.count()};
  const BackwardRoom<T> room(layout, team.blocks, rows.count(), false, shared_arena<T>(team));
  if constexpr (kStaged) {
    stage_recurrent(team, layout, units, weights.flat, room.weights[0], room.width);
    simt::copy_async_wait();
  }
  team.sync();
  for (int64_t t = layout.steps - 1; t >= 0; --t) {
    const bool last = t == layout.steps - 1;
    const int64_t step = t * batch.size, after = step + batch.size, before = step - batch.size;
    // arriving: what comes to the gradient of hd_t from the next step, which is U^T da_(t+1).
    const auto finish = [&](int64_t in_chunk, int64_t mine, T arriving) {
      const int64_t row = rows.begin + in_chunk, u = units.begin + mine;
      const int64_t at = (step + row) * hidden + u, next = (after + row) * hidden + u;
      const auto [i, f, g, o] = load_gates(tape.gates + (step + row) * gates + u, hidden);
      const T tanh_c = tape.tanh_cell[at];
      const T c0 = t == 0 ? T(0) : tape.cell[(before + row) * hidden + u];
      T* const carried = room.carry + in_chunk * room.each + mine;
      const T carry = last ? T(0)
                      : kStaged
                          ? *carried
                          : adjoints.cell[next] * tape.gates[(after + row) * gates + hidden + u];
      const T more = given.have(layout, t) ? given.at(layout, row, t, u) : T(0);
      const T dh = mask_at(layout, batch, row, u) * (arriving + more);
      const T dc = carry + dh * o * (T(1) - tanh_c * tanh_c);
      const Gates<T> d = {dc * g * i * (T(1) - i), dc * c0 * f * (T(1) - f),
                          dc * i * (T(1) - g * g), dh * tanh_c * o * (T(1) - o)};
      store_gates(adjoints.gates + (step + row) * gates + u, hidden, d);
      adjoints.hidden[at] = dh;
      adjoints.cell[at] = dc;
      if constexpr (kStaged) {
        *carried = dc * f;
        store_packed(room.gates[0] + in_chunk * room.gates_width + 4 * mine,
                     Quad<T>{{d.i, d.f, d.g, d.o}});
      }
    };
    if (last) {
      for_each_element(team, rows.count(), units.count(),
                       [&](int64_t in_chunk, int64_t mine) { finish(in_chunk, mine, T(0)); });
    } else if constexpr (kStaged) {
      T* const arriving = room.arriving + t % 2 * team.blocks * rows.count() * room.each;
      const Term<T> term = {room.gates[0], room.gates_width, room.weights[0], room.width,
                            4 * units.count()};
      send_hidden_gradients(team, layout, rows.count(), &term, 1, room.each, arriving);
      for_each_element(team, rows.count(), units.count(), [&](int64_t in_chunk, int64_t mine) {
        finish(
            in_chunk, mine,
            sum_of_blocks(team, arriving, rows.count() * room.each, in_chunk * room.each + mine));
      });
    } else {
      const Term<T> term = {adjoints.gates + (after + rows.begin) * gates, gates,
                            weights.flat + layout.recurrent + units.begin, hidden, gates};
      product(team, local, {0, units.count()}, &term, 1, finish);
    }
    if constexpr (kStaged)
      __syncthreads();
    else
      team.sync();
  }
}

// Gradients of the gates of the rows; `given` are those of the hidden states hd.
template <class T>
__device__ void lstm_backward(const Team& team, const Layout& layout, const Batch<T>& batch,
                              const Range& rows, const Weights<T>& weights, bool staged,
                              const LstmTape<T>& tape, const States<const T>& given,
                              const LstmAdjoints<T>& adjoints) {
  if (staged)
    lstm_backward_steps<true>(team, layout, batch, rows, weights, tape, given, adjoints);
  else
    lstm_backward_steps<false>(team, layout, batch, rows, weights, tape, given, adjoints);
}

// Gate gradients -> gradients of the LSTM's weights (flat) and of its input after FiLM, each
// element on one thread. The team may be one without a barrier.
template <class T>
__device__ void lstm_weight_gradients(const Team& team, const Layout& layout, int64_t batch,
                                      const Weights<T>& weights, const LstmTape<T>& tape,
                                      const LstmAdjoints<T>& adjoints, T* gradient) {
  const int64_t bands = layout.bands, hidden = layout.hidden, gates = layout.gates;
  const int64_t all = layout.steps * batch;
  const Range mine = team.share_in_fours(gates);
  const Term<T> recurrent = {adjoints.gates + batch * gates, gates, tape.hidden, hidden,
                             all - batch};
  quad_product<Operands::kTransposed>(
      team, mine, {0, hidden}, &recurrent, 1, [&](int64_t gate, int64_t k, const T(&sums)[4]) {
        store_sums(gradient + layout.recurrent + gate * hidden + k, sums, hidden - k);
      });
  const Term<T> input = {adjoints.gates, gates, tape.input, layout.padded_bands, all};
  product<Operands::kTransposed>(
      team, mine, {0, bands + 1}, &input, 1,
      [&](int64_t gate, int64_t f, T sum) { gradient[layout.input_or_bias(gate, f)] = sum; });
  const Term<T> to_input = {adjoints.gates, gates, weights.flat, bands, gates};
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
