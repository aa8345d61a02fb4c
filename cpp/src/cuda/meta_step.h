// The meta-step of many tasks at once: inner steps of gradient descent on support batches, the
// query's gradient, and its exact way back through every inner step
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
    weights = arena.take(m.inner_steps * layout.size);
    transposed = arena.take(m.inner_steps * layout.transposed_size);
    gradients = arena.take(m.inner_steps * layout.size);
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

// The mean loss of each task's batch (mean_loss in loss.h), with its gradient and curvature [B,K];
// losses [B] is working memory. Labels [B] and class weights lie label_stride and class_stride
// apart from task to task, everything else memory_stride. Nobody has looked at the labels: where
// one is no class, all is NaN.
TIML_KERNEL batch_loss_kernel(int64_t batch, int64_t outputs, const T* logits, const T* labels,
                              const T* class_weights, int64_t label_stride, int64_t class_stride,
                              int64_t memory_stride, T* gradient, T* curvature, T* losses, T* out) {
  const Team team = cluster_team();
  const int64_t n = cluster_index(), classes = outputs == 1 ? 2 : outputs;
  logits += n * memory_stride;
  gradient += n * memory_stride;
  curvature += n * memory_stride;
  losses += n * memory_stride;
  labels += n * label_stride;
  if (class_weights != nullptr) class_weights += n * class_stride;
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
    losses[b] = sample_loss(outputs, logits + b * outputs, labels[b],
                            sample_weight(labels[b], class_weights), count, gradient + b * outputs,
                            curvature + b * outputs);
  });
  team.sync();
  if (team.rank != 0 || team.thread != 0) return;
  T total = 0;
  for (int64_t b = 0; b < batch; ++b) total += losses[b];
  out[n * memory_stride] = count == T(0) ? T(0) : total * (T(1) / count);
}

// w_(s+1) = w_s - alpha g, in both orders of the weights.
TIML_KERNEL descend_kernel(Layout layout, int64_t tasks, Strides stride, const T* weights,
                           const T* step_sizes, const T* gradient, T* next, T* next_transposed) {
  int64_t n = 0;
  const Team team = task_team(tasks, &n);
  const int64_t memory = n * stride.memory;
  write_weights(team, layout, next + memory, next_transposed + memory, [&](int64_t i) {
    return weights[n * stride.weights + i] - step_sizes[layout.tensor_of(i)] * gradient[memory + i];
  });
}

// The direction alpha v.
TIML_KERNEL direction_kernel(Layout layout, int64_t tasks, int64_t memory_stride, const T* v,
                             const T* step_sizes, T* direction, T* direction_transposed) {
  int64_t n = 0;
  const Team team = task_team(tasks, &n);
  const int64_t memory = n * memory_stride;
  write_weights(team, layout, direction + memory, direction_transposed + memory,
                [&](int64_t i) { return step_sizes[layout.tensor_of(i)] * v[memory + i]; });
}

// -<v, g> for each tensor: warps leave their sums in shared memory, and the first block of the
// cluster collects them in order.
TIML_KERNEL step_size_gradient_kernel(Layout layout, int64_t memory_stride, const T* v,
                                      const T* gradient, T* step_size_gradient) {
  const Team team = cluster_team();
  T* const sums = simt::shared_memory<T>();  // [warps]
  const int64_t memory = cluster_index() * memory_stride;
  for (int64_t tensor = 0; tensor < layout.tensors; ++tensor) {
    const int64_t begin = memory + layout.begin(tensor);
    const Range mine = team.share(layout.begin(tensor + 1) - layout.begin(tensor));
    T sum = 0;
    for (int64_t i = mine.begin + team.thread; i < mine.end; i += team.threads)
      sum += v[begin + i] * gradient[begin + i];
    sum = sum_lanes(sum);
    if (team.thread % kLanes == 0) sums[team.thread / kLanes] = sum;
    team.sync();
    if (team.rank == 0 && team.thread == 0) {
      T total = 0;
      for (int block = 0; block < team.blocks; ++block) {
        const T* theirs = simt::cluster_map(sums, block);
        for (int warp = 0; warp < team.threads / kLanes; ++warp) total += theirs[warp];
      }
      step_size_gradient[memory + tensor] = -total;
    }
    team.sync();  // `sums` may be written again
  }
}

// The tangent of the loss's gradient along that of the logits, [B,K] each.
TIML_KERNEL curvature_product_kernel(int64_t tasks, int64_t batch, int64_t outputs,
                                     int64_t memory_stride, const T* curvature, const T* logits_dot,
                                     T* cotangent_dot) {
  int64_t n = 0;
  const Team team = task_team(tasks, &n);
  for_each(team, batch, [&](int64_t b) {
    const int64_t at = n * memory_stride + b * outputs;
    sample_curvature_product(outputs, curvature + at, logits_dot + at, cotangent_dot + at);
  });
}

// v -= H alpha v, u -= C alpha v.
TIML_KERNEL subtract_kernel(Layout layout, int64_t tasks, int64_t memory_stride, const T* product,
                            const T* film, T* v, T* u) {
  int64_t n = 0;
  const Team team = task_team(tasks, &n);
  const int64_t memory = n * memory_stride;
  for_each(team, layout.size, [&](int64_t i) { v[memory + i] -= product[memory + i]; });
  for_each(team, layout.film, [&](int64_t i) { u[memory + i] -= film[memory + i]; });
}

// What tasks leave in their memory, to where the caller wants it: one after another, and for the
// gradients of the mean loss the means over tasks, summed in their order.
TIML_KERNEL results_kernel(Layout layout, MetaShape m, int64_t tasks, int64_t memory_stride,
                           MetaMemory<T> first, cuda::MetaResult<T> results) {
  const Team team = grid_team();
  const T scale = T(1) / static_cast<T>(tasks);
  const auto collect = [&](const T* values, int64_t size, T factor, T* out) {
    for_each(team, tasks * size,
             [&](int64_t i) { out[i] = factor * values[i / size * memory_stride + i % size]; });
  };
  const auto mean = [&](const T* values, int64_t size, T* out) {
    for_each(team, size, [&](int64_t i) {
      T sum = 0;
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

// `base` are the shared weights; task_memory has a piece of first.arena.used() for each task.
template <class T>
void meta_step(Start<T>& start, const Layout& layout, const MetaShape& m, int64_t tasks,
               const Weights<T>& base, const T* step_sizes, const Episode<T>& episodes,
               const cuda::MetaResult<T>& results, T* task_memory) {
  const MetaMemory<T> memory(layout, m, task_memory);
  const int64_t stride = memory.arena.used(), support = m.inner_steps * m.support;
  const int64_t norm = layout.layers * layout.hidden;
  const int64_t classes = layout.outputs == 1 ? 2 : layout.outputs;
  // A pass at w_s, of the support batch of step s or, for s = S, of the query.
  const auto pass_of = [&](int64_t s) {
    const bool query = s == m.inner_steps;
    const T* mask = query ? episodes.query_mask : episodes.support_mask;
    Pass<T> pass = {};
    pass.layout = layout;
    pass.tasks = tasks;
    pass.stride = {.x = (query ? m.query : support) * layout.series,
                   .film = layout.film,
                   .mask = (query ? m.query : support) * layout.hidden,
                   .weights = s == 0 ? 0 : stride,
                   .memory = stride};
    pass.batch.size = query ? m.query : m.support;
    pass.batch.x = query ? episodes.query_x : episodes.support_x + s * m.support * layout.series;
    pass.batch.film = episodes.film;
    pass.batch.mask = query || mask == nullptr ? mask : mask + s * m.support * layout.hidden;
    pass.batch.batch_statistics = true;
    pass.weights = base;
    if (s > 0)
      pass.weights = {.flat = memory.weights + (s - 1) * layout.size,
                      .transposed = memory.transposed + (s - 1) * layout.transposed_size};
    pass.statistics = {.mean = memory.mean + s * norm, .variance = memory.variance + s * norm};
    pass.tape =
        query ? memory.query_tape : memory.tapes + s * memory.step_stride * memory.tape_size;
    pass.adjoints = query ? memory.query_adjoints
                          : memory.adjoints + s * memory.step_stride * memory.adjoint_size;
    pass.logits = query ? memory.query_logits : memory.logits;
    pass.gradient = query ? memory.gradient : memory.gradients + s * layout.size;
    pass.film_gradient = query ? memory.film_gradient : memory.film;
    return pass;
  };
  const auto curvature = [&](int64_t s) {
    return memory.curvatures + s * m.support * layout.outputs;
  };
  const auto loss = [&](const Pass<T>& pass, int64_t s, const T* labels, int64_t label_stride,
                        T* out) {
    start.on_clusters(tasks, batch_loss_kernel<T>, pass.batch.size, layout.outputs, pass.logits,
                      labels, episodes.class_weights, label_stride, classes, stride,
                      NetworkAdjoints<T>(layout, pass.batch.size, pass.adjoints).head.logits,
                      curvature(s), memory.losses, out);
  };

  for (int64_t s = 0; s < m.inner_steps; ++s) {
    const Pass<T> pass = pass_of(s);
    network_forward(start, pass);
    loss(pass, s, episodes.support_y + s * m.support, support, memory.support_loss + s);
    network_backward(start, pass);
    start.on_grid(tasks, descend_kernel<T>, layout, tasks, pass.stride, pass.weights.flat,
                  step_sizes + s * layout.tensors, pass.gradient, memory.weights + s * layout.size,
                  memory.transposed + s * layout.transposed_size);
  }
  const Pass<T> query = pass_of(m.inner_steps);
  network_forward(start, query);
  loss(query, m.inner_steps, episodes.query_y, m.query, memory.loss);
  if (m.order > 0) network_backward(start, query);
  for (int64_t s = m.inner_steps - 1; s >= 0 && m.order > 0; --s) {
    // w_(s+1) = w_s - alpha_s g_s(w_s): the step sizes see -<v, g_s>, tensor by tensor.
    start.on_clusters(tasks, step_size_gradient_kernel<T>, layout, stride, memory.gradient,
                      memory.gradients + s * layout.size,
                      memory.step_size_gradient + s * layout.tensors);
    if (m.order == 1) continue;
    start.on_grid(tasks, direction_kernel<T>, layout, tasks, stride, memory.gradient,
                  step_sizes + s * layout.tensors, memory.direction, memory.direction_transposed);
    Pass<T> pass = pass_of(s);
    pass.direction.weights = {.flat = memory.direction, .transposed = memory.direction_transposed};
    pass.tangents = memory.tangents;
    pass.cotangent_dot = memory.cotangent_dot;
    pass.gradient = memory.product;
    network_tangent_forward(start, pass);
    start.on_grid(tasks, curvature_product_kernel<T>, tasks, m.support, layout.outputs, stride,
                  curvature(s), memory.logits, memory.cotangent_dot);
    network_tangent_backward(start, pass);
    start.on_grid(tasks, subtract_kernel<T>, layout, tasks, stride, memory.product, memory.film,
                  memory.gradient, memory.film_gradient);
  }
  start.on_grid(1, results_kernel<T>, layout, m, tasks, stride, memory, results);
}

}  // namespace
}  // namespace timl
