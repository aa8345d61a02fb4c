// Four numbers side by side, as one load or store of 16 bytes (two in float64) moves them.
#pragma once

#include <cstdint>

#include "../common/host_device.h"
#include "simt.h"

namespace timl {
namespace {

inline constexpr int kVectorBytes = 16;

template <class T, int kCount>
struct alignas(kCount * sizeof(T) < kVectorBytes ? kCount * sizeof(T) : kVectorBytes) Pack {
  T values[kCount];
};
template <class T>
using Quad = Pack<T, 4>;
template <class T>
using Pair = Pack<T, 2>;

// The packed numbers at an aligned address.
template <class Packed, class T>
__device__ __forceinline__ Packed load_packed(const T* at) {
  return *reinterpret_cast<const Packed*>(at);
}
template <class T, int kCount>
__device__ __forceinline__ void store_packed(T* at, const Pack<T, kCount>& values) {
  *reinterpret_cast<Pack<T, kCount>*>(at) = values;
}

// Whether rows that lie `stride` elements apart from `first` on all begin where a Packed may.
template <class Packed, class T>
__device__ __forceinline__ bool aligned_rows(const T* first, int64_t stride) {
  return reinterpret_cast<uintptr_t>(first) % alignof(Packed) == 0 &&
         stride * static_cast<int64_t>(sizeof(T)) % static_cast<int64_t>(alignof(Packed)) == 0;
}

// Writes the first `count` of four numbers, at once where that is possible.
template <class T>
__device__ __forceinline__ void store_sums(T* at, const T (&sums)[4], int64_t count) {
  if (count >= 4 && aligned_rows<Quad<T>>(at, 0)) {
    store_packed(at, Quad<T>{{sums[0], sums[1], sums[2], sums[3]}});
    return;
  }
#pragma unroll
  for (int c = 0; c < 4; ++c)
    if (c < count) at[c] = sums[c];
}

TIML_HOST_DEVICE inline int64_t round_to_fours(int64_t count) { return (count + 3) / 4 * 4; }

}  // namespace
}  // namespace timl
