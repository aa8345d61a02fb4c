// What the strong protocol's description of a series is made of: bands and vegetation indices.
#pragma once

#include "host_device.h"
#include "timl/strong.h"

namespace timl {
namespace {

// Bands of the record by number; reflectances are digital numbers, 1e4 for a reflectance of 1.
enum RecordBand { kB2 = 2, kB3 = 3, kB4 = 4, kB5 = 5, kB8 = 8, kB8A = 9, kB11 = 11, kB12 = 12 };
inline constexpr int kReflectance = 10000;

// The indices of one month, of numbers V in T, which may be vectors of them: measured(band) returns
// a band as measured, write(index, value) takes what was computed.
template <class T, class V, class Measured, class Write>
TIML_KERNEL_CODE void describe_month(const Measured& measured, const Write& write) {
  const auto clamp = [](V v, T low, T high) {
    v = v < low ? V{} + low : v;
    return v > high ? V{} + high : v;
  };
  const auto at_least_one = [](V v) { return v < T(1) ? V{} + T(1) : v; };
  // Bands (p, q) of the normalised differences (p - q) / (p + q); EVI follows them.
  constexpr RecordBand kPairs[kIndices - 1][2] = {{kB8, kB4}, {kB8, kB11}, {kB3, kB8}, {kB11, kB12},
                                                  {kB8, kB5}, {kB3, kB11}, {kB8A, kB5}};
  for (int64_t index = 0; index < kIndices - 1; ++index) {
    const V p = measured(kPairs[index][0]), q = measured(kPairs[index][1]);
    write(index, clamp((p - q) / at_least_one(p + q), T(-1), T(1)));
  }
  const V near = measured(kB8), red = measured(kB4), blue = measured(kB2);
  const V below = near + T(6) * red - T(7.5) * blue + T(kReflectance);
  write(kIndices - 1, clamp(T(2.5) * (near - red) / at_least_one(below), T(-1), T(2)));
}

}  // namespace
}  // namespace timl
