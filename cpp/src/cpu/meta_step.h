// The meta-step of one task: inner steps of gradient descent on support batches, the query's
// gradient, and its exact way back through every inner step (docs/explanation/meta-step.md). And
// the inner steps alone, with memory for one.
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

// One inner step of a task: what it runs on, and where everything it makes goes.
template <class T>
struct InnerStep {
  Batch<T> batch;
  const T* labels;         // [B]
  const T* class_weights;  // [K] or [2], or null
  Weights<T> weights;
  const T* step_sizes;  // [tensors]
  T *tape, *adjoints, *logits;
  T* curvature;  // [B,K]
  T *gradient, *film_gradient;
  T* loss;                         // [1]
  T *batch_mean, *batch_variance;  // [L,H]
  T* next;  // w - alpha g, packed and transposed; may be where the weights are
};

template <class T>
inline void inner_step(const PackedLayout<T>& layout, const InnerStep<T>& step,
                       const NetworkScratch<T>& scratch, const Parallel& parallel) {
  const NetworkTape<T> tape(layout, step.batch.size, step.tape);
  const NetworkAdjoints<T> adjoints(layout, step.batch.size, step.adjoints);
  network_forward(layout, step.batch, step.weights.packed, tape, step.logits, step.batch_mean,
                  step.batch_variance, parallel);
  *step.loss = mean_loss(step.batch.size, layout.outputs, step.logits, step.labels,
                         step.class_weights, adjoints.head.logits, step.curvature);
  network_backward(layout, step.batch, step.weights, tape, adjoints, scratch, step.gradient,
                   step.film_gradient, parallel);
  write_and_transpose(
      layout,
      [&](int64_t tensor, int64_t at, int64_t count) {
        const T step_size = -step.step_sizes[tensor];
        for (int64_t i = at; i < at + count; i += kLanes<T>)
          store<T>(step.next + i,
                   load(step.weights.packed + i) + step_size * load(step.gradient + i));
      },
      step.next, step.next + layout.packed_size);
}

// The support batch of one of a task's inner steps.
template <class T>
inline Batch<T> support_batch(const PackedLayout<T>& layout, int64_t s, int64_t size, const T* x,
                              const T* film, const T* mask) {
  return {.size = size,
          .x = x + s * size * layout.steps * layout.bands,
          .film = film,
          .mask = mask == nullptr ? nullptr : mask + s * size * layout.hidden,
          .batch_statistics = true,
          .running_mean = nullptr,
          .running_variance = nullptr};
}

template <class T>
inline void meta_step(const PackedLayout<T>& layout, const MetaShape& m, const T* base,
                      const T* step_sizes, const Episode<T>& episode,
                      const EpisodeResult<T>& result, T* workspace, const Parallel& parallel) {
  const int64_t tensors = tensor_count(m.network);
  const MetaMemory<T> memory(layout, m, workspace);
  const auto weights_of = [&](int64_t s) -> Weights<T> {
    const T* packed =
        s == 0 ? base : memory.weights + (s - 1) * (layout.packed_size + layout.transposed_size);
    return {.packed = packed, .transposed = packed + layout.packed_size};
  };
  const auto support = [&](int64_t s) {
    return support_batch(layout, s, m.support, episode.support_x, episode.film,
                         episode.support_mask);
  };
  const NetworkScratch<T> scratch(layout, m.support, memory.scratch);

  for (int64_t s = 0; s < m.inner_steps; ++s) {
    parallel.check();
    T* next = memory.weights + s * (layout.packed_size + layout.transposed_size);
    const int64_t statistics = s * layout.layers * layout.hidden;
    inner_step(layout,
               InnerStep<T>{.batch = support(s),
                            .labels = episode.support_y + s * m.support,
                            .class_weights = episode.class_weights,
                            .weights = weights_of(s),
                            .step_sizes = step_sizes + s * tensors,
                            .tape = memory.step_tape(s),
                            .adjoints = memory.step_adjoints(s),
                            .logits = memory.logits,
                            .curvature = memory.curvatures + s * m.support * layout.outputs,
                            .gradient = memory.gradients + s * layout.packed_size,
                            .film_gradient = memory.film,
                            .loss = result.support_loss + s,
                            .batch_mean = result.batch_mean + statistics,
                            .batch_variance = result.batch_variance + statistics,
                            .next = next},
               scratch, parallel);
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

// Memory of the inner steps alone: one pass, and weights that each step takes the place of.
template <class T>
struct AdaptMemory {
  AdaptMemory(const PackedLayout<T>& layout, int64_t support, T* memory) : arena(memory) {
    weights = arena.take(layout.packed_size + layout.transposed_size);
    gradient = arena.take(layout.packed_size);
    tape = arena.take(NetworkTape<T>::size(layout, support));
    adjoints = arena.take(NetworkAdjoints<T>::size(layout, support));
    scratch = arena.take(NetworkScratch<T>::size(layout, support));
    film = arena.take(2 * layout.steps * layout.bands + 2 * layout.layers * layout.hidden);
    logits = arena.take(support * layout.outputs);
    curvature = arena.take(support * layout.outputs);
  }
  Arena<T> arena;
  T *weights, *gradient, *tape, *adjoints, *scratch, *film, *logits, *curvature;
};

template <class T>
inline void adapt(const PackedLayout<T>& layout, const AdaptInput<T>& in,
                  const AdaptResult<T>& result, T* workspace, const Parallel& parallel) {
  const AdaptMemory<T> memory(layout, in.support, workspace);
  const NetworkScratch<T> scratch(layout, in.support, memory.scratch);
  T* transposed = memory.weights + layout.packed_size;
  pack(layout, in.weights, memory.weights);
  transpose(layout, memory.weights, transposed);
  for (int64_t s = 0; s < in.inner_steps; ++s) {
    parallel.check();
    const int64_t statistics = s * layout.layers * layout.hidden;
    inner_step(layout,
               InnerStep<T>{.batch = support_batch(layout, s, in.support, in.support_x, in.film,
                                                   in.support_mask),
                            .labels = in.support_y + s * in.support,
                            .class_weights = in.class_weights,
                            .weights = {.packed = memory.weights, .transposed = transposed},
                            .step_sizes = in.step_sizes + s * tensor_count(in.shape),
                            .tape = memory.tape,
                            .adjoints = memory.adjoints,
                            .logits = memory.logits,
                            .curvature = memory.curvature,
                            .gradient = memory.gradient,
                            .film_gradient = memory.film,
                            .loss = result.support_loss + s,
                            .batch_mean = result.batch_mean + statistics,
                            .batch_variance = result.batch_variance + statistics,
                            .next = memory.weights},
               scratch, parallel);
  }
  unpack(layout, memory.weights, T(1), result.weights);
}

}  // namespace
}  // namespace timl
