// The meta-step of many tasks at once, each on a cluster: inner steps of gradient descent on
// support batches, the query's gradient, and its exact way back through every inner step
// (docs/explanation/meta-step.md).
#pragma once

#include "../common/loss.h"
#include "network.h"

namespace timl {
namespace {

// Memory of one task's meta-step. Weights and passes of every inner step are kept for the way back.
template <class T>
struct MetaMemory {
  MetaMemory(const Layout& layout, const MetaShape& m, T* memory) : arena(memory) {
    const bool back = m.order == 2;
    const int64_t kept = back ? m.inner_steps : 1;  // steps whose passes are kept
    const int64_t norms = (m.inner_steps + 1) * layout.layers * layout.hidden;
    loss = arena.take(1);
    support_loss = arena.take(m.inner_steps);
    query_logits = arena.take(m.query * layout.outputs);
    mean = arena.take(norms);
    variance = arena.take(norms);
    gradient = arena.take(layout.size);
    film_gradient = arena.take(layout.film);
    step_size_gradient = arena.take(m.inner_steps * layout.tensors);
    weights = arena.take(m.inner_steps * layout.stored);
    transposed = arena.take(m.inner_steps * layout.transposed_size);
    gradients = arena.take(m.inner_steps * layout.stored);
    film = arena.take(layout.film);
    logits = arena.take(m.support * layout.outputs);
    losses = arena.take(m.support > m.query ? m.support : m.query);
    curvatures = arena.take((m.inner_steps * m.support + m.query) * layout.outputs);
    direction = arena.take(back ? layout.size : 0);
    direction_transposed = arena.take(back ? layout.transposed_size : 0);
    product = arena.take(back ? layout.size : 0);
    cotangent_dot = arena.take(back ? m.support * layout.outputs : 0);
    tangents = arena.take(back ? NetworkTangents<T>::size(layout, m.support) : 0);
    query_tape = arena.take(NetworkTape<T>::size(layout, m.query));
    query_adjoints = arena.take(NetworkAdjoints<T>::size(layout, m.query));
    tape_size = NetworkTape<T>::size(layout, m.support);
    adjoint_size = NetworkAdjoints<T>::size(layout, m.support);
    tapes = arena.take(kept * tape_size);
    adjoints = arena.take(kept * adjoint_size);
    step_stride = back ? 1 : 0;
  }

  Arena<T> arena;
  T *loss, *support_loss, *query_logits;  // [1], [S], [Q,K]
  T *mean, *variance;                     // [S+1,L,H]
  T *gradient, *film_gradient;            // [P], [Phi] of the task's loss after adaptation
  T* step_size_gradient;                  // [S, tensors]
  T *weights, *transposed, *gradients;    // of w_(s+1), w_(s+1), g_s for each s
  T *film, *logits, *losses;
  T* curvatures;  // [S,B,K] of the support losses by their logits, then [Q,K] of the query's
  T *direction, *direction_transposed, *product;
  T* cotangent_dot;  // [B,K] tangent of the support loss's gradient by the logits
  T *tangents, *query_tape, *query_adjoints, *tapes, *adjoints;
  int64_t tape_size, adjoint_size, step_stride;
};

// What the meta-step of all tasks is given: arrays of `episodes` have those of one task after
// another.
template <class T>
struct MetaInput {
  Layout layout;
  MetaShape shape;
  int64_t tasks;
  Weights<T> base;      // that all tasks begin with
  const T* step_sizes;  // [S, tensors]
  Episode<T> episodes;
  MetaMemory<T> memory;  // of the first task; those of the others lie
  int64_t stride;        // so far apart
};

// A task at work.
template <class T>
struct MetaTask {
  // Its piece of memory where that of the first task is `first`.
  __device__ T* own(T* first) const { return first + n * in.stride; }

  // The pass at w_s, of the support batch of step s or, for s = S, of the query.
  TIML_NOT_INLINED __device__ Pass<T> pass(int64_t s) const {
    const Layout& layout = in.layout;
    const MetaMemory<T>& memory = in.memory;
    const MetaShape& m = in.shape;
    const Episode<T>& e = in.episodes;
    const bool query = s == m.inner_steps;
    const int64_t first = query ? n * m.query : (n * m.inner_steps + s) * m.support;  // row
    const int64_t kept = s * memory.step_stride, norm = layout.layers * layout.hidden;
    const T* const mask = query ? e.query_mask : e.support_mask;
    Pass<T> p = {};
    p.layout = layout;
    p.batch.size = query ? m.query : m.support;
    p.batch.x = (query ? e.query_x : e.support_x) + first * layout.series;
    p.batch.film = e.film + n * layout.film;
    p.batch.mask = mask == nullptr ? nullptr : mask + first * layout.hidden;
    p.batch.batch_statistics = true;
    p.weights = in.base;
    if (s > 0)
      p.weights = {.flat = own(memory.weights) + (s - 1) * layout.stored,
                   .transposed = own(memory.transposed) + (s - 1) * layout.transposed_size};
    p.statistics = {.mean = own(memory.mean) + s * norm,
                    .variance = own(memory.variance) + s * norm};
    p.tape = query ? own(memory.query_tape) : own(memory.tapes) + kept * memory.tape_size;
    p.adjoints =
        query ? own(memory.query_adjoints) : own(memory.adjoints) + kept * memory.adjoint_size;
    p.logits = query ? own(memory.query_logits) : own(memory.logits);
    p.gradient = query ? own(memory.gradient) : own(memory.gradients) + s * layout.stored;
    p.film_gradient = query ? own(memory.film_gradient) : own(memory.film);
    return p;
  }
  // That pass's labels [B] and class weights [K] or [2], or null.
  __device__ const T* labels(int64_t s) const {
    const MetaShape& m = in.shape;
    return s == m.inner_steps ? in.episodes.query_y + n * m.query
                              : in.episodes.support_y + (n * m.inner_steps + s) * m.support;
  }
  __device__ const T* class_weights() const {
    const T* const all = in.episodes.class_weights;
    return all == nullptr ? nullptr : all + n * (in.layout.outputs == 1 ? 2 : in.layout.outputs);
  }
  // Where its mean loss belongs.
  __device__ T* loss(int64_t s) const {
    return s == in.shape.inner_steps ? own(in.memory.loss) : own(in.memory.support_loss) + s;
  }
  // The curvature of that pass's loss [B,K].
  __device__ T* curvature(int64_t s) const {
    return own(in.memory.curvatures) + s * in.shape.support * in.layout.outputs;
  }
  __device__ const T* step_sizes(int64_t s) const { return in.step_sizes + s * in.layout.tensors; }

  const MetaInput<T>& in;
  int64_t n;
};

// The mean loss of a pass's batch (mean_loss in loss.h), with its gradient, which the team can read
// at once, and curvature [B,K]; losses [B] is working memory. Nobody has looked at the labels [B]:
// where one is no class, all is NaN.
TIML_PART batch_loss(const Team& team, const Pass<T>& p, const T* labels, const T* class_weights,
                     T* curvature, T* losses, T* out) {
  const int64_t batch = p.batch.size, outputs = p.layout.outputs,
                classes = outputs == 1 ? 2 : outputs;
  T* const gradient = p.adjoint_parts().head.logits;
  T count = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const T label = labels[b];
    const bool is_class =
        label >= T(kIgnoredLabel) && label < T(classes) && label == std::floor(label);
    count += is_class ? sample_weight(label, class_weights) : static_cast<T>(NAN);
  }
  for_each(team, batch, [&](int64_t b) {
    if (std::isnan(count)) {
      for (int64_t at = b * outputs; at < (b + 1) * outputs; ++at)
        gradient[at] = curvature[at] = count;
      losses[b] = count;
      return;
    }
    losses[b] = sample_loss(outputs, p.logits + b * outputs, labels[b],
                            sample_weight(labels[b], class_weights), count, gradient + b * outputs,
                            curvature + b * outputs);
  });
  team.sync();
  if (team.rank != 0 || team.thread != 0) return;
  T total = 0;
  for (int64_t b = 0; b < batch; ++b) total += losses[b];
  *out = count == T(0) ? T(0) : total * (T(1) / count);
}

// -<v, g> for each tensor: warps leave their sums in shared memory, and the first block of the
// cluster collects them in order.
TIML_PART step_size_gradients(const Team& team, const Layout& layout, const T* v, const T* gradient,
                              T* step_size_gradient) {
  const int warps = team.threads / kLanes, warp = team.thread / kLanes;
  for (int64_t begin = 0; begin < layout.tensors; begin += team.threads) {
    T* const sums = simt::shared_memory<T>();  // [tensors at once][warps]
    const int64_t left = layout.tensors - begin;
    const int at_once = static_cast<int>(left < team.threads ? left : team.threads);
    for (int i = 0; i < at_once; ++i) {
      const int64_t first = layout.begin(begin + i);
      const Range mine = team.share(layout.begin(begin + i + 1) - first);
      T sum = 0;
#pragma unroll 8
      for (int64_t at = first + mine.begin + team.thread; at < first + mine.end; at += team.threads)
        sum += v[at] * gradient[at];
      sum = sum_lanes(sum);
      if (team.thread % kLanes == 0) sums[i * warps + warp] = sum;
    }
    team.sync();
    if (team.rank == 0 && team.thread < at_once) {
      T total = 0;
      for (int block = 0; block < team.blocks; ++block) {
        const T* const theirs = simt::cluster_map(sums + team.thread * warps, block);
        for (int w = 0; w < warps; ++w) total += theirs[w];
      }
      step_size_gradient[begin + team.thread] = -total;
    }
    team.sync();  // `sums` may be written again
  }
}

// w_(s+1) = w_s - alpha g_s, in both orders of the weights.
TIML_PART descend(const Team& team, const Layout& layout, const T* step_sizes, const T* weights,
                  const T* gradient, T* next, T* next_transposed) {
  write_weights(team, layout, next, next_transposed, [&](int64_t i, int64_t tensor) {
    return weights[i] - step_sizes[tensor] * gradient[i];
  });
}

// The direction alpha v.
TIML_PART scale_by_step_sizes(const Team& team, const Layout& layout, const T* step_sizes,
                              const T* v, T* direction, T* direction_transposed) {
  write_weights(team, layout, direction, direction_transposed,
                [&](int64_t i, int64_t tensor) { return step_sizes[tensor] * v[i]; });
}

// The tangent of the loss's gradient along that of the logits, [B,K] each.
TIML_PART curvature_products(const Team& team, const Pass<T>& p, const T* curvature, T* out) {
  for_each(team, p.batch.size, [&](int64_t b) {
    const int64_t at = b * p.layout.outputs;
    sample_curvature_product(p.layout.outputs, curvature + at, p.logits + at, out + at);
  });
}

// v -= H alpha v, u -= C alpha v.
TIML_PART subtract(const Team& team, const Layout& layout, const T* product, const T* film, T* v,
                   T* u) {
  subtract_all(team, layout.size, product, v);
  subtract_all(team, layout.film, film, u);
}

// The LSTM of all rows of a pass, chunk after chunk.
template <class T>
__device__ __forceinline__ void for_chunks(const Team& team, const Pass<T>& p, int64_t chunk_rows,
                                           bool staged,
                                           void (*part)(const Team&, const Pass<T>&, const Range&,
                                                        bool)) {
  for (int64_t chunk = 0; chunk * chunk_rows < p.batch.size; ++chunk)
    part(team, p, chunk_of(p.batch.size, chunk_rows, chunk), staged);
  team.sync();
}

// All inner steps of a task, and the gradient of the query.
TIML_PART inner_steps_and_query(const Team& team, const MetaTask<T>& task, int64_t chunk_rows,
                                bool staged) {
  const Layout& layout = task.in.layout;
  const MetaShape& m = task.in.shape;
  const MetaMemory<T>& memory = task.in.memory;
  for (int64_t s = 0; s <= m.inner_steps; ++s) {
    const Pass<T> p = task.pass(s);
    for_chunks(team, p, chunk_rows, staged, lstm_forward_part<T>);
    head_forward_part(team, p);
    team.sync();
    batch_loss<T>(team, p, task.labels(s), task.class_weights(), task.curvature(s),
                  task.own(memory.losses), task.loss(s));
    if (m.order == 0 && s == m.inner_steps) return;
    head_backward_part(team, p);
    for_chunks(team, p, chunk_rows, staged, lstm_backward_part<T>);
    lstm_weight_gradients_part(team, p);
    team.sync();
    input_gradients_part(team, p);
    if (s < m.inner_steps)
      descend<T>(team, layout, task.step_sizes(s), p.weights.flat, p.gradient,
                 task.own(memory.weights) + s * layout.stored,
                 task.own(memory.transposed) + s * layout.transposed_size);
    team.sync();
  }
}

// The way back through the inner steps.
TIML_PART way_back(const Team& team, const MetaTask<T>& task, int64_t chunk_rows, bool staged) {
  const Layout& layout = task.in.layout;
  const MetaShape& m = task.in.shape;
  const MetaMemory<T>& memory = task.in.memory;
  for (int64_t s = m.inner_steps - 1; s >= 0; --s) {
    // w_(s+1) = w_s - alpha_s g_s(w_s): the step sizes see -<v, g_s>, tensor by tensor.
    step_size_gradients<T>(team, layout, task.own(memory.gradient),
                           task.own(memory.gradients) + s * layout.stored,
                           task.own(memory.step_size_gradient) + s * layout.tensors);
    if (m.order == 1) continue;
    scale_by_step_sizes<T>(team, layout, task.step_sizes(s), task.own(memory.gradient),
                           task.own(memory.direction), task.own(memory.direction_transposed));
    Pass<T> p = task.pass(s);
    p.direction.weights = {.flat = task.own(memory.direction),
                           .transposed = task.own(memory.direction_transposed)};
    p.tangents = task.own(memory.tangents);
    p.cotangent_dot = task.own(memory.cotangent_dot);
    p.gradient = task.own(memory.product);
    team.sync();
    for_chunks(team, p, chunk_rows, staged, lstm_tangent_forward_part<T>);
    head_tangent_forward_part(team, p);
    team.sync();
    curvature_products<T>(team, p, task.curvature(s), task.own(memory.cotangent_dot));
    team.sync();
    head_tangent_backward_part(team, p);
    for_chunks(team, p, chunk_rows, staged, lstm_tangent_backward_part<T>);
    lstm_weight_tangents_part(team, p);
    team.sync();
    input_tangents_part(team, p);
    team.sync();
    subtract<T>(team, layout, task.own(memory.product), task.own(memory.film),
                task.own(memory.gradient), task.own(memory.film_gradient));
    team.sync();
  }
}

// A cluster for each task, or as many as there are, each with one task after another.
TIML_KERNEL meta_step_kernel(MetaInput<T> in, int64_t chunk_rows, bool staged) {
  const Team team = cluster_team();
  for (int64_t n = cluster_index(); n < in.tasks; n += cluster_count()) {
    const MetaTask<T> task = {in, n};
    inner_steps_and_query(team, task, chunk_rows, staged);
    if (in.shape.order > 0) way_back(team, task, chunk_rows, staged);
    team.sync();  // shared memory may be written again
  }
}

// What tasks leave in their memory, to where the caller wants it: one after another, and for the
// gradients of the mean loss the means over tasks, summed in their order.
TIML_KERNEL results_kernel(MetaInput<T> in, cuda::MetaResult<T> results) {
  const Team team = grid_team();
  const Layout& layout = in.layout;
  const MetaShape& m = in.shape;
  const MetaMemory<T>& first = in.memory;
  const int64_t tasks = in.tasks, memory_stride = in.stride;
  const T scale = T(1) / static_cast<T>(tasks);
  const auto collect = [&](const T* values, int64_t size, T factor, T* out) {
    for_each(team, tasks * size,
             [&](int64_t i) { out[i] = factor * values[i / size * memory_stride + i % size]; });
  };
  const auto mean = [&](const T* values, int64_t size, T* out) {
    for_each(team, size, [&](int64_t i) {
      T sum = 0;
#pragma unroll 8
      for (int64_t n = 0; n < tasks; ++n) sum += values[n * memory_stride + i];
      out[i] = scale * sum;
    });
  };
  const int64_t norms = (m.inner_steps + 1) * layout.layers * layout.hidden;
  collect(first.loss, 1, T(1), results.loss);
  collect(first.support_loss, m.inner_steps, T(1), results.support_loss);
  collect(first.query_logits, m.query * layout.outputs, T(1), results.logits);
  collect(first.mean, norms, T(1), results.batch_mean);
  collect(first.variance, norms, T(1), results.batch_variance);
  if (m.order == 0) return;
  collect(first.film_gradient, layout.film, scale, results.film_gradient);
  mean(first.gradient, layout.size, results.weights_gradient);
  mean(first.step_size_gradient, m.inner_steps * layout.tensors, results.step_size_gradient);
}

// What the inner steps of one task have left in its memory, to where the caller wants it.
TIML_KERNEL adapted_kernel(MetaInput<T> in, AdaptResult<T> result) {
  const Team team = grid_team();
  const Layout& layout = in.layout;
  const int64_t inner_steps = in.shape.inner_steps, last = inner_steps - 1;
  const int64_t norms = inner_steps * layout.layers * layout.hidden;
  const auto copy_all = [&](const T* values, int64_t size, T* out) {
    for_each(team, size, [&](int64_t i) { out[i] = values[i]; });
  };
  copy_all(in.memory.weights + last * layout.stored, layout.size, result.weights);
  copy_all(in.memory.support_loss, inner_steps, result.support_loss);
  copy_all(in.memory.mean, norms, result.batch_mean);
  copy_all(in.memory.variance, norms, result.batch_variance);
}

// Elements of shared memory that a task's passes take for so many rows of a batch.
template <class T>
int64_t meta_room(const MetaShape& m, const Layout& layout, int64_t blocks, int64_t rows) {
  const int64_t forward = forward_room<T>(layout, blocks, rows);
  const int64_t backward = backward_room<T>(layout, blocks, rows);
  int64_t most = forward > backward ? forward : backward;
  if (m.order == 2) {
    const int64_t tangent_forward = tangent_forward_room<T>(layout, blocks, rows);
    const int64_t tangent_backward = tangent_backward_room<T>(layout, blocks, rows);
    most = tangent_forward > most ? tangent_forward : most;
    most = tangent_backward > most ? tangent_backward : most;
  }
  return most;
}

// All tasks' inner steps and what comes after them.
template <class T>
void start_meta_steps(Start<T>& start, const MetaInput<T>& in) {
  const MetaShape& m = in.shape;
  const auto room = [&](int64_t rows) {
    return meta_room<T>(m, in.layout, start.plan().cluster, rows);
  };
  const int64_t rows = rows_of_chunk(start, m.support > m.query ? m.support : m.query, room);
  const int64_t clusters = start.plan().clusters;
  start.on_clusters_with_room(in.tasks < clusters ? in.tasks : clusters, room(rows),
                              meta_step_kernel<T>, in, rows);
}

}  // namespace
}  // namespace timl
