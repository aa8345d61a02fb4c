// The loss and its derivatives by the logits. Nothing else in the engine knows which loss it is: to
// change it, change sample_loss, its readable twin (python/timl/reference/loss.py) and the formulas
// of docs/explanation/meta-step.md, "Loss".
#pragma once

#include <cmath>
#include <cstdint>

namespace timl {
namespace {

// What one of `count` samples has: its own loss, and the first and second derivative, by its logit,
// of the mean loss of all.
template <class T>
struct SampleLoss {
  T value;
  T gradient;
  T curvature;
};

// Binary cross entropy of a logit z against a label 0 or 1. Computed from the logit, because
// log(1 + e^-|z|) neither overflows nor saturates.
template <class T>
inline SampleLoss<T> sample_loss(T z, T label, T count) {
  const T e = std::exp(z < 0 ? z : -z);
  const T p = z < 0 ? e / (T(1) + e) : T(1) / (T(1) + e);
  const T gradient = (p - label) * (T(1) / count);
  // p as the rounded gradient implies it: the second-order part then belongs to the gradient with
  // which the inner step was taken. Taking p itself would change last bits of every result.
  const T implied = gradient * count + label;
  return {.value = (z > 0 ? z : T(0)) - z * label + std::log1p(e),
          .gradient = gradient,
          .curvature = implied * (T(1) - implied) / count};
}

// Returns the mean loss of logits [B] against labels [B]; writes its gradient [B] and, unless null,
// its curvature [B]: the diagonal of the Hessian, which has nothing beside it.
template <class T>
inline T mean_loss(int64_t batch, const T* logits, const T* labels, T* gradient, T* curvature) {
  const T count = static_cast<T>(batch);
  T total = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const SampleLoss<T> sample = sample_loss(logits[b], labels[b], count);
    total += sample.value;
    gradient[b] = sample.gradient;
    if (curvature != nullptr) curvature[b] = sample.curvature;
  }
  return total * (T(1) / count);
}

// The tangent of mean_loss's gradient along a tangent of the logits, [B] each.
template <class T>
inline void loss_gradient_tangent(int64_t batch, const T* curvature, const T* logits_dot,
                                  T* gradient_dot) {
  for (int64_t b = 0; b < batch; ++b) gradient_dot[b] = curvature[b] * logits_dot[b];
}

}  // namespace
}  // namespace timl
