// The matrix product everything is made of: a tile of a few rows by 4 vectors of columns, kept in
// registers while any number of terms A_q B_q is summed into it.
#pragma once

#include "vector.h"

namespace timl {
namespace {

// Columns of a tile: four vectors, which for the LSTM are one unit block's four gates.
template <class T>
inline constexpr int kTileColumns = 4 * kLanes<T>;

// Rows of a tile: 6 x 4 sums, 6 broadcasts and a column at a time fit 32 registers; 16 registers
// take 3 x 4 sums with fused multiply-adds, without them, where a product needs its own, 2 rows.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kTileRows = 6;
#elif defined(__FMA__)
inline constexpr int kTileRows = 3;
#else
inline constexpr int kTileRows = 2;
#endif

// Depth of deep_product's pieces: that many rows of B, and as many lines of A, which each serve
// several tiles, share an L1 of 32 KB. Vectors of 64 bytes take the depth whole.
inline constexpr int64_t kPieceDepth = kVectorBytes < 64 ? 112 : INT64_MAX / 2;

// One product A B, in `pieces` of `depth` each: A(row, k) = a[row * row_stride + k * depth_stride]
// of the first piece, of each further one piece_stride elements on; B(k, :) = the kTileColumns
// values at b[k * b_stride], for all pieces in one.
template <class T>
struct Term {
  const T* a;
  int64_t row_stride;
  int64_t depth_stride;
  const T* b;
  int64_t b_stride;
  int64_t depth;
  int64_t pieces = 1;
  int64_t piece_stride = 0;
};

// What the sums start from: zero (no rows), one row for all (stride 0: a bias), or C's own rows.
template <class T>
struct Start {
  const T* rows = nullptr;
  int64_t stride = 0;
};

// `tiles` tiles of Rows rows each, one below the other from first_row on. There is at least one
// term. Never inlined: a caller's constant strides have made GCC vectorise the loads of A, which
// halved the speed, and the depth is unrolled once, because two rows' eight sums alone just hide
// the latency of a multiply-add.
template <class T, int Rows>
TIML_NOINLINE void tile_products(int64_t tiles, const Term<T>* terms, int count, int64_t first_row,
                                 const Start<T>& start, T* c, int64_t c_stride) {
  constexpr int lanes = kLanes<T>;
  const T* start_row = start.rows + first_row * start.stride;
  c += first_row * c_stride;
  for (; tiles > 0; --tiles) {
    Vector<T> sum[Rows][4];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        sum[r][v] =
            start.rows == nullptr ? Vector<T>{} : load(start_row + r * start.stride + v * lanes);
      }
    }
    const Term<T>* term = terms;
    do {
      const int64_t row_stride = term->row_stride, depth_stride = term->depth_stride;
      const int64_t b_stride = term->b_stride;
      const T* piece = term->a + first_row * row_stride;
      const T* b = term->b;
      int64_t pieces = term->pieces;
      do {
        const T* a = piece;
#pragma GCC unroll 2
        for (int64_t k = term->depth; k > 0; --k) {
          Vector<T> s[Rows];
#pragma GCC unroll 8
          for (int r = 0; r < Rows; ++r) s[r] = splat(a[r * row_stride]);
#pragma GCC unroll 4
          for (int v = 0; v < 4; ++v) {
            const Vector<T> column = load(b + v * lanes);
#pragma GCC unroll 8
            for (int r = 0; r < Rows; ++r) sum[r][v] += s[r] * column;
          }
          a += depth_stride;
          b += b_stride;
        }
        piece += term->piece_stride;
      } while (--pieces > 0);
    } while (++term < terms + count);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) store(c + r * c_stride + v * lanes, sum[r][v]);
    }
    first_row += Rows;
    start_row += Rows * start.stride;
    c += Rows * c_stride;
  }
}

template <class T>
TIML_INLINE void tile_products(int64_t height, int64_t tiles, const Term<T>* terms, int count,
                               int64_t first_row, const Start<T>& start, T* c, int64_t c_stride) {
  switch (height) {
    case 1: return tile_products<T, 1>(tiles, terms, count, first_row, start, c, c_stride);
    case 2: return tile_products<T, 2>(tiles, terms, count, first_row, start, c, c_stride);
#if defined(__AVX512F__) || defined(__aarch64__) || defined(__FMA__)
    case 3: return tile_products<T, 3>(tiles, terms, count, first_row, start, c, c_stride);
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
    case 4: return tile_products<T, 4>(tiles, terms, count, first_row, start, c, c_stride);
    case 5: return tile_products<T, 5>(tiles, terms, count, first_row, start, c, c_stride);
    case 6: return tile_products<T, 6>(tiles, terms, count, first_row, start, c, c_stride);
#endif
    default: __builtin_unreachable();
  }
}

// C[rows, kTileColumns] = start + sum of the terms. The rows are split evenly over the fewest
// tiles, the taller ones first; each element's sum runs over the terms and k in order whatever the
// split, so results do not depend on it.
template <class T>
TIML_NOINLINE void product(int64_t rows, const Term<T>* terms, int count, const Start<T>& start,
                           T* c, int64_t c_stride) {
  if (rows <= 0) return;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  const int64_t height = rows / tiles, taller = rows % tiles;
  if (taller > 0) tile_products(height + 1, taller, terms, count, 0, start, c, c_stride);
  tile_products(height, tiles - taller, terms, count, taller * (height + 1), start, c, c_stride);
}

// The same of one deep term, in pieces of depth whose part of B stays in L1 for all rows.
template <class T>
inline void deep_product(int64_t rows, const Term<T>& term, const Start<T>& start, T* c,
                         int64_t c_stride) {
  // A depth of zero is one piece, too: the sums are then the start.
  const int64_t pieces = term.depth > 0 ? (term.depth + kPieceDepth - 1) / kPieceDepth : 1;
  int64_t k = 0;
  for (int64_t piece = 0; piece < pieces; ++piece) {
    const int64_t depth = (term.depth - k + (pieces - piece) - 1) / (pieces - piece);
    Term<T> part = term;
    part.a += k * term.depth_stride;
    part.b += k * term.b_stride;
    part.depth = depth;
    product(rows, &part, 1, piece == 0 ? start : Start<T>{c, c_stride}, c, c_stride);
    k += depth;
  }
}

}  // namespace
}  // namespace timl
