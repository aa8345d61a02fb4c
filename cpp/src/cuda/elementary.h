// The elementary functions of the network, on one number.
#pragma once

#include <cmath>

#include "simt.h"

namespace timl {
namespace {

template <class T>
__device__ __forceinline__ T sigmoid(T x) {
  return T(1) / (T(1) + std::exp(-x));
}

// Standard normal density and distribution function, for GELU and its derivatives.
template <class T>
__device__ __forceinline__ void normal_functions(T u, T& density, T& distribution) {
  density = T(0.3989422804014326779) * std::exp(T(-0.5) * u * u);
  distribution = T(0.5) * std::erfc(T(-0.70710678118654752440) * u);
}

}  // namespace
}  // namespace timl
