// Philox4x32-10, the counter-based generator of Salmon et al. 2011 ("Parallel random numbers: as
// easy as 1, 2, 3"): the same numbers on every device, thread count and after every resume.
#pragma once

#include <cstdint>

namespace timl {

// Replaces counter[4] by the four random words of (key, counter).
inline void philox4x32(uint32_t key0, uint32_t key1, uint32_t counter[4]) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    const uint32_t word0 = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key0;
    const uint32_t word2 = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key1;
    counter[1] = static_cast<uint32_t>(product1);
    counter[3] = static_cast<uint32_t>(product0);
    counter[0] = word0;
    counter[2] = word2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
}

}  // namespace timl
