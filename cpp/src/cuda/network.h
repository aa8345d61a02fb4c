// The passes of one network: what they are made of, and the kernels that run them by themselves.
//
// The LSTM runs on a cluster for each chunk of rows, the head, which sums over rows, on one
// cluster, and the gradients of the LSTM's weights, whose elements are independent, on the whole
// grid. The meta-step (meta_step.h) runs the same functions on one cluster for each task.
#pragma once

#include "head.h"
#include "start.h"

namespace timl {
namespace {

// The LSTM's and the head's parts of a tape, of adjoints or of tangents.
template <class T, class Lstm, class Head>
struct Parts {
  TIML_HOST_DEVICE Parts(const Layout& layout, int64_t batch, T* memory)
      : arena(memory), lstm(layout, batch, arena), head(layout, batch, arena) {}
  TIML_HOST_DEVICE static int64_t size(const Layout& layout, int64_t batch) {
    return Parts(layout, batch, nullptr).arena.used();
  }
  Arena<T> arena;
  Lstm lstm;
  Head head;
};
template <class T>
using NetworkTape = Parts<T, LstmTape<T>, HeadTape<T>>;
template <class T>
using NetworkAdjoints = Parts<T, LstmAdjoints<T>, HeadAdjoints<T>>;
template <class T>
using NetworkTangents = Parts<T, LstmTangents<T>, HeadTangents<T>>;

// A pass.
template <class T>
struct Pass {
  Layout layout;
  Batch<T> batch;
  Weights<T> weights;
  // What forward keeps and returns.
  T* tape;
  T* logits;  // [B,K]
  Statistics<T> statistics;
  States<T> states;  // where the LSTM stands alone (film_lstm.h), which it does if K = 0
  // What backward takes besides, keeps and returns.
  const T* cotangent;                // [B,K]
  States<const T> states_cotangent;  // where the LSTM stands alone
  T* adjoints;
  T *gradient, *film_gradient;  // [P], [Phi]
  T* x_gradient;                // [B,T,F] or null
  // What the tangent takes besides and works in; it returns its results where forward and backward
  // return theirs.
  Direction<T> direction;
  const T* cotangent_dot;  // [B,K] or null
  T* tangents;

  __device__ NetworkTape<T> tape_parts() const { return {layout, batch.size, tape}; }
  __device__ NetworkAdjoints<T> adjoint_parts() const { return {layout, batch.size, adjoints}; }
  __device__ NetworkTangents<T> tangent_parts() const { return {layout, batch.size, tangents}; }
};

constexpr int64_t kChunk = 40;  // rows of a cluster: whole tiles
inline int64_t chunk_count(int64_t batch) { return (batch + kChunk - 1) / kChunk; }

// The `chunk`-th of the chunks of so many rows.
__device__ inline Range chunk_of(int64_t batch, int64_t chunk_rows, int64_t chunk) {
  const int64_t begin = chunk * chunk_rows;
  return {begin, begin + chunk_rows < batch ? begin + chunk_rows : batch};
}

#define TIML_KERNEL  \
  template <class T> \
  __global__ void __launch_bounds__(kMostThreads, 1)

// The parts of a pass. Not inlined: a kernel has the code of each once, wherever it calls it.
#define TIML_PART    \
  template <class T> \
  TIML_NOT_INLINED __device__ void

TIML_PART lstm_forward_part(const Team& team, const Pass<T>& p, const Range& rows, bool staged) {
  lstm_forward(team, p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm, p.states);
}

TIML_PART head_forward_part(const Team& team, const Pass<T>& p) {
  const NetworkTape<T> tape = p.tape_parts();
  head_forward(team, p.layout, p.batch, p.weights,
               static_cast<const T*>(last_hidden(p.layout, p.batch.size, tape.lstm.hidden)),
               tape.head, p.logits, p.statistics);
}

TIML_PART head_backward_part(const Team& team, const Pass<T>& p) {
  head_backward(team, p.layout, p.batch, p.weights, p.tape_parts().head, p.adjoint_parts().head,
                p.gradient, p.film_gradient);
}

TIML_PART lstm_backward_part(const Team& team, const Pass<T>& p, const Range& rows, bool staged) {
  const NetworkAdjoints<T> adjoints = p.adjoint_parts();
  const States<const T> of_head = {adjoints.head.before_norm, false};
  lstm_backward(team, p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm,
                p.layout.outputs > 0 ? of_head : p.states_cotangent, adjoints.lstm);
}

TIML_PART lstm_weight_gradients_part(const Team& team, const Pass<T>& p) {
  lstm_weight_gradients(team, p.layout, p.batch.size, p.weights, p.tape_parts().lstm,
                        p.adjoint_parts().lstm, p.gradient);
}

TIML_PART input_gradients_part(const Team& team, const Pass<T>& p) {
  input_gradients(team, p.layout, p.batch, p.adjoint_parts().lstm, p.film_gradient, p.x_gradient);
}

TIML_PART lstm_tangent_forward_part(const Team& team, const Pass<T>& p, const Range& rows,
                                    bool staged) {
  lstm_tangent_forward(team, p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm,
                       p.direction, p.tangent_parts().lstm, p.states);
}

TIML_PART head_tangent_forward_part(const Team& team, const Pass<T>& p) {
  const NetworkTangents<T> tangents = p.tangent_parts();
  head_tangent_forward(
      team, p.layout, p.batch, p.weights, p.tape_parts().head, p.direction,
      static_cast<const T*>(last_hidden(p.layout, p.batch.size, tangents.lstm.hidden)),
      tangents.head, p.logits);
}

TIML_PART head_tangent_backward_part(const Team& team, const Pass<T>& p) {
  head_tangent_backward(team, p.layout, p.batch, p.weights, p.tape_parts().head,
                        p.adjoint_parts().head, p.direction, p.tangent_parts().head,
                        p.cotangent_dot, p.gradient, p.film_gradient);
}

TIML_PART lstm_tangent_backward_part(const Team& team, const Pass<T>& p, const Range& rows,
                                     bool staged) {
  const NetworkTangents<T> tangents = p.tangent_parts();
  lstm_tangent_backward(
      team, p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm, p.adjoint_parts().lstm,
      p.direction, tangents.lstm,
      static_cast<const T*>(p.layout.outputs > 0 ? tangents.head.arriving : nullptr));
}

TIML_PART lstm_weight_tangents_part(const Team& team, const Pass<T>& p) {
  lstm_weight_tangents(team, p.layout, p.batch.size, p.weights, p.tape_parts().lstm,
                       p.adjoint_parts().lstm, p.direction, p.tangent_parts().lstm, p.gradient);
}

TIML_PART input_tangents_part(const Team& team, const Pass<T>& p) {
  input_tangents(team, p.layout, p.batch, p.adjoint_parts().lstm, p.direction,
                 p.tangent_parts().lstm, p.film_gradient, p.x_gradient);
}

TIML_KERNEL transpose_kernel(Layout layout, const T* flat, T* transposed) {
  write_weights<T>(grid_team(), layout, nullptr, transposed,
                   [&](int64_t i, int64_t) { return flat[i]; });
}

// A part for each chunk of rows, on a cluster.
TIML_KERNEL lstm_forward_kernel(Pass<T> p, int64_t chunk_rows, bool staged) {
  lstm_forward_part(cluster_team(), p, chunk_of(p.batch.size, chunk_rows, cluster_index()), staged);
}
TIML_KERNEL lstm_backward_kernel(Pass<T> p, int64_t chunk_rows, bool staged) {
  lstm_backward_part(cluster_team(), p, chunk_of(p.batch.size, chunk_rows, cluster_index()),
                     staged);
}
TIML_KERNEL lstm_tangent_forward_kernel(Pass<T> p, int64_t chunk_rows, bool staged) {
  lstm_tangent_forward_part(cluster_team(), p, chunk_of(p.batch.size, chunk_rows, cluster_index()),
                            staged);
}
TIML_KERNEL lstm_tangent_backward_kernel(Pass<T> p, int64_t chunk_rows, bool staged) {
  lstm_tangent_backward_part(cluster_team(), p, chunk_of(p.batch.size, chunk_rows, cluster_index()),
                             staged);
}

TIML_KERNEL head_forward_kernel(Pass<T> p) { head_forward_part(cluster_team(), p); }
TIML_KERNEL head_backward_kernel(Pass<T> p) {
  const Team team = cluster_team();
  T* const logits = p.adjoint_parts().head.logits;
  for_each(team, p.batch.size * p.layout.outputs, [&](int64_t i) { logits[i] = p.cotangent[i]; });
  team.sync();
  head_backward_part(team, p);
}
TIML_KERNEL head_tangent_forward_kernel(Pass<T> p) { head_tangent_forward_part(cluster_team(), p); }
TIML_KERNEL head_tangent_backward_kernel(Pass<T> p) {
  head_tangent_backward_part(cluster_team(), p);
}

TIML_KERNEL lstm_weight_gradients_kernel(Pass<T> p) { lstm_weight_gradients_part(grid_team(), p); }
TIML_KERNEL lstm_weight_tangents_kernel(Pass<T> p) { lstm_weight_tangents_part(grid_team(), p); }
TIML_KERNEL input_gradients_kernel(Pass<T> p) { input_gradients_part(grid_team(), p); }
TIML_KERNEL input_tangents_kernel(Pass<T> p) { input_tangents_part(grid_team(), p); }

// Elements of shared memory that the LSTM's passes take for so many rows, and their tangents.
template <class T>
int64_t forward_room(const Layout& layout, int64_t blocks, int64_t rows) {
  return ForwardRoom<T>(layout, blocks, rows, Arena<T>(nullptr)).used;
}
template <class T>
int64_t backward_room(const Layout& layout, int64_t blocks, int64_t rows) {
  return BackwardRoom<T>(layout, blocks, rows, false, Arena<T>(nullptr)).used;
}
template <class T>
int64_t tangent_forward_room(const Layout& layout, int64_t blocks, int64_t rows) {
  return TangentRoom<T>(layout, blocks, rows, Arena<T>(nullptr)).used;
}
template <class T>
int64_t tangent_backward_room(const Layout& layout, int64_t blocks, int64_t rows) {
  return BackwardRoom<T>(layout, blocks, rows, true, Arena<T>(nullptr)).used;
}

// Rows of a chunk: all there are, half of them and so on, until there are no more than kChunk and
// there is room for them; kChunk where there never is. room_of(rows) counts elements.
template <class T, class Room>
int64_t rows_of_chunk(const Start<T>& start, int64_t batch, const Room& room_of) {
  int64_t rows = batch;
  while (rows > kChunk || (rows > 1 && !start.has_room(room_of(rows)))) rows = (rows + 1) / 2;
  return start.has_room(room_of(rows)) ? rows : batch < kChunk ? batch : kChunk;
}

// A kernel of the LSTM, by a cluster for each chunk.
template <class T, class Room>
void on_chunks(Start<T>& start, const Pass<T>& pass, void (*kernel)(Pass<T>, int64_t, bool),
               const Room& room_of) {
  const auto room = [&](int64_t rows) { return room_of(pass.layout, start.plan().cluster, rows); };
  const int64_t rows = rows_of_chunk(start, pass.batch.size, room);
  start.on_clusters_with_room((pass.batch.size + rows - 1) / rows, room(rows), kernel, pass, rows);
}

// The LSTM's part of the passes.
template <class T>
void lstm_forward_pass(Start<T>& start, const Pass<T>& pass) {
  on_chunks(start, pass, lstm_forward_kernel<T>, forward_room<T>);
}
template <class T>
void lstm_backward_pass(Start<T>& start, const Pass<T>& pass) {
  on_chunks(start, pass, lstm_backward_kernel<T>, backward_room<T>);
  start.on_grid(lstm_weight_gradients_kernel<T>, pass);
  if (pass.film_gradient != nullptr || pass.x_gradient != nullptr)
    start.on_grid(input_gradients_kernel<T>, pass);
}
template <class T>
void lstm_tangent_forward_pass(Start<T>& start, const Pass<T>& pass) {
  on_chunks(start, pass, lstm_tangent_forward_kernel<T>, tangent_forward_room<T>);
}
template <class T>
void lstm_tangent_backward_pass(Start<T>& start, const Pass<T>& pass) {
  on_chunks(start, pass, lstm_tangent_backward_kernel<T>, tangent_backward_room<T>);
  start.on_grid(lstm_weight_tangents_kernel<T>, pass);
  if (pass.film_gradient != nullptr || pass.x_gradient != nullptr)
    start.on_grid(input_tangents_kernel<T>, pass);
}

template <class T>
void network_forward(Start<T>& start, const Pass<T>& pass) {
  lstm_forward_pass(start, pass);
  start.on_clusters(1, head_forward_kernel<T>, pass);
}

template <class T>
void network_backward(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters(1, head_backward_kernel<T>, pass);
  lstm_backward_pass(start, pass);
}

template <class T>
void network_tangent(Start<T>& start, const Pass<T>& pass) {
  lstm_tangent_forward_pass(start, pass);
  start.on_clusters(1, head_tangent_forward_kernel<T>, pass);
  start.on_clusters(1, head_tangent_backward_kernel<T>, pass);
  lstm_tangent_backward_pass(start, pass);
}

// Working memory of a cluster that evaluates: the LSTM's of two steps, the head's of a chunk.
template <class T>
struct EvaluateMemory {
  TIML_HOST_DEVICE EvaluateMemory(const Layout& layout, T* memory)
      : arena(memory), lstm(layout, kChunk, arena, false), head(layout, kChunk, arena) {}
  Arena<T> arena;
  LstmTape<T> lstm;
  HeadTape<T> head;
};

// Each cluster has a piece of the workspace and every cluster_count()-th chunk of rows.
TIML_KERNEL evaluate_kernel(Layout layout, Batch<T> all, Weights<T> weights, T* workspace,
                            int64_t piece, T* logits, bool staged) {
  const Team team = cluster_team();
  const EvaluateMemory<T> memory(layout, workspace + cluster_index() * piece);
  for (int64_t begin = cluster_index() * kChunk; begin < all.size;
       begin += cluster_count() * kChunk) {
    Batch<T> chunk = all;
    chunk.size = begin + kChunk < all.size ? kChunk : all.size - begin;
    chunk.x += begin * layout.series;
    lstm_forward<T, false>(team, layout, chunk, {0, chunk.size}, weights, staged, memory.lstm);
    const T* hidden = last_hidden(layout, chunk.size, memory.lstm.hidden, false);
    head_forward(team, layout, chunk, weights, hidden, memory.head, logits + begin * layout.outputs,
                 Statistics<T>{nullptr, nullptr});
    team.sync();  // memory may be written again
  }
}

}  // namespace
}  // namespace timl
