// The vectorised elementary functions against the C library's, and the tile product against three
// loops.
#include <algorithm>
#include <cmath>

#include "catch.h"
#include "packed_weights.h"
#include "problem.h"

namespace {

using timl::kLanes;
using timl::Vector;

// Largest error of a vector function over a range, relative to max(|exact|, floor).
template <class T, class Ours, class Exact>
double worst(double low, double high, double floor, const Ours& ours, const Exact& exact) {
  double error = 0;
  const int count = 40000;
  for (int i = 0; i <= count; i += kLanes<T>) {
    Vector<T> x{};
    for (int lane = 0; lane < kLanes<T>; ++lane)
      x[lane] = static_cast<T>(low + (high - low) * std::min(i + lane, count) / count);
    const Vector<T> value = ours(x);
    for (int lane = 0; lane < kLanes<T>; ++lane) {
      const double truth = exact(double(x[lane]));
      const double off = std::abs(double(value[lane]) - truth) /
                         std::max(std::abs(truth), std::max(floor, 1e-300));
      if (std::isnan(off)) return off;
      error = std::max(error, off);
    }
  }
  return error;
}

// The activations as the network takes them: four gates, or some cells, at once.
template <class T>
Vector<T> sigmoid(Vector<T> x) {
  Vector<T> i = x, f = x, g = x, o = x;
  timl::activate_gates<T>(i, f, g, o);
  for (int lane = 0; lane < kLanes<T>; ++lane) REQUIRE((i[lane] == f[lane] && i[lane] == o[lane]));
  return o;
}
template <class T>
Vector<T> hyperbolic_tangent(Vector<T> x) {
  Vector<T> i = x, f = x, g = x, o = x;
  timl::activate_gates<T>(i, f, g, o);
  const Vector<T> three[] = {x, x, x};
  Vector<T> out[3];
  timl::hyperbolic_tangents<T>(three, out);
  for (int lane = 0; lane < kLanes<T>; ++lane)
    REQUIRE((out[0][lane] == g[lane] && out[2][lane] == g[lane]));
  return out[1];
}

template <class T>
void check_functions(double ulp) {
  const auto exact_sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  const auto exponential = [](Vector<T> x) { return timl::exponential<T>(x); };
  CHECK(worst<T>(-80, 80, 0, exponential, [](double x) { return std::exp(x); }) < 4 * ulp);
  CHECK(worst<T>(-80, 80, 0, sigmoid<T>, exact_sigmoid) < 4 * ulp);
  CHECK(worst<T>(-30, 30, 0, hyperbolic_tangent<T>, [](double x) { return std::tanh(x); }) <
        4 * ulp);
  CHECK(worst<T>(-1e-3, 1e-3, 0, hyperbolic_tangent<T>, [](double x) { return std::tanh(x); }) <
        4 * ulp);
}

TEMPLATE_TEST_CASE("saturated arguments give the limits, and NaN stays NaN", "[elementary]", float,
                   double) {
  using T = TestType;
  for (const double x : {-1e30, -1e4, 1e4, 1e30}) {
    const Vector<T> v = timl::splat<T>(static_cast<T>(x));
    CHECK(std::abs(double(sigmoid<T>(v)[0]) - (x > 0)) < 1e-30);
    CHECK(hyperbolic_tangent<T>(v)[0] == (x > 0 ? T(1) : T(-1)));
  }
  const Vector<T> none = timl::splat<T>(std::numeric_limits<T>::quiet_NaN());
  Vector<T> i = none, f = none, g = none, o = none;
  timl::activate_gates<T>(i, f, g, o);
  CHECK((std::isnan(i[0]) && std::isnan(f[0]) && std::isnan(g[0]) && std::isnan(o[0])));
}

}  // namespace

TEST_CASE("elementary functions are within a few ulp", "[elementary]") {
  check_functions<float>(6e-8);
  check_functions<double>(1.2e-16);
}

TEST_CASE("the normal density and distribution are those of erf", "[elementary]") {
  const auto density = [](double u) { return std::exp(-u * u / 2) / std::sqrt(2 * M_PI); };
  const auto distribution = [](double u) { return std::erfc(-u / std::sqrt(2.0)) / 2; };
  const auto first = [](auto u) {
    decltype(u) d{}, c{};
    timl::normal_functions(u, d, c);
    return d;
  };
  const auto second = [](auto u) {
    decltype(u) d{}, c{};
    timl::normal_functions(u, d, c);
    return c;
  };
  CHECK(worst<float>(-12, 12, 1, first, density) < 1e-7);
  CHECK(worst<float>(-12, 12, 1, second, distribution) < 3e-7);
  CHECK(worst<double>(-12, 12, 1, first, density) < 1e-15);
  CHECK(worst<double>(-12, 12, 1, second, distribution) < 1e-15);
}

TEST_CASE("a product is the sum of its terms", "[product]") {
  constexpr int64_t wide = timl::kTileColumns<double>;
  for (const int64_t rows : {1, 2, 3, 5, 6, 7, 20, 48})
    for (const int64_t depth : {0, 1, 18, 37}) {
      const std::vector<double> a = normals(rows * depth + 1, 1, 0, 1);
      const std::vector<double> transposed = normals(rows * depth + 1, 1, 0, 2);
      const std::vector<double> b = normals(depth * wide + 1, 1, 0, 3);
      const std::vector<double> start = normals(wide, 1, 0, 4);
      const timl::Term<double> terms[] = {{a.data(), depth, 1, b.data(), wide, depth},
                                          {transposed.data(), 1, rows, b.data(), wide, depth}};
      Buffer<double> c(rows * wide);
      timl::product<double>(rows, terms, 2, {start.data(), 0}, c, wide);
      std::vector<double> expected;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t n = 0; n < wide; ++n) {
          double sum = start[n];
          for (int64_t k = 0; k < depth; ++k)
            sum += (a[r * depth + k] + transposed[k * rows + r]) * b[k * wide + n];
          expected.push_back(sum);
        }
      CHECK(relative_error(c.values(), expected) < 1e-13);
    }
}

TEST_CASE("a deep product, and one in pieces, have the bits of the product of the whole",
          "[product]") {
  constexpr int64_t wide = timl::kTileColumns<double>, rows = 7, depth = 3 * timl::kLanes<double>;
  for (const int64_t pieces : {1, 2, 50}) {
    const std::vector<double> a = normals(rows * depth * pieces, 1, 0, 1);
    const std::vector<double> b = normals(depth * pieces * wide, 1, 0, 2);
    std::vector<double> apart(a.size());  // [pieces][rows][depth] of [rows][pieces][depth]
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < pieces; ++p)
        for (int64_t k = 0; k < depth; ++k)
          apart[(p * rows + r) * depth + k] = a[(r * pieces + p) * depth + k];
    const timl::Term<double> whole = {a.data(), depth * pieces, 1, b.data(), wide, depth * pieces};
    const timl::Term<double> parts = {apart.data(), depth, 1,      b.data(),
                                      wide,         depth, pieces, rows * depth};
    Buffer<double> expected(rows * wide), deep(rows * wide), of_parts(rows * wide);
    timl::product<double>(rows, &whole, 1, {}, expected, wide);
    timl::deep_product<double>(rows, whole, {}, deep, wide);
    timl::product<double>(rows, &parts, 1, {}, of_parts, wide);
    CHECK(deep.values() == expected.values());
    CHECK(of_parts.values() == expected.values());
  }
}

TEST_CASE("packed weights unpack to themselves, and transposes are transposes", "[product]") {
  for (const timl::Shape s : {timl::Shape{12, 18, 128, 2, 1}, timl::Shape{2, 31, 5, 3, 4},
                              timl::Shape{1, 1, 1, 1, 1}, timl::Shape{3, 2, 70, 2, 19}}) {
    const timl::PackedLayout<double> layout(s);
    const std::vector<double> flat = normals(weights_size(s), 1, 0, 1);
    Buffer<double> packed(layout.packed_size), transposed(layout.transposed_size),
        back(weights_size(s));
    timl::pack(layout, flat.data(), packed.get());
    timl::unpack(layout, packed.get(), 1.0, back.get());
    CHECK(back.values() == flat);
    timl::transpose(layout, packed.get(), transposed.get());
    constexpr int64_t lanes = timl::kLanes<double>, columns = timl::kTileColumns<double>;
    // U [4H,H] row-major behind W [4H,F]; its transpose has rows (block, gate, lane).
    for (int64_t gate = 0; gate < 4; ++gate)
      for (int64_t unit = 0; unit < s.hidden; ++unit)
        for (int64_t k = 0; k < s.hidden; ++k) {
          const int64_t row = unit / lanes * columns + gate * lanes + unit % lanes;
          const int64_t at = (k / columns * 4 * layout.padded + row) * columns + k % columns;
          REQUIRE(transposed.get()[at] ==
                  flat[4 * s.hidden * s.bands + (gate * s.hidden + unit) * s.hidden + k]);
        }
  }
}
