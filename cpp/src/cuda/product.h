// The matrix product everything is made of: a thread keeps a tile of a few rows by four columns in
// registers while any number of terms A_q B_q is summed into it. Where there are fewer tiles than
// threads, several threads share a tile's depth.
#pragma once

#include "quad.h"
#include "team.h"

namespace timl {
namespace {

// One product A B: A(row, k) = a[row * a_stride + k], or, where the product takes A transposed,
// a[k * a_stride + row]; B(k, column) = b[k * b_stride + column].
template <class T>
struct Term {
  const T* a;
  int64_t a_stride;
  const T* b;
  int64_t b_stride;
  int64_t depth;
};

inline constexpr int kLanes = 32;       // of a warp
inline constexpr int kTileColumns = 4;  // of a thread: 16 bytes of a row of B, or 32 in float64

// Rows of a thread's tile: half of the paper's support batch, and fewer where a number takes two
// registers.
template <class T>
inline constexpr int kTileRows = sizeof(T) == sizeof(float) ? 10 : 4;

// Bytes of shared memory that products by blocks of `threads` threads need.
template <class T>
TIML_HOST_DEVICE constexpr size_t product_shared(int threads) {
  return sizeof(T) * static_cast<size_t>(threads) * kTileRows<T> * kTileColumns;
}

// How a product's operands lie: B always row after row.
enum class Operands {
  kAnywhere,
  kShared,      // in this block's shared memory
  kTransposed,  // A transposed
};

// Adds part `part` of `parts` of a term's depth to a tile's sums: by loads of 16 bytes where A and
// B are aligned for them, else, and for what is left of the depth, number by number. Rows and
// columns beyond the tile's last are those of the last, or of what lies behind it in its row; their
// sums are not used.
template <Operands kOperands, class T>
__device__ __forceinline__ void add_term(const Term<T>& term, int64_t first_row, int last_row,
                                         int64_t first_column, int last_column, int part, int parts,
                                         T (&sums)[kTileRows<T>][kTileColumns]) {
  constexpr int kRows = kTileRows<T>;
  constexpr bool kTransposed = kOperands == Operands::kTransposed;
  const int depth = static_cast<int>(term.depth);
  const int each = ((depth + 3) / 4 + parts - 1) / parts * 4;
  const int begin = part * each < depth ? part * each : depth;
  const int end = begin + each < depth ? begin + each : depth;
  const T* a = term.a + (kTransposed ? first_row + begin * term.a_stride
                                     : first_row * term.a_stride + begin);
  const T* b = term.b + first_column + begin * term.b_stride;
  if constexpr (kOperands == Operands::kShared) {
    simt::assume_shared(a);
    simt::assume_shared(b);
  }
  int left = end - begin;
  if constexpr (kTransposed) {
    if (aligned_rows<Quad<T>>(b, term.b_stride) && aligned_rows<Pair<T>>(a, term.a_stride) &&
        last_row + 1 >= kRows) {
#pragma unroll 4
      for (; left > 0; --left, a += term.a_stride, b += term.b_stride) {
        const auto column = load_packed<Quad<T>>(b);
#pragma unroll
        for (int r = 0; r < kRows; r += 2) {
          const auto value = load_packed<Pair<T>>(a + r);
#pragma unroll
          for (int c = 0; c < kTileColumns; ++c) {
            sums[r][c] += value.values[0] * column.values[c];
            sums[r + 1][c] += value.values[1] * column.values[c];
          }
        }
      }
    }
  } else {
    if (aligned_rows<Quad<T>>(b, term.b_stride) && aligned_rows<Quad<T>>(a, term.a_stride)) {
      int at[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        at[r] = (r < last_row ? r : last_row) * static_cast<int>(term.a_stride);
#pragma unroll 1
      for (; left >= 4; left -= 4, a += 4) {
        Quad<T> column[4];
#pragma unroll
        for (int k = 0; k < 4; ++k, b += term.b_stride) column[k] = load_packed<Quad<T>>(b);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const auto value = load_packed<Quad<T>>(a + at[r]);
#pragma unroll
          for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int c = 0; c < kTileColumns; ++c)
              sums[r][c] += value.values[k] * column[k].values[c];
        }
      }
    }
  }
  const int64_t row_stride = kTransposed ? 1 : term.a_stride;
#pragma unroll 1
  for (; left > 0; --left, a += kTransposed ? term.a_stride : 1, b += term.b_stride) {
    T column[kTileColumns];
#pragma unroll
    for (int c = 0; c < kTileColumns; ++c) column[c] = b[c < last_column ? c : last_column];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T value = a[(r < last_row ? r : last_row) * row_stride];
#pragma unroll
      for (int c = 0; c < kTileColumns; ++c) sums[r][c] += value * column[c];
    }
  }
}

// This block's part of a product: for each of its rows and every fourth of its columns, calls
// finish(row, column, sums) with the sums of four columns on one thread; those beyond the last
// column mean nothing. Terms count all rows and columns, not this block's alone. All threads of the
// block call it.
//
// Each thread leaves its part of a tile in shared memory; then those who share the tile add the
// parts up and finish a few of its rows each. Neighbouring threads have neighbouring columns, or,
// where the rows make an even number of tiles, pairs of them have the same columns: so a warp's
// loads of A and of B both name fewer addresses.
template <Operands kOperands = Operands::kAnywhere, class T, class Finish>
__device__ __forceinline__ void quad_product(const Team& team, const Range& rows,
                                             const Range& columns, const Term<T>* terms, int count,
                                             const Finish& finish) {
  constexpr int kRows = kTileRows<T>;
  T* const partial = simt::shared_memory<T>();  // [parts][kRows][tiles at once][4]
  const int quads = static_cast<int>(columns.count() + 3) / kTileColumns;
  const int row_tiles = static_cast<int>(rows.count() + kRows - 1) / kRows;
  const int tiles = quads * row_tiles, together = row_tiles % 2 == 0 ? 2 : 1;
  if (tiles == 0) return;
  const int at_once = tiles < team.threads ? tiles : team.threads;
  const int parts = team.threads / at_once;
  const int part = team.thread / at_once, place = team.thread % at_once;
  for (int begin = 0; begin < tiles; begin += at_once) {
    const int tile = begin + place;
    const bool works = part < parts && tile < tiles;
    const int64_t own_row = rows.begin + (tile / together / quads * together + tile % together) *
                                             static_cast<int64_t>(kRows);
    // The last tile takes some rows of the one before with it where that makes it whole.
    const bool whole = own_row + kRows <= rows.end || rows.count() < kRows;
    const int64_t row = whole ? own_row : rows.end - kRows;
    const int64_t column =
        columns.begin + tile / together % quads * static_cast<int64_t>(kTileColumns);
    T* const mine = partial + (part * kRows * at_once + place) * kTileColumns;
    if (works) {
      T sums[kRows][kTileColumns];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
#pragma unroll
        for (int c = 0; c < kTileColumns; ++c) sums[r][c] = 0;
#pragma unroll 1
      for (int q = 0; q < count; ++q)
        add_term<kOperands>(terms[q], row, static_cast<int>(rows.end - 1 - row), column,
                            static_cast<int>(columns.end - 1 - column), part, parts, sums);
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        store_packed(mine + r * at_once * kTileColumns,
                     Quad<T>{{sums[r][0], sums[r][1], sums[r][2], sums[r][3]}});
    }
    __syncthreads();
    if (works) {
      for (int r = part; r < kRows && row + r < rows.end; r += parts) {
        if (row + r < own_row) continue;
        T sums[kTileColumns] = {};
#pragma unroll 4
        for (int p = 0; p < parts; ++p) {
          const auto add =
              load_packed<Quad<T>>(partial + ((p * kRows + r) * at_once + place) * kTileColumns);
#pragma unroll
          for (int c = 0; c < kTileColumns; ++c) sums[c] += add.values[c];
        }
        finish(row + r, column, sums);
      }
    }
    __syncthreads();  // `partial` may be written again
  }
}

// finish(row, column, sum) for this block's part of a product.
template <Operands kOperands = Operands::kAnywhere, class T, class Finish>
__device__ __forceinline__ void product(const Team& team, const Range& rows, const Range& columns,
                                        const Term<T>* terms, int count, const Finish& finish) {
  quad_product<kOperands>(team, rows, columns, terms, count,
                          [&](int64_t row, int64_t column, const T(&sums)[kTileColumns]) {
#pragma unroll
                            for (int c = 0; c < kTileColumns; ++c)
                              if (column + c < columns.end) finish(row, column + c, sums[c]);
                          });
}

}  // namespace
}  // namespace timl
