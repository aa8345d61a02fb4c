// A random meta-batch of tasks, its meta-step and the inner steps of its first task, by the CPU
// engine and by the CUDA engine.
#pragma once

#include "cuda_problem.h"
#include "problem.h"

struct MetaBatch {
  MetaBatch(const timl::MetaShape& m, int64_t tasks_, bool masked)
      : shape(m),
        tasks(tasks_),
        support_x(normals(tasks * m.inner_steps * m.support * series(), 1, 0, 1)),
        query_x(normals(tasks * m.query * series(), 1, 0, 2)),
        weights(normals(weights_size(m.network), 1 / std::sqrt(double(m.network.hidden)), 0, 3)),
        film(normals(tasks * film_size(m.network), 0.3, 0.8, 4)),
        step_sizes(normals(m.inner_steps * tensor_count(m.network), 0.03, 0.1, 5)),
        class_weights(normals(tasks * classes(), 0.1, 1, 6)) {
    if (masked) {
      support_mask = normals(tasks * m.inner_steps * m.support * m.network.hidden, 1, 0, 7);
      query_mask = normals(tasks * m.query * m.network.hidden, 1, 0, 8);
    }
    for (auto* mask : {&support_mask, &query_mask})
      for (double& value : *mask) value = value < 0.8 ? 1.25 : 0;
    // every class, and some labels that count for nothing
    const auto label = [&](int64_t i) { return double(i % 4 == 3 ? -1 : i % classes()); };
    for (int64_t i = 0; i < tasks * m.inner_steps * m.support; ++i) support_y.push_back(label(i));
    for (int64_t i = 0; i < tasks * m.query; ++i) query_y.push_back(label(i));
  }
  int64_t series() const { return shape.network.steps * shape.network.bands; }
  int64_t classes() const { return shape.network.outputs == 1 ? 2 : shape.network.outputs; }

  timl::MetaShape shape;
  int64_t tasks;
  std::vector<double> support_x, query_x, weights, film, step_sizes, class_weights;
  std::vector<double> support_mask, query_mask, support_y, query_y;
};

struct MetaBatchOutcome {
  std::vector<double> loss, support_loss, logits, mean, variance, weights, film, step_sizes;
};

// A batch's arrays in T, and those of its results.
template <class T>
struct MetaArrays {
  explicit MetaArrays(const MetaBatch& b)
      : support_x(buffer_of<T>(b.support_x)),
        support_y(buffer_of<T>(b.support_y)),
        query_x(buffer_of<T>(b.query_x)),
        query_y(buffer_of<T>(b.query_y)),
        weights(buffer_of<T>(b.weights)),
        film(buffer_of<T>(b.film)),
        step_sizes(buffer_of<T>(b.step_sizes)),
        class_weights(buffer_of<T>(b.class_weights)),
        support_mask(buffer_of<T>(b.support_mask)),
        query_mask(buffer_of<T>(b.query_mask)),
        loss(b.tasks),
        support_loss(b.tasks * b.shape.inner_steps),
        logits(b.tasks * b.shape.query * b.shape.network.outputs),
        mean(b.tasks * norms(b)),
        variance(b.tasks * norms(b)),
        weights_gradient(b.shape.order > 0 ? weights_size(b.shape.network) : 0),
        film_gradient(b.shape.order > 0 ? b.tasks * film_size(b.shape.network) : 0),
        step_size_gradient(b.shape.order > 0 ? b.shape.inner_steps * tensor_count(b.shape.network)
                                             : 0) {}
  static int64_t norms(const MetaBatch& b) {
    return (b.shape.inner_steps + 1) * b.shape.network.layers * b.shape.network.hidden;
  }
  MetaBatchOutcome outcome() const {
    return {.loss = loss.values(),
            .support_loss = support_loss.values(),
            .logits = logits.values(),
            .mean = mean.values(),
            .variance = variance.values(),
            .weights = weights_gradient.values(),
            .film = film_gradient.values(),
            .step_sizes = step_size_gradient.values()};
  }

  Buffer<T> support_x, support_y, query_x, query_y, weights, film, step_sizes, class_weights;
  Buffer<T> support_mask, query_mask;
  Buffer<T> loss, support_loss, logits, mean, variance;
  Buffer<T> weights_gradient, film_gradient, step_size_gradient;
};

template <class T>
MetaBatchOutcome run(const CudaEngine<T>& engine, const MetaBatch& b) {
  const MetaArrays<T> a(b);
  const Buffer<T> workspace(timl::cuda::meta_workspace<T>(b.shape, b.tasks));
  const bool masked = !b.support_mask.empty();
  require_no_trouble(
      timl::cuda::meta_gradient<T>(engine.plan, b.shape, b.tasks, a.weights, a.step_sizes,
                                   {.support_x = a.support_x,
                                    .support_y = a.support_y,
                                    .query_x = a.query_x,
                                    .query_y = a.query_y,
                                    .film = a.film,
                                    .support_mask = masked ? a.support_mask.get() : nullptr,
                                    .query_mask = masked ? a.query_mask.get() : nullptr,
                                    .class_weights = a.class_weights},
                                   {.loss = a.loss,
                                    .support_loss = a.support_loss,
                                    .logits = a.logits,
                                    .batch_mean = a.mean,
                                    .batch_variance = a.variance,
                                    .weights_gradient = a.weights_gradient,
                                    .film_gradient = a.film_gradient,
                                    .step_size_gradient = a.step_size_gradient},
                                   workspace));
  return a.outcome();
}

template <class T>
MetaBatchOutcome run(const timl::Engine<T>& engine, const MetaBatch& b) {
  const timl::MetaShape& m = b.shape;
  const timl::Shape& s = m.network;
  const MetaArrays<T> a(b);
  const int64_t support = m.inner_steps * m.support, norms = MetaArrays<T>::norms(b);
  const int64_t packed = engine.packed_size(s), steps = m.inner_steps * tensor_count(s);
  const bool masked = !b.support_mask.empty(), gradients = m.order > 0;
  const Buffer<T> base(engine.base_size(s)), workspace(engine.meta_workspace(m));
  const Buffer<T> packed_gradients(b.tasks * packed), task_steps(b.tasks * steps), sum(packed);
  engine.pack_base(s, a.weights, base);
  for (int64_t n = 0; n < b.tasks; ++n)
    engine.meta_task(m, base, a.step_sizes,
                     {.support_x = a.support_x + n * support * b.series(),
                      .support_y = a.support_y + n * support,
                      .query_x = a.query_x + n * m.query * b.series(),
                      .query_y = a.query_y + n * m.query,
                      .film = a.film + n * film_size(s),
                      .support_mask = masked ? a.support_mask + n * support * s.hidden : nullptr,
                      .query_mask = masked ? a.query_mask + n * m.query * s.hidden : nullptr,
                      .class_weights = a.class_weights + n * b.classes()},
                     {.loss = a.loss + n,
                      .support_loss = a.support_loss + n * m.inner_steps,
                      .logits = a.logits + n * m.query * s.outputs,
                      .batch_mean = a.mean + n * norms,
                      .batch_variance = a.variance + n * norms,
                      .packed_gradient = packed_gradients + n * packed,
                      .film_gradient = gradients ? a.film_gradient + n * film_size(s) : nullptr,
                      .step_size_gradient = task_steps + n * steps},
                     workspace, timl::kSerial);
  if (!gradients) return a.outcome();
  const T scale = T(1) / static_cast<T>(b.tasks);
  engine.reduce_gradients(s, b.tasks, packed_gradients, scale, a.weights_gradient, sum,
                          timl::kSerial);
  for (int64_t i = 0; i < a.film_gradient.size(); ++i) a.film_gradient.get()[i] *= scale;
  for (int64_t i = 0; i < steps; ++i) {
    T& total = a.step_size_gradient.get()[i] = 0;
    for (int64_t n = 0; n < b.tasks; ++n) total += scale * task_steps.get()[n * steps + i];
  }
  return a.outcome();
}

// The inner steps of a batch's first task alone.
struct Adapted {
  std::vector<double> weights, support_loss, mean, variance;
};

// call(input, result): the engine at work on them.
template <class T, class Call>
Adapted adapted(const MetaBatch& b, const Call& call) {
  const MetaArrays<T> a(b);
  const timl::MetaShape& m = b.shape;
  const int64_t statistics = m.inner_steps * m.network.layers * m.network.hidden;
  const Buffer<T> weights(weights_size(m.network)), loss(m.inner_steps), mean(statistics),
      variance(statistics);
  call(timl::AdaptInput<T>{.shape = m.network,
                           .inner_steps = m.inner_steps,
                           .support = m.support,
                           .support_x = a.support_x,
                           .support_y = a.support_y,
                           .weights = a.weights,
                           .film = a.film,
                           .support_mask = b.support_mask.empty() ? nullptr : a.support_mask.get(),
                           .class_weights = a.class_weights,
                           .step_sizes = a.step_sizes},
       timl::AdaptResult<T>{.weights = weights,
                            .support_loss = loss,
                            .batch_mean = mean,
                            .batch_variance = variance});
  return {weights.values(), loss.values(), mean.values(), variance.values()};
}

template <class T>
Adapted adapt(const CudaEngine<T>& engine, const MetaBatch& b) {
  return adapted<T>(b, [&](const timl::AdaptInput<T>& in, const timl::AdaptResult<T>& result) {
    const Buffer<T> workspace(timl::cuda::adapt_workspace<T>(in.shape, in.inner_steps, in.support));
    require_no_trouble(timl::cuda::adapt<T>(engine.plan, in, result, workspace));
  });
}

template <class T>
Adapted adapt(const timl::Engine<T>& engine, const MetaBatch& b) {
  return adapted<T>(b, [&](const timl::AdaptInput<T>& in, const timl::AdaptResult<T>& result) {
    const Buffer<T> workspace(engine.adapt_workspace(in.shape, in.support));
    engine.adapt(in, result, workspace, timl::kSerial);
  });
}
