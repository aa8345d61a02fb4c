// The LSTM alone: the passes of network.h without a head, whose tape, adjoints and tangents are the
// LSTM's, and evaluation without a tape.
#pragma once

#include "network.h"

namespace timl {
namespace {

// Elements that an LSTM's tape, adjoints or tangents take.
template <class T, class Lstm>
int64_t lstm_size(const FilmLstmShape& s, int64_t batch) {
  Arena<T> arena(nullptr);
  Lstm(Layout(s.network()), batch, arena);
  return arena.used();
}

template <class T>
Pass<T> pass_of(const FilmLstmInput<T>& in) {
  Pass<T> pass = {};
  pass.layout = Layout(in.shape.network());
  pass.batch.size = in.batch;
  pass.batch.x = in.x;
  pass.batch.film = in.film;
  pass.batch.mask = in.mask;
  pass.weights.flat = in.weights;
  return pass;
}
template <class T>
void set_gradients(const FilmLstmGradient<T>& out, Pass<T>* pass) {
  pass->gradient = out.weights;
  pass->film_gradient = out.film;
  pass->x_gradient = out.x;
}

// The transposes of weights and of a direction, and the tangents.
template <class T>
struct FilmLstmTangentMemory {
  FilmLstmTangentMemory(const FilmLstmShape& s, int64_t batch, T* memory) : arena(memory) {
    transposed = arena.take(Layout(s.network()).transposed_size);
    direction_transposed = arena.take(Layout(s.network()).transposed_size);
    tangents = arena.take(lstm_size<T, LstmTangents<T>>(s, batch));
  }
  Arena<T> arena;
  T *transposed, *direction_transposed, *tangents;
};

// The transposed weights, then a piece for each cluster: what a chunk needs of two steps.
template <class T>
struct FilmLstmEvaluateMemory {
  FilmLstmEvaluateMemory(const FilmLstmShape& s, T* memory) : arena(memory) {
    const Layout layout(s.network());
    transposed = arena.take(layout.transposed_size);
    pieces = memory == nullptr ? nullptr : memory + arena.used();
    Arena<T> of_cluster(nullptr);
    LstmTape<T>(layout, kChunk, of_cluster, false);
    piece = of_cluster.used();
  }
  int64_t size(const cuda::Plan& plan) const { return arena.used() + plan.clusters * piece; }
  Arena<T> arena;
  T *transposed, *pieces;
  int64_t piece;
};

// Each cluster has a piece of the workspace and every cluster_count()-th chunk of rows.
TIML_KERNEL film_lstm_evaluate_kernel(Layout layout, Batch<T> all, Weights<T> weights, T* pieces,
                                      int64_t piece, States<T> states, bool staged) {
  const Team team = cluster_team();
  Arena<T> arena(pieces + cluster_index() * piece);
  const LstmTape<T> memory(layout, kChunk, arena, false);
  const int64_t steps = states.every_step ? layout.steps : 1;  // that are wanted
  for (int64_t begin = cluster_index() * kChunk; begin < all.size;
       begin += cluster_count() * kChunk) {
    Batch<T> chunk = all;
    chunk.size = begin + kChunk < all.size ? kChunk : all.size - begin;
    chunk.x += begin * layout.series;
    if (all.mask != nullptr) chunk.mask += begin * layout.hidden;
    const States<T> mine = {states.values + begin * steps * layout.hidden, states.every_step};
    lstm_forward<T, false>(team, layout, chunk, {0, chunk.size}, weights, staged, memory, mine);
  }
}

}  // namespace

namespace cuda {

template <class T>
int64_t film_lstm_tape_size(const FilmLstmShape& s, int64_t batch) {
  return lstm_size<T, LstmTape<T>>(s, batch);
}

template <class T>
int64_t film_lstm_adjoint_size(const FilmLstmShape& s, int64_t batch) {
  return lstm_size<T, LstmAdjoints<T>>(s, batch);
}

template <class T>
int64_t film_lstm_forward_workspace(const FilmLstmShape& s) {
  return Layout(s.network()).transposed_size;
}

template <class T>
int64_t film_lstm_tangent_workspace(const FilmLstmShape& s, int64_t batch) {
  return FilmLstmTangentMemory<T>(s, batch, nullptr).arena.used();
}

template <class T>
int64_t film_lstm_evaluate_workspace(const FilmLstmShape& s, const Plan& plan) {
  return FilmLstmEvaluateMemory<T>(s, nullptr).size(plan);
}

template <class T>
const char* film_lstm_forward(const Plan& plan, const FilmLstmInput<T>& in, T* states, T* tape,
                              T* workspace) {
  Pass<T> pass = pass_of(in);
  pass.weights.transposed = workspace;
  pass.tape = tape;
  pass.states = {states, in.shape.every_step};
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, pass.layout, in.weights, workspace);
  lstm_forward_pass(start, pass);
  return start.trouble();
}

template <class T>
const char* film_lstm_backward(const Plan& plan, const FilmLstmInput<T>& in, const T* cotangent,
                               const T* tape, const FilmLstmGradient<T>& out, T* adjoints) {
  Pass<T> pass = pass_of(in);
  pass.states_cotangent = {cotangent, in.shape.every_step};
  pass.tape = const_cast<T*>(tape);
  pass.adjoints = adjoints;
  set_gradients(out, &pass);
  Start<T> start(plan);
  lstm_backward_pass(start, pass);
  return start.trouble();
}

template <class T>
const char* film_lstm_tangent(const Plan& plan, const FilmLstmInput<T>& in, const T* tape,
                              const T* adjoints, const FilmLstmDirection<T>& along,
                              T* states_tangent, const FilmLstmGradient<T>& out, T* workspace) {
  const FilmLstmTangentMemory<T> memory(in.shape, in.batch, workspace);
  Pass<T> pass = pass_of(in);
  pass.weights.transposed = memory.transposed;
  pass.direction = {.weights = {.flat = along.weights, .transposed = memory.direction_transposed},
                    .film = along.film,
                    .x = along.x};
  pass.tape = const_cast<T*>(tape);
  pass.adjoints = const_cast<T*>(adjoints);
  pass.tangents = memory.tangents;
  pass.states = {states_tangent, in.shape.every_step};
  set_gradients(out, &pass);
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, pass.layout, in.weights, memory.transposed);
  start.on_grid(transpose_kernel<T>, pass.layout, along.weights, memory.direction_transposed);
  lstm_tangent_forward_pass(start, pass);
  lstm_tangent_backward_pass(start, pass);
  return start.trouble();
}

template <class T>
const char* film_lstm_evaluate(const Plan& plan, const FilmLstmInput<T>& in, T* states,
                               T* workspace) {
  const FilmLstmEvaluateMemory<T> memory(in.shape, workspace);
  const Pass<T> pass = pass_of(in);
  const int64_t chunks = chunk_count(in.batch);
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, pass.layout, in.weights, memory.transposed);
  start.on_clusters_with_room(chunks < plan.clusters ? chunks : plan.clusters,
                              forward_room<T>(pass.layout, plan.cluster, kChunk),
                              film_lstm_evaluate_kernel<T>, pass.layout, pass.batch,
                              Weights<T>{.flat = in.weights, .transposed = memory.transposed},
                              memory.pieces, memory.piece, States<T>{states, in.shape.every_step});
  return start.trouble();
}

}  // namespace cuda
}  // namespace timl
