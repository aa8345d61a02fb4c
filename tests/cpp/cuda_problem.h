// The CUDA engine behind the members of the CPU engine's table, so that both run the same tests.
// Its kernels run on the device (TIML_ON_DEVICE), or in the emulator of simt/, whose complaints
// become exceptions.
#pragma once

#include <stdexcept>
#include <vector>

#include "timl/cuda.h"
#if defined(TIML_ON_DEVICE)
#include <cuda_runtime.h>
#else
#include "simt/simt_emulator.h"
#endif

// Throws what went wrong, if anything did. The kernels have then run, and the host may read what
// they wrote.
inline void require_no_trouble(const char* trouble) {
#if defined(TIML_ON_DEVICE)
  if (const cudaError_t error = cudaDeviceSynchronize(); trouble == nullptr && error != cudaSuccess)
    trouble = cudaGetErrorString(error);
#endif
  if (trouble != nullptr) throw std::runtime_error(trouble);
}

// Plans of several shapes; the first is as a device's own.
inline std::vector<timl::cuda::Plan> plans() {
#if defined(TIML_ON_DEVICE)
  timl::cuda::Plan own, small, alone;
  require_no_trouble(timl::cuda::plan_for_device(0, nullptr, &own));
  small = alone = own;
  small.threads = 96;
  small.clusters = 3;
  small.shared = 0;
  alone.cluster = 1;
  return {own, small, alone};
#else
  return {{.threads = 96, .cluster = 4, .clusters = 2, .shared = 227 * 1024},
#if !defined(TIML_ADDRESS_SANITIZER)  // under which each takes ten times as long
          {.threads = 64, .cluster = 1, .clusters = 3},
          {.threads = 256, .cluster = 2, .clusters = 1, .shared = 100 * 1024}
#endif
  };
#endif
}

// Sets the order of threads for as long as it lives; a device has its own.
struct Order {
#if defined(TIML_ON_DEVICE)
  explicit Order(uint64_t) {}
  ~Order() {}
#else
  explicit Order(uint64_t seed) { timl::simt::options().seed = seed; }
  ~Order() { timl::simt::options() = {}; }
#endif
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
