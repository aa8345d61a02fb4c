// The CUDA engine behind the members of the CPU engine's table, so that both run the same tests.
// Its kernels run in the emulator of simt/, whose complaints become exceptions.
#pragma once

#include <stdexcept>

#include "simt/simt_emulator.h"
#include "timl/cuda.h"

inline void require_no_trouble(const char* trouble) {
  if (trouble != nullptr) throw std::runtime_error(trouble);
}

// Sets the order of threads for as long as it lives.
struct Order {
  explicit Order(uint64_t seed) { timl::simt::options().seed = seed; }
  ~Order() { timl::simt::options() = {}; }
};

template <class T>
struct CudaEngine {
  timl::cuda::Plan plan;

  int64_t tape_size(const timl::Shape& s, int64_t batch) const {
    return timl::cuda::tape_size<T>(s, batch);
  }
  int64_t adjoint_size(const timl::Shape& s, int64_t batch) const {
    return timl::cuda::adjoint_size<T>(s, batch);
  }
  int64_t forward_workspace(const timl::Shape& s, int64_t) const {
    return timl::cuda::forward_workspace<T>(s);
  }
  int64_t backward_workspace(const timl::Shape&, int64_t) const { return 0; }
  int64_t tangent_workspace(const timl::Shape& s, int64_t batch) const {
    return timl::cuda::tangent_workspace<T>(s, batch);
  }
  void forward(const timl::NetworkInput<T>& input, T* logits, T* mean, T* variance, T* tape,
               T* workspace, const timl::Parallel&) const {
    require_no_trouble(timl::cuda::forward(plan, input, logits, mean, variance, tape, workspace));
  }
  void backward(const timl::NetworkInput<T>& input, const T* cotangent, const T* tape,
                const timl::NetworkGradient<T>& out, T* adjoints, T*, const timl::Parallel&) const {
    require_no_trouble(timl::cuda::backward(plan, input, cotangent, tape, out, adjoints));
  }
  void tangent(const timl::NetworkInput<T>& input, const T* tape, const T* adjoints,
               const timl::NetworkDirection<T>& along, T* logits,
               const timl::NetworkGradient<T>& out, T* workspace, const timl::Parallel&) const {
    require_no_trouble(
        timl::cuda::tangent(plan, input, tape, adjoints, along, logits, out, workspace));
  }
};
