// What the CUDA engine asks the device for; the only file that runs on GPUs alone.
#include <cuda_runtime.h>

#include <map>
#include <mutex>

#include "timl/cuda.h"

namespace timl::cuda {

namespace {

// Clusters of 4 blocks where the device has them: a quarter of the units each. A block has all of a
// multiprocessor's registers.
const char* make_plan(int device, Plan* plan) {
  int major = 0;
  cudaError_t error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&plan->shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  constexpr int kClusterBlocks = 4, kFirstWithClusters = 9;
  plan->threads = 256;
  plan->cluster = major >= kFirstWithClusters ? kClusterBlocks : 1;
  return fit_clusters(plan);
}

}  // namespace

// A device is asked once.
const char* plan_for_device(int device, void* stream, Plan* plan) {
  static std::mutex one_at_a_time;
  static std::map<int, Plan> plans;
  const cudaError_t error = cudaSetDevice(device);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const auto known = plans.find(device);
  if (known == plans.end()) {
    if (const char* trouble = make_plan(device, plan)) return trouble;
    plans[device] = *plan;
  } else {
    *plan = known->second;
  }
  plan->stream = stream;
  return nullptr;
}

}  // namespace timl::cuda
