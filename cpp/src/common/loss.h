// The loss and its derivatives by the logits. Nothing else in the engine knows which loss it is: to
// change it, change binary_loss and softmax_loss, their readable twin
// (python/timl/reference/loss.py) and the formulas of docs/explanation/meta-step.md, "Loss".
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace timl {
namespace {

// Label of a sample that counts for nothing.
inline constexpr int kIgnoredLabel = -1;

// Binary cross entropy of a logit z against a label 0 or 1, in a mean over `count` samples of its
// weight: returns it, and writes the first and second derivative of the mean by the logit. Computed
// from the logit, because log(1 + e^-|z|) neither overflows nor saturates.
template <class T>
TIML_HOST_DEVICE inline T binary_loss(T z, T label, T count, T* gradient, T* curvature) {
  const T e = std::exp(z < 0 ? z : -z);
  const T p = z < 0 ? e / (T(1) + e) : T(1) / (T(1) + e);
  *gradient = (p - label) * (T(1) / count);
  // p as the rounded gradient implies it: the second-order part then belongs to the gradient with
  // which the inner step was taken. Taking p itself would change last bits of every result.
  const T implied = *gradient * count + label;
  *curvature = implied * (T(1) - implied) / count;
  return (z > 0 ? z : T(0)) - z * label + std::log1p(e);
}

// Cross entropy of the softmax of logits z [K] against a class, in such a mean; writes the gradient
// [K] and the curvature [K]: the probabilities / count, of which curvature_product makes the
// Hessian's product with a vector.
template <class T>
TIML_HOST_DEVICE inline T softmax_loss(int64_t outputs, const T* z, int64_t label, T count,
                                       T* gradient, T* curvature) {
  int64_t largest = 0;
  for (int64_t k = 1; k < outputs; ++k)
    if (z[k] > z[largest]) largest = k;
  T others = 0;  // sum of e^(z_k - largest z), but for the largest itself, whose term is 1
  for (int64_t k = 0; k < outputs; ++k) {
    curvature[k] = std::exp(z[k] - z[largest]);
    if (k != largest) others += curvature[k];
  }
  const T scale = T(1) / (count * (T(1) + others));
  for (int64_t k = 0; k < outputs; ++k) {
    curvature[k] *= scale;
    gradient[k] = curvature[k];
  }
  gradient[label] -= T(1) / count;
  return z[largest] - z[label] + std::log1p(others);
}

// Weight of a sample in a mean loss: that of its class (null for ones), 0 where its label counts
// for nothing.
template <class T>
TIML_HOST_DEVICE inline T sample_weight(T label, const T* class_weights) {
  if (label == T(kIgnoredLabel)) return T(0);
  return class_weights == nullptr ? T(1) : class_weights[static_cast<int64_t>(label)];
}

// A sample's loss times its weight, in a mean over samples whose weights sum to `count`; writes its
// gradient and curvature [K] of the mean.
template <class T>
TIML_HOST_DEVICE inline T sample_loss(int64_t outputs, const T* logits, T label, T weight, T count,
                                      T* gradient, T* curvature) {
  if (weight == T(0)) {
    for (int64_t k = 0; k < outputs; ++k) gradient[k] = curvature[k] = 0;
    return T(0);
  }
  if (outputs == 1)
    return weight * binary_loss(*logits, label, count / weight, gradient, curvature);
  return weight * softmax_loss(outputs, logits, static_cast<int64_t>(label), count / weight,
                               gradient, curvature);
}

// Returns the mean loss of logits [B,K] against labels [B]; writes its gradient and its curvature
// [B,K]. With K = 1 labels are 0 or 1; else classes 0 to K - 1; kIgnoredLabel counts for nothing.
// class_weights (null for ones) has one weight for each class, two where K = 1; the mean is
// weighted by those of the samples, and 0 where nothing counts.
template <class T>
inline T mean_loss(int64_t batch, int64_t outputs, const T* logits, const T* labels,
                   const T* class_weights, T* gradient, T* curvature) {
  T count = 0, total = 0;
  for (int64_t b = 0; b < batch; ++b) count += sample_weight(labels[b], class_weights);
  for (int64_t b = 0; b < batch; ++b, logits += outputs, gradient += outputs, curvature += outputs)
    total += sample_loss(outputs, logits, labels[b], sample_weight(labels[b], class_weights), count,
                         gradient, curvature);
  return count == T(0) ? T(0) : total * (T(1) / count);
}

// The tangent of a sample's gradient along a tangent of its logits, [K] each. The softmax's Hessian
// is diag(c) - c c^T / sum(c) for the curvature c of the sample.
template <class T>
TIML_HOST_DEVICE inline void sample_curvature_product(int64_t outputs, const T* curvature,
                                                      const T* logits_dot, T* gradient_dot) {
  T mean = 0, sum = 0;
  for (int64_t k = 0; k < outputs && outputs > 1; ++k) {
    mean += curvature[k] * logits_dot[k];
    sum += curvature[k];
  }
  if (sum > T(0)) mean /= sum;
  for (int64_t k = 0; k < outputs; ++k) gradient_dot[k] = curvature[k] * (logits_dot[k] - mean);
}

// The same for a batch: [B,K] each.
template <class T>
inline void curvature_product(int64_t batch, int64_t outputs, const T* curvature,
                              const T* logits_dot, T* gradient_dot) {
  for (int64_t b = 0; b < batch;
       ++b, curvature += outputs, logits_dot += outputs, gradient_dot += outputs)
    sample_curvature_product(outputs, curvature, logits_dot, gradient_dot);
}

}  // namespace
}  // namespace timl
