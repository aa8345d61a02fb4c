// What the CPU's and the CUDA engine's passes run on: a task's batch.
#pragma once

#include "timl/engine.h"

namespace timl {
namespace {

// What a task's pass runs on besides the weights (NetworkInput without them).
template <class T>
struct Batch {
  int64_t size;   // B
  const T* x;     // [B,T,F]
  const T* film;  // [Phi]
  const T* mask;  // [B,H] or null
  bool batch_statistics;
  const T* running_mean;
  const T* running_variance;
};
template <class T>
inline Batch<T> batch_of(const NetworkInput<T>& in) {
  return {.size = in.batch,
          .x = in.x,
          .film = in.film,
          .mask = in.mask,
          .batch_statistics = in.batch_statistics,
          .running_mean = in.running_mean,
          .running_variance = in.running_variance};
}

}  // namespace
}  // namespace timl
