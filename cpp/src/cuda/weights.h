// The weights, twice: flat, as shape.h says, and their transposes. Products find in one or the
// other what they need side by side.
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
        dense_transposed((s.bands + s.hidden) * gates),
        transposed_size(dense_transposed + (s.layers - 1) * s.hidden * s.hidden),
        series(s.steps * s.bands),
        film(film_size(s)),
        tensors(tensor_count(s)) {}

  int64_t steps, bands, hidden, layers, outputs, gates;  // T, F, H, L, K, 4H
  // Flat: input [4H,F], recurrent [4H,H], bias [4H], dense [L-1,H,H], last [K,H], its bias [K].
  int64_t recurrent, bias, dense, last, last_bias, size;
  // Transposed: input [F,4H], recurrent [H,4H], dense [L-1,H,H].
  int64_t dense_transposed, transposed_size;
  int64_t series, film, tensors;  // T F, sizes of FiLM, number of parameter tensors

  // Where the tensors of shape.h begin in the flat weights; begin(tensors) is the end.
  __device__ int64_t begin(int64_t tensor) const {
    if (tensor < kLstmTensors) return tensor == 0 ? 0 : tensor == 1 ? recurrent : bias;
    if (tensor < kLstmTensors + layers) return dense + (tensor - kLstmTensors) * hidden * hidden;
    return tensor == tensors - 1 ? last_bias : size;
  }
  __device__ int64_t tensor_of(int64_t flat) const {
    if (flat < dense) return flat < recurrent ? 0 : flat < bias ? 1 : 2;
    if (flat >= last) return flat < last_bias ? tensors - 2 : tensors - 1;
    return kLstmTensors + (flat - dense) / (hidden * hidden);
  }
  // Place among the transposes of a flat weight; -1 for those that have none.
  __device__ int64_t transposed(int64_t flat) const {
    if (flat < recurrent) return flat % bands * gates + flat / bands;
    if (flat < bias)
      return (bands + (flat - recurrent) % hidden) * gates + (flat - recurrent) / hidden;
    if (flat < dense || flat >= last) return -1;
    const int64_t square = hidden * hidden, at = flat - dense;
    return dense_transposed + at / square * square + at % hidden * hidden + at % square / hidden;
  }
  // gamma_l [H] of a dense layer's FiLM pair; beta_l follows.
  __device__ int64_t dense_film(int64_t layer) const { return 2 * series + 2 * layer * hidden; }
};

template <class T>
struct Weights {
  const T* flat;
  const T* transposed;
};

// Writes value(index) for all weights, flat (unless null) and transposed.
template <class T, class Value>
__device__ __forceinline__ void write_weights(const Team& team, const Layout& layout, T* flat,
                                              T* transposed, const Value& value) {
  for_each(team, layout.size, [&](int64_t i) {
    const T w = value(i);
    if (flat != nullptr) flat[i] = w;
    const int64_t at = layout.transposed(i);
    if (at >= 0) transposed[at] = w;
  });
}

// A block's columns of a matrix of weights: B(k, column), counted from the block's first column, is
// values[k * stride + column]; the columns of a unit's next gate lie `step` further.
template <class T>
struct Slice {
  const T* values;
  int64_t stride, step;
};

// Shared memory beyond that of products, where slices stay for many products; without it they are
// read where they are.
template <class T>
class SliceRoom {
 public:
  __device__ SliceRoom(const Team& team, bool any)
      : next_(any ? simt::shared_memory<T>() + product_shared<T>(team.threads) / sizeof(T)
                  : nullptr) {}

  // The block's columns of `rows` rows, and of `gates` matrices side by side. They are there after
  // copy_async_wait and a sync.
  __device__ Slice<T> take(const Team& team, const T* weights, int64_t rows, int64_t stride,
                           const Range& columns, int64_t gates, int64_t step) {
    if (next_ == nullptr) return {weights + columns.begin, stride, step};
    const int64_t count = columns.count();
    for (int64_t i = team.thread; i < rows * gates * count; i += team.threads) {
      const int64_t gate = i / count % gates, row = i / count / gates;
      simt::copy_async<sizeof(T)>(next_ + i,
                                  weights + row * stride + gate * step + columns.begin + i % count);
    }
    const Slice<T> slice = {next_, gates * count, count};
    next_ += rows * gates * count;
    return slice;
  }

 private:
  T* next_;
};

// Elements of the largest block's slices of the weights that lstm_forward reads, and of those that
// lstm_backward reads; their tangents read twice as many.
inline int64_t forward_slices(const Layout& layout, int64_t blocks) {
  return (layout.bands + layout.hidden) * 4 * ((layout.hidden + blocks - 1) / blocks);
}
inline int64_t backward_slices(const Layout& layout, int64_t blocks) {
  return layout.gates * ((layout.hidden + blocks - 1) / blocks);
}

}  // namespace
}  // namespace timl
