// The matrix product everything is made of: a tile of a few rows by the lanes of a warp, kept in
// registers while any number of terms A_q B_q is summed into it. Where there are fewer tiles than
// warps, several warps share a tile's depth.
#pragma once

#include "team.h"

namespace timl {
namespace {

// One product A B: A(row, k) = a[row * row_stride + k * depth_stride], B(k, column) =
// b[k * b_stride + column].
template <class T>
struct Term {
  const T* a;
  int64_t row_stride;
  int64_t depth_stride;
  const T* b;
  int64_t b_stride;
  int64_t depth;
};

inline constexpr int kLanes = 32;  // of a warp

// Rows of a tile: half of the paper's support batch, and half of that where a number takes two
// registers.
template <class T>
inline constexpr int kTileRows = sizeof(T) == sizeof(float) ? 10 : 5;

// Bytes of shared memory that products by blocks of `threads` threads need.
template <class T>
TIML_HOST_DEVICE constexpr size_t product_shared(int threads) {
  return sizeof(T) * static_cast<size_t>(threads) * kTileRows<T> * 4;
}

// Adds part `part` of `parts` of a term's depth to a tile's sums. Rows and columns are counted from
// the tile's first.
template <class T, int kColumns>
__device__ __forceinline__ void add_term(const Term<T>& term, int64_t first_row,
                                         const int (&rows)[kTileRows<T>], int64_t first_column,
                                         const int (&columns)[kColumns], int part, int parts,
                                         T (&sums)[kTileRows<T>][kColumns]) {
  const int64_t first = term.depth * part / parts, last = term.depth * (part + 1) / parts;
  const T* a = term.a + first_row * term.row_stride + first * term.depth_stride;
  const T* b = term.b + first_column + first * term.b_stride;
  int at[kTileRows<T>];
#pragma unroll
  for (int r = 0; r < kTileRows<T>; ++r) at[r] = rows[r] * static_cast<int>(term.row_stride);
#pragma unroll 2
  for (int64_t k = first; k < last; ++k, a += term.depth_stride, b += term.b_stride) {
    T column[kColumns];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) column[c] = b[columns[c]];
#pragma unroll
    for (int r = 0; r < kTileRows<T>; ++r) {
      const T value = a[at[r]];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sums[r][c] += value * column[c];
    }
  }
}

// This block's part of a product: for each of its rows and columns, calls finish(row, column, sums)
// on one thread. Terms count all rows and columns, not this block's alone. All threads of the block
// call it. A lane sums kColumns columns. With kInterleaved they are those of one unit: the columns
// run from columns.begin to columns.end, a lane's others lie `step` beyond each other, and finish
// takes all of a lane's sums at once. Without it all columns are among `columns`, and finish takes
// one sum.
//
// Each warp sums a part of a tile and leaves it in shared memory; then the threads add the parts up
// and finish element by element: one copy of that code, whatever the tile.
template <bool kInterleaved, int kColumns, class T, class Finish>
__device__ __forceinline__ void tile_product(const Team& team, const Range& rows,
                                             const Range& columns, int64_t step,
                                             const Term<T>* terms, int count,
                                             const Finish& finish) {
  constexpr int kWidth = kInterleaved ? kLanes : kLanes * kColumns;
  constexpr int kTile = kTileRows<T> * kColumns * kLanes;
  T* const partial = simt::shared_memory<T>();  // [warps][kTileRows<T>][kColumns][kLanes]
  const int lane = team.thread % kLanes, warp = team.thread / kLanes, warps = team.threads / kLanes;
  const int64_t groups = (columns.count() + kWidth - 1) / kWidth;
  const int64_t tiles = groups * ((rows.count() + kTileRows<T> - 1) / kTileRows<T>);
  const int parts = tiles < warps && tiles > 0 ? static_cast<int>(warps / tiles) : 1;
  const int at_once = warps / parts;  // tiles
  for (int64_t begin = 0; begin < tiles; begin += at_once) {
    const int64_t tile = begin + warp / parts;
    if (warp < at_once * parts && tile < tiles) {
      T sums[kTileRows<T>][kColumns];
      int row_at[kTileRows<T>], column_at[kColumns];  // beyond the end: the last, and not used
      const int64_t row = rows.begin + tile / groups * kTileRows<T>;
      const int64_t column = columns.begin + tile % groups * kWidth;
      const int last_row = static_cast<int>(rows.end - 1 - row);
      const int last_column = static_cast<int>(columns.end - 1 - column);
#pragma unroll
      for (int r = 0; r < kTileRows<T>; ++r) row_at[r] = r < last_row ? r : last_row;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int of_lane = kInterleaved ? lane : lane + c * kLanes;
        column_at[c] = (of_lane < last_column ? of_lane : last_column) +
                       (kInterleaved ? c * static_cast<int>(step) : 0);
      }
#pragma unroll
      for (int r = 0; r < kTileRows<T>; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sums[r][c] = 0;
      for (int q = 0; q < count; ++q)
        add_term(terms[q], row, row_at, column, column_at, warp % parts, parts, sums);
#pragma unroll
      for (int r = 0; r < kTileRows<T>; ++r)
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          partial[warp * kTile + (r * kColumns + c) * kLanes + lane] = sums[r][c];
    }
    __syncthreads();
    const auto sum_at = [&](int in_round, int place) {
      T sum = 0;
      for (int part = 0; part < parts; ++part)
        sum += partial[(in_round * parts + part) * kTile + place];
      return sum;
    };
    constexpr int kSums = kInterleaved ? kTile / kColumns : kTile;  // calls of finish for a tile
    const int64_t left = tiles - begin < at_once ? tiles - begin : at_once;
    for (int i = team.thread; i < left * kSums; i += team.threads) {
      const int in_round = i / kSums, place = i % kSums, r = place / (kSums / kTileRows<T>);
      const int64_t row = rows.begin + (begin + in_round) / groups * kTileRows<T> + r;
      const int64_t column =
          columns.begin + (begin + in_round) % groups * kWidth + place % (kSums / kTileRows<T>);
      if (row >= rows.end || column >= columns.end) continue;
      if constexpr (kInterleaved) {
        T sums[kColumns];
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
          sums[c] = sum_at(in_round, (r * kColumns + c) * kLanes + place % kLanes);
        finish(row, column, sums);
      } else {
        finish(row, column, sum_at(in_round, place));
      }
    }
    __syncthreads();  // `partial` may be written again
  }
}

// finish(row, column, sum) for this block's part of a product.
template <class T, class Finish>
__device__ __forceinline__ void product(const Team& team, const Range& rows, const Range& columns,
                                        const Term<T>* terms, int count, const Finish& finish) {
  if (columns.count() > kLanes)
    tile_product<false, 4>(team, rows, columns, 0, terms, count, finish);
  else
    tile_product<false, 1>(team, rows, columns, 0, terms, count, finish);
}

// finish(row, unit, sums of the four gates) for this block's units; the columns of a gate lie
// `units_of_all` after those of the gate before.
template <class T, class Finish>
__device__ __forceinline__ void gate_product(const Team& team, const Range& rows,
                                             const Range& units, int64_t units_of_all,
                                             const Term<T>* terms, int count,
                                             const Finish& finish) {
  tile_product<true, 4>(team, rows, units, units_of_all, terms, count, finish);
}

}  // namespace
}  // namespace timl
