// The CUDA emulator: what kernels may use works in any order of threads, and each rule of CUDA that
// a kernel breaks is named.
#include "../../../cpp/src/cuda/simt.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../catch.h"

namespace {

using namespace timl;

// Sums of blocks, by shuffles within a warp and shared memory between warps.
void block_sums(const float* in, float* out) {
  float* partial = simt::shared_memory<float>();
  float sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int flip = 16; flip > 0; flip /= 2) sum += __shfl_xor_sync(~0u, sum, flip);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  out[blockIdx.x] = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) out[blockIdx.x] += partial[warp];
}

// Each block of a cluster takes its right neighbour's number.
template <bool kLastBarrier>
void ring(int* out) {
  int* shared = simt::shared_memory<int>();
  if (threadIdx.x == 0) *shared = static_cast<int>(blockIdx.x);
  simt::cluster_sync();
  const int next = (simt::cluster_rank() + 1) % simt::cluster_size();
  if (threadIdx.x == 1) out[blockIdx.x] = *simt::cluster_map(shared, next);
  if (kLastBarrier) simt::cluster_sync();
}

template <bool kWait>
void copied(const float* in, float* out) {
  float* shared = simt::shared_memory<float>();
  const unsigned i = threadIdx.x;
  if (i % 4 == 0) simt::copy_async<16>(shared + i, in + i);
  if (kWait) simt::copy_async_wait();
  __syncthreads();
  out[i] = shared[(i + 4) % blockDim.x];
  if (!kWait) simt::copy_async_wait();
}

void unwritten(float* out) { out[threadIdx.x] = simt::shared_memory<float>()[threadIdx.x]; }
#if !defined(TIML_ADDRESS_SANITIZER)  // which stops there by itself
void beside(float*) { simt::shared_memory<float>()[threadIdx.x + 1] = 1; }
#endif
void part_of_block(float*) {
  if (threadIdx.x < 40) __syncthreads();
}
void two_barriers(float*) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
void part_of_warp(float* out) {
  if (threadIdx.x < 20) out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1);
}
void not_shared(float* out) { simt::assume_shared(out); }
void without_wait(const float* in) { simt::copy_async<4>(simt::shared_memory<float>(), in); }

std::string said(const char* trouble) { return trouble == nullptr ? "" : trouble; }

}  // namespace

TEST_CASE("barriers, shuffles, clusters and asynchronous copies work in any order", "[simt]") {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    simt::options().seed = seed;
    std::vector<float> in(3 * 96), sums(3), expected(3);
    for (size_t i = 0; i < in.size(); ++i) {
      in[i] = static_cast<float>(i % 17);
      expected[i / 96] += in[i];
    }
    const simt::Launch three = {.blocks = 3, .threads = 96, .shared = 12};
    CHECK(said(simt::launch(block_sums, three, in.data(), sums.data())) == "");
    CHECK(sums == expected);

    std::vector<int> neighbours(8);
    const simt::Launch rings = {.blocks = 8, .threads = 32, .cluster = 4, .shared = 4};
    CHECK(said(simt::launch(ring<true>, rings, neighbours.data())) == "");
    CHECK(neighbours == std::vector<int>{1, 2, 3, 0, 5, 6, 7, 4});

    std::vector<float> out(64);
    const simt::Launch one = {.blocks = 1, .threads = 64, .shared = 256};
    CHECK(said(simt::launch(copied<true>, one, in.data(), out.data())) == "");
    CHECK(out[0] == in[4]);
    CHECK(out[63] == in[3]);
  }
  simt::options().seed = 0;
}

TEST_CASE("what breaks a rule of CUDA is named", "[simt]") {
  std::vector<float> in(64, 1), out(64);
  std::vector<int> places(8);
  const simt::Launch one = {.blocks = 1, .threads = 64, .shared = 256};
  const auto check = [](const char* trouble, const char* part) {
    INFO(said(trouble));
    CHECK(said(trouble).find(part) != std::string::npos);
  };
  CHECK(said(simt::launch(unwritten, one, out.data())) == "");
  CHECK(std::isnan(out[7]));
  CHECK(said(simt::launch(copied<false>, one, in.data(), out.data())) == "");
  CHECK(std::any_of(out.begin(), out.end(), [](float value) { return std::isnan(value); }));
#if !defined(TIML_ADDRESS_SANITIZER)
  check(simt::launch(beside, one, out.data()), "wrote beside its shared memory");
#endif
  check(simt::launch(part_of_block, one, out.data()), "waits for ever at __syncthreads");
  check(simt::launch(two_barriers, one, out.data()), "comes to another barrier");
  check(simt::launch(part_of_warp, one, out.data()), "waits for ever at a warp collective");
  check(simt::launch(not_shared, one, out.data()), "not into the block's shared memory");
  check(simt::launch(without_wait, one, in.data()), "asynchronous copies");
  const simt::Launch rings = {.blocks = 8, .threads = 32, .cluster = 4, .shared = 4};
  check(simt::launch(ring<false>, rings, places.data()), "cluster_");
  check(simt::launch(ring<true>, {.blocks = 6, .threads = 32, .cluster = 4, .shared = 4},
                     places.data()),
        "whole clusters");
  check(simt::launch(unwritten, {.blocks = 1, .threads = 2000}, out.data()), "1024 threads");
}
