// The meta-step of one task: inner steps of gradient descent on support batches, the query's
// gradient, and its exact way back through every inner step (docs/explanation/meta-step.md).
#pragma once

#include "../common/loss.h"
#include "network.h"

namespace timl {
namespace {

// Memory of one task's meta-step. Weights and passes of every inner step are kept for the way back;
// nothing here depends on how many meta-steps have run.
template <class T>
struct MetaMemory {
  MetaMemory(const PackedLayout<T>& layout, const MetaShape& m, T* memory) : arena(memory) {
    const bool back = m.order == 2;
    const int64_t kept = back ? m.inner_steps : 1;  // steps whose passes are kept
    const int64_t wider = m.support > m.query ? m.support : m.query;
    weights = arena.take(m.inner_steps * (layout.packed_size + layout.transposed_size));
    gradients = arena.take(m.inner_steps * layout.packed_size);
    tape_size = NetworkTape<T>::size(layout, m.support);
    adjoint_size = NetworkAdjoints<T>::size(layout, m.support);
    tapes = arena.take(kept * tape_size);
    adjoints = arena.take(kept * adjoint_size);
    query_tape = arena.take(NetworkTape<T>::size(layout, m.query));
    query_adjoints = arena.take(NetworkAdjoints<T>::size(layout, m.query));
    scratch = arena.take(NetworkScratch<T>::size(layout, wider));
    film = arena.take(film_size(m.network));
    logits = arena.take(wider * layout.outputs);
    curvatures = arena.take((m.inner_steps * m.support + m.query) * layout.outputs);
    if (back) {
      direction = arena.take(layout.packed_size + layout.transposed_size);
      product = arena.take(layout.packed_size);
      tangents = arena.take(NetworkTangents<T>::size(layout, m.support));
      cotangent_dot = arena.take(m.support * layout.outputs);
    }
    step_stride = back ? 1 : 0;
  }
  T* step_tape(int64_t s) const { return tapes + s * step_stride * tape_size; }
  T* step_adjoints(int64_t s) const { return adjoints + s * step_stride * adjoint_size; }

  Arena<T> arena;
  T *weights, *gradients, *tapes, *adjoints, *query_tape, *query_adjoints, *scratch, *film, *logits;
  T* curvatures;  // [S,B,K] of the support losses by their logits, then [Q,K] of the query's
  T *direction = nullptr, *product = nullptr, *tangents = nullptr;
  T* cotangent_dot = nullptr;  // [B,K] tangent of the support loss's gradient by the logits
  int64_t tape_size, adjoint_size, step_stride;
};

template <class T>
inline void meta_step(const PackedLayout<T>& layout, const MetaShape& m, const T* base,
                      const T* step_sizes, const Episode<T>& episode,
                      const EpisodeResult<T>& result, T* workspace, const Parallel& parallel) {
  const int64_t series = layout.steps * layout.bands, tensors = tensor_count(m.network);
  const MetaMemory<T> memory(layout, m, workspace);
  const auto weights_of = [&](int64_t s) -> Weights<T> {
    const T* packed =
        s == 0 ? base : memory.weights + (s - 1) * (layout.packed_size + layout.transposed_size);
    return {.packed = packed, .transposed = packed + layout.packed_size};
  };
  const auto support = [&](int64_t s) -> Batch<T> {
    return {.size = m.support,
            .x = episode.support_x + s * m.support * series,
            .film = episode.film,
            .mask = episode.support_mask == nullptr
                        ? nullptr
                        : episode.support_mask + s * m.support * layout.hidden,
            .batch_statistics = true,
            .running_mean = nullptr,
            .running_variance = nullptr};
  };
  const NetworkScratch<T> scratch(layout, m.support, memory.scratch);

  for (int64_t s = 0; s < m.inner_steps; ++s) {
    parallel.check();
    const Batch<T> batch = support(s);
    const Weights<T> weights = weights_of(s);
    const NetworkTape<T> tape(layout, m.support, memory.step_tape(s));
    const NetworkAdjoints<T> adjoints(layout, m.support, memory.step_adjoints(s));
    network_forward(layout, batch, weights.packed, tape, memory.logits,
                    result.batch_mean + s * layout.layers * layout.hidden,
                    result.batch_variance + s * layout.layers * layout.hidden, parallel);
    result.support_loss[s] =
        mean_loss(m.support, layout.outputs, memory.logits, episode.support_y + s * m.support,
                  episode.class_weights, adjoints.head.logits,
                  memory.curvatures + s * m.support * layout.outputs);
    T* gradient = memory.gradients + s * layout.packed_size;
    network_backward(layout, batch, weights, tape, adjoints, scratch, gradient, memory.film,
                     parallel);
    T* next = memory.weights + s * (layout.packed_size + layout.transposed_size);
    write_and_transpose(
        layout,
        [&](int64_t tensor, int64_t at, int64_t count) {
          const T step_size = -step_sizes[s * tensors + tensor];
          for (int64_t i = at; i < at + count; i += kLanes<T>)
            store<T>(next + i, load(weights.packed + i) + step_size * load(gradient + i));
        },
        next, next + layout.packed_size);
  }

  const Batch<T> query = {.size = m.query,
                          .x = episode.query_x,
                          .film = episode.film,
                          .mask = episode.query_mask,
                          .batch_statistics = true,
                          .running_mean = nullptr,
                          .running_variance = nullptr};
  const Weights<T> adapted = weights_of(m.inner_steps);
  const NetworkTape<T> query_tape(layout, m.query, memory.query_tape);
  const NetworkAdjoints<T> query_adjoints(layout, m.query, memory.query_adjoints);
  const int64_t statistics = m.inner_steps * layout.layers * layout.hidden;
  network_forward(layout, query, adapted.packed, query_tape, result.logits,
                  result.batch_mean + statistics, result.batch_variance + statistics, parallel);
  *result.loss = mean_loss(m.query, layout.outputs, result.logits, episode.query_y,
                           episode.class_weights, query_adjoints.head.logits,
                           memory.curvatures + m.inner_steps * m.support * layout.outputs);
  if (m.order == 0) return;

  T* v = result.packed_gradient;
  const NetworkScratch<T> query_scratch(layout, m.query, memory.scratch);
  network_backward(layout, query, adapted, query_tape, query_adjoints, query_scratch, v,
                   result.film_gradient, parallel);
  for (int64_t s = m.inner_steps - 1; s >= 0; --s) {
    parallel.check();
    // w_(s+1) = w_s - alpha_s g_s(w_s): the step sizes see -<v, g_s>, tensor by tensor, and the
    // way back through g_s goes along alpha_s v.
    T* step_size_gradient = result.step_size_gradient + s * tensors;
    fill<T>(tensors, 0, step_size_gradient);
    const auto take_step_size_gradient = [&](int64_t tensor, int64_t at, int64_t count) {
      Vector<T> sum{};
      const T* gradient = memory.gradients + s * layout.packed_size;
      for (int64_t i = at; i < at + count; i += kLanes<T>) sum += load(v + i) * load(gradient + i);
      step_size_gradient[tensor] -= sum_lanes<T>(sum);
    };
    if (m.order == 1) {
      for_each_segment(layout, take_step_size_gradient);
      continue;
    }
    T* along = memory.direction;
    write_and_transpose(
        layout,
        [&](int64_t tensor, int64_t at, int64_t count) {
          take_step_size_gradient(tensor, at, count);
          const T step_size = step_sizes[s * tensors + tensor];
          for (int64_t i = at; i < at + count; i += kLanes<T>)
            store<T>(along + i, step_size * load(v + i));
        },
        along, along + layout.packed_size);
    const Direction<T> direction = {
        .weights = {.packed = memory.direction,
                    .transposed = memory.direction + layout.packed_size},
        .film = nullptr,
        .x = nullptr};
    const Batch<T> batch = support(s);
    const Weights<T> weights = weights_of(s);
    const NetworkTape<T> tape(layout, m.support, memory.step_tape(s));
    const NetworkAdjoints<T> adjoints(layout, m.support, memory.step_adjoints(s));
    const NetworkTangents<T> tangents(layout, m.support, memory.tangents);
    network_tangent_forward(layout, batch, weights.packed, tape, direction, tangents, memory.logits,
                            parallel);
    curvature_product(m.support, layout.outputs, memory.curvatures + s * m.support * layout.outputs,
                      memory.logits, memory.cotangent_dot);
    network_tangent_backward(layout, batch, weights, tape, adjoints, direction, tangents,
                             memory.cotangent_dot, scratch, memory.product, memory.film, parallel);
    for (int64_t i = 0; i < layout.packed_size; i += kLanes<T>)
      store<T>(v + i, load(v + i) - load(memory.product + i));
    for (int64_t i = 0; i < film_size(m.network); ++i) result.film_gradient[i] -= memory.film[i];
  }
}

}  // namespace
}  // namespace timl
