// All kernels of the CUDA engine once, small, for the race detector (tests/cpp/CMakeLists.txt):
// with no mistake, with all cluster barriers left out, or with two blocks that write one value. The
// detector ends the program where there is a race.
#include <cstdio>
#include <cstring>

#include "../../cpp/src/cuda/simt.h"
#include "cuda_film_lstm_problem.h"
#include "cuda_strong_problem.h"
#include "meta_batch.h"

namespace {

void write_one_value(int* out) {
  if (threadIdx.x == 0) *out = 1;
}

}  // namespace

int main(int count, char** values) {
  const char* planted = count > 1 ? values[1] : "nothing";
  timl::simt::options().without_cluster_barriers = std::strcmp(planted, "barriers") == 0;
  const timl::Shape shape = {.steps = 2, .bands = 3, .hidden = 5, .layers = 2, .outputs = 3};
  const CudaEngine<float> engine = {
      {.threads = 64, .cluster = 2, .clusters = 1, .shared = 227 * 1024}};
  if (std::strcmp(planted, "writes") == 0) {
    int out = 0;
    const timl::simt::Launch two = {.blocks = 2, .threads = 32};
    require_no_trouble(timl::simt::launch(write_one_value, two, &out));
  }
  const Problem problem = {shape, 42, true, true};
  const Inputs in(problem);
  const Outcome passes = run(engine, problem, in);
  const MetaBatchOutcome meta = run(
      engine, MetaBatch({.network = shape, .inner_steps = 2, .support = 4, .query = 3, .order = 2},
                        2, true));
  const Buffer<float> logits(problem.batch * shape.outputs);
  Problem evaluated = problem;
  evaluated.batch_statistics = evaluated.masked = false;
  const InputArrays<float> arrays(in);
  const Buffer<float> workspace(timl::cuda::evaluate_workspace<float>(shape, engine.plan));
  require_no_trouble(
      timl::cuda::evaluate(engine.plan, arrays.of(evaluated), logits.get(), workspace.get()));
  const StrongOutcome strong = run(engine, Strong({.steps = 4,
                                                   .networks = 2,
                                                   .dimensions = 3,
                                                   .width = 5,
                                                   .labels = 7,
                                                   .known = 3,
                                                   .outputs = 3},
                                                  42));
  const LstmProblem lstm_problem = {{2, 3, 5, true}, 42, true, true};
  const LstmOutcome lstm =
      run(CudaFilmLstm<float>{engine.plan}, lstm_problem, LstmInputs(lstm_problem));
  std::printf("no race: loss %g, logit %g, %g, %g, state %g\n", meta.loss[0], passes.logits[0],
              logits.get()[0], strong.logits[0], lstm.evaluated[0]);
}
