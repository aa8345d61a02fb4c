// The loss's value, gradient and curvature: of every instruction set against the formulas in long
// double, saturated logits included, and against each other by central differences.
#include <cmath>

#include "catch.h"
#include "problem.h"

namespace {

struct Loss {
  double value;
  std::vector<double> gradient, curvature;
};

template <class T>
Loss run(const timl::Engine<T>& engine, const std::vector<double>& logits,
         const std::vector<double>& labels) {
  const auto batch = static_cast<int64_t>(logits.size());
  Buffer<T> z(batch), y(batch), gradient(batch), curvature(batch);
  for (int64_t b = 0; b < batch; ++b) {
    z.get()[b] = static_cast<T>(logits[b]);
    y.get()[b] = static_cast<T>(labels[b]);
  }
  const double value = engine.loss(batch, 1, z, y, nullptr, gradient, curvature);
  return {.value = value, .gradient = gradient.values(), .curvature = curvature.values()};
}

template <class T>
void check_formulas(const timl::Engine<T>& engine, double bound) {
  const std::vector<double> logits = {-800, -40, -3, -1e-3, 0, 1e-3, 0.7, 5, 40, 800};
  for (const double label : {0.0, 1.0}) {
    const Loss loss = run(engine, logits, std::vector<double>(logits.size(), label));
    const auto batch = static_cast<long double>(logits.size());
    long double mean = 0;
    for (size_t b = 0; b < logits.size(); ++b) {
      const long double z = static_cast<T>(logits[b]), p = 1 / (1 + std::exp(-z));
      mean += (label == 1 ? std::log1p(std::exp(-z)) : std::log1p(std::exp(z))) / batch;
      INFO(engine.isa << ", logit " << logits[b] << ", label " << label);
      CHECK(std::abs(loss.gradient[b] - (p - label) / batch) < bound);
      CHECK(std::abs(loss.curvature[b] - p * (1 - p) / batch) < bound);
    }
    CHECK(loss.value == Approx(static_cast<double>(mean)).epsilon(bound));
  }
}

}  // namespace

TEST_CASE("the loss is the binary cross entropy, for saturated logits too", "[loss]") {
  for (const char* isa : instruction_sets()) {
    check_formulas(*timl::engine_for<float>(isa), 1e-6);
    check_formulas(*timl::engine_for<double>(isa), 1e-15);
  }
}

TEST_CASE("the gradient is the slope of the loss, the curvature that of the gradient", "[loss]") {
  const std::vector<double> logits = normals(40, 4, 0, 1);
  std::vector<double> labels;
  for (size_t b = 0; b < logits.size(); ++b) labels.push_back(b % 2);
  const double h = 1e-5;
  for (const char* isa : instruction_sets()) {
    const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
    const Loss here = run(engine, logits, labels);
    for (size_t b = 0; b < logits.size(); ++b) {
      std::vector<double> one(logits.size());
      one[b] = 1;
      const Loss low = run(engine, moved(logits, -h, one), labels);
      const Loss high = run(engine, moved(logits, h, one), labels);
      INFO(isa << ", logit " << logits[b]);
      CHECK(here.gradient[b] == Approx((high.value - low.value) / (2 * h)).margin(1e-9));
      const double slope = (high.gradient[b] - low.gradient[b]) / (2 * h);
      CHECK(here.curvature[b] == Approx(slope).margin(1e-9));
    }
  }
}

TEST_CASE("the softmax's gradient is the slope of the loss, its curvature that of the gradient",
          "[loss]") {
  const int64_t batch = 5, outputs = 13;
  const std::vector<double> logits = normals(batch * outputs, 4, 0, 1);
  const std::vector<double> labels = {0, 12, -1, 5, 5}, weights = normals(outputs, 0.1, 1, 2);
  const std::vector<double> direction = normals(batch * outputs, 1, 0, 3);
  const double h = 1e-5;
  for (const char* isa : instruction_sets()) {
    const timl::Engine<double>& engine = *timl::engine_for<double>(isa);
    struct Result {
      double value;
      std::vector<double> gradient, curvature;
    };
    const auto at = [&](double step) -> Result {
      Buffer<double> gradient(batch * outputs), curvature(batch * outputs);
      const double value = engine.loss(batch, outputs, moved(logits, step, direction).data(),
                                       labels.data(), weights.data(), gradient, curvature);
      return {value, gradient.values(), curvature.values()};
    };
    const Result here = at(0), low = at(-h), high = at(h);
    INFO(isa);
    CHECK(inner_product(here.gradient, direction) ==
          Approx((high.value - low.value) / (2 * h)).epsilon(1e-8));
    for (int64_t b = 0; b < batch; ++b) {
      double sum = 0, mean = 0;
      for (int64_t k = b * outputs; k < (b + 1) * outputs; ++k) {
        sum += here.curvature[k];
        mean += here.curvature[k] * direction[k];
      }
      for (int64_t k = b * outputs; k < (b + 1) * outputs; ++k) {
        const double product = here.curvature[k] * (direction[k] - (sum > 0 ? mean / sum : 0));
        CHECK(product == Approx((high.gradient[k] - low.gradient[k]) / (2 * h)).margin(1e-9));
      }
    }
  }
}

TEST_CASE("logits beyond the exponential's range have a finite softmax loss", "[loss]") {
  for (const char* isa : instruction_sets()) {
    const timl::Engine<float>& engine = *timl::engine_for<float>(isa);
    const float logits[] = {-800, 0, 800}, label[] = {0};
    float gradient[3], curvature[3];
    CHECK(engine.loss(1, 3, logits, label, nullptr, gradient, curvature) == Approx(1600.0));
    CHECK((gradient[0] == -1 && gradient[1] == 0 && gradient[2] == 1));
  }
}
