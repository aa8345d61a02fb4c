// The passes of one network, or of many tasks' networks of one shape at once: which kernels they
// are made of, and in which order.
//
// The LSTM runs on a cluster for each chunk of a task's rows, the head, which sums over rows, on
// one cluster for each task, and the gradients of the LSTM's weights, whose elements are
// independent, on the whole grid.
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
  static int64_t size(const Layout& layout, int64_t batch) {
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

// From one task's arrays to the next one's: of what is given, of the weights (0: shared by all
// tasks), and of everything else.
struct Strides {
  int64_t x = 0, film = 0, mask = 0, weights = 0, memory = 0;
};

// A pass of the first task; those of the others lie at strides.
template <class T>
struct Pass {
  Layout layout;
  int64_t tasks;
  Strides stride;
  Batch<T> batch;
  Weights<T> weights;
  // What forward keeps and returns.
  T* tape;
  T* logits;  // [B,K]
  Statistics<T> statistics;
  States<T> states;  // where the LSTM stands alone (film_lstm.h), which it does if K = 0
  // What backward takes besides, keeps and returns. cotangent may be null where it is already in
  // its place among the adjoints.
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

  __device__ Pass of_task(int64_t n) const {
    Pass p = *this;
    const auto move = [&](auto*& pointer, int64_t size) {
      if (pointer != nullptr) pointer += n * size;
    };
    move(p.batch.x, stride.x);
    move(p.batch.film, stride.film);
    move(p.batch.mask, stride.mask);
    move(p.weights.flat, stride.weights);
    move(p.weights.transposed, stride.weights);
    move(p.tape, stride.memory);
    move(p.logits, stride.memory);
    move(p.statistics.mean, stride.memory);
    move(p.statistics.variance, stride.memory);
    move(p.cotangent, stride.memory);
    move(p.adjoints, stride.memory);
    move(p.gradient, stride.memory);
    move(p.film_gradient, stride.memory);
    move(p.x_gradient, stride.memory);
    move(p.direction.weights.flat, stride.memory);
    move(p.direction.weights.transposed, stride.memory);
    move(p.cotangent_dot, stride.memory);
    move(p.tangents, stride.memory);
    return p;
  }
  __device__ NetworkTape<T> tape_parts() const { return {layout, batch.size, tape}; }
  __device__ NetworkAdjoints<T> adjoint_parts() const { return {layout, batch.size, adjoints}; }
  __device__ NetworkTangents<T> tangent_parts() const { return {layout, batch.size, tangents}; }
};

constexpr int64_t kChunk = 40;  // rows of a cluster: whole tiles
inline int64_t chunk_count(int64_t batch) { return (batch + kChunk - 1) / kChunk; }

// Which task and which of its rows a cluster has.
template <class T>
__device__ Pass<T> task_of_cluster(const Pass<T>& all, Range* rows) {
  const int64_t chunks = cluster_count() / all.tasks, chunk = cluster_index() % chunks;
  const int64_t begin = chunk * kChunk;
  *rows = {begin, begin + kChunk < all.batch.size ? begin + kChunk : all.batch.size};
  return all.of_task(cluster_index() / chunks);
}

// The blocks of the grid that have one of `tasks` tasks, and which.
__device__ inline Team task_team(int64_t tasks, int64_t* task) {
  Team team = grid_team();
  team.blocks /= static_cast<int>(tasks);
  *task = team.rank / team.blocks;
  team.rank %= team.blocks;
  return team;
}
template <class T>
__device__ Pass<T> task_of_blocks(const Pass<T>& all, Team* team) {
  int64_t task = 0;
  *team = task_team(all.tasks, &task);
  return all.of_task(task);
}

#define TIML_KERNEL  \
  template <class T> \
  __global__ void __launch_bounds__(kMostThreads)

TIML_KERNEL transpose_kernel(Layout layout, const T* flat, T* transposed) {
  write_weights<T>(grid_team(), layout, nullptr, transposed, [&](int64_t i) { return flat[i]; });
}

TIML_KERNEL lstm_forward_kernel(Pass<T> all, bool staged) {
  Range rows;
  const Pass<T> p = task_of_cluster(all, &rows);
  lstm_forward(cluster_team(), p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm,
               p.states);
}

TIML_KERNEL head_forward_kernel(Pass<T> all) {
  const Pass<T> p = all.of_task(cluster_index());
  const NetworkTape<T> tape = p.tape_parts();
  head_forward(cluster_team(), p.layout, p.batch, p.weights,
               static_cast<const T*>(last_hidden(p.layout, p.batch.size, tape.lstm.hidden)),
               tape.head, p.logits, p.statistics);
}

TIML_KERNEL head_backward_kernel(Pass<T> all) {
  const Team team = cluster_team();
  const Pass<T> p = all.of_task(cluster_index());
  const NetworkAdjoints<T> adjoints = p.adjoint_parts();
  if (p.cotangent != nullptr) {
    for_each(team, p.batch.size * p.layout.outputs,
             [&](int64_t i) { adjoints.head.logits[i] = p.cotangent[i]; });
    team.sync();
  }
  head_backward(team, p.layout, p.batch, p.weights, p.tape_parts().head, adjoints.head, p.gradient,
                p.film_gradient);
}

TIML_KERNEL lstm_backward_kernel(Pass<T> all, bool staged) {
  Range rows;
  const Pass<T> p = task_of_cluster(all, &rows);
  const NetworkAdjoints<T> adjoints = p.adjoint_parts();
  const States<const T> of_head = {adjoints.head.before_norm, false};
  lstm_backward(cluster_team(), p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm,
                p.layout.outputs > 0 ? of_head : p.states_cotangent, adjoints.lstm);
}

TIML_KERNEL lstm_weight_gradients_kernel(Pass<T> all) {
  Team team;
  const Pass<T> p = task_of_blocks(all, &team);
  lstm_weight_gradients(team, p.layout, p.batch.size, p.weights, p.tape_parts().lstm,
                        p.adjoint_parts().lstm, p.gradient);
}

TIML_KERNEL input_gradients_kernel(Pass<T> all) {
  Team team;
  const Pass<T> p = task_of_blocks(all, &team);
  input_gradients(team, p.layout, p.batch, p.adjoint_parts().lstm, p.film_gradient, p.x_gradient);
}

TIML_KERNEL lstm_tangent_forward_kernel(Pass<T> all, bool staged) {
  Range rows;
  const Pass<T> p = task_of_cluster(all, &rows);
  lstm_tangent_forward(cluster_team(), p.layout, p.batch, rows, p.weights, staged,
                       p.tape_parts().lstm, p.direction, p.tangent_parts().lstm, p.states);
}

TIML_KERNEL head_tangent_forward_kernel(Pass<T> all) {
  const Pass<T> p = all.of_task(cluster_index());
  const NetworkTangents<T> tangents = p.tangent_parts();
  head_tangent_forward(
      cluster_team(), p.layout, p.batch, p.weights, p.tape_parts().head, p.direction,
      static_cast<const T*>(last_hidden(p.layout, p.batch.size, tangents.lstm.hidden)),
      tangents.head, p.logits);
}

TIML_KERNEL head_tangent_backward_kernel(Pass<T> all) {
  const Pass<T> p = all.of_task(cluster_index());
  head_tangent_backward(cluster_team(), p.layout, p.batch, p.weights, p.tape_parts().head,
                        p.adjoint_parts().head, p.direction, p.tangent_parts().head,
                        p.cotangent_dot, p.gradient, p.film_gradient);
}

TIML_KERNEL lstm_tangent_backward_kernel(Pass<T> all, bool staged) {
  Range rows;
  const Pass<T> p = task_of_cluster(all, &rows);
  const NetworkTangents<T> tangents = p.tangent_parts();
  lstm_tangent_backward(
      cluster_team(), p.layout, p.batch, rows, p.weights, staged, p.tape_parts().lstm,
      p.adjoint_parts().lstm, p.direction, tangents.lstm,
      static_cast<const T*>(p.layout.outputs > 0 ? tangents.head.arriving : nullptr));
}

TIML_KERNEL lstm_weight_tangents_kernel(Pass<T> all) {
  Team team;
  const Pass<T> p = task_of_blocks(all, &team);
  lstm_weight_tangents(team, p.layout, p.batch.size, p.weights, p.tape_parts().lstm,
                       p.adjoint_parts().lstm, p.direction, p.tangent_parts().lstm, p.gradient);
}

TIML_KERNEL input_tangents_kernel(Pass<T> all) {
  Team team;
  const Pass<T> p = task_of_blocks(all, &team);
  input_tangents(team, p.layout, p.batch, p.adjoint_parts().lstm, p.direction,
                 p.tangent_parts().lstm, p.film_gradient, p.x_gradient);
}

// The LSTM's part of the passes.
template <class T>
void lstm_forward_pass(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters_with_slices(pass.tasks * chunk_count(pass.batch.size),
                                forward_slices(pass.layout, start.plan().cluster),
                                lstm_forward_kernel<T>, pass);
}
template <class T>
void lstm_backward_pass(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters_with_slices(pass.tasks * chunk_count(pass.batch.size),
                                backward_slices(pass.layout, start.plan().cluster),
                                lstm_backward_kernel<T>, pass);
  start.on_grid(pass.tasks, lstm_weight_gradients_kernel<T>, pass);
  if (pass.film_gradient != nullptr || pass.x_gradient != nullptr)
    start.on_grid(pass.tasks, input_gradients_kernel<T>, pass);
}
template <class T>
void lstm_tangent_forward_pass(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters_with_slices(pass.tasks * chunk_count(pass.batch.size),
                                2 * forward_slices(pass.layout, start.plan().cluster),
                                lstm_tangent_forward_kernel<T>, pass);
}
template <class T>
void lstm_tangent_backward_pass(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters_with_slices(pass.tasks * chunk_count(pass.batch.size),
                                2 * backward_slices(pass.layout, start.plan().cluster),
                                lstm_tangent_backward_kernel<T>, pass);
  start.on_grid(pass.tasks, lstm_weight_tangents_kernel<T>, pass);
  if (pass.film_gradient != nullptr || pass.x_gradient != nullptr)
    start.on_grid(pass.tasks, input_tangents_kernel<T>, pass);
}

template <class T>
void network_forward(Start<T>& start, const Pass<T>& pass) {
  lstm_forward_pass(start, pass);
  start.on_clusters(pass.tasks, head_forward_kernel<T>, pass);
}

template <class T>
void network_backward(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters(pass.tasks, head_backward_kernel<T>, pass);
  lstm_backward_pass(start, pass);
}

template <class T>
void network_tangent_forward(Start<T>& start, const Pass<T>& pass) {
  lstm_tangent_forward_pass(start, pass);
  start.on_clusters(pass.tasks, head_tangent_forward_kernel<T>, pass);
}

template <class T>
void network_tangent_backward(Start<T>& start, const Pass<T>& pass) {
  start.on_clusters(pass.tasks, head_tangent_backward_kernel<T>, pass);
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
