// The meta-step of one task: inner steps of gradient descent on support batches, the query's
// gradient, and its exact way back through every inner step (DESIGN, "The meta-step").
#pragma once

#include "network.h"

namespace timl {
namespace {

// Mean binary cross entropy of logits against labels, and its gradient by the logits (already
// divided by the batch). Computed from the logit: log(1 + e^-|z|) never overflows or saturates.
template <class T>
inline T cross_entropy(int64_t batch, const T* logits, const T* labels, T* gradient) {
  T total = 0;
  const T per_row = T(1) / static_cast<T>(batch);
  for (int64_t b = 0; b < batch; ++b) {
    const T z = logits[b], e = std::exp(z < 0 ? z : -z);
    total += (z > 0 ? z : T(0)) - z * labels[b] + std::log1p(e);
    const T p = z < 0 ? e / (T(1) + e) : T(1) / (T(1) + e);
    gradient[b] = (p - labels[b]) * per_row;
  }
  return total * per_row;
}

// out += of -= in place on tensors of a packed vector: out = in_a + factor[tensor] * in_b.
template <class T>
inline void add_scaled(const Layout<T>& y, const T* a, const T* factors, T sign, const T* b,
                       T* out) {
  for_each_segment(y, [&](int64_t tensor, int64_t at, int64_t count) {
    const T factor = sign * factors[tensor];
    for (int64_t i = at; i < at + count; i += y.W)
      store<T>(out + i, (a == nullptr ? Vector<T>{} : load(a + i)) + factor * load(b + i));
  });
}

// Memory of one task's meta-step. Weights and passes of every inner step are kept for the way back;
// nothing here depends on how many meta-steps have run.
template <class T>
struct MetaMemory {
  MetaMemory(const Layout<T>& y, const MetaShape& m, T* memory) : arena(memory) {
    const bool back = m.order == 2;
    const int64_t kept = back ? m.inner_steps : 1;  // steps whose passes are kept
    const int64_t wider = m.support > m.query ? m.support : m.query;
    weights = arena.take(m.inner_steps * (y.packed + y.transposed));
    gradients = arena.take(m.inner_steps * y.packed);
    tape_size = NetworkTape<T>::size(y, m.support);
    adjoint_size = NetworkAdjoints<T>::size(y, m.support);
    tapes = arena.take(kept * tape_size);
    adjoints = arena.take(kept * adjoint_size);
    query_tape = arena.take(NetworkTape<T>::size(y, m.query));
    query_adjoints = arena.take(NetworkAdjoints<T>::size(y, m.query));
    scratch = arena.take(NetworkScratch<T>::size(y, wider));
    film = arena.take(film_size(m.network));
    logits = arena.take(m.support);
    slopes = arena.take(m.inner_steps * m.support);
    if (back) {
      direction = arena.take(y.packed + y.transposed);
      product = arena.take(y.packed);
      tangents = arena.take(NetworkTangents<T>::size(y, m.support));
    }
    step_stride = back ? 1 : 0;
  }
  T* step_tape(int64_t s) const { return tapes + s * step_stride * tape_size; }
  T* step_adjoints(int64_t s) const { return adjoints + s * step_stride * adjoint_size; }

  Arena<T> arena;
  T *weights, *gradients, *tapes, *adjoints, *query_tape, *query_adjoints, *scratch, *film, *logits;
  T* slopes;  // [S,B] sigmoid'(z) / B of the support logits: the loss's second derivative
  T *direction = nullptr, *product = nullptr, *tangents = nullptr;
  int64_t tape_size, adjoint_size, step_stride;
};

template <class T>
inline void meta_step(const Layout<T>& y, const MetaShape& m, const T* base, const T* step_sizes,
                      const Episode<T>& episode, const EpisodeResult<T>& result, T* workspace) {
  const int64_t series = y.T_ * y.F, tensors = tensor_count(m.network);
  const MetaMemory<T> memory(y, m, workspace);
  const auto weights_of = [&](int64_t s) -> Weights<T> {
    const T* packed = s == 0 ? base : memory.weights + (s - 1) * (y.packed + y.transposed);
    return {packed, packed + y.packed};
  };
  const auto support = [&](int64_t s) -> Batch<T> {
    return {m.support,
            episode.support_x + s * m.support * series,
            episode.film,
            episode.support_mask == nullptr ? nullptr : episode.support_mask + s * m.support * y.H,
            true,
            nullptr,
            nullptr};
  };
  const NetworkScratch<T> scratch(y, m.support, memory.scratch);

  for (int64_t s = 0; s < m.inner_steps; ++s) {
    const Batch<T> batch = support(s);
    const Weights<T> weights = weights_of(s);
    const NetworkTape<T> tape(y, m.support, memory.step_tape(s));
    const NetworkAdjoints<T> adjoints(y, m.support, memory.step_adjoints(s));
    network_forward(y, batch, weights.packed, tape, memory.logits,
                    result.batch_mean + s * y.L * y.H, result.batch_variance + s * y.L * y.H,
                    kSerial);
    const T* labels = episode.support_y + s * m.support;
    result.support_loss[s] = cross_entropy(m.support, memory.logits, labels, adjoints.head.logits);
    for (int64_t b = 0; b < m.support; ++b) {
      const T p = adjoints.head.logits[b] * static_cast<T>(m.support) + labels[b];
      memory.slopes[s * m.support + b] = p * (T(1) - p) / static_cast<T>(m.support);
    }
    T* gradient = memory.gradients + s * y.packed;
    network_backward(y, batch, weights, tape, adjoints, scratch, gradient, memory.film, kSerial);
    T* next = memory.weights + s * (y.packed + y.transposed);
    add_scaled(y, weights.packed, step_sizes + s * tensors, T(-1), gradient, next);
    transpose(y, next, next + y.packed);
  }

  const Batch<T> query = {m.query, episode.query_x, episode.film, episode.query_mask,
                          true,    nullptr,         nullptr};
  const Weights<T> adapted = weights_of(m.inner_steps);
  const NetworkTape<T> query_tape(y, m.query, memory.query_tape);
  const NetworkAdjoints<T> query_adjoints(y, m.query, memory.query_adjoints);
  const int64_t statistics = m.inner_steps * y.L * y.H;
  network_forward(y, query, adapted.packed, query_tape, result.logits,
                  result.batch_mean + statistics, result.batch_variance + statistics, kSerial);
  *result.loss = cross_entropy(m.query, result.logits, episode.query_y, query_adjoints.head.logits);
  if (m.order == 0) return;

  T* v = result.packed_gradient;
  const NetworkScratch<T> query_scratch(y, m.query, memory.scratch);
  network_backward(y, query, adapted, query_tape, query_adjoints, query_scratch, v,
                   result.film_gradient, kSerial);
  for (int64_t s = m.inner_steps - 1; s >= 0; --s) {
    // w_(s+1) = w_s - alpha_s g_s(w_s): the step sizes see -<v, g_s>, tensor by tensor.
    T* step_size_gradient = result.step_size_gradient + s * tensors;
    fill<T>(tensors, 0, step_size_gradient);
    for_each_segment(y, [&](int64_t tensor, int64_t at, int64_t count) {
      Vector<T> sum{};
      const T* gradient = memory.gradients + s * y.packed;
      for (int64_t i = at; i < at + count; i += y.W) sum += load(v + i) * load(gradient + i);
      step_size_gradient[tensor] -= sum_lanes<T>(sum);
    });
    if (m.order == 1) continue;
    add_scaled(y, static_cast<const T*>(nullptr), step_sizes + s * tensors, T(1), v,
               memory.direction);
    transpose(y, memory.direction, memory.direction + y.packed);
    const Direction<T> direction = {
        {memory.direction, memory.direction + y.packed}, nullptr, nullptr};
    const Batch<T> batch = support(s);
    const Weights<T> weights = weights_of(s);
    const NetworkTape<T> tape(y, m.support, memory.step_tape(s));
    const NetworkAdjoints<T> adjoints(y, m.support, memory.step_adjoints(s));
    const NetworkTangents<T> tangents(y, m.support, memory.tangents);
    network_tangent_forward(y, batch, weights.packed, tape, direction, tangents, memory.logits,
                            kSerial);
    for (int64_t b = 0; b < m.support; ++b)
      memory.logits[b] *= memory.slopes[s * m.support + b];  // now the cotangent's tangent
    network_tangent_backward(y, batch, weights, tape, adjoints, direction, tangents, memory.logits,
                             scratch, memory.product, memory.film, kSerial);
    for (int64_t i = 0; i < y.packed; i += y.W)
      store<T>(v + i, load(v + i) - load(memory.product + i));
    for (int64_t i = 0; i < film_size(m.network); ++i) result.film_gradient[i] -= memory.film[i];
  }
}

}  // namespace
}  // namespace timl
