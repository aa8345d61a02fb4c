// What the CUDA engine asks the device for; the only file that runs on GPUs alone.
#include <cuda_runtime.h>

#include "timl/cuda.h"

namespace timl::cuda {

// Clusters of 4 blocks where the device has them: a quarter of the units each. A block has all of a
// multiprocessor's registers, so that as many run at once as there are multiprocessors.
const char* plan_for_device(int device, void* stream, Plan* plan) {
  int multiprocessors = 0, major = 0;
  cudaError_t error = cudaSetDevice(device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&plan->shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  constexpr int kClusterBlocks = 4, kFirstWithClusters = 9;
  plan->threads = 256;
  plan->cluster =
      major >= kFirstWithClusters && multiprocessors >= kClusterBlocks ? kClusterBlocks : 1;
  plan->clusters = multiprocessors / plan->cluster;
  plan->stream = stream;
  return nullptr;
}

}  // namespace timl::cuda
