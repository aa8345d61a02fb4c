// The names of cpp/src/cuda/simt.h for a compiler of the CPU: an emulator of CUDA for tests.
//
// Every CUDA thread is a fiber with a stack of its own. One runs at a time, from one barrier or
// warp collective to the next; who is next is drawn from options().seed. What the emulator knows of
// CUDA's rules it checks, and a launch that breaks one returns what was wrong:
// - all threads of a block, or of a cluster, come to the same barrier, all lanes of a warp to the
//   same collective;
// - shared memory holds NaN until it is written, and what is written beside it is noticed (under
//   the address sanitizer also what is read);
// - an asynchronous copy lands at the wait, not before, and no thread ends with one under way;
// - a block does not end while its cluster may still reach for its shared memory.
//
// Where the tests are compiled with -fsanitize=thread, the sanitizer takes every fiber for a
// thread, and only barriers order them: a missing barrier or two writers of one value are reported
// with their lines, in whatever order they ran. What is not shown: speed, the order of memory
// beyond barriers, the accuracy of the GPU's own elementary functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define TIML_NOT_INLINED

namespace timl::simt {

struct Index {
  unsigned x = 0;
};

using Stream = void*;
using Where = std::source_location;

struct Launch {
  int blocks;
  int threads;
  int cluster = 1;
  size_t shared = 0;
  Stream stream = nullptr;
};

struct Options {
  uint64_t seed = 0;  // 0: ascending order of threads, 1: descending, others: random orders
  bool without_cluster_barriers = false;  // a planted mistake
  int blocks_in_reach = 8;                // of a pretended device, whose clusters share them
};
Options& options();

namespace emulator {
enum class Scope { kBlock, kCluster };
void barrier(Scope scope, const Where& where);
// Writes the lane's `bytes` (4 or 8) at `value` for all to see, and takes those of lane `source`.
void shuffle(unsigned mask, void* value, size_t bytes, int source, const Where& where);
int lane();
void* shared_memory();
void require_shared(const void* at, const Where& where);
void* map_shared(void* mine, int rank, const Where& where);
int cluster_rank();
int cluster_size();
void copy_async(void* shared, const void* global, int bytes, const Where& where);
void copy_async_wait();
const char* run(const Launch& launch, void (*body)(void*), void* context);
}  // namespace emulator

template <class T>
T* shared_memory() {
  return static_cast<T*>(emulator::shared_memory());
}
template <class T>
void assume_shared(const T* at, Where where = Where::current()) {
  emulator::require_shared(at, where);
}
inline int cluster_rank() { return emulator::cluster_rank(); }
inline int cluster_size() { return emulator::cluster_size(); }
inline void cluster_sync(Where where = Where::current()) {
  emulator::barrier(emulator::Scope::kCluster, where);
}
template <class T>
T* cluster_map(T* mine, int rank, Where where = Where::current()) {
  return static_cast<T*>(emulator::map_shared(mine, rank, where));
}
template <int kBytes>
void copy_async(void* shared, const void* global, Where where = Where::current()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulator::copy_async(shared, global, kBytes, where);
}
inline void copy_async_wait() { emulator::copy_async_wait(); }

// Null, or what went wrong (valid until the next launch). The kernel has run when it returns.
template <class... Parameters, class... Arguments>
const char* launch(void (*kernel)(Parameters...), const Launch& l, const Arguments&... arguments) {
  auto call = [&] { kernel(static_cast<Parameters>(arguments)...); };
  return emulator::run(l, [](void* context) { (*static_cast<decltype(call)*>(context))(); }, &call);
}

// Writes how many clusters of such a launch the pretended device runs at once.
template <class... Parameters>
const char* clusters_at_once(void (*)(Parameters...), const Launch& l, int* clusters) {
  *clusters = options().blocks_in_reach / l.cluster;
  return nullptr;
}

}  // namespace timl::simt

inline timl::simt::Index threadIdx, blockIdx, blockDim, gridDim;

inline void __syncthreads(timl::simt::Where where = timl::simt::Where::current()) {
  timl::simt::emulator::barrier(timl::simt::emulator::Scope::kBlock, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flip,
                  timl::simt::Where where = timl::simt::Where::current()) {
  timl::simt::emulator::shuffle(mask, &value, sizeof(T), timl::simt::emulator::lane() ^ flip,
                                where);
  return value;
}
