// The description of series for the strong protocol: their numbers, vegetation indices of each
// month, and statistics of the year. Lanes are series, so no series can change another's bits.
#pragma once

#include "../common/description.h"
#include "../common/memory.h"
#include "vector.h"

namespace timl {
namespace {

// Whole vectors of rows.
template <class T>
inline int64_t padded_rows(int64_t rows) {
  return (rows + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

// Calls exchange(i, j), i < j, for each comparator of Batcher's merge exchange (Knuth, The Art of
// Computer Programming, vol. 3, 5.2.2, algorithm M): together they sort any `count` values.
template <class Exchange>
TIML_INLINE void merge_exchange(int64_t count, const Exchange& exchange) {
  int64_t largest = 1;
  while (2 * largest < count) largest *= 2;
  for (int64_t p = largest; p > 0; p /= 2) {
    int64_t r = 0, distance = p;
    for (int64_t q = largest;; q /= 2) {
      for (int64_t first = r; first < count - distance; first += 2 * p)
        for (int64_t i = first; i < first + p && i < count - distance; ++i)
          exchange(i, i + distance);
      if (q == p) break;
      distance = q - p;
      r = p;
    }
  }
}

template <class T>
TIML_INLINE Vector<T> square_root(Vector<T> x) {
  for (int lane = 0; lane < kLanes<T>; ++lane) x[lane] = std::sqrt(x[lane]);
  return x;
}

// Seven statistics of the year of `channels` columns, whose months lie `month` elements apart: from
// values [channels][kChunkRows] of the first month to out [statistic][channels][kChunkRows].
template <class T>
inline void describe_year(int64_t steps, int64_t channels, const T* values, int64_t month,
                          T* sorted, T* out) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t quarter = steps / 4, statistic = channels * kChunkRows;
  for (int64_t c = 0; c < channels; ++c, values += kChunkRows, out += kChunkRows) {
    Vector<T> sum = {}, change = {}, previous = load(values);
    for (int64_t t = 0; t < steps; ++t) {
      const Vector<T> v = load(values + t * month), difference = v - previous;
      store(sorted + t * lanes, v);
      sum += v;
      change += difference < T(0) ? -difference : difference;
      previous = v;
    }
    const Vector<T> mean = sum / static_cast<T>(steps);
    Vector<T> squares = {};
    for (int64_t t = 0; t < steps; ++t) {
      const Vector<T> deviation = load(sorted + t * lanes) - mean;
      squares += deviation * deviation;
    }
    merge_exchange(steps, [&](int64_t i, int64_t j) {
      const Vector<T> a = load(sorted + i * lanes), b = load(sorted + j * lanes);
      store(sorted + i * lanes, a < b ? a : b);
      store(sorted + j * lanes, a < b ? b : a);
    });
    store(out, mean);
    store(out + statistic, square_root<T>(squares / static_cast<T>(steps)));
    store(out + 2 * statistic, load(sorted));
    store(out + 3 * statistic, load(sorted + (steps - 1) * lanes));
    store(out + 4 * statistic, load(sorted + quarter * lanes));
    store(out + 5 * statistic, load(sorted + (steps - 1 - quarter) * lanes));
    store(out + 6 * statistic, change / static_cast<T>(steps - 1));
  }
}

// Describes up to kChunkRows series x [rows,T,18]: out [D][kChunkRows]. Columns up to whole vectors
// of rows are written, the last series repeated. `bands` [2,18]; `sorted` [T][lanes] is scratch.
template <class T>
inline void describe_block(int64_t steps, const T* bands, const T* x, int64_t rows, T* sorted,
                           T* out) {
  const int64_t series = steps * kRecordBands, indices = series + steps * kIndices;
  const int64_t padded = padded_rows<T>(rows);
  for (int64_t r = 0; r < padded; ++r) {
    const T* from = x + (r < rows ? r : rows - 1) * series;
    for (int64_t i = 0; i < series; ++i) out[i * kChunkRows + r] = from[i];
  }
  for (int64_t r = 0; r < padded; r += kLanes<T>) {
    T* column = out + r;
    T *months = column + series * kChunkRows, *years = column + indices * kChunkRows;
    for (int64_t t = 0; t < steps; ++t) {
      const T* month = column + t * kRecordBands * kChunkRows;
      T* indices_of_month = months + t * kIndices * kChunkRows;
      describe_month<T, Vector<T>>(
          [&](int64_t band) {
            return load(month + band * kChunkRows) * bands[kRecordBands + band] + bands[band];
          },
          [&](int64_t index, Vector<T> value) {
            store(indices_of_month + index * kChunkRows, value);
          });
    }
    describe_year(steps, kIndices, months, kIndices * kChunkRows, sorted, years);
    describe_year(steps, kMeasuredBands, column, kRecordBands * kChunkRows, sorted,
                  years + kStatistics * kIndices * kChunkRows);
  }
}

}  // namespace
}  // namespace timl
