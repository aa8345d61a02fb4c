// What the CUDA engine computes of the LSTM alone, behind the members of the CPU engine's table.
#pragma once

#include "cuda_problem.h"
#include "film_lstm_problem.h"

template <class T>
struct CudaFilmLstm {
  timl::cuda::Plan plan;

  int64_t tape_size(const timl::FilmLstmShape& s, int64_t batch) const {
    return timl::cuda::film_lstm_tape_size<T>(s, batch);
  }
  int64_t adjoint_size(const timl::FilmLstmShape& s, int64_t batch) const {
    return timl::cuda::film_lstm_adjoint_size<T>(s, batch);
  }
  int64_t forward_workspace(const timl::FilmLstmShape& s, int64_t) const {
    return timl::cuda::film_lstm_forward_workspace<T>(s);
  }
  int64_t backward_workspace(const timl::FilmLstmShape&, int64_t) const { return 0; }
  int64_t tangent_workspace(const timl::FilmLstmShape& s, int64_t batch) const {
    return timl::cuda::film_lstm_tangent_workspace<T>(s, batch);
  }
  void forward(const timl::FilmLstmInput<T>& input, T* states, T* tape, T* workspace,
               const timl::Parallel&) const {
    require_no_trouble(timl::cuda::film_lstm_forward(plan, input, states, tape, workspace));
  }
  void backward(const timl::FilmLstmInput<T>& input, const T* cotangent, const T* tape,
                const timl::FilmLstmGradient<T>& out, T* adjoints, T*,
                const timl::Parallel&) const {
    require_no_trouble(timl::cuda::film_lstm_backward(plan, input, cotangent, tape, out, adjoints));
  }
  void tangent(const timl::FilmLstmInput<T>& input, const T* tape, const T* adjoints,
               const timl::FilmLstmDirection<T>& along, T* states,
               const timl::FilmLstmGradient<T>& out, T* workspace, const timl::Parallel&) const {
    require_no_trouble(
        timl::cuda::film_lstm_tangent(plan, input, tape, adjoints, along, states, out, workspace));
  }
};

template <class T>
std::vector<double> evaluated(const CudaFilmLstm<T>& engine, const timl::FilmLstmInput<T>& input) {
  Buffer<T> states(input.batch * film_lstm_states_size(input.shape));
  Buffer<T> workspace(timl::cuda::film_lstm_evaluate_workspace<T>(input.shape, engine.plan));
  require_no_trouble(
      timl::cuda::film_lstm_evaluate(engine.plan, input, states.get(), workspace.get()));
  return states.values();
}
