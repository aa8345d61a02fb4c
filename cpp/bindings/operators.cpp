// The torch operators of timl::, on PyTorch's stable C++ interface: argument checks, then one call
// of the engine, on the CPU or on CUDA. Autograd, fake kernels and vmap are registered in Python
// (timl/nn/operators.py).
#include "cuda_call.h"
#include "torch_stable.h"

namespace timl {
namespace {

Shape checked_shape(const char* operation, const Tensor& x, int64_t steps_dim, int64_t hidden,
                    int64_t layers, int64_t outputs) {
  require(x.dim() == steps_dim + 2, operation, ": x is ", shape_text(x), ": give ", steps_dim + 2,
          " dimensions, the last two steps and bands");
  const Shape shape = {.steps = x.size(steps_dim),
                       .bands = x.size(steps_dim + 1),
                       .hidden = hidden,
                       .layers = layers,
                       .outputs = outputs};
  for (const int64_t size : {shape.steps, shape.bands, shape.hidden, shape.layers, shape.outputs})
    require(size >= 1 && size <= kLargestSize, operation, ": x is ", shape_text(x), " for hidden ",
            hidden, ", layers ", layers, " and outputs ", outputs,
            ": give steps, bands, hidden, layers and outputs from 1 to ", kLargestSize);
  return shape;
}

// Elements of a row of tape and adjoints where the current call computes.
template <class T>
int64_t tape_row(const Shape& shape) {
  if constexpr (kHasCuda)
    if (Call::current()->on_cuda()) return cuda::tape_size<T>(shape, 1);
  return checked_engine<T>().tape_size(shape, 1);
}
template <class T>
int64_t adjoint_row(const Shape& shape) {
  if constexpr (kHasCuda)
    if (Call::current()->on_cuda()) return cuda::adjoint_size<T>(shape, 1);
  return checked_engine<T>().adjoint_size(shape, 1);
}

// The arguments that network, network_backward and network_tangent share, checked and contiguous.
template <class T>
struct Arguments {
  Arguments(const char* operation, const Tensor& x_in, const Tensor& weights_in,
            const Tensor& film_in, const OptionalTensor& mask_in, const OptionalTensor& mean_in,
            const OptionalTensor& variance_in, int64_t hidden, int64_t layers, int64_t outputs)
      : shape(checked_shape(operation, x_in, 1, hidden, layers, outputs)),
        x(checked(operation, "x", x_in, kDtype<T>, {-1, shape.steps, shape.bands})),
        batch(x.size(0)),
        weights(checked(operation, "weights", weights_in, kDtype<T>, {weights_size(shape)})),
        film(checked(operation, "film", film_in, kDtype<T>, {film_size(shape)})) {
    if (mask_in) mask = checked(operation, "mask", *mask_in, kDtype<T>, {batch, hidden});
    require(mean_in.has_value() == variance_in.has_value(), operation, ": ",
            mean_in ? "running_variance" : "running_mean",
            " is None: give running_mean and running_variance both or neither");
    if (mean_in) {
      mean = checked(operation, "running_mean", *mean_in, kDtype<T>, {layers, hidden});
      variance = checked(operation, "running_variance", *variance_in, kDtype<T>, {layers, hidden});
    }
    require(mean_in || batch >= 2, operation, ": x is ", shape_text(x),
            ": give at least 2 samples for BatchNorm with batch statistics, or call .eval() to use "
            "the running statistics");
  }

  NetworkInput<T> input() const {
    return {.shape = shape,
            .batch = batch,
            .x = x.const_data_ptr<T>(),
            .weights = weights.const_data_ptr<T>(),
            .film = film.const_data_ptr<T>(),
            .mask = values_of<T>(mask),
            .running_mean = values_of<T>(mean),
            .running_variance = values_of<T>(variance),
            .batch_statistics = !mean.has_value()};
  }
  Tensor empty(std::initializer_list<int64_t> sizes) const { return new_empty(x, sizes); }
  Tensor empty_logits() const {
    return shape.outputs == 1 ? empty({batch}) : empty({batch, shape.outputs});
  }
  Tensor checked_logits(const char* operation, const char* name, const Tensor& tensor) const {
    return shape.outputs == 1 ? checked(operation, name, tensor, kDtype<T>, {batch})
                              : checked(operation, name, tensor, kDtype<T>, {batch, shape.outputs});
  }

  Shape shape;
  Tensor x;
  int64_t batch;
  Tensor weights, film;
  OptionalTensor mask, mean, variance;
};

// New tensors for the gradients of a pass; that of x is [0] where it is not wanted.
template <class T>
struct Gradients {
  Gradients(const Arguments<T>& a, bool of_x)
      : x(of_x ? a.empty({a.batch, a.shape.steps, a.shape.bands}) : a.empty({0})),
        weights(a.empty({weights_size(a.shape)})),
        film(a.empty({film_size(a.shape)})) {}
  NetworkGradient<T> pointers() const {
    return {.x = x.numel() > 0 ? x.template mutable_data_ptr<T>() : nullptr,
            .weights = weights.template mutable_data_ptr<T>(),
            .film = film.template mutable_data_ptr<T>()};
  }
  Tensor x, weights, film;
};

using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// -> logits ([B] with one output, else [B,K]), batch mean [L,H], batch variance [L,H] (both [0,H]
// with running statistics), tape
Four network(const Tensor& x, const Tensor& weights, const Tensor& film, const OptionalTensor& mask,
             const OptionalTensor& running_mean, const OptionalTensor& running_variance,
             int64_t hidden, int64_t layers, int64_t outputs) {
  return by_dtype_and_device("timl::network", x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const Engine<T>& engine = checked_engine<T>();
    const Arguments<T> a("timl::network", x, weights, film, mask, running_mean, running_variance,
                         hidden, layers, outputs);
    check_finite<T>("timl::network", "x", a.x);
    const int64_t norms = running_mean ? 0 : layers;
    const Tensor logits = a.empty_logits();
    const Tensor mean = a.empty({norms, hidden}), variance = a.empty({norms, hidden});
    const Tensor tape = a.empty({buffer_rows(a.batch) * tape_row<T>(a.shape)});
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = a.empty({cuda::forward_workspace<T>(a.shape)});
        call.check(cuda::forward(call.plan(), a.input(), logits.mutable_data_ptr<T>(),
                                 mean.mutable_data_ptr<T>(), variance.mutable_data_ptr<T>(),
                                 tape.mutable_data_ptr<T>(), workspace.mutable_data_ptr<T>()));
        return {logits, mean, variance, tape};
      }
    engine.forward(a.input(), logits.mutable_data_ptr<T>(), mean.mutable_data_ptr<T>(),
                   variance.mutable_data_ptr<T>(), tape.mutable_data_ptr<T>(),
                   thread_workspace<T>(engine.forward_workspace(a.shape, a.batch)), kTorchThreads);
    return {logits, mean, variance, tape};
  });
}

// -> gradients of x ([0] unless wanted), weights, film, and the adjoints
Four network_backward(const Tensor& cotangent, const Tensor& x, const Tensor& weights,
                      const Tensor& film, const OptionalTensor& mask,
                      const OptionalTensor& running_mean, const OptionalTensor& running_variance,
                      const Tensor& tape, int64_t hidden, int64_t layers, int64_t outputs,
                      bool x_gradient) {
  return by_dtype_and_device("timl::network_backward", x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const char* operation = "timl::network_backward";
    const Engine<T>& engine = checked_engine<T>();
    const Arguments<T> a(operation, x, weights, film, mask, running_mean, running_variance, hidden,
                         layers, outputs);
    const Tensor g = a.checked_logits(operation, "cotangent", cotangent);
    const Tensor kept =
        checked(operation, "tape", tape, kDtype<T>, {buffer_rows(a.batch) * tape_row<T>(a.shape)});
    const Gradients<T> gradients(a, x_gradient);
    const Tensor adjoints = a.empty({buffer_rows(a.batch) * adjoint_row<T>(a.shape)});
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        call.check(cuda::backward(call.plan(), a.input(), g.const_data_ptr<T>(),
                                  kept.const_data_ptr<T>(), gradients.pointers(),
                                  adjoints.mutable_data_ptr<T>()));
        return {gradients.x, gradients.weights, gradients.film, adjoints};
      }
    engine.backward(a.input(), g.const_data_ptr<T>(), kept.const_data_ptr<T>(),
                    gradients.pointers(), adjoints.mutable_data_ptr<T>(),
                    thread_workspace<T>(engine.backward_workspace(a.shape, a.batch)),
                    kTorchThreads);
    return {gradients.x, gradients.weights, gradients.film, adjoints};
  });
}

// -> tangents of logits and of the gradients of x ([0] unless wanted), weights and film
Four network_tangent(const Tensor& x, const Tensor& weights, const Tensor& film,
                     const OptionalTensor& mask, const OptionalTensor& running_mean,
                     const OptionalTensor& running_variance, const Tensor& tape,
                     const Tensor& adjoints, const OptionalTensor& x_direction,
                     const Tensor& weights_direction, const OptionalTensor& film_direction,
                     int64_t hidden, int64_t layers, int64_t outputs, bool x_gradient) {
  return by_dtype_and_device("timl::network_tangent", x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const char* operation = "timl::network_tangent";
    const Engine<T>& engine = checked_engine<T>();
    const Arguments<T> a(operation, x, weights, film, mask, running_mean, running_variance, hidden,
                         layers, outputs);
    const Tensor kept =
        checked(operation, "tape", tape, kDtype<T>, {buffer_rows(a.batch) * tape_row<T>(a.shape)});
    const Tensor adjoint = checked(operation, "adjoints", adjoints, kDtype<T>,
                                   {buffer_rows(a.batch) * adjoint_row<T>(a.shape)});
    const Tensor v_weights = checked(operation, "weights_direction", weights_direction, kDtype<T>,
                                     {weights_size(a.shape)});
    OptionalTensor v_x, v_film;
    if (x_direction)
      v_x = checked(operation, "x_direction", *x_direction, kDtype<T>,
                    {a.batch, a.shape.steps, a.shape.bands});
    if (film_direction)
      v_film =
          checked(operation, "film_direction", *film_direction, kDtype<T>, {film_size(a.shape)});
    const Tensor logits = a.empty_logits();
    const Gradients<T> gradients(a, x_gradient);
    const NetworkDirection<T> direction = {.x = values_of<T>(v_x),
                                           .weights = v_weights.const_data_ptr<T>(),
                                           .film = values_of<T>(v_film),
                                           .cotangent = nullptr};
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = a.empty({cuda::tangent_workspace<T>(a.shape, a.batch)});
        call.check(cuda::tangent(call.plan(), a.input(), kept.const_data_ptr<T>(),
                                 adjoint.const_data_ptr<T>(), direction,
                                 logits.mutable_data_ptr<T>(), gradients.pointers(),
                                 workspace.mutable_data_ptr<T>()));
        return {logits, gradients.x, gradients.weights, gradients.film};
      }
    engine.tangent(a.input(), kept.const_data_ptr<T>(), adjoint.const_data_ptr<T>(), direction,
                   logits.mutable_data_ptr<T>(), gradients.pointers(),
                   thread_workspace<T>(engine.tangent_workspace(a.shape, a.batch)), kTorchThreads);
    return {logits, gradients.x, gradients.weights, gradients.film};
  });
}

// Evaluation mode without a tape, for any number of rows -> logits [n] or [n,K]
Tensor network_evaluate(const Tensor& x, const Tensor& weights, const Tensor& film,
                        const Tensor& running_mean, const Tensor& running_variance, int64_t hidden,
                        int64_t layers, int64_t outputs) {
  return by_dtype_and_device("timl::network_evaluate", x, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const Engine<T>& engine = checked_engine<T>();
    const Arguments<T> a("timl::network_evaluate", x, weights, film, std::nullopt, running_mean,
                         running_variance, hidden, layers, outputs);
    check_finite<T>("timl::network_evaluate", "x", a.x);
    const Tensor logits = a.empty_logits();
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = a.empty({cuda::evaluate_workspace<T>(a.shape, call.plan())});
        call.check(cuda::evaluate(call.plan(), a.input(), logits.mutable_data_ptr<T>(),
                                  workspace.mutable_data_ptr<T>()));
        return logits;
      }
    static thread_local Workspace<T> preparation;
    T* prepared = preparation.of_size(engine.prepared_size(a.shape));
    engine.prepare(a.input(), prepared);
    constexpr int64_t kRows = 10 * kChunkRows;  // of one piece of work
    const T* rows = a.x.template const_data_ptr<T>();
    T* out = logits.mutable_data_ptr<T>();
    const int64_t series = a.shape.steps * a.shape.bands;
    Call::current()->for_each((a.batch + kRows - 1) / kRows, [&](int64_t piece) {
      T* workspace = thread_workspace<T>(engine.evaluate_workspace(a.shape, kRows));
      const int64_t first = piece * kRows;
      const int64_t count = first + kRows <= a.batch ? kRows : a.batch - first;
      engine.evaluate(a.shape, prepared, rows + first * series, count,
                      out + first * a.shape.outputs, workspace);
    });
    return logits;
  });
}

using MetaResult = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// Checks labels [.., samples]: 0 or 1 with one output, else 0 to outputs - 1, and -1 for what
// counts for nothing. Every batch needs a label that counts.
template <class T>
void check_labels(const Tensor& labels, const char* name, int64_t samples, int64_t outputs) {
  if (Call::current()->on_cuda()) return;  // a label that is no class makes the loss NaN there
  const char* operation = Call::current()->operation();
  const T* values = labels.const_data_ptr<T>();
  const int64_t classes = outputs == 1 ? 2 : outputs;
  bool counts = false;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const T label = values[i];
    require(label >= T(-1) && label < T(classes) && label == std::floor(label), operation, ": ",
            name, " is ", shape_text(labels), " with the label ", std::to_string(label),
            " at flat index ", i, ": give classes 0 to ", classes - 1,
            ", or -1 for a sample that counts for nothing");
    counts = counts || label >= T(0);
    if ((i + 1) % samples != 0) continue;
    require(counts, operation, ": ", name, " is ", shape_text(labels),
            " with a batch of -1 alone, the one that ends at flat index ", i,
            ": give every batch a label that counts");
    counts = false;
  }
}

// Checks class weights [N,classes] or [classes]: finite and above 0.
template <class T>
void check_class_weights(const Tensor& weights) {
  if (Call::current()->on_cuda()) return;
  const T* values = weights.const_data_ptr<T>();
  for (int64_t i = 0; i < weights.numel(); ++i)
    require(std::isfinite(values[i]) && values[i] > T(0), Call::current()->operation(),
            ": class_weights is ", shape_text(weights), " with the weight ",
            std::to_string(values[i]), " at flat index ", i, ": give finite weights above 0");
}

// The meta-step of a meta-batch, threaded over tasks.
// -> loss [N], logits ([N,Q] or [N,Q,K]), support loss [N,S], weights gradient [P] and film
// gradient [N,Phi] of
//    the mean loss, step-size gradient [S, tensors], batch mean and variance [N,S+1,L,H]
MetaResult meta_gradient(const Tensor& support_x, const Tensor& support_y, const Tensor& query_x,
                         const Tensor& query_y, const Tensor& weights, const Tensor& film,
                         const OptionalTensor& support_mask, const OptionalTensor& query_mask,
                         const OptionalTensor& class_weights, const Tensor& step_sizes,
                         int64_t hidden, int64_t layers, int64_t outputs, int64_t order) {
  return by_dtype_and_device("timl::meta_gradient", support_x, [&](auto zero) -> MetaResult {
    using T = decltype(zero);
    const char* operation = "timl::meta_gradient";
    const Engine<T>& engine = checked_engine<T>();
    const Shape shape = checked_shape(operation, support_x, 3, hidden, layers, outputs);
    require(order >= 0 && order <= 2, operation, ": order is ", order,
            ": give 0 (losses only), 1 (first order) or 2 (exact second order)");
    const Tensor sx = checked(operation, "support_x", support_x, kDtype<T>,
                              {-1, -1, -1, shape.steps, shape.bands});
    const int64_t tasks = sx.size(0), inner_steps = sx.size(1), support = sx.size(2);
    const Tensor qx =
        checked(operation, "query_x", query_x, kDtype<T>, {tasks, -1, shape.steps, shape.bands});
    const int64_t query = qx.size(1);
    require(support >= 2 && query >= 2, operation, ": support_x is ", shape_text(sx),
            " and query_x ", shape_text(qx),
            ": give at least 2 samples in each batch for BatchNorm with batch statistics");
    const Tensor sy =
        checked(operation, "support_y", support_y, kDtype<T>, {tasks, inner_steps, support});
    const Tensor qy = checked(operation, "query_y", query_y, kDtype<T>, {tasks, query});
    const Tensor w = checked(operation, "weights", weights, kDtype<T>, {weights_size(shape)});
    const Tensor phi = checked(operation, "film", film, kDtype<T>, {tasks, film_size(shape)});
    const Tensor alpha =
        checked(operation, "step_sizes", step_sizes, kDtype<T>, {inner_steps, tensor_count(shape)});
    OptionalTensor sm, qm, classes;
    if (support_mask)
      sm = checked(operation, "support_mask", *support_mask, kDtype<T>,
                   {tasks, inner_steps, support, hidden});
    if (query_mask)
      qm = checked(operation, "query_mask", *query_mask, kDtype<T>, {tasks, query, hidden});
    const int64_t class_count = outputs == 1 ? 2 : outputs;
    if (class_weights) {
      classes =
          checked(operation, "class_weights", *class_weights, kDtype<T>, {tasks, class_count});
      check_class_weights<T>(*classes);
    }
    check_finite<T>(operation, "support_x", sx);
    check_finite<T>(operation, "query_x", qx);
    check_finite<T>(operation, "step_sizes", alpha);
    check_labels<T>(sy, "support_y", support, outputs);
    check_labels<T>(qy, "query_y", query, outputs);

    const auto empty = [&](std::initializer_list<int64_t> sizes) { return new_empty(sx, sizes); };
    const bool gradients = order > 0;
    const int64_t tensors = tensor_count(shape), phi_size = film_size(shape);
    const Tensor loss = empty({tasks});
    const Tensor logits = outputs == 1 ? empty({tasks, query}) : empty({tasks, query, outputs});
    const Tensor support_loss = empty({tasks, inner_steps});
    const Tensor dw = empty({gradients ? weights_size(shape) : 0});
    const Tensor dphi = empty({gradients ? tasks : 0, phi_size});
    const Tensor dalpha = empty({gradients ? inner_steps : 0, tensors});
    const Tensor mean = empty({tasks, inner_steps + 1, layers, hidden});
    const Tensor variance = empty({tasks, inner_steps + 1, layers, hidden});

    const MetaShape m = {.network = shape,
                         .inner_steps = inner_steps,
                         .support = support,
                         .query = query,
                         .order = static_cast<int>(order)};
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = empty({cuda::meta_workspace<T>(m, tasks)});
        call.check(cuda::meta_gradient<T>(call.plan(), m, tasks, w.const_data_ptr<T>(),
                                          alpha.const_data_ptr<T>(),
                                          {.support_x = sx.const_data_ptr<T>(),
                                           .support_y = sy.const_data_ptr<T>(),
                                           .query_x = qx.const_data_ptr<T>(),
                                           .query_y = qy.const_data_ptr<T>(),
                                           .film = phi.const_data_ptr<T>(),
                                           .support_mask = values_of<T>(sm),
                                           .query_mask = values_of<T>(qm),
                                           .class_weights = values_of<T>(classes)},
                                          {.loss = loss.mutable_data_ptr<T>(),
                                           .support_loss = support_loss.mutable_data_ptr<T>(),
                                           .logits = logits.mutable_data_ptr<T>(),
                                           .batch_mean = mean.mutable_data_ptr<T>(),
                                           .batch_variance = variance.mutable_data_ptr<T>(),
                                           .weights_gradient = dw.mutable_data_ptr<T>(),
                                           .film_gradient = dphi.mutable_data_ptr<T>(),
                                           .step_size_gradient = dalpha.mutable_data_ptr<T>()},
                                          workspace.mutable_data_ptr<T>()));
        return {loss, logits, support_loss, dw, dphi, dalpha, mean, variance};
      }
    // Shared by the tasks: the packed weights, one packed gradient and one row of step-size
    // gradients a task, and a packed sum.
    const int64_t base_size = engine.base_size(shape), packed_size = engine.packed_size(shape);
    static thread_local Workspace<T> shared;
    T* base = shared.of_size(base_size + (tasks + 1) * packed_size + tasks * inner_steps * tensors);
    T* task_gradients = base + base_size;
    T* sum = task_gradients + tasks * packed_size;
    T* task_steps = sum + packed_size;
    engine.pack_base(shape, w.const_data_ptr<T>(), base);
    const int64_t series = shape.steps * shape.bands, norm = layers * hidden;
    Call::current()->for_each(tasks, [&](int64_t n) {
      T* workspace = thread_workspace<T>(engine.meta_workspace(m));
      const Episode<T> episode = {
          .support_x = sx.const_data_ptr<T>() + n * inner_steps * support * series,
          .support_y = sy.const_data_ptr<T>() + n * inner_steps * support,
          .query_x = qx.const_data_ptr<T>() + n * query * series,
          .query_y = qy.const_data_ptr<T>() + n * query,
          .film = phi.const_data_ptr<T>() + n * phi_size,
          .support_mask =
              sm ? sm->template const_data_ptr<T>() + n * inner_steps * support * hidden : nullptr,
          .query_mask = qm ? qm->template const_data_ptr<T>() + n * query * hidden : nullptr,
          .class_weights =
              classes ? classes->template const_data_ptr<T>() + n * class_count : nullptr};
      const EpisodeResult<T> result = {
          .loss = loss.mutable_data_ptr<T>() + n,
          .support_loss = support_loss.mutable_data_ptr<T>() + n * inner_steps,
          .logits = logits.mutable_data_ptr<T>() + n * query * outputs,
          .batch_mean = mean.mutable_data_ptr<T>() + n * (inner_steps + 1) * norm,
          .batch_variance = variance.mutable_data_ptr<T>() + n * (inner_steps + 1) * norm,
          .packed_gradient = task_gradients + n * packed_size,
          .film_gradient = gradients ? dphi.mutable_data_ptr<T>() + n * phi_size : nullptr,
          .step_size_gradient = task_steps + n * inner_steps * tensors};
      engine.meta_task(m, base, alpha.const_data_ptr<T>(), episode, result, workspace, kOneThread);
    });
    if (gradients) {
      const T scale = T(1) / static_cast<T>(tasks);
      engine.reduce_gradients(shape, tasks, task_gradients, scale, dw.mutable_data_ptr<T>(), sum,
                              kTorchThreads);
      T* film_out = dphi.mutable_data_ptr<T>();
      for (int64_t i = 0; i < tasks * phi_size; ++i) film_out[i] *= scale;
      T* steps_out = dalpha.mutable_data_ptr<T>();
      for (int64_t i = 0; i < inner_steps * tensors; ++i) {
        steps_out[i] = 0;
        for (int64_t n = 0; n < tasks; ++n)
          steps_out[i] += scale * task_steps[n * inner_steps * tensors + i];
      }
    }
    return {loss, logits, support_loss, dw, dphi, dalpha, mean, variance};
  });
}

// The inner steps of one task alone.
// -> weights [P] after the last, support loss [S], batch mean and variance [S,L,H]
Four adapt(const Tensor& support_x, const Tensor& support_y, const Tensor& weights,
           const Tensor& film, const OptionalTensor& support_mask,
           const OptionalTensor& class_weights, const Tensor& step_sizes, int64_t hidden,
           int64_t layers, int64_t outputs) {
  return by_dtype_and_device("timl::adapt", support_x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const char* operation = "timl::adapt";
    const Engine<T>& engine = checked_engine<T>();
    const Shape shape = checked_shape(operation, support_x, 2, hidden, layers, outputs);
    const Tensor x =
        checked(operation, "support_x", support_x, kDtype<T>, {-1, -1, shape.steps, shape.bands});
    const int64_t inner_steps = x.size(0), support = x.size(1);
    require(support >= 2, operation, ": support_x is ", shape_text(x),
            ": give at least 2 samples in each batch for BatchNorm with batch statistics");
    const Tensor y = checked(operation, "support_y", support_y, kDtype<T>, {inner_steps, support});
    const Tensor w = checked(operation, "weights", weights, kDtype<T>, {weights_size(shape)});
    const Tensor phi = checked(operation, "film", film, kDtype<T>, {film_size(shape)});
    const Tensor alpha =
        checked(operation, "step_sizes", step_sizes, kDtype<T>, {inner_steps, tensor_count(shape)});
    OptionalTensor mask, classes;
    if (support_mask)
      mask = checked(operation, "support_mask", *support_mask, kDtype<T>,
                     {inner_steps, support, hidden});
    if (class_weights) {
      classes = checked(operation, "class_weights", *class_weights, kDtype<T>,
                        {outputs == 1 ? 2 : outputs});
      check_class_weights<T>(*classes);
    }
    check_finite<T>(operation, "support_x", x);
    check_finite<T>(operation, "step_sizes", alpha);
    check_labels<T>(y, "support_y", support, outputs);

    const Tensor adapted = new_empty(x, {weights_size(shape)});
    const Tensor loss = new_empty(x, {inner_steps});
    const Tensor mean = new_empty(x, {inner_steps, layers, hidden});
    const Tensor variance = new_empty(x, {inner_steps, layers, hidden});
    const AdaptInput<T> input = {.shape = shape,
                                 .inner_steps = inner_steps,
                                 .support = support,
                                 .support_x = x.const_data_ptr<T>(),
                                 .support_y = y.const_data_ptr<T>(),
                                 .weights = w.const_data_ptr<T>(),
                                 .film = phi.const_data_ptr<T>(),
                                 .support_mask = values_of<T>(mask),
                                 .class_weights = values_of<T>(classes),
                                 .step_sizes = alpha.const_data_ptr<T>()};
    const AdaptResult<T> result = {.weights = adapted.mutable_data_ptr<T>(),
                                   .support_loss = loss.mutable_data_ptr<T>(),
                                   .batch_mean = mean.mutable_data_ptr<T>(),
                                   .batch_variance = variance.mutable_data_ptr<T>()};
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace =
            new_empty(x, {cuda::adapt_workspace<T>(shape, inner_steps, support)});
        call.check(cuda::adapt(call.plan(), input, result, workspace.mutable_data_ptr<T>()));
        return {adapted, loss, mean, variance};
      }
    engine.adapt(input, result, thread_workspace<T>(engine.adapt_workspace(shape, support)),
                 kTorchThreads);
    return {adapted, loss, mean, variance};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY(timl, library) {
  library.def(
      "network(Tensor x, Tensor weights, Tensor film, Tensor? mask, Tensor? running_mean, "
      "Tensor? running_variance, int hidden, int layers, int outputs) -> (Tensor, Tensor, Tensor, "
      "Tensor)");
  library.def(
      "network_backward(Tensor cotangent, Tensor x, Tensor weights, Tensor film, Tensor? mask, "
      "Tensor? running_mean, Tensor? running_variance, Tensor tape, int hidden, int layers, int "
      "outputs, "
      "bool x_gradient) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "network_tangent(Tensor x, Tensor weights, Tensor film, Tensor? mask, Tensor? running_mean, "
      "Tensor? running_variance, Tensor tape, Tensor adjoints, Tensor? x_direction, "
      "Tensor weights_direction, Tensor? film_direction, int hidden, int layers, int outputs, bool "
      "x_gradient) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "network_evaluate(Tensor x, Tensor weights, Tensor film, Tensor running_mean, "
      "Tensor running_variance, int hidden, int layers, int outputs) -> Tensor");
  library.def(
      "meta_gradient(Tensor support_x, Tensor support_y, Tensor query_x, Tensor query_y, "
      "Tensor weights, Tensor film, Tensor? support_mask, Tensor? query_mask, Tensor? "
      "class_weights, "
      "Tensor step_sizes, int hidden, int layers, int outputs, int order) -> (Tensor, Tensor, "
      "Tensor, Tensor, Tensor, Tensor, "
      "Tensor, Tensor)");
  library.def(
      "adapt(Tensor support_x, Tensor support_y, Tensor weights, Tensor film, Tensor? "
      "support_mask, Tensor? class_weights, Tensor step_sizes, int hidden, int layers, int "
      "outputs) -> (Tensor, Tensor, Tensor, Tensor)");
}

// For every device, so that the checks name the tensors that are on none which timl computes on.
STABLE_TORCH_LIBRARY_IMPL(timl, CompositeExplicitAutograd, library) {
  library.impl("network", TORCH_BOX(&network));
  library.impl("network_backward", TORCH_BOX(&network_backward));
  library.impl("network_tangent", TORCH_BOX(&network_tangent));
  library.impl("network_evaluate", TORCH_BOX(&network_evaluate));
  library.impl("meta_gradient", TORCH_BOX(&meta_gradient));
  library.impl("adapt", TORCH_BOX(&adapt));
}

}  // namespace timl
