// The sizes of a network and the order of its parameters and FiLM values in flat arrays.
// Every backend and every binding takes its offsets from here.
#pragma once

#include <cstdint>

namespace timl {

// Sizes of the network of one task (all at run time).
struct Shape {
  int64_t steps;    // T, time steps of a series
  int64_t bands;    // F, values per step
  int64_t hidden;   // H, units of the LSTM and of each dense layer but the last
  int64_t layers;   // L, dense layers
  int64_t outputs;  // K, logits of a sample: 1 for two classes, else one for each class
};

// Flat weights [P]: input [4H,F], hidden [4H,H], bias [4H] (gates in the order i,f,g,o), then
// dense 1..L-1 [H,H] each, dense L [K,H] and its bias [K].
inline int64_t weights_size(const Shape& s) {
  return 4 * s.hidden * (s.bands + s.hidden + 1) + (s.layers - 1) * s.hidden * s.hidden +
         s.outputs * (s.hidden + 1);
}

// Parameter tensors in that order: those of the LSTM, one for each dense layer, the last one's
// bias.
inline constexpr int64_t kLstmTensors = 3;
inline int64_t tensor_count(const Shape& s) { return kLstmTensors + s.layers + 1; }

// Flat FiLM values of one task: gamma_0 [T,F], beta_0 [T,F], then gamma_l [H], beta_l [H] for
// l = 1..L.
inline int64_t film_size(const Shape& s) { return 2 * s.steps * s.bands + 2 * s.layers * s.hidden; }

// Added to the variance in every batch normalisation.
inline constexpr double kBatchNormEpsilon = 1e-5;

// Largest sizes accepted; products of them stay far inside int64_t.
inline constexpr int64_t kLargestSize = 65536;

}  // namespace timl
