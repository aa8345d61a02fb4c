// Philox4x32-10 against the known answers of its authors' Random123 distribution (kat_vectors).
#include "timl/philox.h"

#include "catch.h"

namespace {

void check(uint32_t key0, uint32_t key1, const uint32_t (&counter)[4],
           const uint32_t (&expected)[4]) {
  uint32_t words[4] = {counter[0], counter[1], counter[2], counter[3]};
  timl::philox4x32(key0, key1, words);
  for (int i = 0; i < 4; ++i) CHECK(words[i] == expected[i]);
}

}  // namespace

TEST_CASE("Philox gives the published words", "[philox]") {
  check(0, 0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  check(0xffffffff, 0xffffffff, {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
        {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  check(0xa4093822, 0x299f31d0, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
        {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}
