// Which table of functions runs: the best usable one, or the one that was forced.
#include <cstring>

#include "catch.h"
#include "problem.h"

TEST_CASE("the usable instruction sets are found by name", "[dispatch]") {
  const std::vector<const char*> names = instruction_sets();
  REQUIRE(std::strcmp(names.back(), "baseline") == 0);
  for (const char* name : names) {
    CHECK(std::strcmp(timl::engine_for<float>(name)->isa, name) == 0);
    CHECK(std::strcmp(timl::engine_for<double>(name)->isa, name) == 0);
  }
  CHECK(timl::engine_for<float>("no such set") == nullptr);
  CHECK(timl::engine_for<double>("x86-64-v5") == nullptr);
}

TEST_CASE("the table in use is the forced one, or the best", "[dispatch]") {
  const char* forced = std::getenv("TIML_FORCE_ISA");
  CHECK(std::strcmp(timl::isa_in_use(), forced ? forced : instruction_sets().front()) == 0);
}
