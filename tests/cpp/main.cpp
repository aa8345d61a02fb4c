// Catch2's implementation and entry point, where version 2 is installed without its library.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
