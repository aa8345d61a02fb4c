// The packed weights: in panels as wide as a tile, with their transposes and padded row lengths.
// Here stands where every value lies, and how weights are packed, unpacked and transposed.
#pragma once

#include <utility>

#include "../common/memory.h"
#include "product.h"

namespace timl {
namespace {

// Sizes of the network, the sizes derived from them, and the offsets of the packed weights.
//
// Units are padded to whole vectors and stay zero there. Gate weights lie in one panel per block of
// kLanes units: rows = the F input bands, then the units of h; columns = the block's i, f, g, o.
// Dense weights lie transposed in panels of kTileColumns output units with one row per input unit.
template <class T>
struct PackedLayout {
  explicit PackedLayout(const Shape& shape)
      : steps(shape.steps),
        bands(shape.bands),
        hidden(shape.hidden),
        layers(shape.layers),
        outputs(shape.outputs) {
    constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
    padded = (hidden + lanes - 1) / lanes * lanes;
    blocks = padded / lanes;
    wide = (padded + columns - 1) / columns * columns;
    panels = wide / columns;
    row = wide + lanes;
    gate_panel = (bands + padded) * columns;
    dense_panel = padded * columns;

    bias = blocks * gate_panel;
    dense = bias + blocks * columns;
    last = dense + (layers - 1) * panels * dense_panel;
    last_bias = last + outputs * wide;
    packed_size = last_bias + (outputs + lanes - 1) / lanes * lanes;

    dense_transposed = panels * 4 * padded * columns;
    transposed_size = dense_transposed + (layers - 1) * panels * dense_panel;
  }

  int64_t steps, bands, hidden, layers, outputs;  // T, F, H, L, K
  int64_t padded;                                 // units in whole vectors
  int64_t blocks;                                 // of kLanes units: gate panels
  int64_t wide;                                   // units in whole tiles
  int64_t panels;                                 // of kTileColumns units
  int64_t row;          // length of a row of units: odd in cache lines, so that columns spread
  int64_t gate_panel;   // elements of a gate panel
  int64_t dense_panel;  // elements of a dense panel, transposed or not

  // Offsets in the packed weights (the gate panels are first), and how many elements they take. The
  // last layer is K rows of `wide`, then K biases.
  int64_t bias, dense, last, last_bias, packed_size;
  // Likewise of the transposes (those of the recurrent weights are first).
  int64_t dense_transposed, transposed_size;
};

// Weights ready for products: packed, and the transposes that backward needs.
template <class T>
struct Weights {
  const T* packed;
  const T* transposed;
};

// Calls visit(tensor, packed offset, flat offset, contiguous count) for every run of values that is
// contiguous in both the packed and the flat order. `flat_stride` is the distance between the
// run's neighbours in the flat array (packed runs go along output units, flat rows along inputs).
template <class T, class Visit>
TIML_INLINE void for_each_run(const PackedLayout<T>& layout, const Visit& visit) {
  const int64_t input = 0, hidden = 4 * layout.hidden * layout.bands,
                bias = hidden + 4 * layout.hidden * layout.hidden;
  const int64_t dense = bias + 4 * layout.hidden;
  for (int64_t j = 0; j < layout.blocks; ++j) {
    const int64_t unit = j * kLanes<T>,
                  count = unit + kLanes<T> <= layout.hidden ? kLanes<T> : layout.hidden - unit;
    for (int64_t gate = 0; gate < 4; ++gate) {
      const int64_t out = gate * layout.hidden + unit;
      const int64_t column = j * layout.gate_panel + gate * kLanes<T>;
      for (int64_t f = 0; f < layout.bands; ++f)
        visit(0, column + f * kTileColumns<T>, input + out * layout.bands + f, layout.bands, count);
      for (int64_t k = 0; k < layout.hidden; ++k)
        visit(1, column + (layout.bands + k) * kTileColumns<T>, hidden + out * layout.hidden + k,
              layout.hidden, count);
      visit(2, layout.bias + j * kTileColumns<T> + gate * kLanes<T>, bias + out, int64_t{1}, count);
    }
  }
  for (int64_t l = 0; l + 1 < layout.layers; ++l)
    for (int64_t p = 0; p < layout.panels; ++p) {
      const int64_t unit = p * kTileColumns<T>;
      const int64_t count =
          unit + kTileColumns<T> <= layout.hidden ? kTileColumns<T> : layout.hidden - unit;
      for (int64_t k = 0; k < layout.hidden && count > 0; ++k)
        visit(kLstmTensors + l,
              layout.dense + (l * layout.panels + p) * layout.dense_panel + k * kTileColumns<T>,
              dense + l * layout.hidden * layout.hidden + unit * layout.hidden + k, layout.hidden,
              count);
    }
  const int64_t last = dense + (layout.layers - 1) * layout.hidden * layout.hidden;
  for (int64_t k = 0; k < layout.outputs; ++k)
    visit(kLstmTensors + layout.layers - 1, layout.last + k * layout.wide, last + k * layout.hidden,
          int64_t{1}, layout.hidden);
  visit(kLstmTensors + layout.layers, layout.last_bias, last + layout.outputs * layout.hidden,
        int64_t{1}, layout.outputs);
}

template <class T>
inline void pack(const PackedLayout<T>& layout, const T* flat, T* packed) {
  fill<T>(layout.packed_size, 0, packed);
  for_each_run(layout, [&](int64_t, int64_t to, int64_t from, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) packed[to + i] = flat[from + i * stride];
  });
}

template <class T>
inline void unpack(const PackedLayout<T>& layout, const T* packed, T scale, T* flat) {
  for_each_run(layout, [&](int64_t, int64_t from, int64_t to, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) flat[to + i * stride] = scale * packed[from + i];
  });
}

// Segments of the packed vector that belong to one tensor: visit(tensor, offset, count).
template <class T, class Visit>
TIML_INLINE void for_each_segment(const PackedLayout<T>& layout, const Visit& visit) {
  for (int64_t j = 0; j < layout.blocks; ++j) {
    visit(0, j * layout.gate_panel, layout.bands * kTileColumns<T>);
    visit(1, j * layout.gate_panel + layout.bands * kTileColumns<T>,
          layout.padded * kTileColumns<T>);
  }
  visit(2, layout.bias, layout.blocks * kTileColumns<T>);
  for (int64_t l = 0; l + 1 < layout.layers; ++l)
    visit(kLstmTensors + l, layout.dense + l * layout.panels * layout.dense_panel,
          layout.panels * layout.dense_panel);
  visit(kLstmTensors + layout.layers - 1, layout.last, layout.outputs * layout.wide);
  visit(kLstmTensors + layout.layers, layout.last_bias, layout.packed_size - layout.last_bias);
}

// Swaps, in two rows of a square, the second half of each 2 * Half values of `a` with the first
// half of those of `b`.
template <class T, int Half, int... Lane>
TIML_INLINE void swap_halves(Vector<T>& a, Vector<T>& b, std::integer_sequence<int, Lane...>) {
  constexpr int lanes = kLanes<T>;
  const Vector<T> first = a;
  a = __builtin_shufflevector(a, b, ((Lane & Half) ? lanes + Lane - Half : Lane)...);
  b = __builtin_shufflevector(first, b, ((Lane & Half) ? lanes + Lane : Lane + Half)...);
}

template <class T, int Half>
TIML_INLINE void swap_blocks(Vector<T> (&rows)[kLanes<T>]) {
  if constexpr (Half > 0) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes<T>; ++r)
      if (!(r & Half))
        swap_halves<T, Half>(rows[r], rows[r + Half], std::make_integer_sequence<int, kLanes<T>>{});
    swap_blocks<T, Half / 2>(rows);
  }
}

// out[c, r] = in[r, c] for one square of kLanes x kLanes, in registers: blocks off the diagonal
// change places, of half the square, then of a quarter, and so on.
template <class T>
TIML_INLINE void transpose_square(const T* in, int64_t in_stride, T* out, int64_t out_stride) {
  constexpr int lanes = kLanes<T>;
  Vector<T> rows[lanes];
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) rows[r] = load(in + r * in_stride);
  swap_blocks<T, lanes / 2>(rows);
#pragma GCC unroll 16
  for (int r = 0; r < lanes; ++r) store(out + r * out_stride, rows[r]);
}

// The transposes of the recurrent and dense weights, in panels of kTileColumns input units:
// hidden [panels][4*padded][columns], rows in the order (block, gate, lane) of the gate panels;
// dense l [panels][padded][columns], rows = output units.

// Those of gate panel j, which is read from its first row to its last; what is written meanwhile
// stays in L1.
template <class T>
inline void transpose_gate_panel(const PackedLayout<T>& layout, int64_t j, const T* packed,
                                 T* transposed) {
  constexpr int64_t lanes = kLanes<T>, columns = kTileColumns<T>;
  for (int64_t u = 0; u < layout.padded; u += lanes) {  // input units, a vector at a time
    const T* from = packed + j * layout.gate_panel + (layout.bands + u) * columns;
    T* hidden =
        transposed + (u / columns * 4 * layout.padded + j * columns) * columns + u % columns;
    for (int64_t gate = 0; gate < 4; ++gate)
      transpose_square(from + gate * lanes, columns, hidden + gate * lanes * columns, columns);
  }
}

// Those of dense layer l.
template <class T>
inline void transpose_dense(const PackedLayout<T>& layout, int64_t l, const T* packed,
                            T* transposed) {
  constexpr int64_t lanes = kLanes<T>;
  for (int64_t n = 0; n < layout.padded; n += lanes)  // output units
    for (int64_t u = 0; u < layout.padded; u += lanes) {
      const int64_t from = (l * layout.panels + n / kTileColumns<T>)*layout.dense_panel +
                           u * kTileColumns<T> + n % kTileColumns<T>;
      const int64_t to =
          ((l * layout.panels + u / kTileColumns<T>)*layout.padded + n) * kTileColumns<T> +
          u % kTileColumns<T>;
      transpose_square(packed + layout.dense + from, kTileColumns<T>,
                       transposed + layout.dense_transposed + to, kTileColumns<T>);
    }
}

// Has write(tensor, offset, count) fill the segments of the packed weights, and transposes each as
// soon as it is written, while a cache near the core has it.
template <class T, class Write>
TIML_INLINE void write_and_transpose(const PackedLayout<T>& layout, const Write& write,
                                     const T* packed, T* transposed) {
  if (layout.wide != layout.padded) fill<T>(layout.transposed_size, 0, transposed);
  for_each_segment(layout, [&](int64_t tensor, int64_t at, int64_t count) {
    write(tensor, at, count);
    if (tensor == 1)
      transpose_gate_panel(layout, at / layout.gate_panel, packed, transposed);
    else if (at >= layout.dense && at < layout.last)
      transpose_dense(layout, tensor - kLstmTensors, packed, transposed);
  });
}

template <class T>
inline void transpose(const PackedLayout<T>& layout, const T* packed, T* transposed) {
  write_and_transpose(layout, [](int64_t, int64_t, int64_t) {}, packed, transposed);
}

}  // namespace
}  // namespace timl
