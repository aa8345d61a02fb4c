// The functions of cuda.h: each lays out its memory and starts its kernels. Those of the LSTM alone
// are in film_lstm.h; here, where the network's kernels are, they become machine code.
#include "film_lstm.h"
#include "meta_step.h"

namespace timl {
namespace {

template <class T>
Pass<T> pass_of(const Layout& layout, const NetworkInput<T>& in) {
  Pass<T> pass = {};
  pass.layout = layout;
  pass.batch = batch_of(in);
  pass.weights.flat = in.weights;
  return pass;
}

// The transposes of weights and of a direction, and the tangents.
template <class T>
struct TangentMemory {
  TangentMemory(const Layout& layout, int64_t batch, T* memory) : arena(memory) {
    transposed = arena.take(layout.transposed_size);
    direction_transposed = arena.take(layout.transposed_size);
    tangents = arena.take(NetworkTangents<T>::size(layout, batch));
  }
  Arena<T> arena;
  T *transposed, *direction_transposed, *tangents;
};

// The transposed weights, then a piece for each cluster or each task.
template <class T>
struct PiecesMemory {
  PiecesMemory(const Layout& layout, T* memory) : arena(memory) {
    transposed = arena.take(layout.transposed_size);
    pieces = memory == nullptr ? nullptr : memory + arena.used();
  }
  Arena<T> arena;
  T *transposed, *pieces;
};

template <class T>
MetaInput<T> meta_input(const MetaShape& m, int64_t tasks, const T* weights, const T* step_sizes,
                        const Episode<T>& episodes, T* workspace) {
  const Layout layout(m.network);
  const PiecesMemory<T> pieces(layout, workspace);
  const MetaMemory<T> memory(layout, m, pieces.pieces);
  return {.layout = layout,
          .shape = m,
          .tasks = tasks,
          .base = {.flat = weights, .transposed = pieces.transposed},
          .step_sizes = step_sizes,
          .episodes = episodes,
          .memory = memory,
          .stride = memory.arena.used()};
}

// A task's inner steps without a gradient of their query, which is one of the support batches.
MetaShape losses_alone(const Shape& s, int64_t inner_steps, int64_t support) {
  return {
      .network = s, .inner_steps = inner_steps, .support = support, .query = support, .order = 0};
}

}  // namespace

namespace cuda {

template <class T>
int64_t tape_size(const Shape& s, int64_t batch) {
  return NetworkTape<T>::size(Layout(s), batch);
}

template <class T>
int64_t adjoint_size(const Shape& s, int64_t batch) {
  return NetworkAdjoints<T>::size(Layout(s), batch);
}

template <class T>
int64_t forward_workspace(const Shape& s) {
  return Layout(s).transposed_size;
}

template <class T>
int64_t tangent_workspace(const Shape& s, int64_t batch) {
  return TangentMemory<T>(Layout(s), batch, nullptr).arena.used();
}

template <class T>
int64_t evaluate_workspace(const Shape& s, const Plan& plan) {
  const Layout layout(s);
  return PiecesMemory<T>(layout, nullptr).arena.used() +
         plan.clusters * EvaluateMemory<T>(layout, nullptr).arena.used();
}

template <class T>
int64_t meta_workspace(const MetaShape& m, int64_t tasks) {
  const Layout layout(m.network);
  return PiecesMemory<T>(layout, nullptr).arena.used() +
         tasks * MetaMemory<T>(layout, m, nullptr).arena.used();
}

template <class T>
const char* forward(const Plan& plan, const NetworkInput<T>& in, T* logits, T* batch_mean,
                    T* batch_variance, T* tape, T* workspace) {
  const Layout layout(in.shape);
  Pass<T> pass = pass_of(layout, in);
  pass.weights.transposed = workspace;
  pass.tape = tape;
  pass.logits = logits;
  pass.statistics = {.mean = batch_mean, .variance = batch_variance};
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, layout, in.weights, workspace);
  network_forward(start, pass);
  return start.trouble();
}

template <class T>
const char* backward(const Plan& plan, const NetworkInput<T>& in, const T* cotangent, const T* tape,
                     const NetworkGradient<T>& out, T* adjoints) {
  Pass<T> pass = pass_of(Layout(in.shape), in);
  pass.cotangent = cotangent;
  pass.tape = const_cast<T*>(tape);
  pass.adjoints = adjoints;
  pass.gradient = out.weights;
  pass.film_gradient = out.film;
  pass.x_gradient = out.x;
  Start<T> start(plan);
  network_backward(start, pass);
  return start.trouble();
}

template <class T>
const char* tangent(const Plan& plan, const NetworkInput<T>& in, const T* tape, const T* adjoints,
                    const NetworkDirection<T>& along, T* logits_tangent,
                    const NetworkGradient<T>& out, T* workspace) {
  const Layout layout(in.shape);
  const TangentMemory<T> memory(layout, in.batch, workspace);
  Pass<T> pass = pass_of(layout, in);
  pass.weights.transposed = memory.transposed;
  pass.direction = {.weights = {.flat = along.weights, .transposed = memory.direction_transposed},
                    .film = along.film,
                    .x = along.x};
  pass.cotangent_dot = along.cotangent;
  pass.tape = const_cast<T*>(tape);
  pass.adjoints = const_cast<T*>(adjoints);
  pass.tangents = memory.tangents;
  pass.logits = logits_tangent;
  pass.gradient = out.weights;
  pass.film_gradient = out.film;
  pass.x_gradient = out.x;
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, layout, in.weights, memory.transposed);
  start.on_grid(transpose_kernel<T>, layout, along.weights, memory.direction_transposed);
  network_tangent(start, pass);
  return start.trouble();
}

template <class T>
const char* evaluate(const Plan& plan, const NetworkInput<T>& in, T* logits, T* workspace) {
  const Layout layout(in.shape);
  const PiecesMemory<T> memory(layout, workspace);
  Batch<T> batch = batch_of(in);
  batch.mask = nullptr;
  batch.batch_statistics = false;
  const int64_t chunks = chunk_count(in.batch);
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, layout, in.weights, memory.transposed);
  start.on_clusters_with_room(
      chunks < plan.clusters ? chunks : plan.clusters,
      ForwardRoom<T>(layout, plan.cluster, kChunk, Arena<T>(nullptr)).used, evaluate_kernel<T>,
      layout, batch, Weights<T>{.flat = in.weights, .transposed = memory.transposed}, memory.pieces,
      EvaluateMemory<T>(layout, nullptr).arena.used(), logits);
  return start.trouble();
}

template <class T>
const char* meta_gradient(const Plan& plan, const MetaShape& m, int64_t tasks, const T* weights,
                          const T* step_sizes, const Episode<T>& episodes,
                          const MetaResult<T>& results, T* workspace) {
  const MetaInput<T> in = meta_input(m, tasks, weights, step_sizes, episodes, workspace);
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, in.layout, weights, const_cast<T*>(in.base.transposed));
  start_meta_steps(start, in);
  start.on_grid(results_kernel<T>, in, results);
  return start.trouble();
}

template <class T>
int64_t adapt_workspace(const Shape& s, int64_t inner_steps, int64_t support) {
  return meta_workspace<T>(losses_alone(s, inner_steps, support), 1);
}

template <class T>
const char* adapt(const Plan& plan, const AdaptInput<T>& in, const AdaptResult<T>& result,
                  T* workspace) {
  const int64_t last = (in.inner_steps - 1) * in.support;  // row of the last batch
  const Episode<T> episode = {
      .support_x = in.support_x,
      .support_y = in.support_y,
      .query_x = in.support_x + last * in.shape.steps * in.shape.bands,
      .query_y = in.support_y + last,
      .film = in.film,
      .support_mask = in.support_mask,
      .query_mask = in.support_mask == nullptr ? nullptr : in.support_mask + last * in.shape.hidden,
      .class_weights = in.class_weights};
  const MetaInput<T> meta = meta_input(losses_alone(in.shape, in.inner_steps, in.support), 1,
                                       in.weights, in.step_sizes, episode, workspace);
  Start<T> start(plan);
  start.on_grid(transpose_kernel<T>, meta.layout, in.weights, const_cast<T*>(meta.base.transposed));
  start_meta_steps(start, meta);
  start.on_grid(adapted_kernel<T>, meta, result);
  return start.trouble();
}

// The kernel that takes most of a block decides for all.
const char* fit_clusters(Plan* plan) {
  for (;; plan->cluster /= 2) {
    const simt::Launch launch = {.blocks = plan->cluster,
                                 .threads = plan->threads,
                                 .cluster = plan->cluster,
                                 .shared = static_cast<size_t>(plan->shared)};
    const char* trouble = simt::clusters_at_once(meta_step_kernel<float>, launch, &plan->clusters);
    if (trouble != nullptr || plan->clusters > 0) return trouble;
    if (plan->cluster == 1) return "the device has no room for a block of 256 threads";
  }
}

#define TIML_INSTANTIATE(T)                                                                       \
  template int64_t tape_size<T>(const Shape&, int64_t);                                           \
  template int64_t adjoint_size<T>(const Shape&, int64_t);                                        \
  template int64_t forward_workspace<T>(const Shape&);                                            \
  template int64_t tangent_workspace<T>(const Shape&, int64_t);                                   \
  template int64_t evaluate_workspace<T>(const Shape&, const Plan&);                              \
  template int64_t meta_workspace<T>(const MetaShape&, int64_t);                                  \
  template const char* forward<T>(const Plan&, const NetworkInput<T>&, T*, T*, T*, T*, T*);       \
  template const char* backward<T>(const Plan&, const NetworkInput<T>&, const T*, const T*,       \
                                   const NetworkGradient<T>&, T*);                                \
  template const char* tangent<T>(const Plan&, const NetworkInput<T>&, const T*, const T*,        \
                                  const NetworkDirection<T>&, T*, const NetworkGradient<T>&, T*); \
  template const char* evaluate<T>(const Plan&, const NetworkInput<T>&, T*, T*);                  \
  template const char* meta_gradient<T>(const Plan&, const MetaShape&, int64_t, const T*,         \
                                        const T*, const Episode<T>&, const MetaResult<T>&, T*);   \
  template int64_t adapt_workspace<T>(const Shape&, int64_t, int64_t);                            \
  template const char* adapt<T>(const Plan&, const AdaptInput<T>&, const AdaptResult<T>&, T*);    \
  template int64_t film_lstm_tape_size<T>(const FilmLstmShape&, int64_t);                         \
  template int64_t film_lstm_adjoint_size<T>(const FilmLstmShape&, int64_t);                      \
  template int64_t film_lstm_forward_workspace<T>(const FilmLstmShape&);                          \
  template int64_t film_lstm_tangent_workspace<T>(const FilmLstmShape&, int64_t);                 \
  template int64_t film_lstm_evaluate_workspace<T>(const FilmLstmShape&, const Plan&);            \
  template const char* film_lstm_forward<T>(const Plan&, const FilmLstmInput<T>&, T*, T*, T*);    \
  template const char* film_lstm_backward<T>(const Plan&, const FilmLstmInput<T>&, const T*,      \
                                             const T*, const FilmLstmGradient<T>&, T*);           \
  template const char* film_lstm_tangent<T>(const Plan&, const FilmLstmInput<T>&, const T*,       \
                                            const T*, const FilmLstmDirection<T>&, T*,            \
                                            const FilmLstmGradient<T>&, T*);                      \
  template const char* film_lstm_evaluate<T>(const Plan&, const FilmLstmInput<T>&, T*, T*);
TIML_INSTANTIATE(float)
TIML_INSTANTIATE(double)

}  // namespace cuda
}  // namespace timl
