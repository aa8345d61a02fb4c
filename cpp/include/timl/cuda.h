// The engine's interface on CUDA: what engine.h has for the CPU, for arrays in the device's memory.
//
// Shapes, orders and meanings of all arrays are those of engine.h. Functions put kernels on the
// plan's stream and return at once: null, or what went wrong. Nothing is allocated, and nothing
// waits for the device, so calls can be captured in a CUDA graph. Working memory is the caller's,
// in elements of the scalar type, aligned to kAlignment bytes. The same plan gives the same bits.
#pragma once

#include "timl/engine.h"

namespace timl {

// Whether this build has the engine that is declared here.
#if defined(TIML_CUDA)
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif

}  // namespace timl

namespace timl::cuda {

// How work is spread over the device.
struct Plan {
  int threads = 256;  // of a block: whole warps, 256 at most
  int cluster = 1;    // blocks that share one task, 1 to 8; more than 1 from sm_90 on
  int clusters = 1;   // how many of them the device runs at once
  int shared = 0;     // bytes of shared memory that a block may have; weights stay there that fit
  void* stream = nullptr;
};

// Makes a device the thread's current one and writes the plan for it: null, or what went wrong.
const char* plan_for_device(int device, void* stream, Plan* plan);

// Halves the plan's clusters until the current device has room for one, and writes how many it then
// runs at once: null, or what went wrong. plan_for_device does this.
const char* fit_clusters(Plan* plan);

// What a meta-batch of N tasks returns; the arrays of gradients are not written when order is 0.
template <class T>
struct MetaResult {
  T* loss;                // [N] mean query loss after adaptation
  T* support_loss;        // [N,S]
  T* logits;              // [N,Q,K]
  T* batch_mean;          // [N,S+1,L,H]
  T* batch_variance;      // [N,S+1,L,H]
  T* weights_gradient;    // [P] of the mean loss
  T* film_gradient;       // [N,Phi] of the mean loss
  T* step_size_gradient;  // [S, tensor_count] of the mean loss
};

template <class T>
int64_t tape_size(const Shape&, int64_t batch);
template <class T>
int64_t adjoint_size(const Shape&, int64_t batch);
template <class T>
int64_t forward_workspace(const Shape&);
template <class T>
int64_t tangent_workspace(const Shape&, int64_t batch);
template <class T>
int64_t evaluate_workspace(const Shape&, const Plan&);
template <class T>
int64_t meta_workspace(const MetaShape&, int64_t tasks);

template <class T>
const char* forward(const Plan&, const NetworkInput<T>&, T* logits, T* batch_mean,
                    T* batch_variance, T* tape, T* workspace);
template <class T>
const char* backward(const Plan&, const NetworkInput<T>&, const T* cotangent, const T* tape,
                     const NetworkGradient<T>&, T* adjoints);
template <class T>
const char* tangent(const Plan&, const NetworkInput<T>&, const T* tape, const T* adjoints,
                    const NetworkDirection<T>&, T* logits_tangent, const NetworkGradient<T>&,
                    T* workspace);
// Evaluation mode without a tape, for any number of rows.
template <class T>
const char* evaluate(const Plan&, const NetworkInput<T>&, T* logits, T* workspace);

// The meta-step of all tasks at once: an array of `episodes` has those of all tasks, one after
// another; film is [N,Phi], class_weights [N,K] ([N,2] where K = 1) or null.
template <class T>
const char* meta_gradient(const Plan&, const MetaShape&, int64_t tasks, const T* weights,
                          const T* step_sizes, const Episode<T>& episodes, const MetaResult<T>&,
                          T* workspace);

// The inner steps of one task alone. The kernel is the meta-step's, whose query is the last support
// batch again.
template <class T>
int64_t adapt_workspace(const Shape&, int64_t inner_steps, int64_t support);
template <class T>
const char* adapt(const Plan&, const AdaptInput<T>&, const AdaptResult<T>&, T* workspace);

// The LSTM alone, with FiLM at its input (film_lstm.h).
template <class T>
int64_t film_lstm_tape_size(const FilmLstmShape&, int64_t batch);
template <class T>
int64_t film_lstm_adjoint_size(const FilmLstmShape&, int64_t batch);
template <class T>
int64_t film_lstm_forward_workspace(const FilmLstmShape&);
template <class T>
int64_t film_lstm_tangent_workspace(const FilmLstmShape&, int64_t batch);
template <class T>
int64_t film_lstm_evaluate_workspace(const FilmLstmShape&, const Plan&);

template <class T>
const char* film_lstm_forward(const Plan&, const FilmLstmInput<T>&, T* states, T* tape,
                              T* workspace);
template <class T>
const char* film_lstm_backward(const Plan&, const FilmLstmInput<T>&, const T* cotangent,
                               const T* tape, const FilmLstmGradient<T>&, T* adjoints);
template <class T>
const char* film_lstm_tangent(const Plan&, const FilmLstmInput<T>&, const T* tape,
                              const T* adjoints, const FilmLstmDirection<T>&, T* states_tangent,
                              const FilmLstmGradient<T>&, T* workspace);
// Without a tape, for any number of rows.
template <class T>
const char* film_lstm_evaluate(const Plan&, const FilmLstmInput<T>&, T* states, T* workspace);

// Descriptions [rows,D] of series x [rows,T,18], normalised by bands [2,18] (mean, deviation).
template <class T>
const char* describe(const Plan&, int64_t steps, const T* bands, const T* x, int64_t rows, T* out);

// The strong protocol's classifier on any number of rows of x [rows,T,18]; distances may be null.
// What are no trees makes logits that are not finite. A series gets the same bits in any batch.
template <class T>
int64_t strong_workspace(const StrongShape&, int64_t trees, const Plan&);
template <class T>
const char* strong_evaluate(const Plan&, const StrongInput<T>&, const PlainTrees<T>&, const T* x,
                            int64_t rows, T* logits, T* distances, T* workspace);

}  // namespace timl::cuda
