// The engine's interface: forward, backward and tangent of one task's network, evaluation without
// a tape, the meta-step, and its inner steps alone, as one table of functions per scalar type and
// instruction set.
//
// All arrays are dense and row-major. Sizes in brackets: T steps, F bands, H hidden, L dense
// layers, K outputs, B samples; P = weights_size, Phi = film_size (shape.h). No function allocates
// or keeps state, and none throws but what a caller's Parallel throws: the caller gives every
// buffer, with the sizes that the *_size functions tell, in elements of the scalar type and aligned
// to kAlignment bytes where a comment says so.
#pragma once

#include <cstdint>

#include "timl/film_lstm.h"
#include "timl/shape.h"
#include "timl/strong.h"

namespace timl {

inline constexpr int64_t kAlignment = 64;

// Most samples of a chunk, which one thread computes: enough tiles to reuse a panel of weights from
// L1, few enough to stay in L2.
inline constexpr int64_t kChunkRows = 48;

// Runs body(context, index) for index in [0, count), in any order, possibly at the same time.
// Results never depend on the order or on the number of threads. `check` is called between pieces
// of work, some milliseconds apart, on the thread that does them. Either may throw: the call then
// ends, and what it had written is of no use.
struct Parallel {
  void (*run)(int64_t count, void (*body)(void* context, int64_t index), void* context);
  void (*check)();
};

// Runs everything on the calling thread, to its end.
inline constexpr Parallel kSerial = {
    .run =
        [](int64_t count, void (*body)(void*, int64_t), void* context) {
          for (int64_t index = 0; index < count; ++index) body(context, index);
        },
    .check = [] {}};

// What one task's network is evaluated on.
template <class T>
struct NetworkInput {
  Shape shape;
  int64_t batch;          // B
  const T* x;             // [B,T,F]
  const T* weights;       // [P]
  const T* film;          // [Phi]
  const T* mask;          // [B,H] variational dropout mask, or null for ones
  const T* running_mean;  // [L,H], read where batch_statistics is false
  const T* running_variance;
  bool batch_statistics;
};

// Gradients, each null where it is not wanted (weights and film always are).
template <class T>
struct NetworkGradient {
  T* x;        // [B,T,F] or null
  T* weights;  // [P]
  T* film;     // [Phi]
};

// A direction in (x, weights, film) and in the cotangent of the logits; null = zero.
template <class T>
struct NetworkDirection {
  const T* x;          // [B,T,F] or null
  const T* weights;    // [P]
  const T* film;       // [Phi] or null
  const T* cotangent;  // [B,K] or null
};

// One task's share of a meta-batch.
template <class T>
struct Episode {
  const T* support_x;      // [S,B,T,F]
  const T* support_y;      // [S,B]: 0 or 1 where K = 1, else 0 to K - 1; -1 counts for nothing
  const T* query_x;        // [Q,T,F]
  const T* query_y;        // [Q]
  const T* film;           // [Phi]
  const T* support_mask;   // [S,B,H] or null
  const T* query_mask;     // [Q,H] or null
  const T* class_weights;  // [K], or [2] where K = 1; null for ones
};

struct MetaShape {
  Shape network;
  int64_t inner_steps;  // S
  int64_t support;      // B, samples of a support batch
  int64_t query;        // Q
  int order;            // 0: losses only, 1: first order, 2: exact second order
};

// What the meta-step of one task returns; only the first four are written when order is 0.
template <class T>
struct EpisodeResult {
  T* loss;                // [1] mean query loss after adaptation
  T* support_loss;        // [S] mean support loss before each inner step
  T* logits;              // [Q,K] query logits after adaptation
  T* batch_mean;          // [S+1,L,H] statistics of the support passes in order, then of the query
  T* batch_variance;      // [S+1,L,H], biased
  T* packed_gradient;     // [packed_size], aligned; the sum over tasks is unpacked once
  T* film_gradient;       // [Phi]
  T* step_size_gradient;  // [S, tensor_count]
};

// The inner steps of one task alone: gradient descent on its support batches.
template <class T>
struct AdaptInput {
  Shape shape;
  int64_t inner_steps;  // S, at least 1
  int64_t support;      // B
  const T* support_x;   // those of an episode
  const T* support_y;
  const T* weights;  // [P]
  const T* film;
  const T* support_mask;
  const T* class_weights;
  const T* step_sizes;  // [S, tensor_count]
};

template <class T>
struct AdaptResult {
  T* weights;         // [P] after the last step
  T* support_loss;    // [S] mean support loss before each step
  T* batch_mean;      // [S,L,H] statistics of the support passes in order
  T* batch_variance;  // [S,L,H], biased
};

template <class T>
struct Engine {
  const char* isa;  // "baseline", "x86-64-v3" or "x86-64-v4"

  // Elements that a tape, the adjoints and the working memory of these calls take (aligned).
  int64_t (*tape_size)(const Shape&, int64_t batch);
  int64_t (*adjoint_size)(const Shape&, int64_t batch);
  int64_t (*forward_workspace)(const Shape&, int64_t batch);
  int64_t (*backward_workspace)(const Shape&, int64_t batch);
  int64_t (*tangent_workspace)(const Shape&, int64_t batch);
  int64_t (*evaluate_workspace)(const Shape&, int64_t batch);

  // logits [B,K] and the tape; batch_mean, batch_variance [L,H] (biased) if batch_statistics.
  void (*forward)(const NetworkInput<T>&, T* logits, T* batch_mean, T* batch_variance, T* tape,
                  T* workspace, const Parallel&);
  // Gradients of sum(cotangent * logits), and the adjoints that tangent needs.
  void (*backward)(const NetworkInput<T>&, const T* cotangent, const T* tape,
                   const NetworkGradient<T>&, T* adjoints, T* workspace, const Parallel&);
  // Derivatives, along a direction, of the logits and of backward's gradients (Pearlmutter 1994).
  void (*tangent)(const NetworkInput<T>&, const T* tape, const T* adjoints,
                  const NetworkDirection<T>&, T* logits_tangent, const NetworkGradient<T>&,
                  T* workspace, const Parallel&);

  // Evaluation mode without a tape: weights and film are prepared once, then any number of calls
  // on rows of x, each with its own workspace.
  int64_t (*prepared_size)(const Shape&);
  void (*prepare)(const NetworkInput<T>&, T* prepared);
  void (*evaluate)(const Shape&, const T* prepared, const T* x, int64_t rows, T* logits,
                   T* workspace);

  // Mean loss of logits [batch,outputs] against labels [batch] as an episode has them; its gradient
  // and its curvature by the logits, [batch,outputs] each: the diagonal of the Hessian where
  // outputs = 1, else the probabilities as the mean weighs them, c, of which each sample's Hessian
  // is diag(c) - c c^T / sum(c).
  T (*loss)(int64_t batch, int64_t outputs, const T* logits, const T* labels,
            const T* class_weights, T* gradient, T* curvature);

  // The meta-step. `base` holds the packed shared weights (aligned, base_size elements).
  int64_t (*packed_size)(const Shape&);
  int64_t (*base_size)(const Shape&);
  int64_t (*meta_workspace)(const MetaShape&);
  void (*pack_base)(const Shape&, const T* weights, T* base);
  // step_sizes [S, tensor_count].
  void (*meta_task)(const MetaShape&, const T* base, const T* step_sizes, const Episode<T>&,
                    const EpisodeResult<T>&, T* workspace, const Parallel&);
  // weights_gradient [P] = scale * sum over tasks of packed_gradients [tasks, packed_size], in the
  // order of the tasks. `scratch` is aligned, packed_size elements.
  void (*reduce_gradients)(const Shape&, int64_t tasks, const T* packed_gradients, T scale,
                           T* weights_gradient, T* scratch, const Parallel&);

  int64_t (*adapt_workspace)(const Shape&, int64_t support);
  void (*adapt)(const AdaptInput<T>&, const AdaptResult<T>&, T* workspace, const Parallel&);

  FilmLstmEngine<T> film_lstm;

  // Descriptions [rows,D] of series x [rows,T,18], normalised by bands [2,18] (mean, deviation).
  int64_t (*describe_workspace)(int64_t steps);
  void (*describe)(int64_t steps, const T* bands, const T* x, int64_t rows, T* out, T* workspace);

  // The strong protocol's classifier, prepared once, then any number of calls on rows of x, each
  // with its own workspace. distances [rows] may be null; they are in units of the usual distance.
  int64_t (*strong_prepared_size)(const StrongShape&);
  int64_t (*strong_workspace)(const StrongShape&);
  void (*strong_prepare)(const StrongInput<T>&, T* prepared);
  void (*strong_evaluate)(const StrongShape&, const T* prepared, const Forest&, const T* x,
                          int64_t rows, T* logits, T* distances, T* workspace);
};

// The table in use: the best this processor and operating system support, or the one that
// TIML_FORCE_ISA names. Chosen once, at the first call. Null when TIML_FORCE_ISA names a set that
// is unknown or cannot run here.
template <class T>
const Engine<T>* engine();

// Name of the instruction set in use, and those that can run here (count of them, names out).
const char* isa_in_use();
int usable_isas(const char* names[3]);
// The table of a named instruction set, or null if it is unknown or cannot run here.
template <class T>
const Engine<T>* engine_for(const char* isa);

}  // namespace timl
