// Where everything lies inside the engine: packed weights in panels as wide as a tile, their
// transposes, padded row lengths, and a bump allocator that both measures and hands out buffers.
#pragma once

#include "product.h"
#include "timl/engine.h"

namespace timl {
namespace {

// Hands out aligned pieces of a caller's buffer. With a null base it only counts, so that the code
// that carves a buffer also tells its size.
template <class T>
class Arena {
 public:
  explicit Arena(T* base) : base_(base) {}
  T* take(int64_t count) {
    constexpr int64_t kAlign = kAlignment / static_cast<int64_t>(sizeof(T));
    T* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count + kAlign - 1) / kAlign * kAlign;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  T* base_;
  int64_t used_ = 0;
};

template <class T>
inline void copy(int64_t count, const T* source, T* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = source[i];
}

template <class T>
inline void fill(int64_t count, T value, T* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = value;
}

// Derived sizes and the offsets of the packed weights.
//
// Units are padded to whole vectors and stay zero there. Gate weights lie in one panel per block of
// kLanes units: rows = the F input bands, then the units of h; columns = the block's i, f, g, o.
// Dense weights lie transposed in panels of kTile output units with one row per input unit.
template <class T>
struct Layout {
  static constexpr int64_t W = kLanes<T>;
  static constexpr int64_t kWide = kTile<T>;

  explicit Layout(const Shape& s)
      : T_(s.steps),
        F(s.bands),
        H(s.hidden),
        L(s.layers),
        padded((s.hidden + W - 1) / W * W),
        blocks(padded / W),
        wide((padded + kWide - 1) / kWide * kWide),
        panels(wide / kWide),
        row(wide + W),
        gate_panel((F + padded) * kWide),
        dense_panel(padded * kWide) {
    bias = blocks * gate_panel;
    dense = bias + blocks * kWide;
    last = dense + (L - 1) * panels * dense_panel;
    last_bias = last + wide;
    packed = last_bias + W;
    hidden_transposed = 0;
    dense_transposed = panels * 4 * padded * kWide;
    transposed = dense_transposed + (L - 1) * panels * padded * kWide;
  }

  int64_t T_, F, H, L;
  int64_t padded;       // units in whole vectors
  int64_t blocks;       // of kLanes units: gate panels
  int64_t wide;         // units in whole tiles
  int64_t panels;       // of kTile units
  int64_t row;          // length of a row of units: odd in cache lines, so that columns spread
  int64_t gate_panel;   // elements of a gate panel
  int64_t dense_panel;  // elements of a dense panel
  int64_t bias, dense, last, last_bias, packed;             // offsets, size of packed weights
  int64_t hidden_transposed, dense_transposed, transposed;  // likewise of the transposes
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
TIML_INLINE void for_each_run(const Layout<T>& y, const Visit& visit) {
  const int64_t input = 0, hidden = 4 * y.H * y.F, bias = hidden + 4 * y.H * y.H;
  const int64_t dense = bias + 4 * y.H;
  for (int64_t j = 0; j < y.blocks; ++j) {
    const int64_t unit = j * y.W, count = unit + y.W <= y.H ? y.W : y.H - unit;
    for (int64_t gate = 0; gate < 4; ++gate) {
      const int64_t out = gate * y.H + unit;
      const int64_t column = j * y.gate_panel + gate * y.W;
      for (int64_t f = 0; f < y.F; ++f)
        visit(0, column + f * y.kWide, input + out * y.F + f, y.F, count);
      for (int64_t k = 0; k < y.H; ++k)
        visit(1, column + (y.F + k) * y.kWide, hidden + out * y.H + k, y.H, count);
      visit(2, y.bias + j * y.kWide + gate * y.W, bias + out, int64_t{1}, count);
    }
  }
  for (int64_t l = 0; l + 1 < y.L; ++l)
    for (int64_t p = 0; p < y.panels; ++p) {
      const int64_t unit = p * y.kWide;
      const int64_t count = unit + y.kWide <= y.H ? y.kWide : y.H - unit;
      for (int64_t k = 0; k < y.H && count > 0; ++k)
        visit(3 + l, y.dense + (l * y.panels + p) * y.dense_panel + k * y.kWide,
              dense + l * y.H * y.H + unit * y.H + k, y.H, count);
    }
  const int64_t last = dense + (y.L - 1) * y.H * y.H;
  visit(2 + y.L, y.last, last, int64_t{1}, y.H);
  visit(3 + y.L, y.last_bias, last + y.H, int64_t{1}, int64_t{1});
}

template <class T>
inline void pack(const Layout<T>& y, const T* flat, T* packed) {
  fill<T>(y.packed, 0, packed);
  for_each_run(y, [&](int64_t, int64_t to, int64_t from, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) packed[to + i] = flat[from + i * stride];
  });
}

template <class T>
inline void unpack(const Layout<T>& y, const T* packed, T scale, T* flat) {
  for_each_run(y, [&](int64_t, int64_t from, int64_t to, int64_t stride, int64_t count) {
    for (int64_t i = 0; i < count; ++i) flat[to + i * stride] = scale * packed[from + i];
  });
}

// Segments of the packed vector that belong to one tensor: visit(tensor, offset, count).
template <class T, class Visit>
TIML_INLINE void for_each_segment(const Layout<T>& y, const Visit& visit) {
  for (int64_t j = 0; j < y.blocks; ++j) {
    visit(0, j * y.gate_panel, y.F * y.kWide);
    visit(1, j * y.gate_panel + y.F * y.kWide, y.padded * y.kWide);
  }
  visit(2, y.bias, y.blocks * y.kWide);
  for (int64_t l = 0; l + 1 < y.L; ++l)
    visit(3 + l, y.dense + l * y.panels * y.dense_panel, y.panels * y.dense_panel);
  visit(2 + y.L, y.last, y.wide);
  visit(3 + y.L, y.last_bias, y.W);
}

// out[c, r] = in[r, c] for one square of kLanes x kLanes, in registers: each pass swaps halves of
// pairs of rows, quarters, and so on.
template <class T>
TIML_INLINE void transpose_square(const T* in, int64_t in_stride, T* out, int64_t out_stride) {
  constexpr int W = kLanes<T>;
  using Integer = typename VectorOf<T>::integer;
  Vector<T> rows[W];
#pragma GCC unroll 16
  for (int r = 0; r < W; ++r) rows[r] = load(in + r * in_stride);
#pragma GCC unroll 4
  for (int half = W / 2; half >= 1; half /= 2) {
    Integer low, high;
    for (int lane = 0; lane < W; ++lane) {
      low[lane] = (lane & half) ? W + lane - half : lane;
      high[lane] = (lane & half) ? W + lane : lane + half;
    }
#pragma GCC unroll 16
    for (int r = 0; r < W; ++r) {
      if (r & half) continue;
      const Vector<T> a = rows[r], b = rows[r + half];
#if defined(__clang__)
      for (int lane = 0; lane < W; ++lane) {
        rows[r][lane] = low[lane] < W ? a[low[lane]] : b[low[lane] - W];
        rows[r + half][lane] = high[lane] < W ? a[high[lane]] : b[high[lane] - W];
      }
#else
      rows[r] = __builtin_shuffle(a, b, low);
      rows[r + half] = __builtin_shuffle(a, b, high);
#endif
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < W; ++r) store(out + r * out_stride, rows[r]);
}

// The transposes of the recurrent and dense weights, in panels of kTile input units:
// hidden [panels][4*padded][kTile], rows in the order (block, gate, lane) of the gate panels;
// dense l [panels][padded][kTile], rows = output units.
template <class T>
inline void transpose(const Layout<T>& y, const T* packed, T* transposed) {
  constexpr int64_t W = kLanes<T>;
  if (y.wide != y.padded) fill<T>(y.transposed, 0, transposed);
  for (int64_t u = 0; u < y.padded; u += W) {  // input units, a vector at a time
    const int64_t p = u / y.kWide, column = u % y.kWide;
    T* hidden = transposed + y.hidden_transposed + p * 4 * y.padded * y.kWide + column;
    for (int64_t j = 0; j < y.blocks; ++j)
      for (int64_t gate = 0; gate < 4; ++gate)
        transpose_square(packed + j * y.gate_panel + (y.F + u) * y.kWide + gate * W, y.kWide,
                         hidden + (j * y.kWide + gate * W) * y.kWide, y.kWide);
    for (int64_t l = 0; l + 1 < y.L; ++l) {
      T* dense = transposed + y.dense_transposed + (l * y.panels + p) * y.padded * y.kWide + column;
      for (int64_t n = 0; n < y.padded; n += W)
        transpose_square(packed + y.dense + (l * y.panels + n / y.kWide) * y.dense_panel +
                             u * y.kWide + n % y.kWide,
                         y.kWide, dense + n * y.kWide, y.kWide);
    }
  }
}

}  // namespace
}  // namespace timl
