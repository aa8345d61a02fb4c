// The strong protocol's classifier on CUDA: a cluster describes a chunk of series and computes its
// logits and distances, one part after the other. docs/explanation/strong.md has the formulas.
//
// A chunk always has kChunk rows, the last series repeated: how a product's depth is divided, and
// so the bits of a series, then never depend on how many others are evaluated with it.
#pragma once

#include <limits>

#include "../common/description.h"
#include "elementary.h"
#include "network.h"
#include "timl/strong.h"

namespace timl {
namespace {

// Added to the variance in the layer normalisation.
inline constexpr double kLayerNormEpsilon = 1e-5;

template <class T>
inline constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();

// Calls body(row, lane) for each row of a team's blocks, on all lanes of one warp.
template <class Body>
__device__ __forceinline__ void for_each_by_warps(const Team& team, int64_t rows,
                                                  const Body& body) {
  const Range mine = team.share(rows);
  for (int64_t row = mine.begin + team.thread / kLanes; row < mine.end;
       row += team.threads / kLanes)
    body(row, team.thread % kLanes);
}

// Sizes of a classifier, and D.
struct StrongSizes : StrongShape {
  explicit StrongSizes(const StrongShape& s)
      : StrongShape(s), features(description_size(s.steps)) {}
  int64_t features;
};

// The least of all lanes' values; NaN if one is.
template <class T>
__device__ __forceinline__ T least_of_lanes(T value) {
  for (int flip = 16; flip > 0; flip /= 2) {
    const T other = __shfl_xor_sync(~0u, value, flip);
    value = other < value || other != other ? other : value;
  }
  return value;
}

// Seven statistics of the year of a column, whose months lie `month` elements apart, to out, where
// they lie `statistic` elements apart. Values are counted, not sorted: any number of months fits.
// What is not finite gives NaN.
template <class T>
__device__ void describe_year(int64_t steps, const T* values, int64_t month, T* out,
                              int64_t statistic) {
  const int64_t quarter = steps / 4;
  T sum = 0, change = 0, previous = values[0];
  T least = previous, most = previous, low = kNaN<T>, high = kNaN<T>;
  for (int64_t t = 0; t < steps; ++t) {
    const T v = values[t * month], difference = v - previous;
    sum += v;
    change += difference < T(0) ? -difference : difference;
    previous = v;
    least = v < least ? v : least;
    most = v > most ? v : most;
    int64_t below = 0, not_above = 0;
    for (int64_t other = 0; other < steps; ++other) {
      below += values[other * month] < v;
      not_above += values[other * month] <= v;
    }
    if (below <= quarter && quarter < not_above) low = v;
    if (below <= steps - 1 - quarter && steps - 1 - quarter < not_above) high = v;
  }
  const T mean = sum / static_cast<T>(steps);
  T squares = 0;
  for (int64_t t = 0; t < steps; ++t) {
    const T deviation = values[t * month] - mean;
    squares += deviation * deviation;
  }
  const T found[kStatistics] = {mean, std::sqrt(squares / static_cast<T>(steps)), least, most, low,
                                high, change / static_cast<T>(steps - 1)};
#pragma unroll
  for (int64_t s = 0; s < kStatistics; ++s) out[s * statistic] = found[s];
}

// Descriptions [rows,D] of series x [given,T,18], of which the last is repeated for further rows.
// meet() is the barrier of the team; one has to follow.
template <class T, class Meet>
__device__ void describe_rows(const Team& team, int64_t steps, int64_t size, const T* bands,
                              const T* x, int64_t given, int64_t rows, T* out, const Meet& meet) {
  const int64_t series = steps * kRecordBands, indices = series + steps * kIndices;
  const int64_t months = rows * steps;
  for_each(team, rows * series, [&](int64_t i) {
    const int64_t row = i / series;
    out[row * size + i % series] = x[(row < given ? row : given - 1) * series + i % series];
  });
  meet();
  for_each(team, months, [&](int64_t i) {
    const int64_t t = i % steps;
    T* const row = out + i / steps * size;
    describe_month<T, T>(
        [&](int64_t band) {
          return row[t * kRecordBands + band] * bands[kRecordBands + band] + bands[band];
        },
        [&](int64_t index, T value) { row[series + t * kIndices + index] = value; });
  });
  meet();
  constexpr int64_t kChannels = kIndices + kMeasuredBands;
  for_each(team, rows * kChannels, [&](int64_t i) {
    const int64_t c = i % kChannels, band = c - kIndices;
    T* const row = out + i / kChannels * size;
    if (band < 0)
      describe_year<T>(steps, row + series + c, kIndices, row + indices + c, kIndices);
    else
      describe_year<T>(steps, row + band, kRecordBands,
                       row + indices + kStatistics * kIndices + band, kMeasuredBands);
  });
}

TIML_KERNEL describe_kernel(int64_t steps, int64_t size, const T* bands, const T* x, int64_t rows,
                            T* out) {
  // A block has rows of its own, which its threads alone write and read.
  const Range mine = grid_team().share(rows);
  const Team block = {0, 1, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)};
  if (mine.count() == 0) return;
  describe_rows(block, steps, size, bands, x + mine.begin * steps * kRecordBands, mine.count(),
                mine.count(), out + mine.begin * size, [] { __syncthreads(); });
}

// What products find side by side: transposes of a classifier's matrices, and squared lengths.
template <class T>
struct PreparedStrong {
  TIML_HOST_DEVICE PreparedStrong(const StrongSizes& s, T* memory) : arena(memory) {
    const int64_t features = s.features;
    hidden_weight = arena.take(s.networks * features * s.width);
    point_weight = arena.take(s.networks * s.width * s.dimensions);
    points = arena.take(s.networks * s.dimensions * s.labels);
    lengths = arena.take(s.networks * s.labels);
    known = arena.take(s.dimensions * s.known);
    known_lengths = arena.take(s.known);
  }
  Arena<T> arena;
  T* hidden_weight;  // [M,D,W]
  T* point_weight;   // [M,W,d]
  T* points;         // [M,d,n]
  T* lengths;        // [M,n] squared lengths of the points
  T* known;          // [d,R]
  T* known_lengths;  // [R]
};

TIML_KERNEL strong_prepare_kernel(StrongSizes s, StrongInput<T> in, T* memory) {
  const Team team = grid_team();
  const PreparedStrong<T> prepared(s, memory);
  const int64_t features = s.features;
  // [matrices,rows,columns] -> [matrices,columns,rows]
  const auto transpose = [&](int64_t matrices, int64_t rows, int64_t columns, const T* from,
                             T* to) {
    for_each(team, matrices * rows * columns, [&](int64_t i) {
      const int64_t matrix = i / (rows * columns), at = i % (rows * columns);
      to[i] = from[matrix * rows * columns + at % rows * columns + at / rows];
    });
  };
  const auto lengths = [&](int64_t count, const T* points, T* out) {
    for_each(team, count, [&](int64_t point) {
      T squared = 0;
      for (int64_t k = 0; k < s.dimensions; ++k)
        squared += points[point * s.dimensions + k] * points[point * s.dimensions + k];
      out[point] = squared;
    });
  };
  transpose(s.networks, s.width, features, in.hidden_weight, prepared.hidden_weight);
  transpose(s.networks, s.dimensions, s.width, in.point_weight, prepared.point_weight);
  transpose(s.networks, s.labels, s.dimensions, in.points, prepared.points);
  lengths(s.networks * s.labels, in.points, prepared.lengths);
  transpose(1, s.known, s.dimensions, in.known, prepared.known);
  lengths(s.known, in.known, prepared.known_lengths);
}

// Working memory of a cluster, for a chunk of rows.
template <class T>
struct StrongMemory {
  TIML_HOST_DEVICE StrongMemory(const StrongSizes& s, int64_t trees, T* memory) : arena(memory) {
    described = arena.take(kChunk * s.features);
    hidden = arena.take(kChunk * s.width);
    points = arena.take(kChunk * s.dimensions);
    similar = arena.take(kChunk * (s.labels > s.known ? s.labels : s.known));
    prior = arena.take(kChunk * s.outputs);
    kernel = arena.take(kChunk * s.outputs);
    squared = arena.take(kChunk);
    leaves = reinterpret_cast<int32_t*>(arena.take(kChunk * trees));
  }
  Arena<T> arena;
  T* described;     // [rows,D], at last standardised
  T* hidden;        // [rows,W]
  T* points;        // [rows,d]
  T* similar;       // [rows,n] or [rows,R] squared distances
  T* prior;         // [rows,K]
  T* kernel;        // [rows,K] sums of the networks' logits
  T* squared;       // [rows] squared lengths of the points
  int32_t* leaves;  // [rows,trees]
};

// The leaf of a tree that a description comes to; -1 where these are no trees, of which nothing is
// read outside.
template <class T>
__device__ int32_t leaf_of(const PlainTrees<T>& trees, int64_t tree, int64_t features,
                           const T* described) {
  const auto outside = [](int64_t number, int64_t count) { return number < 0 || number >= count; };
  int64_t node = trees.roots[tree];
  for (int64_t step = 0; step < trees.nodes; ++step) {
    if (outside(node, trees.nodes)) return -1;
    const int64_t left = trees.left[node], right = trees.right[node];
    if (left == node && right == node) return static_cast<int32_t>(node);
    const int64_t feature = trees.feature[node];
    if (outside(feature, features)) return -1;
    const float value = static_cast<float>(described[feature]);
    node = value > static_cast<float>(trees.threshold[node]) ? right : left;
  }
  return -1;  // a circle
}

// The trees' votes [rows,K] as logarithms, see the CPU's forest_logits.
template <class T>
__device__ double forest_logit(const PlainTrees<T>& trees, const int32_t* leaves, int64_t output) {
  double votes = 0;
  for (int64_t tree = 0; tree < trees.trees; ++tree) {
    if (leaves[tree] < 0) return kNaN<double>;
    votes +=
        static_cast<double>(static_cast<float>(trees.value[leaves[tree] * trees.outputs + output]));
  }
  const double others = static_cast<double>(trees.trees) - votes + 0.5;
  return std::log((votes + 0.5) / (trees.outputs == 1 ? others : 1.0));
}

// out [rows,columns] = a [rows,depth] b [depth,columns] for all rows of a chunk, or added to it.
// Not inlined: the classifier's products share it, and it is compiled once.
template <class T>
TIML_NOT_INLINED __device__ void chunk_product(const Team& team, const T* a, const T* b,
                                               int64_t depth, int64_t columns, bool add, T* out) {
  const Term<T> term = {a, depth, b, columns, depth};
  product(team, {0, kChunk}, team.share_in_fours(columns), &term, 1,
          [&](int64_t row, int64_t column, T sum) {
            T* const at = out + row * columns + column;
            *at = add ? *at + sum : sum;
          });
  team.sync();
}

// h = GELU(LayerNorm(H x + b)) of all rows in place of H x, and the prior means' products with it.
template <class T>
__device__ void hidden_layer(const Team& team, const StrongSizes& s, const T* vectors,
                             const StrongMemory<T>& memory) {
  const int64_t width = s.width;
  const T per_unit = T(1) / static_cast<T>(width);
  for_each_by_warps(team, kChunk, [&](int64_t row, int lane) {
    T* const hidden = memory.hidden + row * width;
    T mean = 0, variance = 0;
    for (int64_t u = lane; u < width; u += kLanes) {
      hidden[u] += vectors[u];
      mean += hidden[u];
    }
    mean = sum_lanes(mean) * per_unit;
    for (int64_t u = lane; u < width; u += kLanes)
      variance += (hidden[u] - mean) * (hidden[u] - mean);
    const T inverse =
        T(1) / std::sqrt(sum_lanes(variance) * per_unit + static_cast<T>(kLayerNormEpsilon));
    for (int64_t u = lane; u < width; u += kLanes) {
      const T v = (hidden[u] - mean) * inverse * vectors[width + u] + vectors[2 * width + u];
      T density, distribution;
      normal_functions(v, density, distribution);
      hidden[u] = v * distribution;
    }
    for (int64_t k = 0; k < s.outputs; ++k) {
      T prior = 0;
      for (int64_t u = lane; u < width; u += kLanes)
        prior += hidden[u] * vectors[(3 + k) * width + u];
      prior = sum_lanes(prior);
      if (lane == 0) memory.prior[row * s.outputs + k] = prior;
    }
  });
  team.sync();
}

// memory.similar [rows,count] = the squared distances of the rows' points to others, of which the
// squared lengths [count] and the products with the rows' points [rows,count] are there.
template <class T>
__device__ void squared_distances(const Team& team, const StrongSizes& s, int64_t count,
                                  const T* lengths, const StrongMemory<T>& memory) {
  for_each_by_warps(team, kChunk, [&](int64_t row, int lane) {
    const T* const point = memory.points + row * s.dimensions;
    T squared = 0;
    for (int64_t k = lane; k < s.dimensions; k += kLanes) squared += point[k] * point[k];
    squared = sum_lanes(squared);
    for (int64_t j = lane; j < count; j += kLanes) {
      T* const at = memory.similar + row * count + j;
      const T apart = squared + (lengths[j] - T(2) * *at);
      *at = apart < T(0) ? T(0) : apart;
    }
  });
  team.sync();
}

TIML_KERNEL strong_kernel(StrongSizes s, StrongInput<T> in, PlainTrees<T> trees, const T* x,
                          int64_t rows, T* prepared_memory, T* workspace, int64_t piece, T* logits,
                          T* distances) {
  const Team team = cluster_team();
  const int64_t features = s.features, outputs = s.outputs;
  const PreparedStrong<T> prepared(s, prepared_memory);
  const StrongMemory<T> memory(s, trees.trees, workspace + cluster_index() * piece);
  for (int64_t begin = cluster_index() * kChunk; begin < rows; begin += cluster_count() * kChunk) {
    const int64_t given = begin + kChunk < rows ? kChunk : rows - begin;
    describe_rows(team, s.steps, features, in.bands, x + begin * s.steps * kRecordBands, given,
                  kChunk, memory.described, [&] { team.sync(); });
    team.sync();
    for_each(team, kChunk * trees.trees, [&](int64_t i) {
      memory.leaves[i] =
          leaf_of(trees, i % trees.trees, features, memory.described + i / trees.trees * features);
    });
    for_each(team, kChunk * outputs, [&](int64_t i) { memory.kernel[i] = memory.prior[i] = 0; });
    team.sync();
    for_each(team, kChunk * features, [&](int64_t i) {
      const T most = static_cast<T>(kMostDeviations), mean = in.columns[i % features];
      const T v = (memory.described[i] - mean) * (T(1) / in.columns[features + i % features]);
      memory.described[i] = v < -most ? -most : v > most ? most : v;
    });
    team.sync();
    for (int64_t m = 0; m < s.networks; ++m) {
      chunk_product<T>(team, memory.described, in.axes + m * features * s.dimensions, features,
                       s.dimensions, false, memory.points);
      if (m == 0 && distances != nullptr) {
        chunk_product<T>(team, memory.points, prepared.known, s.dimensions, s.known, false,
                         memory.similar);
        squared_distances<T>(team, s, s.known, prepared.known_lengths, memory);
        for_each_by_warps(team, given, [&](int64_t row, int lane) {
          T least = memory.similar[row * s.known];
          for (int64_t j = lane; j < s.known; j += kLanes) {
            const T squared = memory.similar[row * s.known + j];
            least = squared < least || squared != squared ? squared : least;
          }
          least = least_of_lanes(least);
          if (lane == 0) distances[begin + row] = std::sqrt(least) / in.constants[2 + outputs];
        });
        team.sync();
      }
      if (s.width > 0) {
        chunk_product<T>(team, memory.described, prepared.hidden_weight + m * features * s.width,
                         features, s.width, false, memory.hidden);
        hidden_layer(team, s, in.hidden_vectors + m * (3 + outputs) * s.width, memory);
        chunk_product<T>(team, memory.hidden, prepared.point_weight + m * s.width * s.dimensions,
                         s.width, s.dimensions, true, memory.points);
      }
      chunk_product<T>(team, memory.points, prepared.points + m * s.dimensions * s.labels,
                       s.dimensions, s.labels, false, memory.similar);
      squared_distances<T>(team, s, s.labels, prepared.lengths + m * s.labels, memory);
      const T *head = in.heads + m * (2 + outputs), rate = T(-1) / head[0];
      for_each_by_warps(team, kChunk * outputs, [&](int64_t i, int lane) {
        const int64_t row = i / outputs, k = i % outputs;
        const T* coefficients = in.coefficients + (m * outputs + k) * s.labels;
        T learned = 0;
        for (int64_t j = lane; j < s.labels; j += kLanes)
          learned += std::exp(rate * memory.similar[row * s.labels + j]) * coefficients[j];
        learned = sum_lanes(learned);
        if (lane == 0) memory.kernel[i] += head[1] * (learned + memory.prior[i] - head[2 + k]);
      });
      team.sync();
    }
    const T weight = in.constants[0], slope = in.constants[1];
    for_each(team, given * outputs, [&](int64_t i) {
      const int64_t row = i / outputs, k = i % outputs;
      const T votes = static_cast<T>(forest_logit(trees, memory.leaves + row * trees.trees, k));
      logits[begin * outputs + i] =
          slope * (weight * memory.kernel[i] / static_cast<T>(s.networks) + votes) +
          in.constants[2 + k];
    });
    team.sync();  // memory may be written again
  }
}

}  // namespace
}  // namespace timl
