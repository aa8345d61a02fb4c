// What follows the LSTM, for a whole batch, by a team of blocks: BatchNorm, then dense layers with
// FiLM, GELU and BatchNorm between them, down to K logits. Forward, backward, and both halves of
// the tangent.
//
// The formulas are those of docs/explanation/meta-step.md, with the layers and names of the CPU's
// file of this name. One thread has a unit for all rows where rows are summed.
#pragma once

#include "lstm_tangent.h"

namespace timl {
namespace {

// n_l, p_l [L,B,H]; r_l [L-1,B,H]; 1 / standard deviation [L,H].
template <class T>
struct HeadTape {
  TIML_HOST_DEVICE HeadTape(const Layout& layout, int64_t batch, Arena<T>& arena) {
    const int64_t units = batch * layout.hidden;
    normal = arena.take(layout.layers * units);
    filmed = arena.take(layout.layers * units);
    before_gelu = arena.take((layout.layers - 1) * units);
    inverse_deviation = arena.take(layout.layers * layout.hidden);
  }
  T *normal, *filmed, *before_gelu, *inverse_deviation;
};

// Gradients: of the logits [B,K]; of p_l and of BatchNorm's input [L,B,H]; of r_l [L-1,B,H].
template <class T>
struct HeadAdjoints {
  TIML_HOST_DEVICE HeadAdjoints(const Layout& layout, int64_t batch, Arena<T>& arena) {
    const int64_t units = batch * layout.hidden;
    logits = arena.take(batch * layout.outputs);
    filmed = arena.take(layout.layers * units);
    before_norm = arena.take(layout.layers * units);
    before_gelu = arena.take((layout.layers - 1) * units);
  }
  T *logits, *filmed, *before_norm, *before_gelu;
};

// Tangents of the tape's values, and of what comes down to a layer in the second half: the gradient
// of p_l, and of r_l or, at last, of hd_T [B,H].
template <class T>
struct HeadTangents {
  TIML_HOST_DEVICE HeadTangents(const Layout& layout, int64_t batch, Arena<T>& arena) {
    const int64_t units = batch * layout.hidden;
    normal = arena.take(layout.layers * units);
    filmed = arena.take(layout.layers * units);
    before_gelu = arena.take((layout.layers - 1) * units);
    relative_deviation = arena.take(layout.layers * layout.hidden);
    filmed_adjoints = arena.take(units);
    arriving = arena.take(units);
  }
  T *normal, *filmed, *before_gelu, *relative_deviation, *filmed_adjoints, *arriving;
};

// A BatchNorm's statistics: written with batch statistics, else read. [L,H] each.
template <class T>
struct Statistics {
  T *mean, *variance;
};

// hidden [B,H] is hd_T. The team's logits are complete after its next sync.
template <class T>
__device__ void head_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                             const Weights<T>& weights, const T* hidden, const HeadTape<T>& tape,
                             T* logits, const Statistics<T>& statistics) {
  const int64_t width = layout.hidden, units = batch.size * width;
  const T per_row = T(1) / static_cast<T>(batch.size);
  for (int64_t l = 0; l < layout.layers; ++l) {
    T *normal = tape.normal + l * units, *filmed = tape.filmed + l * units;
    const T* in = l == 0 ? hidden : normal;
    const T* gamma = batch.film + layout.dense_film(l);
    for_each(team, width, [&](int64_t u) {
      T mean, variance;
      if (batch.batch_statistics) {
        mean = variance = 0;
        for (int64_t at = u; at < units; at += width) mean += in[at];
        mean *= per_row;
        for (int64_t at = u; at < units; at += width) {
          const T d = in[at] - mean;
          variance += d * d;
        }
        variance *= per_row;
        statistics.mean[l * width + u] = mean;
        statistics.variance[l * width + u] = variance;
      } else {
        mean = batch.running_mean[l * width + u];
        variance = batch.running_variance[l * width + u];
      }
      const T inverse = T(1) / std::sqrt(variance + static_cast<T>(kBatchNormEpsilon));
      tape.inverse_deviation[l * width + u] = inverse;
      for (int64_t at = u; at < units; at += width) {
        normal[at] = (in[at] - mean) * inverse;
        filmed[at] = normal[at] * gamma[u] + gamma[width + u];
      }
    });
    team.sync();
    if (l + 1 < layout.layers) {
      const Term<T> term = {filmed, width,
                            weights.transposed + layout.dense_transposed + l * width * width, width,
                            width};
      product(team, {0, batch.size}, team.share_in_fours(width), &term, 1,
              [&](int64_t b, int64_t u, T r) {
                T density, distribution;
                normal_functions(r, density, distribution);
                tape.before_gelu[l * units + b * width + u] = r;
                normal[units + b * width + u] = r * distribution;
              });
      team.sync();
    }
  }
  // A warp has a logit.
  const T* filmed = tape.filmed + (layout.layers - 1) * units;
  const int lane = team.thread % kLanes;
  const Range mine = team.share(batch.size * layout.outputs);
  for (int64_t at = mine.begin + team.thread / kLanes; at < mine.end; at += team.threads / kLanes) {
    const int64_t b = at / layout.outputs, k = at % layout.outputs;
    T sum = 0;
    for (int64_t u = lane; u < width; u += kLanes)
      sum += filmed[b * width + u] * weights.flat[layout.last + k * width + u];
    sum = sum_lanes(sum);
    if (lane == 0) logits[at] = sum + weights.flat[layout.last_bias + k];
  }
}

// The part of the last layer's gradients, or of their tangents, that the gradients of the logits
// d [B,K] have with filmed [B,H]; added to what is there, or written.
template <class T>
__device__ void last_layer_gradients(const Team& team, const Layout& layout, int64_t batch,
                                     const T* d, const T* filmed, bool add, T* gradient) {
  const int64_t width = layout.hidden;
  for_each(team, layout.outputs * width, [&](int64_t at) {
    const int64_t k = at / width, u = at % width;
    T sum = add ? gradient[layout.last + at] : T(0);
    for (int64_t b = 0; b < batch; ++b) sum += d[b * layout.outputs + k] * filmed[b * width + u];
    gradient[layout.last + at] = sum;
  });
}

// adjoints.logits holds the cotangent [B,K], which all of the team can read. On exit
// adjoints.before_norm[0] is the gradient of hd_T. Fills the dense part of `gradient` (flat) and
// the dense FiLM gradients of film_gradient [Phi].
template <class T>
__device__ void head_backward(const Team& team, const Layout& layout, const Batch<T>& batch,
                              const Weights<T>& weights, const HeadTape<T>& tape,
                              const HeadAdjoints<T>& adjoints, T* gradient, T* film_gradient) {
  const int64_t width = layout.hidden, units = batch.size * width, top = layout.layers - 1;
  const T per_row = T(1) / static_cast<T>(batch.size);
  last_layer_gradients(team, layout, batch.size, static_cast<const T*>(adjoints.logits),
                       static_cast<const T*>(tape.filmed + top * units), false, gradient);
  for_each(team, layout.outputs, [&](int64_t k) {
    T sum = 0;
    for (int64_t b = 0; b < batch.size; ++b) sum += adjoints.logits[b * layout.outputs + k];
    gradient[layout.last_bias + k] = sum;
  });
  for_each(team, units, [&](int64_t at) {
    T sum = 0;
    for (int64_t k = 0; k < layout.outputs; ++k)
      sum += adjoints.logits[at / width * layout.outputs + k] *
             weights.flat[layout.last + k * width + at % width];
    adjoints.filmed[top * units + at] = sum;
  });
  team.sync();
  for (int64_t l = top; l >= 0; --l) {
    const T *filmed = tape.filmed + l * units, *normal = tape.normal + l * units;
    T *d_filmed = adjoints.filmed + l * units, *d_in = adjoints.before_norm + l * units;
    if (l < top) {
      const T* d_r = adjoints.before_gelu + l * units;
      const Term<T> to_weights = {d_r, width, filmed, width, batch.size};
      quad_product<Operands::kTransposed>(
          team, team.share_in_fours(width), {0, width}, &to_weights, 1,
          [&](int64_t n, int64_t k, const T(&sums)[4]) {
            store_sums(gradient + layout.dense + (l * width + n) * width + k, sums, width - k);
          });
      const Term<T> to_filmed = {d_r, width, weights.flat + layout.dense + l * width * width, width,
                                 width};
      product(team, {0, batch.size}, team.share_in_fours(width), &to_filmed, 1,
              [&](int64_t b, int64_t u, T sum) { d_filmed[b * width + u] = sum; });
      team.sync();
    }
    const T* film = batch.film + layout.dense_film(l);
    T* d_film = film_gradient + layout.dense_film(l);
    for_each(team, width, [&](int64_t u) {
      const T gamma = film[u], inverse = tape.inverse_deviation[l * width + u];
      T d_gamma = 0, d_beta = 0;
      for (int64_t at = u; at < units; at += width) {
        d_gamma += d_filmed[at] * normal[at];
        d_beta += d_filmed[at];
      }
      d_film[u] = d_gamma;
      d_film[width + u] = d_beta;
      // dn = gamma dp, so that the means of dn and of dn n are those sums.
      const T mean = batch.batch_statistics ? gamma * d_beta * per_row : T(0);
      const T product_mean = batch.batch_statistics ? gamma * d_gamma * per_row : T(0);
      for (int64_t at = u; at < units; at += width) {
        const T d = (gamma * d_filmed[at] - mean - normal[at] * product_mean) * inverse;
        d_in[at] = d;
        if (l == 0) continue;
        T density, distribution;
        const T r = tape.before_gelu[(l - 1) * units + at];
        normal_functions(r, density, distribution);
        adjoints.before_gelu[(l - 1) * units + at] = d * (distribution + r * density);
      }
    });
    team.sync();
  }
}

// First half of the tangent. hidden_dot [B,H] is the tangent of hd_T. The team's logits_dot are
// complete after its next sync.
template <class T>
__device__ void head_tangent_forward(const Team& team, const Layout& layout, const Batch<T>& batch,
                                     const Weights<T>& weights, const HeadTape<T>& tape,
                                     const Direction<T>& direction, const T* hidden_dot,
                                     const HeadTangents<T>& tangents, T* logits_dot) {
  const int64_t width = layout.hidden, units = batch.size * width, top = layout.layers - 1;
  const T per_row = T(1) / static_cast<T>(batch.size);
  for (int64_t l = 0; l <= top; ++l) {
    const T *normal = tape.normal + l * units, *filmed = tape.filmed + l * units;
    T *normal_dot = tangents.normal + l * units, *filmed_dot = tangents.filmed + l * units;
    const T* in_dot = l == 0 ? hidden_dot : normal_dot;
    const T* gamma = batch.film + layout.dense_film(l);
    const T* film_dot = direction.film == nullptr ? nullptr : direction.film + layout.dense_film(l);
    for_each(team, width, [&](int64_t u) {
      const T inverse = tape.inverse_deviation[l * width + u];
      T mean = 0, product_mean = 0;
      if (batch.batch_statistics) {
        for (int64_t at = u; at < units; at += width) {
          mean += in_dot[at];
          product_mean += in_dot[at] * normal[at];
        }
        mean *= per_row;
        product_mean *= per_row;
      }
      // The mean of (input tangent * normal) is the relative tangent of the deviation.
      tangents.relative_deviation[l * width + u] = product_mean * inverse;
      for (int64_t at = u; at < units; at += width) {
        const T n_dot = (in_dot[at] - mean - normal[at] * product_mean) * inverse;
        normal_dot[at] = n_dot;
        T dot = n_dot * gamma[u];
        if (film_dot != nullptr) dot += normal[at] * film_dot[u] + film_dot[width + u];
        filmed_dot[at] = dot;
      }
    });
    team.sync();
    if (l == top) break;
    const int64_t dense = layout.dense_transposed + l * width * width;
    const Term<T> terms[] = {
        {filmed, width, direction.weights.transposed + dense, width, width},
        {filmed_dot, width, weights.transposed + dense, width, width},
    };
    product(team, {0, batch.size}, team.share_in_fours(width), terms, 2,
            [&](int64_t b, int64_t u, T r_dot) {
              T density, distribution;
              const T r = tape.before_gelu[l * units + b * width + u];
              normal_functions(r, density, distribution);
              tangents.before_gelu[l * units + b * width + u] = r_dot;
              normal_dot[units + b * width + u] = (distribution + r * density) * r_dot;
            });
    team.sync();
  }
  const T *filmed = tape.filmed + top * units, *filmed_dot = tangents.filmed + top * units;
  const int lane = team.thread % kLanes;
  const Range mine = team.share(batch.size * layout.outputs);
  for (int64_t at = mine.begin + team.thread / kLanes; at < mine.end; at += team.threads / kLanes) {
    const int64_t b = at / layout.outputs, k = at % layout.outputs;
    T sum = 0;
    for (int64_t u = lane; u < width; u += kLanes) {
      const int64_t last = layout.last + k * width + u;
      sum += filmed_dot[b * width + u] * weights.flat[last] +
             filmed[b * width + u] * direction.weights.flat[last];
    }
    sum = sum_lanes(sum);
    if (lane == 0) logits_dot[at] = sum + direction.weights.flat[layout.last_bias + k];
  }
}

// Second half. cotangent_dot [B,K] (null = 0) is there for all of the team; on exit
// tangents.arriving is the tangent of hd_T's gradient.
template <class T>
__device__ void head_tangent_backward(const Team& team, const Layout& layout, const Batch<T>& batch,
                                      const Weights<T>& weights, const HeadTape<T>& tape,
                                      const HeadAdjoints<T>& adjoints,
                                      const Direction<T>& direction,
                                      const HeadTangents<T>& tangents, const T* cotangent_dot,
                                      T* gradient_dot, T* film_gradient_dot) {
  const int64_t width = layout.hidden, units = batch.size * width, top = layout.layers - 1;
  const T per_row = T(1) / static_cast<T>(batch.size);
  last_layer_gradients(team, layout, batch.size, static_cast<const T*>(adjoints.logits),
                       static_cast<const T*>(tangents.filmed + top * units), false, gradient_dot);
  if (cotangent_dot != nullptr)  // the same elements on the same threads
    last_layer_gradients(team, layout, batch.size, cotangent_dot,
                         static_cast<const T*>(tape.filmed + top * units), true, gradient_dot);
  for_each(team, layout.outputs, [&](int64_t k) {
    T sum = 0;
    for (int64_t b = 0; cotangent_dot != nullptr && b < batch.size; ++b)
      sum += cotangent_dot[b * layout.outputs + k];
    gradient_dot[layout.last_bias + k] = sum;
  });
  for_each(team, units, [&](int64_t at) {
    T sum = 0;
    for (int64_t k = 0; k < layout.outputs; ++k) {
      const int64_t logit = at / width * layout.outputs + k;
      const int64_t last = layout.last + k * width + at % width;
      sum += adjoints.logits[logit] * direction.weights.flat[last];
      if (cotangent_dot != nullptr) sum += cotangent_dot[logit] * weights.flat[last];
    }
    tangents.filmed_adjoints[at] = sum;
  });
  team.sync();
  for (int64_t l = top; l >= 0; --l) {
    const T *filmed = tape.filmed + l * units, *filmed_dot = tangents.filmed + l * units;
    if (l < top) {
      const T *d_r = adjoints.before_gelu + l * units, *d_r_dot = tangents.arriving;
      const Term<T> to_weights[] = {
          {d_r_dot, width, filmed, width, batch.size},
          {d_r, width, filmed_dot, width, batch.size},
      };
      quad_product<Operands::kTransposed>(
          team, team.share_in_fours(width), {0, width}, to_weights, 2,
          [&](int64_t n, int64_t k, const T(&sums)[4]) {
            store_sums(gradient_dot + layout.dense + (l * width + n) * width + k, sums, width - k);
          });
      const int64_t dense = layout.dense + l * width * width;
      const Term<T> to_filmed[] = {
          {d_r_dot, width, weights.flat + dense, width, width},
          {d_r, width, direction.weights.flat + dense, width, width},
      };
      product(team, {0, batch.size}, team.share_in_fours(width), to_filmed, 2,
              [&](int64_t b, int64_t u, T sum) { tangents.filmed_adjoints[b * width + u] = sum; });
      team.sync();
    }
    const T *normal = tape.normal + l * units, *normal_dot = tangents.normal + l * units;
    const T *d_filmed = adjoints.filmed + l * units, *d_in = adjoints.before_norm + l * units;
    const T* film = batch.film + layout.dense_film(l);
    const T* film_dot = direction.film == nullptr ? nullptr : direction.film + layout.dense_film(l);
    T* d_film_dot = film_gradient_dot + layout.dense_film(l);
    for_each(team, width, [&](int64_t u) {
      // FiLM, then BatchNorm: with q = d - mean(d) - n mean(d n), gradient = q / deviation and its
      // tangent = (q_dot - q deviation_dot / deviation) / deviation.
      const T gamma = film[u], gamma_dot = film_dot == nullptr ? T(0) : film_dot[u];
      T d_gamma_dot = 0, d_beta_dot = 0, mean = 0, product_mean = 0, product_mean_dot = 0;
      for (int64_t at = u; at < units; at += width) {
        const T df = d_filmed[at], df_dot = tangents.filmed_adjoints[at];
        const T n = normal[at], n_dot = normal_dot[at];
        d_gamma_dot += df_dot * n + df * n_dot;
        d_beta_dot += df_dot;
        const T d = df * gamma, d_dot = df_dot * gamma + df * gamma_dot;
        mean += d_dot;
        product_mean += d * n;
        product_mean_dot += d_dot * n + d * n_dot;
      }
      d_film_dot[u] = d_gamma_dot;
      d_film_dot[width + u] = d_beta_dot;
      const T share = batch.batch_statistics ? per_row : T(0);
      mean *= share;
      product_mean *= share;
      product_mean_dot *= share;
      const T inverse = tape.inverse_deviation[l * width + u];
      const T relative = tangents.relative_deviation[l * width + u];
      for (int64_t at = u; at < units; at += width) {
        const T d_dot = tangents.filmed_adjoints[at] * gamma + d_filmed[at] * gamma_dot;
        const T q_dot =
            d_dot - mean - normal_dot[at] * product_mean - normal[at] * product_mean_dot;
        T dot = q_dot * inverse - d_in[at] * relative;
        if (l > 0) {  // GELU' = cdf + r pdf, GELU'' = (2 - r^2) pdf
          T density, distribution;
          const T r = tape.before_gelu[(l - 1) * units + at];
          normal_functions(r, density, distribution);
          dot = dot * (distribution + r * density) +
                d_in[at] * (T(2) - r * r) * density * tangents.before_gelu[(l - 1) * units + at];
        }
        tangents.arriving[at] = dot;
      }
    });
    team.sync();
  }
}

}  // namespace
}  // namespace timl
