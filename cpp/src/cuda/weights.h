// The weights, twice: flat, as shape.h says, and their transposes, in which a unit's four gates lie
// side by side. Products find in one or the other the columns of a thread in 16 bytes.
#pragma once

#include "product.h"

namespace timl {
namespace {

// Sizes of the network, and offsets in the flat weights and in the transposes.
struct Layout {
  Layout() = default;
  explicit Layout(const Shape& s)
      : steps(s.steps),
        bands(s.bands),
        hidden(s.hidden),
        layers(s.layers),
        outputs(s.outputs),
        gates(4 * s.hidden),
        recurrent(gates * s.bands),
        bias(recurrent + gates * s.hidden),
        dense(bias + gates),
        last(dense + (s.layers - 1) * s.hidden * s.hidden),
        last_bias(last + s.outputs * s.hidden),
        size(last_bias + s.outputs),
        bias_transposed((s.bands + s.hidden) * gates),
        dense_transposed(bias_transposed + gates),
        transposed_size(round_to_fours(dense_transposed + (s.layers - 1) * s.hidden * s.hidden)),
        stored(round_to_fours(size)),
        padded_bands(round_to_fours(s.bands + 1)),
        series(s.steps * s.bands),
        film(film_size(s)),
        tensors(tensor_count(s)) {}

  int64_t steps, bands, hidden, layers, outputs, gates;  // T, F, H, L, K, 4H
  // Flat: input [4H,F], recurrent [4H,H], bias [4H], dense [L-1,H,H], last [K,H], its bias [K].
  int64_t recurrent, bias, dense, last, last_bias, size;
  // Transposed: recurrent [H,H,4], input [F,H,4], bias [H,4], dense [L-1,H,H].
  int64_t bias_transposed, dense_transposed, transposed_size;
  int64_t stored;                 // from one copy of the flat weights to the next
  int64_t padded_bands;           // from one row of the LSTM's input to the next
  int64_t series, film, tensors;  // T F, sizes of FiLM, number of parameter tensors

  // Where the tensors of shape.h begin in the flat weights; begin(tensors) is the end.
  __device__ int64_t begin(int64_t tensor) const {
    if (tensor < kLstmTensors) return tensor == 0 ? 0 : tensor == 1 ? recurrent : bias;
    if (tensor < kLstmTensors + layers) return dense + (tensor - kLstmTensors) * hidden * hidden;
    return tensor == tensors - 1 ? last_bias : size;
  }
  // The flat weight of a gate and a band, or, behind the last band, the gate's bias.
  __device__ int64_t input_or_bias(int64_t gate, int64_t band) const {
    return band < bands ? gate * bands + band : bias + gate;
  }
  // gamma_l [H] of a dense layer's FiLM pair; beta_l follows.
  __device__ int64_t dense_film(int64_t layer) const { return 2 * series + 2 * layer * hidden; }
};

template <class T>
struct Weights {
  const T* flat;
  const T* transposed;
};

// Writes value(index, tensor) for all weights, flat (unless null) and transposed. A thread has four
// rows of a column of a matrix, which lie side by side in the transpose, and reads them all before
// it writes one.
template <class T, class Value>
__device__ __forceinline__ void write_weights(const Team& team, const Layout& layout, T* flat,
                                              T* transposed, const Value& value) {
  // The four rows of a group begin with row group * group_rows and lie rows_apart rows apart.
  const auto write_matrix = [&](int64_t begin, int64_t rows, int64_t columns, int64_t group_rows,
                                int64_t rows_apart, int64_t tensor, T* to, int64_t to_stride) {
    for_each(team, (rows + 3) / 4 * columns, [&](int64_t index) {
      const int item = static_cast<int>(index), width = static_cast<int>(columns);
      const int group = item / width, column = item % width;
      const int64_t left = rows - group * group_rows;
      const int count = rows_apart > 1 || left >= 4 ? 4 : static_cast<int>(left);
      const int64_t at = begin + group * group_rows * columns + column;
      T values[4];
#pragma unroll
      for (int row = 0; row < 4; ++row)
        if (row < count) values[row] = value(at + row * rows_apart * columns, tensor);
#pragma unroll
      for (int row = 0; row < 4; ++row)
        if (flat != nullptr && row < count) flat[at + row * rows_apart * columns] = values[row];
      store_sums(to + column * to_stride + group * 4, values, count);
    });
  };
  const int64_t hidden = layout.hidden, gates = layout.gates;
  write_matrix(0, gates, layout.bands, 1, hidden, 0, transposed + hidden * gates, gates);
  write_matrix(layout.recurrent, gates, hidden, 1, hidden, 1, transposed, gates);
  write_matrix(layout.bias, gates, 1, 1, hidden, 2, transposed + layout.bias_transposed, gates);
  for (int64_t l = 0; l + 1 < layout.layers; ++l)
    write_matrix(layout.dense + l * hidden * hidden, hidden, hidden, 4, 1, kLstmTensors + l,
                 transposed + layout.dense_transposed + l * hidden * hidden, hidden);
  if (flat == nullptr) return;
  for_each(team, layout.size - layout.last, [&](int64_t index) {
    const int64_t at = layout.last + index;
    flat[at] = value(at, layout.tensors - (at < layout.last_bias ? 2 : 1));
  });
}

// Copies rows of a matrix to shared memory in the background, 16 bytes at once where both sides are
// aligned for them. row_of(k) is where the k-th row is. They are there after copy_async_wait and a
// barrier of the block.
template <class T, class RowOf>
__device__ __forceinline__ void copy_each_row(const Team& team, int64_t rows, int64_t columns,
                                              T* to, int64_t to_stride, bool aligned,
                                              const RowOf& row_of) {
  const int each = static_cast<int>(aligned ? columns / 4 : columns);  // copies of a row
  for (int i = team.thread; i < static_cast<int>(rows) * each; i += team.threads) {
    const int k = i / each, column = i % each;
    if (aligned) {
      constexpr int kEach = kVectorBytes / static_cast<int>(sizeof(T));
#pragma unroll
      for (int part = 0; part < 4; part += kEach)
        simt::copy_async<kVectorBytes>(to + k * to_stride + column * 4 + part,
                                       row_of(k) + column * 4 + part);
    } else {
      simt::copy_async<sizeof(T)>(to + k * to_stride + column, row_of(k) + column);
    }
  }
}
template <class T>
__device__ __forceinline__ void copy_rows(const Team& team, int64_t rows, int64_t columns,
                                          const T* from, int64_t stride, T* to, int64_t to_stride) {
  const bool aligned = columns % 4 == 0 && aligned_rows<Quad<T>>(from, stride) &&
                       aligned_rows<Quad<T>>(to, to_stride);
  copy_each_row(team, rows, columns, to, to_stride, aligned,
                [&](int64_t k) { return from + k * stride; });
}

// A block's columns of a matrix of weights: B(k, column), counted from the block's first column, is
// values[k * stride + column].
template <class T>
struct Slice {
  const T* values;
  int64_t stride;
};

}  // namespace
}  // namespace timl
