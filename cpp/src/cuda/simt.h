// What CUDA kernels include instead of CUDA's own headers, so that one source serves two machines.
//
// Under nvcc these names are thin wrappers of CUDA's. Under any other compiler they come from the
// emulator of tests/cpp/simt, which runs the same kernels on the CPU and checks CUDA's rules.
//
// Besides these, kernels use threadIdx, blockIdx, blockDim and gridDim (x alone), __syncthreads and
// __shfl_xor_sync, and no static __shared__ arrays: shared memory comes from shared_memory().
#pragma once

#if defined(__CUDACC__)

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstddef>

#define TIML_NOT_INLINED __noinline__

namespace timl::simt {

using Stream = cudaStream_t;

// The block's dynamic shared memory, aligned to 128 bytes.
template <class T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(128) unsigned char timl_shared_memory[];
  return reinterpret_cast<T*>(timl_shared_memory);
}

// The cluster of this block: its rank in it, how many blocks it has, a barrier of all their
// threads, and the place in another block's shared memory that `mine` is in this block's. Before
// sm_90 every block is a cluster of its own.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__device__ __forceinline__ int cluster_rank() {
  return static_cast<int>(cooperative_groups::this_cluster().block_rank());
}
__device__ __forceinline__ int cluster_size() {
  return static_cast<int>(cooperative_groups::this_cluster().num_blocks());
}
__device__ __forceinline__ void cluster_sync() { cooperative_groups::this_cluster().sync(); }
template <class T>
__device__ __forceinline__ T* cluster_map(T* mine, int rank) {
  return cooperative_groups::this_cluster().map_shared_rank(mine, static_cast<unsigned>(rank));
}
#else
__device__ __forceinline__ int cluster_rank() { return 0; }
__device__ __forceinline__ int cluster_size() { return 1; }
__device__ __forceinline__ void cluster_sync() { __syncthreads(); }
template <class T>
__device__ __forceinline__ T* cluster_map(T* mine, int) {
  return mine;
}
#endif

// Tells the compiler that a pointer is into this block's shared memory, whose loads take addresses
// of half the size.
template <class T>
__device__ __forceinline__ void assume_shared(const T* at) {
  __builtin_assume(__isShared(at));
}

// kBytes (4, 8 or 16, both addresses aligned to them) from global to shared memory in the
// background. copy_async_wait() waits for all copies of this thread; other threads see them after a
// barrier that follows the wait.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(kBytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

struct Launch {
  int blocks;         // whole clusters
  int threads;        // of a block
  int cluster = 1;    // blocks of a cluster
  size_t shared = 0;  // bytes of dynamic shared memory of a block
  Stream stream = nullptr;
};

// A launch in CUDA's words.
struct Configuration {
  explicit Configuration(const Launch& l) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(l.cluster);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    launch.gridDim = dim3(static_cast<unsigned>(l.blocks));
    launch.blockDim = dim3(static_cast<unsigned>(l.threads));
    launch.dynamicSmemBytes = l.shared;
    launch.stream = l.stream;
    launch.attrs = &attribute;
    launch.numAttrs = l.cluster > 1 ? 1 : 0;
  }
  Configuration(const Configuration&) = delete;
  cudaLaunchAttribute attribute = {};
  cudaLaunchConfig_t launch = {};
};
template <class... Parameters>
cudaError_t allow_shared_memory(void (*kernel)(Parameters...), size_t bytes) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (bytes <= kWithoutAsking) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

// Null, or what went wrong.
template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& l, const Arguments&... arguments) {
  const Configuration configuration(l);
  cudaError_t error = allow_shared_memory(kernel, l.shared);
  if (error == cudaSuccess)
    error =
        cudaLaunchKernelEx(&configuration.launch, kernel, static_cast<Parameters>(arguments)...);
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Writes how many clusters of such a launch the current device runs at once: null, or what went
// wrong.
template <class... Parameters>
const char* clusters_at_once(void (*kernel)(Parameters...), const Launch& l, int* clusters) {
  const Configuration configuration(l);
  cudaError_t error = allow_shared_memory(kernel, l.shared);
  if (error == cudaSuccess && l.cluster > 1) {
    error = cudaOccupancyMaxActiveClusters(clusters, kernel, &configuration.launch);
  } else if (error == cudaSuccess) {
    int device = 0, multiprocessors = 0, blocks = 0;
    error = cudaGetDevice(&device);
    if (error == cudaSuccess)
      error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
      error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, l.threads, l.shared);
    *clusters = blocks * multiprocessors;
  }
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace timl::simt

#else
#include "simt_emulator.h"
#endif
