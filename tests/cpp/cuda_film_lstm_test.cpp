// The LSTM alone on CUDA: states, gradients and tangents are the CPU's, whatever the plan, and the
// order of threads changes no bit.
#include "catch.h"
#include "cuda_film_lstm_problem.h"

namespace {

const LstmProblem kLstmProblems[] = {
    {{4, 3, 6, true}, 5, true, true},    {{1, 2, 3, true}, 1, true, false},
    {{3, 5, 20, false}, 3, false, true}, {{2, 35, 70, true}, 12, false, false},
    {{2, 4, 33, false}, 42, true, true},
};

}  // namespace

TEST_CASE("the LSTM alone on CUDA is that of the CPU", "[cuda]") {
  uint64_t seed = 0;
  for (const LstmProblem& p : kLstmProblems) {
    const LstmInputs in(p);
    const LstmOutcome truth = run(timl::engine<double>()->film_lstm, p, in);
    for (const timl::cuda::Plan& plan : plans()) {
      const Order order(seed++);
      INFO("batch " << p.batch << ", hidden " << p.shape.hidden << ", cluster " << plan.cluster);
      check_close(run(CudaFilmLstm<double>{plan}, p, in), truth, 1e-11);
    }
    check_close(run(CudaFilmLstm<float>{plans()[0]}, p, in), truth, 2e-4);
  }
}

TEST_CASE("a value that is not finite makes its series' states NaN, and no other's", "[cuda]") {
  const LstmProblem p = {{3, 4, 6, false}, 2, true, true};
  for (const double bad : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
    LstmInputs in(p);
    in.x[5] = bad;
    const LstmOutcome found = run(CudaFilmLstm<float>{plans()[0]}, p, in);
    for (const std::vector<double>& states : {found.states, found.evaluated})
      for (size_t unit = 0; unit < 6; ++unit)
        CHECK((std::isnan(states[unit]) && std::isfinite(states[6 + unit])));
  }
}

TEST_CASE("the LSTM alone on CUDA: the order of threads and clusters changes no bit", "[cuda]") {
  const LstmProblem p = {{2, 4, 17, true}, 42, true, true};
  const LstmInputs in(p);
  const CudaFilmLstm<float> engine = {plans()[0]};
  const LstmOutcome first = run(engine, p, in);
  for (uint64_t seed = 1; seed < 3; ++seed) {
    const Order order(seed);
    CHECK(run(engine, p, in) == first);
  }
}
