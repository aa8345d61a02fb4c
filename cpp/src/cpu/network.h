// The network of one task, put together from LSTM chunks and head: forward, backward, and the two
// halves of the tangent, on packed weights. The same structs measure the memory of each and hand it
// out: first the head's part, then one part for each chunk, all as large as the largest.
#pragma once

#include "../common/task.h"
#include "head.h"
#include "lstm_tangent.h"

namespace timl {
namespace {

// Where a chunk's rows begin and how many they are.
struct Rows {
  int64_t begin, count;
};
inline Rows chunk_rows(int64_t batch, int64_t chunk) {
  const int64_t begin = chunk_begin(batch, chunk);
  return {begin, chunk_begin(batch, chunk + 1) - begin};
}

// One part for the head and one for each chunk.
template <class T, class Head, class Chunk>
struct Parts {
  Parts(const PackedLayout<T>& packed_layout, int64_t batch, T* memory)
      : layout(packed_layout), batch_size(batch), arena(memory), head(layout, batch, arena) {
    chunks = memory == nullptr ? nullptr : memory + arena.used();
    Arena<T> largest(nullptr);
    Chunk(layout, chunk_rows(batch, 0).count, largest);
    stride = largest.used();
  }
  Chunk chunk(int64_t index) const {
    Arena<T> piece(chunks + index * stride);
    return Chunk(layout, chunk_rows(batch_size, index).count, piece);
  }
  static int64_t size(const PackedLayout<T>& layout, int64_t batch) {
    const Parts parts(layout, batch, nullptr);
    return parts.arena.used() + chunk_count(batch) * parts.stride;
  }

  const PackedLayout<T>& layout;
  int64_t batch_size;
  Arena<T> arena;
  Head head;
  T* chunks;
  int64_t stride;
};

template <class T>
using NetworkTape = Parts<T, HeadTape<T>, LstmTape<T>>;
template <class T>
using NetworkAdjoints = Parts<T, HeadAdjoints<T>, LstmAdjoints<T>>;
template <class T>
using NetworkTangents = Parts<T, HeadTangents<T>, LstmTangents<T>>;

// A chunk's working memory and its share of the gradients, which are summed in the chunks' order.
template <class T>
struct ChunkScratch {
  ChunkScratch(const PackedLayout<T>& layout, int64_t rows, Arena<T>& arena)
      : lstm(layout, rows, arena) {
    gradient = arena.take(layout.dense);
    film_gradient = arena.take(2 * layout.steps * layout.bands);
  }
  LstmScratch<T> lstm;
  T* gradient;
  T* film_gradient;
};
template <class T>
struct NoHead {
  NoHead(const PackedLayout<T>&, int64_t, Arena<T>&) {}
};
template <class T>
using NetworkScratch = Parts<T, NoHead<T>, ChunkScratch<T>>;

// Runs body(chunk index) over the chunks of a batch.
template <class Body>
inline void for_each_chunk(int64_t batch, const Parallel& parallel, const Body& body) {
  const int64_t chunks = chunk_count(batch);
  if (chunks == 1)
    body(0);
  else
    parallel.run(
        chunks, [](void* context, int64_t index) { (*static_cast<const Body*>(context))(index); },
        const_cast<Body*>(&body));
}

// Hands hd_T of a chunk, or its tangent, [count][row], to the head's padded rows [count][wide].
template <class T>
inline void hidden_to_head(const PackedLayout<T>& layout, int64_t count, const T* hidden, T* head) {
  for (int64_t r = 0; r < count; ++r, hidden += layout.row, head += layout.wide) {
    copy(layout.padded, hidden, head);
    fill<T>(layout.wide - layout.padded, 0, head + layout.padded);
  }
}

template <class T>
inline void network_forward(const PackedLayout<T>& layout, const Batch<T>& batch, const T* packed,
                            const NetworkTape<T>& tape, T* logits, T* batch_mean, T* batch_variance,
                            const Parallel& parallel) {
  const int64_t series = layout.steps * layout.bands;
  for_each_chunk(batch.size, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(batch.size, index);
    const LstmTape<T> chunk = tape.chunk(index);
    lstm_forward(layout, rows.count, batch.x + rows.begin * series, batch.film, batch.film + series,
                 batch.mask == nullptr ? nullptr : batch.mask + rows.begin * layout.hidden, packed,
                 chunk);
    hidden_to_head<T>(layout, rows.count,
                      chunk.hidden + (layout.steps - 1) * rows.count * layout.row,
                      tape.head.normal + rows.begin * layout.wide);
  });
  head_forward(layout, batch.size, packed, batch.film + 2 * series, batch.batch_statistics,
               batch.running_mean, batch.running_variance, tape.head, logits, batch_mean,
               batch_variance);
}

// Sums the chunks' shares, in order, into the packed gradient's LSTM part and the input FiLM's
// gradient.
template <class T>
inline void sum_chunks(const PackedLayout<T>& layout, int64_t batch,
                       const NetworkScratch<T>& scratch, T* gradient, T* film_gradient) {
  const int64_t film = 2 * layout.steps * layout.bands;
  const ChunkScratch<T> first = scratch.chunk(0);
  copy(layout.dense, first.gradient, gradient);
  copy(film, first.film_gradient, film_gradient);
  for (int64_t index = 1; index < chunk_count(batch); ++index) {
    const ChunkScratch<T> chunk = scratch.chunk(index);
    for (int64_t at = 0; at < layout.dense; ++at) gradient[at] += chunk.gradient[at];
    for (int64_t at = 0; at < film; ++at) film_gradient[at] += chunk.film_gradient[at];
  }
}

// A single chunk's share goes straight to its place; of several, each has its own.
template <class T>
inline T* chunk_target(int64_t batch, T* share, T* place) {
  return chunk_count(batch) == 1 ? place : share;
}

// adjoints.head.logits holds the cotangent on entry. gradient is packed, film_gradient flat.
template <class T>
inline void network_backward(const PackedLayout<T>& layout, const Batch<T>& batch,
                             const Weights<T>& weights, const NetworkTape<T>& tape,
                             const NetworkAdjoints<T>& adjoints, const NetworkScratch<T>& scratch,
                             T* gradient, T* film_gradient, const Parallel& parallel) {
  const int64_t series = layout.steps * layout.bands;
  head_backward(layout, batch.size, weights, batch.batch_statistics, tape.head, adjoints.head,
                gradient, film_gradient + 2 * series);
  for_each_chunk(batch.size, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(batch.size, index);
    const ChunkScratch<T> mine = scratch.chunk(index);
    T* film = chunk_target(batch.size, mine.film_gradient, film_gradient);
    fill<T>(2 * series, 0, film);
    lstm_backward(layout, rows.count, batch.x + rows.begin * series, batch.film,
                  batch.film + series, weights, tape.chunk(index),
                  adjoints.head.before_norm + rows.begin * layout.wide, layout.wide,
                  adjoints.chunk(index), mine.lstm,
                  chunk_target(batch.size, mine.gradient, gradient), film, film + series);
  });
  if (chunk_count(batch.size) > 1) sum_chunks(layout, batch.size, scratch, gradient, film_gradient);
}

// A direction in packed weights and their transposes, FiLM (flat or null) and x (or null).
template <class T>
struct Direction {
  Weights<T> weights;
  const T* film;
  const T* x;

  LstmDirection<T> of_lstm(const PackedLayout<T>& layout, const Rows& rows) const {
    const int64_t series = layout.steps * layout.bands;
    return {.weights = weights,
            .gamma = film,
            .beta = film == nullptr ? nullptr : film + series,
            .x = x == nullptr ? nullptr : x + rows.begin * series};
  }
};

template <class T>
inline void network_tangent_forward(const PackedLayout<T>& layout, const Batch<T>& batch,
                                    const T* packed, const NetworkTape<T>& tape,
                                    const Direction<T>& direction,
                                    const NetworkTangents<T>& tangents, T* logits_dot,
                                    const Parallel& parallel) {
  const int64_t series = layout.steps * layout.bands;
  for_each_chunk(batch.size, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(batch.size, index);
    const LstmTangents<T> mine = tangents.chunk(index);
    lstm_tangent_forward(layout, rows.count, batch.x + rows.begin * series, batch.film, packed,
                         tape.chunk(index), direction.of_lstm(layout, rows), mine);
    hidden_to_head<T>(layout, rows.count,
                      mine.hidden + (layout.steps - 1) * rows.count * layout.row,
                      tangents.head.normal + rows.begin * layout.wide);
  });
  head_tangent_forward(layout, batch.size, packed, direction.weights.packed,
                       direction.film == nullptr ? nullptr : direction.film + 2 * series,
                       batch.batch_statistics, tape.head, tangents.head, logits_dot);
}

// cotangent_dot [B]: the tangent of the logits' cotangent, or null = 0.
template <class T>
inline void network_tangent_backward(const PackedLayout<T>& layout, const Batch<T>& batch,
                                     const Weights<T>& weights, const NetworkTape<T>& tape,
                                     const NetworkAdjoints<T>& adjoints,
                                     const Direction<T>& direction,
                                     const NetworkTangents<T>& tangents, const T* cotangent_dot,
                                     const NetworkScratch<T>& scratch, T* gradient_dot,
                                     T* film_gradient_dot, const Parallel& parallel) {
  const int64_t series = layout.steps * layout.bands;
  head_tangent_backward(layout, batch.size, weights, direction.weights, batch.batch_statistics,
                        tape.head, adjoints.head, tangents.head, cotangent_dot, gradient_dot,
                        film_gradient_dot + 2 * series);
  for_each_chunk(batch.size, parallel, [&](int64_t index) {
    const Rows rows = chunk_rows(batch.size, index);
    const ChunkScratch<T> mine = scratch.chunk(index);
    T* film = chunk_target(batch.size, mine.film_gradient, film_gradient_dot);
    fill<T>(2 * series, 0, film);
    lstm_tangent_backward(
        layout, rows.count, batch.x + rows.begin * series, batch.film, batch.film + series, weights,
        tape.chunk(index), adjoints.chunk(index), direction.of_lstm(layout, rows),
        tangents.chunk(index), tangents.head.first + rows.begin * layout.wide, layout.wide,
        mine.lstm, chunk_target(batch.size, mine.gradient, gradient_dot), film, film + series);
  });
  if (chunk_count(batch.size) > 1)
    sum_chunks(layout, batch.size, scratch, gradient_dot, film_gradient_dot);
}

}  // namespace
}  // namespace timl
