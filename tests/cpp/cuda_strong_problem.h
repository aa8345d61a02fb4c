// What the CUDA engine computes of a random classifier of the strong protocol.
#pragma once

#include "cuda_problem.h"
#include "strong_problem.h"

template <class T>
StrongOutcome run(const CudaEngine<T>& engine, const Strong& p) {
  const StrongArrays<T> a(p);
  const timl::PlainTrees<T> trees = a.trees(p);
  const Buffer<T> workspace(timl::cuda::strong_workspace<T>(p.s, trees.trees, engine.plan));
  require_no_trouble(timl::cuda::strong_evaluate<T>(engine.plan, a.input(p), trees, a.x, p.rows,
                                                    a.logits, a.wanted_distances(), workspace));
  require_no_trouble(
      timl::cuda::describe<T>(engine.plan, p.s.steps, a.bands, a.x, p.rows, a.described));
  return a.outcome();
}
