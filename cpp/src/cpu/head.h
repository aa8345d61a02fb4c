// What follows the LSTM, for a whole batch: BatchNorm, then dense layers with FiLM, GELU and
// BatchNorm between them, down to K logits. Forward, backward, and both halves of the tangent.
//
// The formulas are those of docs/explanation/meta-step.md, whose layers 1..L are 0..L-1 here: with
// n_0 = BatchNorm(hd_T), p_l = gamma_l n_l + beta_l, r_l = D_l p_l, n_(l+1) = BatchNorm(GELU(r_l)).
// `normal` holds n, `filmed` p, `before_gelu` r. Rows are `wide` long and zero past H.
#pragma once

#include "packed_weights.h"

namespace timl {
namespace {

// n_l, p_l [L][B][wide]; r_l [L-1][B][wide]; 1 / standard deviation [L][wide]; gamma_l, beta_l
// padded [L][wide] each.
template <class T>
struct HeadTape {
  HeadTape(const PackedLayout<T>& layout, int64_t batch, Arena<T>& arena) {
    normal = arena.take(layout.layers * batch * layout.wide);
    filmed = arena.take(layout.layers * batch * layout.wide);
    before_gelu = arena.take((layout.layers - 1) * batch * layout.wide);
    inverse_deviation = arena.take(layout.layers * layout.wide);
    gamma = arena.take(layout.layers * layout.wide);
    beta = arena.take(layout.layers * layout.wide);
  }
  T *normal, *filmed, *before_gelu, *inverse_deviation, *gamma, *beta;
};

// Gradients: of the logits [B,K]; of p_l, of n_l and of BatchNorm's input, each [L][B][wide]; of
// r_l [L-1][B][wide].
template <class T>
struct HeadAdjoints {
  HeadAdjoints(const PackedLayout<T>& layout, int64_t batch, Arena<T>& arena) {
    logits = arena.take(batch * layout.outputs);
    filmed = arena.take(layout.layers * batch * layout.wide);
    normal = arena.take(layout.layers * batch * layout.wide);
    before_norm = arena.take(layout.layers * batch * layout.wide);
    before_gelu = arena.take((layout.layers - 1) * batch * layout.wide);
  }
  T *logits, *filmed, *normal, *before_norm, *before_gelu;
};

// Tangents of the tape's values, and working rows for the second half.
template <class T>
struct HeadTangents {
  HeadTangents(const PackedLayout<T>& layout, int64_t batch, Arena<T>& arena) {
    normal = arena.take(layout.layers * batch * layout.wide);
    filmed = arena.take(layout.layers * batch * layout.wide);
    before_gelu = arena.take((layout.layers - 1) * batch * layout.wide);
    relative_deviation = arena.take(layout.layers * layout.wide);
    gamma = arena.take(layout.layers * layout.wide);
    beta = arena.take(layout.layers * layout.wide);
    first = arena.take(batch * layout.wide);
    second = arena.take(batch * layout.wide);
  }
  T *normal, *filmed, *before_gelu, *relative_deviation, *gamma, *beta, *first, *second;
};

// FiLM pairs of the dense layers from their flat places to padded rows.
template <class T>
inline void pad_film(const PackedLayout<T>& layout, const T* dense_film, T* gamma, T* beta) {
  for (int64_t l = 0; l < layout.layers; ++l) {
    copy(layout.hidden, dense_film + 2 * l * layout.hidden, gamma + l * layout.wide);
    copy(layout.hidden, dense_film + (2 * l + 1) * layout.hidden, beta + l * layout.wide);
    fill<T>(layout.wide - layout.hidden, 0, gamma + l * layout.wide + layout.hidden);
    fill<T>(layout.wide - layout.hidden, 0, beta + l * layout.wide + layout.hidden);
  }
}

// values [B][wide] -> (values - mean) / deviation in place. Batch statistics go to mean, variance
// (biased, [H]) if those are not null, else are read from there.
template <class T>
inline void normalise_by_batch(const PackedLayout<T>& layout, int64_t batch, T* values,
                               T* inverse_deviation, T* mean_out, T* variance_out) {
  const T per_row = T(1) / static_cast<T>(batch);
  for (int64_t v = 0; v < layout.wide; v += kLanes<T>) {
    Vector<T> mean{}, variance{};
    for (int64_t b = 0; b < batch; ++b) mean += load(values + b * layout.wide + v);
    mean *= per_row;
    for (int64_t b = 0; b < batch; ++b) {
      const Vector<T> d = load(values + b * layout.wide + v) - mean;
      variance += d * d;
    }
    variance *= per_row;
    Vector<T> inverse{};
    for (int lane = 0; lane < kLanes<T>; ++lane)
      inverse[lane] = T(1) / std::sqrt(variance[lane] + static_cast<T>(kBatchNormEpsilon));
    store<T>(inverse_deviation + v, inverse);
    for (int64_t b = 0; b < batch; ++b)
      store<T>(values + b * layout.wide + v, (load(values + b * layout.wide + v) - mean) * inverse);
    for (int64_t lane = 0; lane < kLanes<T> && v + lane < layout.hidden; ++lane) {
      mean_out[v + lane] = mean[lane];
      variance_out[v + lane] = variance[lane];
    }
  }
}

template <class T>
inline void normalise_by_running(const PackedLayout<T>& layout, int64_t batch, T* values,
                                 T* inverse_deviation, const T* mean, const T* variance) {
  fill<T>(layout.wide, 0, inverse_deviation);
  for (int64_t h = 0; h < layout.hidden; ++h)
    inverse_deviation[h] = T(1) / std::sqrt(variance[h] + static_cast<T>(kBatchNormEpsilon));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t h = 0; h < layout.hidden; ++h)
      values[b * layout.wide + h] = (values[b * layout.wide + h] - mean[h]) * inverse_deviation[h];
}

// BatchNorm's Jacobian, symmetric, applied to rows of vectors [B][wide]:
// out = (in - mean(in) - normal * mean(in * normal)) / deviation; means[wide] (if not null) takes
// mean(in * normal). With running statistics just in / deviation.
template <class T>
inline void batch_norm_jacobian(const PackedLayout<T>& layout, int64_t batch, bool batch_statistics,
                                const T* normal, const T* inverse_deviation, const T* in, T* out,
                                T* means) {
  const T per_row = T(1) / static_cast<T>(batch);
  for (int64_t v = 0; v < layout.wide; v += kLanes<T>) {
    Vector<T> mean{}, product_mean{};
    if (batch_statistics) {
      for (int64_t b = 0; b < batch; ++b) {
        const Vector<T> x = load(in + b * layout.wide + v);
        mean += x;
        product_mean += x * load(normal + b * layout.wide + v);
      }
      mean *= per_row;
      product_mean *= per_row;
    }
    const Vector<T> inverse = load(inverse_deviation + v);
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t at = b * layout.wide + v;
      store<T>(out + at, (load(in + at) - mean - load(normal + at) * product_mean) * inverse);
    }
    if (means != nullptr) store<T>(means + v, product_mean);
  }
}

// out[B][wide] (+)= rows [B][wide] times dense panels.
template <class T>
inline void dense_product(const PackedLayout<T>& layout, int64_t batch, const T* rows,
                          const T* panels, bool accumulate, T* out) {
  for (int64_t p = 0; p < layout.panels; ++p) {
    const Term<T> term = {
        rows, layout.wide, 1, panels + p * layout.dense_panel, kTileColumns<T>, layout.hidden};
    T* c = out + p * kTileColumns<T>;
    product(batch, &term, 1, accumulate ? Start<T>{c, layout.wide} : Start<T>{}, c, layout.wide);
  }
}

// Gradient of dense weights (packed panels) (+)= sum over rows of inputs^T outputs.
template <class T>
inline void dense_gradient(const PackedLayout<T>& layout, int64_t batch, const T* inputs,
                           const T* outputs, bool accumulate, T* gradient) {
  for (int64_t p = 0; p < layout.panels; ++p) {
    const Term<T> term = {inputs,      1,    layout.wide, outputs + p * kTileColumns<T>,
                          layout.wide, batch};
    T* c = gradient + p * layout.dense_panel;
    product(layout.hidden, &term, 1, accumulate ? Start<T>{c, kTileColumns<T>} : Start<T>{}, c,
            kTileColumns<T>);
    if (!accumulate)
      fill<T>((layout.padded - layout.hidden) * kTileColumns<T>, 0,
              c + layout.hidden * kTileColumns<T>);
  }
}

// tape.normal[0] holds hd_T [B][wide] on entry. batch_mean, batch_variance [L,H] are written with
// batch statistics; running_* are read without.
template <class T>
inline void head_forward(const PackedLayout<T>& layout, int64_t batch, const T* packed,
                         const T* dense_film, bool batch_statistics, const T* running_mean,
                         const T* running_variance, const HeadTape<T>& tape, T* logits,
                         T* batch_mean, T* batch_variance) {
  constexpr int64_t lanes = kLanes<T>;
  pad_film(layout, dense_film, tape.gamma, tape.beta);
  for (int64_t l = 0; l < layout.layers; ++l) {
    T* normal = tape.normal + l * batch * layout.wide;
    T* filmed = tape.filmed + l * batch * layout.wide;
    T* inverse = tape.inverse_deviation + l * layout.wide;
    if (batch_statistics)
      normalise_by_batch(layout, batch, normal, inverse, batch_mean + l * layout.hidden,
                         batch_variance + l * layout.hidden);
    else
      normalise_by_running(layout, batch, normal, inverse, running_mean + l * layout.hidden,
                           running_variance + l * layout.hidden);
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t v = 0; v < layout.wide; v += lanes) {
        const int64_t at = b * layout.wide + v;
        store<T>(filmed + at, load(normal + at) * load(tape.gamma + l * layout.wide + v) +
                                  load(tape.beta + l * layout.wide + v));
      }
    if (l + 1 < layout.layers) {
      T* r = tape.before_gelu + l * batch * layout.wide;
      dense_product(layout, batch, filmed,
                    packed + layout.dense + l * layout.panels * layout.dense_panel, false, r);
      T* next = tape.normal + (l + 1) * batch * layout.wide;
      for (int64_t at = 0; at < batch * layout.wide; at += lanes) {
        Vector<T> density, distribution;
        const Vector<T> value = load(r + at);
        normal_functions(value, density, distribution);
        store<T>(next + at, value * distribution);
      }
    } else {
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t k = 0; k < layout.outputs; ++k) {
          const T* last = packed + layout.last + k * layout.wide;
          Vector<T> sum{};
          for (int64_t v = 0; v < layout.wide; v += lanes)
            sum += load(filmed + b * layout.wide + v) * load(last + v);
          logits[b * layout.outputs + k] = sum_lanes<T>(sum) + packed[layout.last_bias + k];
        }
    }
  }
}

// adjoints.logits holds the cotangent [B,K] on entry; on exit adjoints.before_norm[0] is the
// gradient of hd_T. Fills the dense part of `gradient` (packed) and the dense FiLM gradients
// (flat).
template <class T>
inline void head_backward(const PackedLayout<T>& layout, int64_t batch, const Weights<T>& weights,
                          bool batch_statistics, const HeadTape<T>& tape,
                          const HeadAdjoints<T>& adjoints, T* gradient, T* film_gradient) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t l = layout.layers - 1; l >= 0; --l) {
    const int64_t layer = l * batch * layout.wide;
    const T* filmed = tape.filmed + layer;
    T* d_filmed = adjoints.filmed + layer;
    if (l + 1 == layout.layers) {
      fill<T>(layout.packed_size - layout.last, 0, gradient + layout.last);
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t k = 0; k < layout.outputs; ++k) {
          const T d = adjoints.logits[b * layout.outputs + k];
          const int64_t last = layout.last + k * layout.wide;
          gradient[layout.last_bias + k] += d;
          for (int64_t v = 0; v < layout.wide; v += lanes) {
            const int64_t at = b * layout.wide + v;
            T* g = gradient + last + v;
            store<T>(g, load(g) + d * load(filmed + at));
            const Vector<T> share = d * load(weights.packed + last + v);
            store<T>(d_filmed + at, k == 0 ? share : load(d_filmed + at) + share);
          }
        }
    } else {
      const T* r = tape.before_gelu + layer;
      const T* d_after = adjoints.before_norm + layer + batch * layout.wide;
      T* d_r = adjoints.before_gelu + layer;
      for (int64_t at = 0; at < batch * layout.wide; at += lanes) {
        Vector<T> density, distribution;
        const Vector<T> value = load(r + at);
        normal_functions(value, density, distribution);
        store<T>(d_r + at, load(d_after + at) * (distribution + value * density));
      }
      dense_gradient(layout, batch, filmed, d_r, false,
                     gradient + layout.dense + l * layout.panels * layout.dense_panel);
      dense_product(
          layout, batch, d_r,
          weights.transposed + layout.dense_transposed + l * layout.panels * layout.dense_panel,
          false, d_filmed);
    }
    const T* normal = tape.normal + layer;
    T* d_normal = adjoints.normal + layer;
    for (int64_t v = 0; v < layout.wide; v += lanes) {
      Vector<T> d_gamma{}, d_beta{};
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t at = b * layout.wide + v;
        const Vector<T> d = load(d_filmed + at);
        d_gamma += d * load(normal + at);
        d_beta += d;
        store<T>(d_normal + at, d * load(tape.gamma + l * layout.wide + v));
      }
      for (int64_t lane = 0; lane < lanes && v + lane < layout.hidden; ++lane) {
        film_gradient[2 * l * layout.hidden + v + lane] = d_gamma[lane];
        film_gradient[(2 * l + 1) * layout.hidden + v + lane] = d_beta[lane];
      }
    }
    batch_norm_jacobian(layout, batch, batch_statistics, normal,
                        tape.inverse_deviation + l * layout.wide, d_normal,
                        adjoints.before_norm + layer, static_cast<T*>(nullptr));
  }
}

// First half of the tangent. tangents.normal[0] holds the tangent of hd_T on entry.
// dense_film_dot: the FiLM's direction (flat), null = still.
template <class T>
inline void head_tangent_forward(const PackedLayout<T>& layout, int64_t batch, const T* packed,
                                 const T* packed_dot, const T* dense_film_dot,
                                 bool batch_statistics, const HeadTape<T>& tape,
                                 const HeadTangents<T>& tangents, T* logits_dot) {
  constexpr int64_t lanes = kLanes<T>;
  if (dense_film_dot != nullptr) {
    pad_film(layout, dense_film_dot, tangents.gamma, tangents.beta);
  } else {
    fill<T>(layout.layers * layout.wide, 0, tangents.gamma);
    fill<T>(layout.layers * layout.wide, 0, tangents.beta);
  }
  for (int64_t l = 0; l < layout.layers; ++l) {
    const int64_t layer = l * batch * layout.wide;
    const T* normal = tape.normal + layer;
    const T* filmed = tape.filmed + layer;
    T* normal_dot = tangents.normal + layer;
    T* filmed_dot = tangents.filmed + layer;
    // The mean of (input tangent * normal) is the relative tangent of the deviation.
    batch_norm_jacobian(layout, batch, batch_statistics, normal,
                        tape.inverse_deviation + l * layout.wide, normal_dot, normal_dot,
                        tangents.relative_deviation + l * layout.wide);
    for (int64_t v = 0; v < layout.wide; v += lanes) {
      T* relative = tangents.relative_deviation + l * layout.wide + v;
      store<T>(relative, load(relative) * load(tape.inverse_deviation + l * layout.wide + v));
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t at = b * layout.wide + v;
        store<T>(filmed_dot + at,
                 load(normal_dot + at) * load(tape.gamma + l * layout.wide + v) +
                     load(normal + at) * load(tangents.gamma + l * layout.wide + v) +
                     load(tangents.beta + l * layout.wide + v));
      }
    }
    if (l + 1 < layout.layers) {
      const T* r = tape.before_gelu + layer;
      T* r_dot = tangents.before_gelu + layer;
      const int64_t dense = layout.dense + l * layout.panels * layout.dense_panel;
      dense_product(layout, batch, filmed, packed_dot + dense, false, r_dot);
      dense_product(layout, batch, filmed_dot, packed + dense, true, r_dot);
      T* next = tangents.normal + layer + batch * layout.wide;
      for (int64_t at = 0; at < batch * layout.wide; at += lanes) {
        Vector<T> density, distribution;
        const Vector<T> value = load(r + at);
        normal_functions(value, density, distribution);
        store<T>(next + at, (distribution + value * density) * load(r_dot + at));
      }
    } else {
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t k = 0; k < layout.outputs; ++k) {
          const int64_t last = layout.last + k * layout.wide;
          Vector<T> sum{};
          for (int64_t v = 0; v < layout.wide; v += lanes)
            sum += load(filmed_dot + b * layout.wide + v) * load(packed + last + v) +
                   load(filmed + b * layout.wide + v) * load(packed_dot + last + v);
          logits_dot[b * layout.outputs + k] = sum_lanes<T>(sum) + packed_dot[layout.last_bias + k];
        }
    }
  }
}

// Second half. cotangent_dot [B,K] or null; on exit tangents.first is the tangent of hd_T's
// gradient.
template <class T>
inline void head_tangent_backward(const PackedLayout<T>& layout, int64_t batch,
                                  const Weights<T>& weights, const Weights<T>& direction,
                                  bool batch_statistics, const HeadTape<T>& tape,
                                  const HeadAdjoints<T>& adjoints, const HeadTangents<T>& tangents,
                                  const T* cotangent_dot, T* gradient_dot, T* film_gradient_dot) {
  constexpr int64_t lanes = kLanes<T>;
  const T per_row = T(1) / static_cast<T>(batch);
  T* arriving = tangents.first;       // tangent of the gradient of this layer's BatchNorm input
  T* d_filmed_dot = tangents.second;  // tangent of the gradient of filmed
  for (int64_t l = layout.layers - 1; l >= 0; --l) {
    const int64_t layer = l * batch * layout.wide;
    const T* filmed = tape.filmed + layer;
    const T* filmed_dot = tangents.filmed + layer;
    if (l + 1 == layout.layers) {
      fill<T>(layout.packed_size - layout.last, 0, gradient_dot + layout.last);
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t k = 0; k < layout.outputs; ++k) {
          const T d = adjoints.logits[b * layout.outputs + k];
          const T d_dot = cotangent_dot == nullptr ? T(0) : cotangent_dot[b * layout.outputs + k];
          const int64_t last = layout.last + k * layout.wide;
          gradient_dot[layout.last_bias + k] += d_dot;
          for (int64_t v = 0; v < layout.wide; v += lanes) {
            const int64_t at = b * layout.wide + v;
            T* g = gradient_dot + last + v;
            store<T>(g, load(g) + d_dot * load(filmed + at) + d * load(filmed_dot + at));
            const Vector<T> share =
                d_dot * load(weights.packed + last + v) + d * load(direction.packed + last + v);
            store<T>(d_filmed_dot + at, k == 0 ? share : load(d_filmed_dot + at) + share);
          }
        }
    } else {
      const T* r = tape.before_gelu + layer;
      const T* r_dot = tangents.before_gelu + layer;
      const T* d_after = adjoints.before_norm + layer + batch * layout.wide;
      const T* d_r = adjoints.before_gelu + layer;
      // GELU' = cdf + r pdf, GELU'' = (2 - r^2) pdf; `arriving` becomes the tangent of d_r.
      for (int64_t at = 0; at < batch * layout.wide; at += lanes) {
        Vector<T> density, distribution;
        const Vector<T> value = load(r + at);
        normal_functions(value, density, distribution);
        store<T>(arriving + at,
                 load(arriving + at) * (distribution + value * density) +
                     load(d_after + at) * (T(2) - value * value) * density * load(r_dot + at));
      }
      T* g = gradient_dot + layout.dense + l * layout.panels * layout.dense_panel;
      dense_gradient(layout, batch, filmed, arriving, false, g);
      dense_gradient(layout, batch, filmed_dot, d_r, true, g);
      const int64_t dense = layout.dense_transposed + l * layout.panels * layout.dense_panel;
      dense_product(layout, batch, arriving, weights.transposed + dense, false, d_filmed_dot);
      dense_product(layout, batch, d_r, direction.transposed + dense, true, d_filmed_dot);
    }
    const T* normal = tape.normal + layer;
    const T* normal_dot = tangents.normal + layer;
    const T* d_filmed = adjoints.filmed + layer;
    const T* d_normal = adjoints.normal + layer;
    for (int64_t v = 0; v < layout.wide; v += lanes) {
      // FiLM, then BatchNorm: with q = d - mean(d) - n mean(d n), gradient = q / deviation and its
      // tangent = (q_dot - q deviation_dot / deviation) / deviation.
      Vector<T> d_gamma_dot{}, d_beta_dot{}, mean{}, product_mean{}, product_mean_dot{};
      const Vector<T> gamma = load(tape.gamma + l * layout.wide + v);
      const Vector<T> gamma_dot = load(tangents.gamma + l * layout.wide + v);
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t at = b * layout.wide + v;
        const Vector<T> df = load(d_filmed + at), df_dot = load(d_filmed_dot + at);
        const Vector<T> n = load(normal + at), n_dot = load(normal_dot + at);
        d_gamma_dot += df_dot * n + df * n_dot;
        d_beta_dot += df_dot;
        const Vector<T> d = load(d_normal + at), d_dot = df_dot * gamma + df * gamma_dot;
        store<T>(arriving + at, d_dot);
        mean += d_dot;
        product_mean += d * n;
        product_mean_dot += d_dot * n + d * n_dot;
      }
      for (int64_t lane = 0; lane < lanes && v + lane < layout.hidden; ++lane) {
        film_gradient_dot[2 * l * layout.hidden + v + lane] = d_gamma_dot[lane];
        film_gradient_dot[(2 * l + 1) * layout.hidden + v + lane] = d_beta_dot[lane];
      }
      const Vector<T> inverse = load(tape.inverse_deviation + l * layout.wide + v);
      if (!batch_statistics) {
        for (int64_t b = 0; b < batch; ++b) {
          T* a = arriving + b * layout.wide + v;
          store<T>(a, load(a) * inverse);
        }
        continue;
      }
      mean *= per_row;
      product_mean *= per_row;
      product_mean_dot *= per_row;
      const Vector<T> relative = load(tangents.relative_deviation + l * layout.wide + v);
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t at = b * layout.wide + v;
        const Vector<T> q_dot = load(arriving + at) - mean - load(normal_dot + at) * product_mean -
                                load(normal + at) * product_mean_dot;
        store<T>(arriving + at,
                 q_dot * inverse - load(adjoints.before_norm + layer + at) * relative);
      }
    }
  }
}

}  // namespace
}  // namespace timl
