// Entry point of the C++ tests.
#ifdef TIML_CATCH3
#include <catch2/catch_session.hpp>
int main(int count, char** values) { return Catch::Session().run(count, values); }
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
