// How threads share work: a team is the blocks that compute one thing together. As a cluster they
// meet at a barrier after each step of it; blocks that never meet may be of any number.
#pragma once

#include "../common/memory.h"
#include "simt.h"

namespace timl {
namespace {

// A part [begin, end) of some rows, columns or elements.
struct Range {
  int64_t begin, end;
  __device__ int64_t count() const { return end - begin; }
};

struct Team {
  int rank, blocks;     // this block's place among the team's blocks
  int thread, threads;  // this thread's place in the block

  // This block's contiguous part of `count` things.
  __device__ Range share(int64_t count) const {
    const int64_t each = (count + blocks - 1) / blocks, begin = rank * each;
    return {begin < count ? begin : count, begin + each < count ? begin + each : count};
  }
  // The same in whole fours, but for the last block that has any.
  TIML_HOST_DEVICE static int64_t fours_each(int64_t count, int64_t blocks) {
    return ((count + 3) / 4 + blocks - 1) / blocks * 4;
  }
  __device__ Range share_in_fours(int64_t count) const {
    const int64_t each = fours_each(count, blocks), begin = rank * each;
    return {begin < count ? begin : count, begin + each < count ? begin + each : count};
  }
  // What the team has written is there for all of it to read. Clusters only.
  __device__ void sync() const { simt::cluster_sync(); }
};

// The cluster as a team, and which of the grid's clusters it is.
__device__ inline Team cluster_team() {
  return {simt::cluster_rank(), simt::cluster_size(), static_cast<int>(threadIdx.x),
          static_cast<int>(blockDim.x)};
}
__device__ inline int64_t cluster_index() { return blockIdx.x / simt::cluster_size(); }
__device__ inline int64_t cluster_count() { return gridDim.x / simt::cluster_size(); }

// The whole grid as a team without a barrier.
__device__ inline Team grid_team() {
  return {static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x), static_cast<int>(threadIdx.x),
          static_cast<int>(blockDim.x)};
}

// Calls body(index) for each index in [0, count) on one thread of the team, neighbours on
// neighbours.
template <class Body>
__device__ __forceinline__ void for_each(const Team& team, int64_t count, const Body& body) {
  const Range mine = team.share(count);
  for (int64_t index = mine.begin + team.thread; index < mine.end; index += team.threads)
    body(index);
}

// Subtracts `values` from `from`, several on a thread, all of which it reads before it writes one.
template <class T>
__device__ __forceinline__ void subtract_all(const Team& team, int64_t count, const T* values,
                                             T* from) {
  constexpr int kAtOnce = 4;
  const Range mine = team.share(count);
  for (int64_t begin = mine.begin + team.thread; begin < mine.end;
       begin += kAtOnce * team.threads) {
    T differences[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t at = begin + i * team.threads;
      if (at < mine.end) differences[i] = from[at] - values[at];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int64_t at = begin + i * team.threads;
      if (at < mine.end) from[at] = differences[i];
    }
  }
}

// Calls body(row, column) for each element on one thread of this block, neighbours on neighbours.
template <class Body>
__device__ __forceinline__ void for_each_element(const Team& team, int64_t rows, int64_t columns,
                                                 const Body& body) {
  const int width = static_cast<int>(columns), count = static_cast<int>(rows) * width;
  for (int i = team.thread; i < count; i += team.threads) body(i / width, i % width);
}

// Sum over the lanes of the warp, for all of them, always in the same order.
template <class T>
__device__ __forceinline__ T sum_lanes(T value) {
  for (int flip = 16; flip > 0; flip /= 2) value += __shfl_xor_sync(~0u, value, flip);
  return value;
}

}  // namespace
}  // namespace timl
