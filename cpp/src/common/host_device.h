// Marks functions that the CPU and CUDA kernels share: those that the host calls too, and those
// that only kernels call.
#pragma once

#if defined(__CUDACC__)
#define TIML_HOST_DEVICE __host__ __device__
#define TIML_KERNEL_CODE __device__ __forceinline__
#else
#define TIML_HOST_DEVICE
#define TIML_KERNEL_CODE inline
#endif
