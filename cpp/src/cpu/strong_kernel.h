// The strong protocol's classifier on blocks of series: networks, kernel, trees, and distances to
// what is known. docs/explanation/strong.md has the formulas and their names.
//
// Every number of a series is computed from that series alone, by sums whose order does not depend
// on where in a block it stands: its bits are the same in any batch and on any number of threads.
#pragma once

#include <limits>

#include "description.h"
#include "product.h"

namespace timl {
namespace {

// Added to the variance in the layer normalisation.
inline constexpr double kLayerNormEpsilon = 1e-5;
// Bytes of a piece of a panel that stays in L1 while all rows of a block pass it.
inline constexpr int64_t kPieceBytes = 14336;

// Sizes of a classifier in panels of kTileColumns columns.
template <class T>
struct StrongLayout {
  explicit StrongLayout(const StrongShape& strong)
      : shape(strong),
        features(description_size(shape.steps)),
        point_row(whole_tiles(shape.dimensions)),
        hidden_row(whole_tiles(shape.width)),
        label_row(whole_tiles(shape.labels)),
        known_row(whole_tiles(shape.known)) {}
  static int64_t whole_tiles(int64_t columns) {
    return (columns + kTileColumns<T> - 1) / kTileColumns<T> * kTileColumns<T>;
  }
  StrongShape shape;
  int64_t features;                                     // D
  int64_t point_row, hidden_row, label_row, known_row;  // d, W, n, R in whole tiles
};

// What one network prepares. Matrices are in panels [panel][depth][columns].
template <class T>
struct PreparedNetwork {
  PreparedNetwork(const StrongLayout<T>& layout, Arena<T>& arena) {
    axes = arena.take(layout.point_row * layout.features);
    hidden_weight = arena.take(layout.hidden_row * layout.features);
    hidden_vectors = arena.take((3 + layout.shape.outputs) * layout.hidden_row);
    point_weight = arena.take(layout.point_row * layout.shape.width);
    points = arena.take(layout.label_row * (1 + layout.shape.dimensions));
    coefficients = arena.take(layout.shape.outputs * layout.label_row);
    head = arena.take(2 + layout.shape.outputs);
  }
  T* axes;            // depth D
  T* hidden_weight;   // depth D
  T* hidden_vectors;  // [3+K][hidden_row]
  T* point_weight;    // depth W
  T* points;          // depth 1 + d: |z|^2, then -2 z
  T* coefficients;    // [K][label_row]
  T* head;            // [2+K] length, scale, levels
};

template <class T>
struct PreparedStrong {
  PreparedStrong(const StrongLayout<T>& packed_layout, T* memory)
      : layout(packed_layout), arena(memory) {
    bands = arena.take(2 * kRecordBands);
    columns = arena.take(2 * layout.features);
    in_width = arena.take(layout.hidden_row);
    known = arena.take(layout.known_row * (1 + layout.shape.dimensions));
    constants = arena.take(3 + layout.shape.outputs);
    // the number of a network that has the same points, and whether its hidden layer moves them
    owner = arena.take(layout.shape.networks);
    moved = arena.take(layout.shape.networks);
    const int64_t before = arena.used();
    networks = memory == nullptr ? nullptr : memory + before;
    PreparedNetwork<T>(layout, arena);
    stride = arena.used() - before;
    arena.take((layout.shape.networks - 1) * stride);
  }
  PreparedNetwork<T> network(int64_t number) const {
    Arena<T> piece(networks + number * stride);
    return PreparedNetwork<T>(layout, piece);
  }
  const StrongLayout<T>& layout;
  Arena<T> arena;
  T* bands;     // [2][18]
  T* columns;   // [2][D] mean, and one over the scale
  T* in_width;  // [hidden_row] 1 for a unit, 0 for padding
  T* known;     // depth 1 + d: |z|^2, then -2 z
  T* constants;
  T *owner, *moved, *networks;
  int64_t stride;
};

// Packs a matrix whose element (k, column) is at source[k * depth_stride + column * column_stride]
// into panels [panel][depth][kTileColumns], scaled and padded with zeros.
template <class T>
inline void pack_columns(int64_t depth, int64_t columns, const T* source, int64_t depth_stride,
                         int64_t column_stride, T scale, int64_t panel_stride, T* target) {
  for (int64_t first = 0; first < columns; first += kTileColumns<T>, target += panel_stride)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t c = 0; c < kTileColumns<T>; ++c)
        target[k * kTileColumns<T> + c] =
            first + c < columns ? scale * source[k * depth_stride + (first + c) * column_stride]
                                : T(0);
}

// Packs points [count, d] so that a product with z that starts from the first row of a panel gives
// |point|^2 - 2 z . point; padding gets `far` for the squared length.
template <class T>
inline void pack_points(int64_t count, int64_t dimensions, const T* points, T far, T* target) {
  const int64_t panel = (1 + dimensions) * kTileColumns<T>;
  pack_columns(dimensions, count, points, int64_t{1}, dimensions, T(-2), panel,
               target + kTileColumns<T>);
  for (int64_t first = 0; first < count; first += kTileColumns<T>, target += panel)
    for (int64_t c = 0; c < kTileColumns<T>; ++c) {
      T squared = first + c < count ? T(0) : far;
      for (int64_t k = 0; k < dimensions && first + c < count; ++k) {
        const T value = points[(first + c) * dimensions + k];
        squared += value * value;
      }
      target[c] = squared;
    }
}

template <class T>
inline bool equal(int64_t count, const T* a, const T* b) {
  for (int64_t i = 0; i < count; ++i)
    if (a[i] != b[i]) return false;
  return true;
}

template <class T>
int64_t strong_prepared_size(const StrongShape& shape) {
  const StrongLayout<T> layout(shape);
  return PreparedStrong<T>(layout, nullptr).arena.used();
}

template <class T>
void strong_prepare(const StrongInput<T>& in, T* memory) {
  const StrongLayout<T> layout(in.shape);
  const PreparedStrong<T> prepared(layout, memory);
  const int64_t features = layout.features, d = in.shape.dimensions, width = in.shape.width;
  const int64_t labels = in.shape.labels, outputs = in.shape.outputs;
  copy(2 * kRecordBands, in.bands, prepared.bands);
  copy(features, in.columns, prepared.columns);
  for (int64_t i = features; i < 2 * features; ++i) prepared.columns[i] = T(1) / in.columns[i];
  copy(3 + outputs, in.constants, prepared.constants);
  for (int64_t i = 0; i < layout.hidden_row; ++i) prepared.in_width[i] = i < width ? T(1) : T(0);
  pack_points(in.shape.known, d, in.known, std::numeric_limits<T>::max(), prepared.known);
  for (int64_t i = 0; i < in.shape.networks; ++i) {
    const PreparedNetwork<T> network = prepared.network(i);
    const T *axes = in.axes + i * features * d, *points = in.points + i * labels * d;
    const T* point_weight = in.point_weight + i * d * width;
    prepared.moved[i] = 0;
    for (int64_t k = 0; k < d * width; ++k)
      if (point_weight[k] != T(0)) prepared.moved[i] = 1;
    prepared.owner[i] = static_cast<T>(i);
    for (int64_t j = 0; j < i; ++j)
      if (prepared.moved[i] == T(0) && prepared.moved[j] == T(0) &&
          equal(features * d, axes, in.axes + j * features * d) &&
          equal(labels * d, points, in.points + j * labels * d)) {
        prepared.owner[i] = static_cast<T>(j);
        break;
      }
    pack_columns(features, d, axes, d, int64_t{1}, T(1), features * kTileColumns<T>, network.axes);
    pack_columns(features, width, in.hidden_weight + i * width * features, int64_t{1}, features,
                 T(1), features * kTileColumns<T>, network.hidden_weight);
    fill((3 + outputs) * layout.hidden_row, T(0), network.hidden_vectors);
    for (int64_t vector = 0; vector < 3 + outputs; ++vector)
      copy(width, in.hidden_vectors + (i * (3 + outputs) + vector) * width,
           network.hidden_vectors + vector * layout.hidden_row);
    pack_columns(width, d, point_weight, int64_t{1}, width, T(1), width * kTileColumns<T>,
                 network.point_weight);
    pack_points(labels, d, points, T(0), network.points);
    fill(outputs * layout.label_row, T(0), network.coefficients);
    for (int64_t k = 0; k < outputs; ++k)
      copy(labels, in.coefficients + (i * outputs + k) * labels,
           network.coefficients + k * layout.label_row);
    copy(2 + outputs, in.heads + i * (2 + outputs), network.head);
  }
}

template <class T>
struct StrongMemory {
  StrongMemory(const StrongLayout<T>& layout, T* memory) : arena(memory) {
    described = arena.take(layout.features * kChunkRows);
    sorted = arena.take(layout.shape.steps * kLanes<T>);
    hidden = arena.take(kChunkRows * layout.hidden_row);
    points = arena.take(kChunkRows * layout.point_row);
    tile = arena.take(kChunkRows * kTileColumns<T>);
    const int64_t logit_count = kChunkRows * layout.shape.outputs;
    sums = arena.take(layout.shape.networks * logit_count * kLanes<T>);
    squared = arena.take(kChunkRows);
    prior = arena.take(layout.shape.networks * logit_count);
    logits = arena.take(logit_count);
    votes = arena.take(logit_count * static_cast<int64_t>(sizeof(double) / sizeof(T)));
  }
  Arena<T> arena;
  T* described;  // [D][kChunkRows]
  T* sorted;     // [T][lanes]
  T* hidden;     // [rows][hidden_row]
  T* points;     // [rows][point_row]
  T* tile;       // [rows][kTileColumns]
  T* sums;       // [M][rows][K][lanes], or [rows][lanes] of distances
  T* squared;    // [rows] squared lengths of the points
  T* prior;      // [M][rows][K]
  T* logits;     // [rows][K] sums of the networks' logits
  T* votes;      // [rows][K], as double: the trees'
};

template <class T>
int64_t strong_workspace(const StrongShape& shape) {
  return StrongMemory<T>(StrongLayout<T>(shape), nullptr).arena.used();
}

// The trees' votes [rows,K]: sums of the shares of the leaves, as logarithms. With one output they
// are the logarithms of the odds of positives, else of the votes: their differences are then odds.
// All rows go down a tree together, so that one row's steps hide the latency of another's.
template <class T>
inline void forest_logits(const Forest& forest, const T* described, int64_t rows, int64_t outputs,
                          double* logits) {
  uint32_t at[kChunkRows];
  for (int64_t i = 0; i < rows * outputs; ++i) logits[i] = 0;
  for (int64_t tree = 0; tree < forest.trees; ++tree) {
    for (int64_t r = 0; r < rows; ++r) at[r] = forest.roots[tree];
    for (uint32_t moved = 1; moved != 0;) {
      moved = 0;
      for (int64_t r = 0; r < rows; ++r) {
        const ForestNode& node = forest.nodes[at[r]];
        const float value = static_cast<float>(described[node.offset + r]);
        const uint32_t next = node.left + (value > node.threshold);
        moved |= next ^ at[r];
        at[r] = next;
      }
    }
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < outputs; ++k)
        logits[r * outputs + k] += static_cast<double>(forest.values[at[r] * outputs + k]);
  }
  for (int64_t i = 0; i < rows * outputs; ++i) {
    const double others = static_cast<double>(forest.trees) - logits[i] + 0.5;
    logits[i] = std::log((logits[i] + 0.5) / (outputs == 1 ? others : 1.0));
  }
}

// C[rows, columns] = descriptions times a packed matrix, a piece of the depth at a time.
template <class T>
inline void described_product(const StrongLayout<T>& layout, int64_t rows, const T* described,
                              int64_t columns, const T* panels, T* c) {
  constexpr int64_t most = kPieceBytes / (kTileColumns<T> * static_cast<int64_t>(sizeof(T)));
  const int64_t pieces = (layout.features + most - 1) / most;
  for (int64_t column = 0; column < columns; column += kTileColumns<T>) {
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t begin = piece * layout.features / pieces,
                    end = (piece + 1) * layout.features / pieces;
      const Term<T> term = {.a = described + begin * kChunkRows,
                            .row_stride = 1,
                            .depth_stride = kChunkRows,
                            .b = panels + begin * kTileColumns<T>,
                            .b_stride = kTileColumns<T>,
                            .depth = end - begin};
      const Start<T> start = piece == 0 ? Start<T>{} : Start<T>{c + column, columns};
      product(rows, &term, 1, start, c + column, columns);
    }
    panels += layout.features * kTileColumns<T>;
  }
}

// h = GELU(LayerNorm(H x + b)) in place of H x, and the prior means' products with it, [rows,K].
template <class T>
inline void hidden_layer(const StrongLayout<T>& layout, int64_t rows, const T* in_width,
                         const T* vectors, T* hidden, T* prior) {
  constexpr int64_t lanes = kLanes<T>;
  const int64_t row = layout.hidden_row;
  const T *bias = vectors, *gain = vectors + row, *shift = vectors + 2 * row,
          *weights = vectors + 3 * row;
  const int64_t outputs = layout.shape.outputs;
  const T width = static_cast<T>(layout.shape.width);
  for (int64_t r = 0; r < rows; ++r, hidden += row) {
    Vector<T> sum = {}, squares = {};
    for (int64_t i = 0; i < row; i += lanes) {
      const Vector<T> v = load(hidden + i) + load(bias + i);
      store(hidden + i, v);
      sum += v;
    }
    const T mean = sum_lanes<T>(sum) / width;
    for (int64_t i = 0; i < row; i += lanes) {
      const Vector<T> v = (load(hidden + i) - mean) * load(in_width + i);
      store(hidden + i, v);
      squares += v * v;
    }
    const T inverse =
        T(1) / std::sqrt(sum_lanes<T>(squares) / width + static_cast<T>(kLayerNormEpsilon));
    for (int64_t i = 0; i < row; i += lanes) {
      const Vector<T> u = load(hidden + i) * inverse * load(gain + i) + load(shift + i);
      Vector<T> density, distribution;
      normal_functions(u, density, distribution);
      store(hidden + i, u * distribution);
    }
    for (int64_t k = 0; k < outputs; ++k) {
      Vector<T> weighted = {};
      for (int64_t i = 0; i < row; i += lanes)
        weighted += load(hidden + i) * load(weights + k * row + i);
      prior[r * outputs + k] = sum_lanes<T>(weighted);
    }
  }
}

// Adds P h to the points.
template <class T>
inline void move_points(const StrongLayout<T>& layout, int64_t rows, const T* hidden,
                        const T* point_weight, T* points) {
  const int64_t row = layout.point_row;
  for (int64_t column = 0; column < row; column += kTileColumns<T>) {
    const Term<T> term = {.a = hidden,
                          .row_stride = layout.hidden_row,
                          .depth_stride = 1,
                          .b = point_weight + column * layout.shape.width,
                          .b_stride = kTileColumns<T>,
                          .depth = layout.shape.width};
    product(rows, &term, 1, Start<T>{.rows = points + column, .stride = row}, points + column, row);
  }
}

// Calls visit(first column) after each panel's |point|^2 - 2 z . point stands in the tile.
template <class T, class Visit>
TIML_INLINE void for_each_tile(const StrongLayout<T>& layout, int64_t rows, const T* z,
                               int64_t columns, const T* panels, T* tile, const Visit& visit) {
  const int64_t d = layout.shape.dimensions;
  for (int64_t column = 0; column < columns; column += kTileColumns<T>) {
    const Term<T> term = {.a = z,
                          .row_stride = layout.point_row,
                          .depth_stride = 1,
                          .b = panels + kTileColumns<T>,
                          .b_stride = kTileColumns<T>,
                          .depth = d};
    product(rows, &term, 1, Start<T>{.rows = panels, .stride = 0}, tile, int64_t{kTileColumns<T>});
    visit(column);
    panels += (1 + d) * kTileColumns<T>;
  }
}

template <class T>
inline void squared_lengths(const StrongLayout<T>& layout, int64_t rows, const T* z, T* squared) {
  for (int64_t r = 0; r < rows; ++r, z += layout.point_row) {
    Vector<T> sum = {};
    for (int64_t i = 0; i < layout.point_row; i += kLanes<T>) {
      const Vector<T> v = load(z + i);
      sum += v * v;
    }
    squared[r] = sum_lanes<T>(sum);
  }
}

// Distance of each point to the nearest that is known, in units of the usual distance.
template <class T>
inline void known_distances(const PreparedStrong<T>& prepared, int64_t rows,
                            const StrongMemory<T>& memory, T* distances) {
  constexpr int64_t lanes = kLanes<T>;
  const auto smaller = [](Vector<T> a, Vector<T> b) { return a < b ? a : b; };
  fill(rows * lanes, std::numeric_limits<T>::max(), memory.sums);
  for_each_tile(prepared.layout, rows, memory.points, prepared.layout.known_row,
                static_cast<const T*>(prepared.known), memory.tile, [&](int64_t) {
                  for (int64_t r = 0; r < rows; ++r) {
                    const T* tile = memory.tile + r * kTileColumns<T>;
                    Vector<T> least = load(memory.sums + r * lanes);
                    for (int v = 0; v < 4; ++v) least = smaller(least, load(tile + v * lanes));
                    store(memory.sums + r * lanes, least);
                  }
                });
  for (int64_t r = 0; r < rows; ++r) {
    T least = memory.sums[r * lanes];
    for (int64_t lane = 1; lane < lanes; ++lane) {
      const T other = memory.sums[r * lanes + lane];
      least = other < least ? other : least;
    }
    const T squared = memory.squared[r] + least;
    distances[r] = std::sqrt(squared < T(0) ? T(0) : squared) /
                   prepared.constants[2 + prepared.layout.shape.outputs];
  }
}

// Adds the logits of the networks that have network `owner`'s points.
template <class T>
inline void kernel_logits(const PreparedStrong<T>& prepared, int64_t owner, int64_t rows,
                          const StrongMemory<T>& memory) {
  constexpr int64_t lanes = kLanes<T>;
  const StrongLayout<T>& layout = prepared.layout;
  const int64_t networks = layout.shape.networks, outputs = layout.shape.outputs;
  const auto of_owner = [&](int64_t i) { return prepared.owner[i] == static_cast<T>(owner); };
  fill(networks * kChunkRows * outputs * lanes, T(0), memory.sums);
  for_each_tile(
      layout, rows, memory.points, layout.label_row,
      static_cast<const T*>(prepared.network(owner).points), memory.tile, [&](int64_t column) {
        for (int64_t i = owner; i < networks; ++i) {
          if (!of_owner(i)) continue;
          const PreparedNetwork<T> network = prepared.network(i);
          const T rate = T(-1) / network.head[0];
          T* sums = memory.sums + i * kChunkRows * outputs * lanes;
          for (int64_t r = 0; r < rows; ++r) {
            const T* tile = memory.tile + r * kTileColumns<T>;
            Vector<T> kernel[4];
            for (int v = 0; v < 4; ++v) {
              Vector<T> squared = load(tile + v * lanes) + memory.squared[r];
              squared = squared < T(0) ? Vector<T>{} : squared;
              kernel[v] = exponential<T>(rate * squared);
            }
            for (int64_t k = 0; k < outputs; ++k) {
              const T* coefficients = network.coefficients + k * layout.label_row + column;
              Vector<T> sum = load(sums + (r * outputs + k) * lanes);
              for (int v = 0; v < 4; ++v) sum += kernel[v] * load(coefficients + v * lanes);
              store(sums + (r * outputs + k) * lanes, sum);
            }
          }
        }
      });
  for (int64_t i = owner; i < networks; ++i) {
    if (!of_owner(i)) continue;
    const T* head = prepared.network(i).head;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < outputs; ++k) {
        const int64_t at = (i * kChunkRows + r) * outputs + k;
        const T learned = sum_lanes<T>(load(memory.sums + at * lanes));
        memory.logits[r * outputs + k] += head[1] * (learned + memory.prior[at] - head[2 + k]);
      }
  }
}

template <class T>
inline void strong_block(const PreparedStrong<T>& prepared, const Forest& forest, const T* x,
                         int64_t rows, T* logits, T* distances, const StrongMemory<T>& memory) {
  const StrongLayout<T>& layout = prepared.layout;
  const int64_t networks = layout.shape.networks, outputs = layout.shape.outputs;
  T* described = memory.described;
  describe_block(layout.shape.steps, static_cast<const T*>(prepared.bands), x, rows, memory.sorted,
                 described);
  const T most = static_cast<T>(kMostDeviations);
  double* votes = reinterpret_cast<double*>(memory.votes);
  forest_logits(forest, static_cast<const T*>(described), rows, outputs, votes);
  for (int64_t i = 0; i < layout.features; ++i, described += kChunkRows) {
    const T mean = prepared.columns[i], inverse = prepared.columns[layout.features + i];
    for (int64_t r = 0; r < padded_rows<T>(rows); r += kLanes<T>)
      store(described + r, clamp<T>((load(described + r) - mean) * inverse, -most, most));
  }
  described = memory.described;
  fill(rows * outputs, T(0), memory.logits);
  for (int64_t i = 0; i < networks; ++i) {
    const PreparedNetwork<T> network = prepared.network(i);
    T* prior = memory.prior + i * kChunkRows * outputs;
    fill(rows * outputs, T(0), prior);
    if (layout.shape.width == 0) continue;
    described_product(layout, rows, static_cast<const T*>(described), layout.hidden_row,
                      static_cast<const T*>(network.hidden_weight), memory.hidden);
    hidden_layer(layout, rows, static_cast<const T*>(prepared.in_width),
                 static_cast<const T*>(network.hidden_vectors), memory.hidden, prior);
    if (prepared.moved[i] == T(0)) continue;
    // the points of a network that moves them are its own
    described_product(layout, rows, static_cast<const T*>(described), layout.point_row,
                      static_cast<const T*>(network.axes), memory.points);
    if (i == 0 && distances != nullptr) {
      squared_lengths(layout, rows, static_cast<const T*>(memory.points), memory.squared);
      known_distances(prepared, rows, memory, distances);
    }
    move_points(layout, rows, static_cast<const T*>(memory.hidden),
                static_cast<const T*>(network.point_weight), memory.points);
    squared_lengths(layout, rows, static_cast<const T*>(memory.points), memory.squared);
    kernel_logits(prepared, i, rows, memory);
  }
  for (int64_t i = 0; i < networks; ++i) {
    if (prepared.moved[i] != T(0) || prepared.owner[i] != static_cast<T>(i)) continue;
    described_product(layout, rows, static_cast<const T*>(described), layout.point_row,
                      static_cast<const T*>(prepared.network(i).axes), memory.points);
    squared_lengths(layout, rows, static_cast<const T*>(memory.points), memory.squared);
    if (i == 0 && distances != nullptr) known_distances(prepared, rows, memory, distances);
    kernel_logits(prepared, i, rows, memory);
  }
  const T weight = prepared.constants[0], slope = prepared.constants[1];
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < outputs; ++k) {
      const int64_t at = r * outputs + k;
      logits[at] = slope * (weight * memory.logits[at] / static_cast<T>(networks) +
                            static_cast<T>(votes[at])) +
                   prepared.constants[2 + k];
    }
}

template <class T>
void strong_evaluate(const StrongShape& shape, const T* prepared_memory, const Forest& forest,
                     const T* x, int64_t rows, T* logits, T* distances, T* workspace) {
  const StrongLayout<T> layout(shape);
  const PreparedStrong<T> prepared(layout, const_cast<T*>(prepared_memory));
  const StrongMemory<T> memory(layout, workspace);
  const int64_t series = shape.steps * kRecordBands;
  for (int64_t begin = 0; begin < rows; begin += kChunkRows)
    strong_block(prepared, forest, x + begin * series,
                 begin + kChunkRows <= rows ? kChunkRows : rows - begin,
                 logits + begin * shape.outputs, distances == nullptr ? nullptr : distances + begin,
                 memory);
}

template <class T>
int64_t describe_workspace(int64_t steps) {
  Arena<T> arena(nullptr);
  arena.take(description_size(steps) * kChunkRows);
  arena.take(steps * kLanes<T>);
  return arena.used();
}

// The descriptions of series as rows.
template <class T>
void describe(int64_t steps, const T* bands, const T* x, int64_t rows, T* out, T* workspace) {
  Arena<T> arena(workspace);
  const int64_t features = description_size(steps);
  T* block = arena.take(features * kChunkRows);
  T* sorted = arena.take(steps * kLanes<T>);
  for (int64_t begin = 0; begin < rows; begin += kChunkRows) {
    const int64_t count = begin + kChunkRows <= rows ? kChunkRows : rows - begin;
    describe_block(steps, bands, x + begin * steps * kRecordBands, count, sorted, block);
    for (int64_t r = 0; r < count; ++r)
      for (int64_t i = 0; i < features; ++i)
        out[(begin + r) * features + i] = block[i * kChunkRows + r];
  }
}

}  // namespace
}  // namespace timl
