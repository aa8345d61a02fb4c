// One instruction set's table of functions. CMake compiles this file once per instruction set, with
// TIML_ISA (the table's suffix), TIML_ISA_NAME and TIML_VECTOR_BYTES; dispatch.cpp picks a table.
#include "film_lstm.h"
#include "meta_step.h"
#include "strong_kernel.h"

namespace timl {
namespace {

template <class T>
int64_t tape_size(const Shape& s, int64_t batch) {
  return NetworkTape<T>::size(PackedLayout<T>(s), batch);
}

template <class T>
int64_t adjoint_size(const Shape& s, int64_t batch) {
  return NetworkAdjoints<T>::size(PackedLayout<T>(s), batch);
}

// Packed weights, and the working memory of a single call from a caller's workspace.
template <class T>
struct ForwardMemory {
  ForwardMemory(const PackedLayout<T>& layout, T* memory) : arena(memory) {
    packed = arena.take(layout.packed_size);
  }
  Arena<T> arena;
  T* packed;
};

template <class T>
struct BackwardMemory {
  BackwardMemory(const PackedLayout<T>& layout, int64_t batch, T* memory) : arena(memory) {
    packed = arena.take(layout.packed_size + layout.transposed_size);
    gradient = arena.take(layout.packed_size);
    film_gradient = arena.take(2 * layout.steps * layout.bands + 2 * layout.layers * layout.hidden);
    scratch = arena.take(NetworkScratch<T>::size(layout, batch));
    input_transposed = arena.take(input_panels(layout) * 4 * layout.padded * kTileColumns<T>);
    tile = arena.take(chunk_rows(batch, 0).count * kTileColumns<T>);
  }
  Arena<T> arena;
  T *packed, *gradient, *film_gradient, *scratch, *input_transposed, *tile;
};

template <class T>
struct TangentMemory {
  TangentMemory(const PackedLayout<T>& layout, int64_t batch, T* memory)
      : backward(layout, batch, memory) {
    direction = backward.arena.take(layout.packed_size + layout.transposed_size);
    tangents = backward.arena.take(NetworkTangents<T>::size(layout, batch));
    input_transposed_dot =
        backward.arena.take(input_panels(layout) * 4 * layout.padded * kTileColumns<T>);
  }
  BackwardMemory<T> backward;
  T *direction, *tangents, *input_transposed_dot;
};

template <class T>
int64_t forward_workspace(const Shape& s, int64_t) {
  return ForwardMemory<T>(PackedLayout<T>(s), nullptr).arena.used();
}

template <class T>
int64_t backward_workspace(const Shape& s, int64_t batch) {
  return BackwardMemory<T>(PackedLayout<T>(s), batch, nullptr).arena.used();
}

template <class T>
int64_t tangent_workspace(const Shape& s, int64_t batch) {
  return TangentMemory<T>(PackedLayout<T>(s), batch, nullptr).backward.arena.used();
}

template <class T>
void forward(const NetworkInput<T>& in, T* logits, T* batch_mean, T* batch_variance, T* tape,
             T* workspace, const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape);
  const ForwardMemory<T> memory(layout, workspace);
  pack(layout, in.weights, memory.packed);
  network_forward(layout, batch_of(in), static_cast<const T*>(memory.packed),
                  NetworkTape<T>(layout, in.batch, tape), logits, batch_mean, batch_variance,
                  parallel);
}

template <class T>
void backward(const NetworkInput<T>& in, const T* cotangent, const T* tape_memory,
              const NetworkGradient<T>& out, T* adjoint_memory, T* workspace,
              const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape);
  const BackwardMemory<T> memory(layout, in.batch, workspace);
  pack(layout, in.weights, memory.packed);
  transpose(layout, memory.packed, memory.packed + layout.packed_size);
  const NetworkTape<T> tape(layout, in.batch, const_cast<T*>(tape_memory));
  const NetworkAdjoints<T> adjoints(layout, in.batch, adjoint_memory);
  copy(in.batch * layout.outputs, cotangent, adjoints.head.logits);
  const Weights<T> weights = {.packed = memory.packed,
                              .transposed = memory.packed + layout.packed_size};
  network_backward(layout, batch_of(in), weights, tape, adjoints,
                   NetworkScratch<T>(layout, in.batch, memory.scratch), memory.gradient, out.film,
                   parallel);
  unpack(layout, memory.gradient, T(1), out.weights);
  if (out.x == nullptr) return;
  transpose_input(layout, memory.packed, memory.input_transposed);
  for (int64_t index = 0; index < chunk_count(in.batch); ++index) {
    parallel.check();
    const Rows rows = chunk_rows(in.batch, index);
    input_gradient(layout, rows.count, adjoints.chunk(index).gates, memory.input_transposed,
                   in.film, false, memory.tile, out.x + rows.begin * layout.steps * layout.bands);
  }
}

template <class T>
void tangent(const NetworkInput<T>& in, const T* tape_memory, const T* adjoint_memory,
             const NetworkDirection<T>& along, T* logits_tangent, const NetworkGradient<T>& out,
             T* workspace, const Parallel& parallel) {
  const PackedLayout<T> layout(in.shape);
  const TangentMemory<T> memory(layout, in.batch, workspace);
  const BackwardMemory<T>& scratch = memory.backward;
  pack(layout, in.weights, scratch.packed);
  transpose(layout, scratch.packed, scratch.packed + layout.packed_size);
  pack(layout, along.weights, memory.direction);
  transpose(layout, memory.direction, memory.direction + layout.packed_size);
  const Weights<T> weights = {.packed = scratch.packed,
                              .transposed = scratch.packed + layout.packed_size};
  const Direction<T> direction = {
      .weights = {.packed = memory.direction, .transposed = memory.direction + layout.packed_size},
      .film = along.film,
      .x = along.x};
  const Batch<T> batch = batch_of(in);
  const NetworkTape<T> tape(layout, in.batch, const_cast<T*>(tape_memory));
  const NetworkAdjoints<T> adjoints(layout, in.batch, const_cast<T*>(adjoint_memory));
  const NetworkTangents<T> tangents(layout, in.batch, memory.tangents);
  network_tangent_forward(layout, batch, weights.packed, tape, direction, tangents, logits_tangent,
                          parallel);
  network_tangent_backward(layout, batch, weights, tape, adjoints, direction, tangents,
                           along.cotangent, NetworkScratch<T>(layout, in.batch, scratch.scratch),
                           scratch.gradient, out.film, parallel);
  unpack(layout, scratch.gradient, T(1), out.weights);
  if (out.x == nullptr) return;
  transpose_input(layout, scratch.packed, scratch.input_transposed);
  transpose_input(layout, memory.direction, memory.input_transposed_dot);
  for (int64_t index = 0; index < chunk_count(in.batch); ++index) {
    parallel.check();
    const Rows rows = chunk_rows(in.batch, index);
    T* x = out.x + rows.begin * layout.steps * layout.bands;
    const T* gates = adjoints.chunk(index).gates;
    input_gradient(layout, rows.count, tangents.chunk(index).gate_adjoints,
                   scratch.input_transposed, in.film, false, scratch.tile, x);
    input_gradient(layout, rows.count, gates, memory.input_transposed_dot, in.film, true,
                   scratch.tile, x);
    if (along.film != nullptr)
      input_gradient(layout, rows.count, gates, scratch.input_transposed, along.film, true,
                     scratch.tile, x);
  }
}

// Evaluation: packed weights, FiLM and running statistics in one block.
template <class T>
struct Prepared {
  Prepared(const PackedLayout<T>& layout, T* memory) : arena(memory) {
    packed = arena.take(layout.packed_size);
    film = arena.take(2 * layout.steps * layout.bands + 2 * layout.layers * layout.hidden);
    running_mean = arena.take(layout.layers * layout.hidden);
    running_variance = arena.take(layout.layers * layout.hidden);
  }
  Arena<T> arena;
  T *packed, *film, *running_mean, *running_variance;
};

template <class T>
int64_t prepared_size(const Shape& s) {
  return Prepared<T>(PackedLayout<T>(s), nullptr).arena.used();
}

template <class T>
void prepare(const NetworkInput<T>& in, T* memory) {
  const PackedLayout<T> layout(in.shape);
  const Prepared<T> prepared(layout, memory);
  pack(layout, in.weights, prepared.packed);
  copy(film_size(in.shape), in.film, prepared.film);
  copy(layout.layers * layout.hidden, in.running_mean, prepared.running_mean);
  copy(layout.layers * layout.hidden, in.running_variance, prepared.running_variance);
}

template <class T>
struct EvaluateMemory {
  EvaluateMemory(const PackedLayout<T>& layout, int64_t rows, T* memory)
      : arena(memory), lstm(layout, rows, arena, false), head(layout, rows, arena) {}
  Arena<T> arena;
  LstmTape<T> lstm;
  HeadTape<T> head;
};

template <class T>
int64_t evaluate_workspace(const Shape& s, int64_t rows) {
  return EvaluateMemory<T>(PackedLayout<T>(s), rows < kChunkRows ? rows : kChunkRows, nullptr)
      .arena.used();
}

template <class T>
void evaluate(const Shape& s, const T* prepared_memory, const T* x, int64_t rows, T* logits,
              T* workspace) {
  const PackedLayout<T> layout(s);
  const Prepared<T> prepared(layout, const_cast<T*>(prepared_memory));
  const int64_t series = layout.steps * layout.bands;
  for (int64_t index = 0; rows > 0 && index < chunk_count(rows); ++index) {
    const Rows chunk = chunk_rows(rows, index);
    const EvaluateMemory<T> memory(layout, chunk.count, workspace);
    lstm_forward(layout, chunk.count, x + chunk.begin * series, prepared.film,
                 prepared.film + series, static_cast<const T*>(nullptr),
                 static_cast<const T*>(prepared.packed), memory.lstm);
    hidden_to_head<T>(
        layout, chunk.count,
        memory.lstm.hidden + memory.lstm.hidden_slot(layout.steps - 1) * chunk.count * layout.row,
        memory.head.normal);
    head_forward(layout, chunk.count, static_cast<const T*>(prepared.packed),
                 prepared.film + 2 * series, false, prepared.running_mean,
                 prepared.running_variance, memory.head, logits + chunk.begin * layout.outputs,
                 static_cast<T*>(nullptr), static_cast<T*>(nullptr));
  }
}

template <class T>
int64_t packed_size(const Shape& s) {
  return PackedLayout<T>(s).packed_size;
}

template <class T>
int64_t base_size(const Shape& s) {
  const PackedLayout<T> layout(s);
  return layout.packed_size + layout.transposed_size;
}

template <class T>
int64_t meta_workspace(const MetaShape& m) {
  return MetaMemory<T>(PackedLayout<T>(m.network), m, nullptr).arena.used();
}

template <class T>
void pack_base(const Shape& s, const T* weights, T* base) {
  const PackedLayout<T> layout(s);
  pack(layout, weights, base);
  transpose(layout, base, base + layout.packed_size);
}

template <class T>
void meta_task(const MetaShape& m, const T* base, const T* step_sizes, const Episode<T>& episode,
               const EpisodeResult<T>& result, T* workspace, const Parallel& parallel) {
  meta_step(PackedLayout<T>(m.network), m, base, step_sizes, episode, result, workspace, parallel);
}

template <class T>
void reduce_gradients(const Shape& s, int64_t tasks, const T* packed_gradients, T scale,
                      T* weights_gradient, T* scratch, const Parallel& parallel) {
  const PackedLayout<T> layout(s);
  struct Context {
    int64_t size, tasks;
    const T* gradients;
    T* sum;
  } context = {
      .size = layout.packed_size, .tasks = tasks, .gradients = packed_gradients, .sum = scratch};
  constexpr int64_t kPiece = 8192;  // elements summed by one call: one piece stays in L1
  parallel.run((layout.packed_size + kPiece - 1) / kPiece,
               [](void* pointer, int64_t index) {
                 const Context& c = *static_cast<const Context*>(pointer);
                 const int64_t begin = index * kPiece;
                 const int64_t end = begin + kPiece < c.size ? begin + kPiece : c.size;
                 copy(end - begin, c.gradients + begin, c.sum + begin);
                 for (int64_t task = 1; task < c.tasks; ++task) {
                   const T* gradient = c.gradients + task * c.size;
                   for (int64_t i = begin; i < end; ++i) c.sum[i] += gradient[i];
                 }
               },
               &context);
  unpack(layout, scratch, scale, weights_gradient);
}

template <class T>
int64_t adapt_workspace(const Shape& s, int64_t support) {
  return AdaptMemory<T>(PackedLayout<T>(s), support, nullptr).arena.used();
}

template <class T>
void adapt_task(const AdaptInput<T>& in, const AdaptResult<T>& result, T* workspace,
                const Parallel& parallel) {
  adapt(PackedLayout<T>(in.shape), in, result, workspace, parallel);
}

template <class T>
constexpr Engine<T> table() {
  return {.isa = TIML_ISA_NAME,
          .tape_size = tape_size<T>,
          .adjoint_size = adjoint_size<T>,
          .forward_workspace = forward_workspace<T>,
          .backward_workspace = backward_workspace<T>,
          .tangent_workspace = tangent_workspace<T>,
          .evaluate_workspace = evaluate_workspace<T>,
          .forward = forward<T>,
          .backward = backward<T>,
          .tangent = tangent<T>,
          .prepared_size = prepared_size<T>,
          .prepare = prepare<T>,
          .evaluate = evaluate<T>,
          .loss = mean_loss<T>,
          .packed_size = packed_size<T>,
          .base_size = base_size<T>,
          .meta_workspace = meta_workspace<T>,
          .pack_base = pack_base<T>,
          .meta_task = meta_task<T>,
          .reduce_gradients = reduce_gradients<T>,
          .adapt_workspace = adapt_workspace<T>,
          .adapt = adapt_task<T>,
          .film_lstm = film_lstm_table<T>(),
          .describe_workspace = describe_workspace<T>,
          .describe = describe<T>,
          .strong_prepared_size = strong_prepared_size<T>,
          .strong_workspace = strong_workspace<T>,
          .strong_prepare = strong_prepare<T>,
          .strong_evaluate = strong_evaluate<T>};
}

}  // namespace

#define TIML_JOIN_(a, b) a##b
#define TIML_JOIN(a, b) TIML_JOIN_(a, b)
extern const Engine<float> TIML_JOIN(engine_float_, TIML_ISA);
extern const Engine<double> TIML_JOIN(engine_double_, TIML_ISA);
const Engine<float> TIML_JOIN(engine_float_, TIML_ISA) = table<float>();
const Engine<double> TIML_JOIN(engine_double_, TIML_ISA) = table<double>();

}  // namespace timl
