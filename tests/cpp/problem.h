// A random network problem of any size, with every output and working buffer poisoned before use,
// so that a value nobody wrote, or read before it was written, shows as NaN.
#pragma once

#if defined(TIML_ON_DEVICE)
#include <cuda_runtime.h>
#endif

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

#include "timl/engine.h"

// Memory that the engine under test reads: of the host, or of host and device.
#if defined(TIML_ON_DEVICE)
inline void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (const cudaError_t error = cudaMallocManaged(&memory, bytes); error != cudaSuccess)
    throw std::runtime_error(cudaGetErrorString(error));
  return memory;
}
inline void release(void* memory) { cudaFree(memory); }
#else
inline void* allocate(size_t bytes) { return std::aligned_alloc(timl::kAlignment, bytes); }
inline void release(void* memory) { std::free(memory); }
#endif

// Aligned and exactly sized, so that the address sanitizer sees the first element too many.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : count_(count),
        memory_(
            static_cast<T*>(allocate((static_cast<size_t>(count) * sizeof(T) + timl::kAlignment) /
                                     timl::kAlignment * timl::kAlignment))) {
    for (int64_t i = 0; i < count; ++i) memory_.get()[i] = std::numeric_limits<T>::quiet_NaN();
  }
  T* get() const { return memory_.get(); }
  operator T*() const { return memory_.get(); }
  int64_t size() const { return count_; }
  std::vector<double> values() const { return {get(), get() + count_}; }

 private:
  struct Free {
    void operator()(T* memory) const { release(memory); }
  };
  int64_t count_;
  std::unique_ptr<T, Free> memory_;
};

template <class T, class Given>
Buffer<T> buffer_of(const std::vector<Given>& values) {
  Buffer<T> buffer(static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) buffer.get()[i] = static_cast<T>(values[i]);
  return buffer;
}

inline std::vector<double> normals(int64_t count, double scale, double shift, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = shift + scale * normal(bits);
  return values;
}

inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  // NaN stays NaN: it compares below nothing.
  return std::sqrt(difference) / (std::sqrt(size) + 1e-300);
}

// Central differences: what changes over 2 h.
inline std::vector<double> slopes(const std::vector<double>& low, const std::vector<double>& high,
                                  double h) {
  std::vector<double> out(low.size());
  for (size_t i = 0; i < low.size(); ++i) out[i] = (high[i] - low[i]) / (2 * h);
  return out;
}

inline double inner_product(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

struct Problem {
  timl::Shape shape;
  int64_t batch;
  bool batch_statistics;
  bool masked;
};

// What the engine returns for a problem: logits and statistics, gradients, and their tangents.
struct Outcome {
  std::vector<double> logits, mean, variance, x, weights, film;
  std::vector<double> logits_dot, x_dot, weights_dot, film_dot;
  bool operator==(const Outcome&) const = default;
};

// Inputs of a problem, and directions for the tangent, in double.
struct Inputs {
  explicit Inputs(const Problem& p)
      : x(normals(p.batch * p.shape.steps * p.shape.bands, 1, 0, 1)),
        weights(normals(weights_size(p.shape), 1 / std::sqrt(double(p.shape.hidden)), 0, 2)),
        film(normals(film_size(p.shape), 0.3, 0.8, 3)),
        mask(normals(p.batch * p.shape.hidden, 1, 0, 4)),
        running_mean(normals(p.shape.layers * p.shape.hidden, 0.1, 0, 5)),
        running_variance(normals(p.shape.layers * p.shape.hidden, 0.1, 1, 6)),
        cotangent(normals(p.batch * p.shape.outputs, 1, 0, 7)),
        x_direction(normals(p.batch * p.shape.steps * p.shape.bands, 1, 0, 8)),
        weights_direction(normals(weights_size(p.shape), 1, 0, 9)),
        film_direction(normals(film_size(p.shape), 1, 0, 10)),
        cotangent_direction(normals(p.batch * p.shape.outputs, 1, 0, 11)) {
    for (double& m : mask) m = m < 0.8 ? 1.25 : 0;
    for (double& v : running_variance) v = std::abs(v) + 0.1;
  }
  std::vector<double> x, weights, film, mask, running_mean, running_variance, cotangent;
  std::vector<double> x_direction, weights_direction, film_direction, cotangent_direction;
};

// What a pass takes of a problem's inputs, in T.
template <class T>
struct InputArrays {
  explicit InputArrays(const Inputs& in)
      : x(buffer_of<T>(in.x)),
        weights(buffer_of<T>(in.weights)),
        film(buffer_of<T>(in.film)),
        mask(buffer_of<T>(in.mask)),
        running_mean(buffer_of<T>(in.running_mean)),
        running_variance(buffer_of<T>(in.running_variance)) {}
  timl::NetworkInput<T> of(const Problem& p) const {
    return {.shape = p.shape,
            .batch = p.batch,
            .x = x,
            .weights = weights,
            .film = film,
            .mask = p.masked ? mask.get() : nullptr,
            .running_mean = running_mean,
            .running_variance = running_variance,
            .batch_statistics = p.batch_statistics};
  }
  Buffer<T> x, weights, film, mask, running_mean, running_variance;
};

// AnyEngine: timl::Engine, or what has its members.
template <template <class> class AnyEngine, class T>
Outcome run(const AnyEngine<T>& engine, const Problem& p, const Inputs& in,
            const timl::Parallel& parallel = timl::kSerial) {
  const timl::Shape& s = p.shape;
  const InputArrays<T> arrays(in);
  const timl::NetworkInput<T> input = arrays.of(p);
  const Buffer<T> cotangent = buffer_of<T>(in.cotangent);
  const Buffer<T> x_direction = buffer_of<T>(in.x_direction);
  const Buffer<T> weights_direction = buffer_of<T>(in.weights_direction);
  const Buffer<T> film_direction = buffer_of<T>(in.film_direction);
  const Buffer<T> cotangent_direction = buffer_of<T>(in.cotangent_direction);

  const int64_t norms = p.batch_statistics ? s.layers * s.hidden : 0;
  Buffer<T> logits(p.batch * s.outputs), batch_mean(norms), batch_variance(norms);
  Buffer<T> tape(engine.tape_size(s, p.batch)), adjoints(engine.adjoint_size(s, p.batch));
  Buffer<T> forward_workspace(engine.forward_workspace(s, p.batch));
  engine.forward(input, logits, batch_mean, batch_variance, tape, forward_workspace, parallel);

  Buffer<T> dx(arrays.x.size()), dw(arrays.weights.size()), df(arrays.film.size());
  Buffer<T> backward_workspace(engine.backward_workspace(s, p.batch));
  engine.backward(input, cotangent, tape, {.x = dx, .weights = dw, .film = df}, adjoints,
                  backward_workspace, parallel);

  Buffer<T> logits_dot(p.batch * s.outputs), dx_dot(dx.size()), dw_dot(dw.size()),
      df_dot(df.size());
  Buffer<T> tangent_workspace(engine.tangent_workspace(s, p.batch));
  engine.tangent(input, tape, adjoints,
                 {.x = x_direction,
                  .weights = weights_direction,
                  .film = film_direction,
                  .cotangent = cotangent_direction},
                 logits_dot, {.x = dx_dot, .weights = dw_dot, .film = df_dot}, tangent_workspace,
                 parallel);
  return {.logits = logits.values(),
          .mean = batch_mean.values(),
          .variance = batch_variance.values(),
          .x = dx.values(),
          .weights = dw.values(),
          .film = df.values(),
          .logits_dot = logits_dot.values(),
          .x_dot = dx_dot.values(),
          .weights_dot = dw_dot.values(),
          .film_dot = df_dot.values()};
}

inline std::vector<double> moved(const std::vector<double>& at, double h,
                                 const std::vector<double>& direction) {
  std::vector<double> out(at);
  for (size_t i = 0; i < at.size(); ++i) out[i] += h * direction[i];
  return out;
}

// Names of the instruction sets this machine can run.
inline std::vector<const char*> instruction_sets() {
  const char* names[3];
  const int count = timl::usable_isas(names);
  return {names, names + count};
}

// Chunks in reverse: a result that changes has read a neighbour's memory.
inline constexpr timl::Parallel kBackwards = {
    .run =
        [](int64_t count, void (*body)(void*, int64_t), void* context) {
          for (int64_t index = count - 1; index >= 0; --index) body(context, index);
        },
    .check = [] {}};
