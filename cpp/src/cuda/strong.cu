// The functions of cuda.h for the strong protocol.
#include "strong.h"

namespace timl {
namespace cuda {

template <class T>
const char* describe(const Plan& plan, int64_t steps, const T* bands, const T* x, int64_t rows,
                     T* out) {
  Start<T> start(plan);
  start.on_grid(describe_kernel<T>, steps, description_size(steps), bands, x, rows, out);
  return start.trouble();
}

template <class T>
int64_t strong_workspace(const StrongShape& shape, int64_t trees, const Plan& plan) {
  const StrongSizes s(shape);
  return PreparedStrong<T>(s, nullptr).arena.used() +
         plan.clusters * StrongMemory<T>(s, trees, nullptr).arena.used();
}

template <class T>
const char* strong_evaluate(const Plan& plan, const StrongInput<T>& in, const PlainTrees<T>& trees,
                            const T* x, int64_t rows, T* logits, T* distances, T* workspace) {
  const StrongSizes s(in.shape);
  const int64_t chunks = chunk_count(rows);
  T* const pieces = workspace + PreparedStrong<T>(s, nullptr).arena.used();
  Start<T> start(plan);
  start.on_grid(strong_prepare_kernel<T>, s, in, workspace);
  start.on_clusters(chunks < plan.clusters ? chunks : plan.clusters, strong_kernel<T>, s, in, trees,
                    x, rows, workspace, pieces,
                    StrongMemory<T>(s, trees.trees, nullptr).arena.used(), logits, distances);
  return start.trouble();
}

#define TIML_INSTANTIATE(T)                                                                \
  template const char* describe<T>(const Plan&, int64_t, const T*, const T*, int64_t, T*); \
  template int64_t strong_workspace<T>(const StrongShape&, int64_t, const Plan&);          \
  template const char* strong_evaluate<T>(const Plan&, const StrongInput<T>&,              \
                                          const PlainTrees<T>&, const T*, int64_t, T*, T*, T*);
TIML_INSTANTIATE(float)
TIML_INSTANTIATE(double)

}  // namespace cuda
}  // namespace timl
