// A vector of kLanes<T> scalars, as wide as the instruction set's registers, and the elementary
// functions of the network on it. Written with the compilers' vector extension, so that one source
// serves every instruction set; everything is in an anonymous namespace, because the linker must
// never merge one instruction set's copy into another's object.
#pragma once

#include <cmath>
#include <cstdint>

#ifndef TIML_VECTOR_BYTES
#error "the build sets TIML_VECTOR_BYTES to the width of the instruction set's registers"
#endif

#define TIML_INLINE inline __attribute__((always_inline))
#define TIML_NOINLINE inline __attribute__((noinline))

namespace timl {
namespace {

inline constexpr int kVectorBytes = TIML_VECTOR_BYTES;

template <class T>
inline constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t integer __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t integer __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
TIML_INLINE Vector<T> load(const T* source) {
  Vector<T> v;
  __builtin_memcpy(&v, source, sizeof v);
  return v;
}

template <class T>
TIML_INLINE void store(T* target, Vector<T> v) {
  __builtin_memcpy(target, &v, sizeof v);
}

template <class T>
TIML_INLINE Vector<T> splat(T x) {
  return x - Vector<T>{};
}

// Asks for `count` vectors that are read, or written, soon. Where vectors have 64 bytes, L2 holds
// what a task keeps, and asking would only take time.
template <class T>
TIML_INLINE void read_soon(const T* address, int count) {
  if constexpr (kVectorBytes < 64)
    for (int line = 0; line < count * kVectorBytes; line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(address) + line, 0);
}
template <class T>
TIML_INLINE void write_soon(const T* address, int count) {
  if constexpr (kVectorBytes < 64)
    for (int line = 0; line < count * kVectorBytes; line += 64)
      __builtin_prefetch(reinterpret_cast<const char*>(address) + line, 1);
}

// Sum of the lanes, always in the same order.
template <class T>
TIML_INLINE T sum_lanes(Vector<T> v) {
  T total = 0;
  for (int lane = 0; lane < kLanes<T>; ++lane) total += v[lane];
  return total;
}

// Constants of the exponential: the range is reduced by multiples of ln 2 in two parts (the first
// has so few bits that its product with n is exact), then a Taylor polynomial of e^r - 1 on
// |r| <= ln(2)/2 whose remainder, (ln(2)/2)^(degree+1) / (degree+1)!, is below half an ulp.
template <class T>
struct Exponential;
template <>
struct Exponential<float> {
  static constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr int kMantissaBits = 23, kBias = 127, kDegree = 7;
  static constexpr float kLargest = 87.0f;    // e^x stays a normal number
  static constexpr float kSaturated = 10.0f;  // tanh(x) rounds to 1 beyond it
};
template <>
struct Exponential<double> {
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kLn2High = 0.693145751953125, kLn2Low = 1.42860682030941723212e-6;
  static constexpr int kMantissaBits = 52, kBias = 1023, kDegree = 13;
  static constexpr double kLargest = 707.0;
  static constexpr double kSaturated = 20.0;
};

inline constexpr double kInverseFactorial[] = {1.0,
                                               1.0,
                                               1.0 / 2,
                                               1.0 / 6,
                                               1.0 / 24,
                                               1.0 / 120,
                                               1.0 / 720,
                                               1.0 / 5040,
                                               1.0 / 40320,
                                               1.0 / 362880,
                                               1.0 / 3628800,
                                               1.0 / 39916800,
                                               1.0 / 479001600,
                                               1.0 / 6227020800.0};

// e^x = scale * (1 + fraction): scale a power of two, fraction = e^r - 1 with all its digits. Of N
// vectors in step: each step waits for the one before it, and several vectors side by side keep the
// multiply-add units busy meanwhile.
template <class T, int N>
TIML_INLINE void split_exponentials(const Vector<T> (&x)[N], Vector<T> (&scale)[N],
                                    Vector<T> (&fraction)[N]) {
  using E = Exponential<T>;
  using Integer = typename VectorOf<T>::integer;
  Vector<T> rounded[N], n[N], r[N], p[N];
  const Vector<T> one = splat<T>(1);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) rounded[i] = x[i] * static_cast<T>(1.4426950408889634) + E::kRound;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) n[i] = rounded[i] - E::kRound;
  // The low bits of `rounded` hold n; moved into the exponent's place they make 2^n.
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i)
    scale[i] = (Vector<T>)(((Integer)rounded[i] << E::kMantissaBits) + (Integer)one);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) r[i] = x[i] - n[i] * E::kLn2High;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) r[i] -= n[i] * E::kLn2Low;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = splat<T>(static_cast<T>(kInverseFactorial[E::kDegree]));
#pragma GCC unroll 16
  for (int k = E::kDegree - 1; k >= 1; --k)
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) p[i] = p[i] * r[i] + static_cast<T>(kInverseFactorial[k]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) fraction[i] = p[i] * r[i];
}

// x between two numbers; NaN stays NaN. GCC compares and chooses, where AVX2 has instructions for
// both at once (which let their second operand pass where one is NaN).
template <class T>
TIML_INLINE Vector<T> clamp(Vector<T> x, T low, T high) {
#if defined(__AVX2__) && TIML_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == sizeof(float))
    return __builtin_ia32_minps256(splat(high), __builtin_ia32_maxps256(splat(low), x));
  else
    return __builtin_ia32_minpd256(splat(high), __builtin_ia32_maxpd256(splat(low), x));
#else
  x = x < low ? splat(low) : x;
  return x > high ? splat(high) : x;
#endif
}

template <class T>
TIML_INLINE Vector<T> exponential(Vector<T> x) {
  const Vector<T> within[] = {clamp<T>(x, -Exponential<T>::kLargest, Exponential<T>::kLargest)};
  Vector<T> scale[1], fraction[1];
  split_exponentials<T>(within, scale, fraction);
  return scale[0] + scale[0] * fraction[0];
}

// 1 / (1 + e^-x), accurate relative to itself in both tails: what its exponential is taken of, and
// what is made of that.
template <class T>
TIML_INLINE Vector<T> sigmoid_argument(Vector<T> x) {
  return clamp<T>(-x, -Exponential<T>::kLargest, Exponential<T>::kLargest);
}
template <class T>
TIML_INLINE Vector<T> sigmoid_of(Vector<T> scale, Vector<T> fraction) {
  return T(1) / (T(1) + (scale + scale * fraction));
}

// tanh x = m / (m + 2) with m = e^2x - 1 formed without cancellation, so that small x keep all
// their digits; likewise.
template <class T>
TIML_INLINE Vector<T> tanh_argument(Vector<T> x) {
  const T limit = Exponential<T>::kSaturated;
  return clamp<T>(x + x, -2 * limit, 2 * limit);
}
template <class T>
TIML_INLINE Vector<T> tanh_of(Vector<T> scale, Vector<T> fraction) {
  const Vector<T> minus_one = scale * fraction + (scale - T(1));
  return minus_one / (minus_one + T(2));
}

// The activations of a unit's gates: sigmoid of i, f and o, tanh of g.
template <class T>
TIML_INLINE void activate_gates(Vector<T>& i, Vector<T>& f, Vector<T>& g, Vector<T>& o) {
  const Vector<T> x[] = {sigmoid_argument<T>(i), sigmoid_argument<T>(f), tanh_argument<T>(g),
                         sigmoid_argument<T>(o)};
  Vector<T> scale[4], fraction[4];
  split_exponentials<T>(x, scale, fraction);
  i = sigmoid_of<T>(scale[0], fraction[0]);
  f = sigmoid_of<T>(scale[1], fraction[1]);
  g = tanh_of<T>(scale[2], fraction[2]);
  o = sigmoid_of<T>(scale[3], fraction[3]);
}

// tanh of N vectors.
template <class T, int N>
TIML_INLINE void hyperbolic_tangents(const Vector<T> (&x)[N], Vector<T> (&out)[N]) {
  Vector<T> argument[N], scale[N], fraction[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) argument[i] = tanh_argument<T>(x[i]);
  split_exponentials<T>(argument, scale, fraction);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) out[i] = tanh_of<T>(scale[i], fraction[i]);
}

// Standard normal density and distribution function, for GELU and its derivatives.
// float: the upper tail by Abramowitz & Stegun 7.1.26 (absolute error of erf below 1.5e-7), whose
// exponential is the density's. double: the C library's erfc, lane by lane.
TIML_INLINE void normal_functions(Vector<float> u, Vector<float>& density,
                                  Vector<float>& distribution) {
  const Vector<float> size = u < 0.0f ? -u : u;
  const Vector<float> e = exponential<float>(-0.5f * u * u);
  const Vector<float> t = 1.0f / (1.0f + (0.3275911f * 0.70710678f) * size);
  Vector<float> p = splat(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Vector<float> tail = 0.5f * p * t * e;
  density = 0.39894228f * e;
  distribution = u < 0.0f ? tail : 1.0f - tail;
}
TIML_INLINE void normal_functions(Vector<double> u, Vector<double>& density,
                                  Vector<double>& distribution) {
  density = 0.3989422804014326779 * exponential<double>(-0.5 * u * u);
  for (int lane = 0; lane < kLanes<double>; ++lane)
    distribution[lane] = 0.5 * std::erfc(-0.70710678118654752440 * u[lane]);
}

}  // namespace
}  // namespace timl
