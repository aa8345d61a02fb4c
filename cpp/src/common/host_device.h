// Marks functions that the CPU and CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define TIML_HOST_DEVICE __host__ __device__
#else
#define TIML_HOST_DEVICE
#endif
