// The LSTM alone for a whole batch, put together from the chunks of lstm.h and lstm_tangent.h:
// hidden states, their gradients, and the tangents of both. A chunk's rows of hidden states and of
// their cotangents are padded on the way in and out.
#pragma once

#include "network.h"

namespace timl {
namespace {

template <class T>
using FilmLstmTape = Parts<T, NoHead<T>, LstmTape<T>>;
template <class T>
using FilmLstmAdjoints = Parts<T, NoHead<T>, LstmAdjoints<T>>;
template <class T>
using FilmLstmTangents = Parts<T, NoHead<T>, LstmTangents<T>>;

// Cotangents of a chunk's hidden states in padded rows, [T][R][row], and the chunk's gradients of x
// on their way: columns of one tile, [R][columns].
template <class T>
struct FilmLstmChunk {
  FilmLstmChunk(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena) {
    cotangent = arena.take(layout.steps * rows * layout.row);
    tile = arena.take(rows * kTileColumns<T>);
  }
  T *cotangent, *tile;
};
template <class T>
using FilmLstmChunks = Parts<T, NoHead<T>, FilmLstmChunk<T>>;

// Packed weights with their transposes, and the transposes of the input weights for gradients of x.
template <class T>
struct FilmLstmWeights {
  FilmLstmWeights(const PackedLayout<T>& layout, Arena<T>& arena) {
    packed = arena.take(layout.packed_size);
    transposed = arena.take(layout.transposed_size);
    input_transposed = arena.take(input_panels(layout) * 4 * layout.padded * kTileColumns<T>);
  }
  void set(const PackedLayout<T>& layout, const T* flat, bool x_gradient) const {
    pack(layout, flat, packed);
    transpose(layout, static_cast<const T*>(packed), transposed);
    if (x_gradient) transpose_input(layout, static_cast<const T*>(packed), input_transposed);
  }
  Weights<T> weights() const { return {.packed = packed, .transposed = transposed}; }
  T *packed, *transposed, *input_transposed;
};

// The FiLM values given, or, in `identity`, those that change nothing.
template <class T>
inline const T* film_or_identity(const PackedLayout<T>& layout, const T* film, T* identity) {
  if (film != nullptr) return film;
  const int64_t series = layout.steps * layout.bands;
  fill<T>(series, 1, identity);
  fill<T>(series, 0, identity + series);
  return identity;
}

template <class T>
struct FilmLstmForwardMemory {
  FilmLstmForwardMemory(const PackedLayout<T>& layout, T* memory) : arena(memory) {
    packed = arena.take(layout.packed_size);
    identity = arena.take(2 * layout.steps * layout.bands);
  }
  Arena<T> arena;
  T *packed, *identity;
};

template <class T>
struct FilmLstmBackwardMemory {
  FilmLstmBackwardMemory(const PackedLayout<T>& layout, int64_t batch, T* memory)
      : arena(memory), weights(layout, arena) {
    identity = arena.take(2 * layout.steps * layout.bands);
    gradient = arena.take(layout.packed_size);
    film_gradient = arena.take(2 * layout.steps * layout.bands);
    scratch = arena.take(NetworkScratch<T>::size(layout, batch));
    chunks = arena.take(FilmLstmChunks<T>::size(layout, batch));
  }
  Arena<T> arena;
  FilmLstmWeights<T> weights;
  T *identity, *gradient, *film_gradient, *scratch, *chunks;
};

template <class T>
struct FilmLstmTangentMemory {
  FilmLstmTangentMemory(const PackedLayout<T>& layout, int64_t batch, T* memory)
      : backward(layout, batch, memory), direction(layout, backward.arena) {
    tangents = backward.arena.take(FilmLstmTangents<T>::size(layout, batch));
  }
  FilmLstmBackwardMemory<T> backward;
  FilmLstmWeights<T> direction;
  T* tangents;
};

// How many steps' hidden states are wanted, and the first of them.
inline int64_t wanted_steps(const FilmLstmShape& s) { return s.every_step ? s.steps : 1; }
inline int64_t first_wanted(const FilmLstmShape& s) { return s.steps - wanted_steps(s); }

// Hidden states of a chunk (or their tangents), [steps][R][row], to rows of [steps,H].
template <class T>
inline void unpad_states(const PackedLayout<T>& layout, int64_t rows, int64_t steps,
                         const T* hidden, T* states) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < steps; ++t, states += layout.hidden)
      copy(layout.hidden, hidden + (t * rows + r) * layout.row, states);
}

// Cotangents of the hidden states of a chunk, rows of [steps,H], to [steps][R][row].
template <class T>
inline void pad_cotangent(const PackedLayout<T>& layout, int64_t rows, int64_t steps,
                          const T* cotangent, T* padded) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t < steps; ++t, cotangent += layout.hidden) {
      T* to = padded + (t * rows + r) * layout.row;
      copy(layout.hidden, cotangent, to);
      fill<T>(layout.row - layout.hidden, 0, to + layout.hidden);
    }
}

template <class T>
inline const T* mask_of(const FilmLstmInput<T>& in, const Rows& rows) {
  return in.mask == nullptr ? nullptr : in.mask + rows.begin * in.shape.hidden;
}

template <class T>
void film_lstm_forward(const FilmLstmInput<T>& in, T* states, T* tape_memory, T* workspace,
                       const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape.network());
  const FilmLstmForwardMemory<T> memory(layout, workspace);
  pack(layout, in.weights, memory.packed);
  const T* film = film_or_identity(layout, in.film, memory.identity);
  const FilmLstmTape<T> tape(layout, in.batch, tape_memory);
  const int64_t series = layout.steps * layout.bands;
  for_each_chunk(in.batch, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(in.batch, index);
    const LstmTape<T> mine = tape.chunk(index);
    lstm_forward(layout, rows.count, in.x + rows.begin * series, film, film + series,
                 mask_of(in, rows), static_cast<const T*>(memory.packed), mine);
    unpad_states<T>(layout, rows.count, wanted_steps(in.shape),
                    mine.hidden + first_wanted(in.shape) * rows.count * layout.row,
                    states + rows.begin * film_lstm_states_size(in.shape));
  });
}

template <class T>
void film_lstm_backward(const FilmLstmInput<T>& in, const T* cotangent, const T* tape_memory,
                        const FilmLstmGradient<T>& out, T* adjoint_memory, T* workspace,
                        const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape.network());
  const FilmLstmBackwardMemory<T> memory(layout, in.batch, workspace);
  memory.weights.set(layout, in.weights, out.x != nullptr);
  const T* film = film_or_identity(layout, in.film, memory.identity);
  const FilmLstmTape<T> tape(layout, in.batch, const_cast<T*>(tape_memory));
  const FilmLstmAdjoints<T> adjoints(layout, in.batch, adjoint_memory);
  const NetworkScratch<T> scratch(layout, in.batch, memory.scratch);
  const FilmLstmChunks<T> chunks(layout, in.batch, memory.chunks);
  const int64_t series = layout.steps * layout.bands;
  T* film_gradient = out.film == nullptr ? memory.film_gradient : out.film;
  for_each_chunk(in.batch, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(in.batch, index);
    const ChunkScratch<T> mine = scratch.chunk(index);
    const FilmLstmChunk<T> chunk = chunks.chunk(index);
    const LstmAdjoints<T> adjoint = adjoints.chunk(index);
    const int64_t step = rows.count * layout.row, steps = wanted_steps(in.shape);
    pad_cotangent<T>(layout, rows.count, steps,
                     cotangent + rows.begin * film_lstm_states_size(in.shape), chunk.cotangent);
    T* film_share = chunk_target(in.batch, mine.film_gradient, film_gradient);
    fill<T>(2 * series, 0, film_share);
    lstm_backward(layout, rows.count, in.x + rows.begin * series, film, film + series,
                  memory.weights.weights(), tape.chunk(index),
                  static_cast<const T*>(chunk.cotangent + (steps - 1) * step), layout.row, adjoint,
                  mine.lstm, chunk_target(in.batch, mine.gradient, memory.gradient), film_share,
                  film_share + series, in.shape.every_step ? step : 0);
    if (out.x != nullptr)
      input_gradient<T>(layout, rows.count, adjoint.gates, memory.weights.input_transposed, film,
                        false, chunk.tile, out.x + rows.begin * series);
  });
  if (chunk_count(in.batch) > 1)
    sum_chunks(layout, in.batch, scratch, memory.gradient, film_gradient);
  unpack(layout, static_cast<const T*>(memory.gradient), T(1), out.weights);
}

template <class T>
void film_lstm_tangent(const FilmLstmInput<T>& in, const T* tape_memory, const T* adjoint_memory,
                       const FilmLstmDirection<T>& along, T* states_tangent,
                       const FilmLstmGradient<T>& out, T* workspace, const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape.network());
  const FilmLstmTangentMemory<T> memory(layout, in.batch, workspace);
  const FilmLstmBackwardMemory<T>& first = memory.backward;
  first.weights.set(layout, in.weights, out.x != nullptr);
  memory.direction.set(layout, along.weights, out.x != nullptr);
  const T* film = film_or_identity(layout, in.film, first.identity);
  const Direction<T> direction = {
      .weights = memory.direction.weights(), .film = along.film, .x = along.x};
  const FilmLstmTape<T> tape(layout, in.batch, const_cast<T*>(tape_memory));
  const FilmLstmAdjoints<T> adjoints(layout, in.batch, const_cast<T*>(adjoint_memory));
  const FilmLstmTangents<T> tangents(layout, in.batch, memory.tangents);
  const NetworkScratch<T> scratch(layout, in.batch, first.scratch);
  const FilmLstmChunks<T> chunks(layout, in.batch, first.chunks);
  const int64_t series = layout.steps * layout.bands;
  T* film_gradient = out.film == nullptr ? first.film_gradient : out.film;
  for_each_chunk(in.batch, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(in.batch, index);
    const ChunkScratch<T> mine = scratch.chunk(index);
    const FilmLstmChunk<T> chunk = chunks.chunk(index);
    const LstmTape<T> kept = tape.chunk(index);
    const LstmAdjoints<T> adjoint = adjoints.chunk(index);
    const LstmTangents<T> moved = tangents.chunk(index);
    const LstmDirection<T> moving = direction.of_lstm(layout, rows);
    const T* x = in.x + rows.begin * series;
    lstm_tangent_forward(layout, rows.count, x, film, first.weights.weights().packed, kept, moving,
                         moved);
    unpad_states<T>(layout, rows.count, wanted_steps(in.shape),
                    moved.hidden + first_wanted(in.shape) * rows.count * layout.row,
                    states_tangent + rows.begin * film_lstm_states_size(in.shape));

    // The cotangents stand still: one row of zeros for the last step of all series.
    fill<T>(layout.row, 0, chunk.cotangent);
    T* film_share = chunk_target(in.batch, mine.film_gradient, film_gradient);
    fill<T>(2 * series, 0, film_share);
    lstm_tangent_backward(
        layout, rows.count, x, film, film + series, first.weights.weights(), kept, adjoint, moving,
        moved, static_cast<const T*>(chunk.cotangent), int64_t{0}, mine.lstm,
        chunk_target(in.batch, mine.gradient, first.gradient), film_share, film_share + series);
    if (out.x == nullptr) return;
    T* x_out = out.x + rows.begin * series;
    input_gradient<T>(layout, rows.count, moved.gate_adjoints, first.weights.input_transposed, film,
                      false, chunk.tile, x_out);
    input_gradient<T>(layout, rows.count, adjoint.gates, memory.direction.input_transposed, film,
                      true, chunk.tile, x_out);
    if (along.film != nullptr)
      input_gradient<T>(layout, rows.count, adjoint.gates, first.weights.input_transposed,
                        along.film, true, chunk.tile, x_out);
  });
  if (chunk_count(in.batch) > 1)
    sum_chunks(layout, in.batch, scratch, first.gradient, film_gradient);
  unpack(layout, static_cast<const T*>(first.gradient), T(1), out.weights);
}

template <class T>
void film_lstm_prepare(const FilmLstmInput<T>& in, T* prepared) {
  const PackedLayout<T> layout(in.shape.network());
  const FilmLstmForwardMemory<T> memory(layout, prepared);
  pack(layout, in.weights, memory.packed);
  const T* film = film_or_identity(layout, in.film, memory.identity);
  if (film != memory.identity) copy(2 * layout.steps * layout.bands, film, memory.identity);
}

// Only where the states of every step are wanted does a chunk keep all of them.
template <class T>
void film_lstm_evaluate(const FilmLstmShape& s, const T* prepared, const T* x, const T* mask,
                        int64_t rows, T* states, T* workspace) {
  const PackedLayout<T> layout(s.network());
  const FilmLstmForwardMemory<T> memory(layout, const_cast<T*>(prepared));
  const int64_t series = layout.steps * layout.bands;
  for (int64_t index = 0; rows > 0 && index < chunk_count(rows); ++index) {
    const Rows chunk = chunk_rows(rows, index);
    Arena<T> arena(workspace);
    const LstmTape<T> tape(layout, chunk.count, arena, s.every_step);
    lstm_forward<T>(
        layout, chunk.count, x + chunk.begin * series, memory.identity, memory.identity + series,
        mask == nullptr ? nullptr : mask + chunk.begin * layout.hidden, memory.packed, tape);
    const int64_t slot = s.every_step ? 0 : tape.hidden_slot(layout.steps - 1);
    unpad_states<T>(layout, chunk.count, wanted_steps(s),
                    tape.hidden + slot * chunk.count * layout.row,
                    states + chunk.begin * film_lstm_states_size(s));
  }
}

template <class T>
constexpr FilmLstmEngine<T> film_lstm_table() {
  using Layout = PackedLayout<T>;
  return {
      .tape_size = [](const FilmLstmShape& s,
                      int64_t batch) { return FilmLstmTape<T>::size(Layout(s.network()), batch); },
      .adjoint_size =
          [](const FilmLstmShape& s, int64_t batch) {
            return FilmLstmAdjoints<T>::size(Layout(s.network()), batch);
          },
      .forward_workspace =
          [](const FilmLstmShape& s, int64_t) {
            return FilmLstmForwardMemory<T>(Layout(s.network()), nullptr).arena.used();
          },
      .backward_workspace =
          [](const FilmLstmShape& s, int64_t batch) {
            return FilmLstmBackwardMemory<T>(Layout(s.network()), batch, nullptr).arena.used();
          },
      .tangent_workspace =
          [](const FilmLstmShape& s, int64_t batch) {
            return FilmLstmTangentMemory<T>(Layout(s.network()), batch, nullptr)
                .backward.arena.used();
          },
      .evaluate_workspace =
          [](const FilmLstmShape& s, int64_t batch) {
            Arena<T> arena(nullptr);
            LstmTape<T>(Layout(s.network()), batch < kChunkRows ? batch : kChunkRows, arena,
                        s.every_step);
            return arena.used();
          },
      .forward = film_lstm_forward<T>,
      .backward = film_lstm_backward<T>,
      .tangent = film_lstm_tangent<T>,
      .prepared_size =
          [](const FilmLstmShape& s) {
            return FilmLstmForwardMemory<T>(Layout(s.network()), nullptr).arena.used();
          },
      .prepare = film_lstm_prepare<T>,
      .evaluate = film_lstm_evaluate<T>};
}

}  // namespace
}  // namespace timl
