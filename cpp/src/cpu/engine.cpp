// One instruction set's table of functions. CMake compiles this file once per instruction set, with
// TIML_ISA (the table's suffix), TIML_ISA_NAME and TIML_VECTOR_BYTES; dispatch.cpp picks a table.
#include "meta_step.h"

namespace timl {
namespace {

template <class T>
int64_t tape_size(const Shape& s, int64_t batch) {
  return NetworkTape<T>::size(Layout<T>(s), batch);
}

template <class T>
int64_t adjoint_size(const Shape& s, int64_t batch) {
  return NetworkAdjoints<T>::size(Layout<T>(s), batch);
}

template <class T>
Batch<T> batch_of(const NetworkInput<T>& in) {
  return {in.batch,           in.x, in.film, in.mask, in.batch_statistics, in.running_mean,
          in.running_variance};
}

// Packed weights, and the working memory of a single call from a caller's workspace.
template <class T>
struct ForwardMemory {
  ForwardMemory(const Layout<T>& y, T* memory) : arena(memory) { packed = arena.take(y.packed); }
  Arena<T> arena;
  T* packed;
};

template <class T>
struct BackwardMemory {
  BackwardMemory(const Layout<T>& y, int64_t batch, T* memory) : arena(memory) {
    packed = arena.take(y.packed + y.transposed);
    gradient = arena.take(y.packed);
    film_gradient = arena.take(2 * y.T_ * y.F + 2 * y.L * y.H);
    scratch = arena.take(NetworkScratch<T>::size(y, batch));
    input_transposed = arena.take(input_panels(y) * 4 * y.padded * y.kWide);
    tile = arena.take(chunk_rows(batch, 0).count * y.kWide);
  }
  Arena<T> arena;
  T *packed, *gradient, *film_gradient, *scratch, *input_transposed, *tile;
};

template <class T>
struct TangentMemory {
  TangentMemory(const Layout<T>& y, int64_t batch, T* memory) : backward(y, batch, memory) {
    direction = backward.arena.take(y.packed + y.transposed);
    tangents = backward.arena.take(NetworkTangents<T>::size(y, batch));
    input_transposed_dot = backward.arena.take(input_panels(y) * 4 * y.padded * y.kWide);
  }
  BackwardMemory<T> backward;
  T *direction, *tangents, *input_transposed_dot;
};

template <class T>
int64_t forward_workspace(const Shape& s, int64_t) {
  return ForwardMemory<T>(Layout<T>(s), nullptr).arena.used();
}

template <class T>
int64_t backward_workspace(const Shape& s, int64_t batch) {
  return BackwardMemory<T>(Layout<T>(s), batch, nullptr).arena.used();
}

template <class T>
int64_t tangent_workspace(const Shape& s, int64_t batch) {
  return TangentMemory<T>(Layout<T>(s), batch, nullptr).backward.arena.used();
}

template <class T>
void forward(const NetworkInput<T>& in, T* logits, T* batch_mean, T* batch_variance, T* tape,
             T* workspace, const Parallel& parallel) {
  const Layout<T> y(in.shape);
  const ForwardMemory<T> memory(y, workspace);
  pack(y, in.weights, memory.packed);
  network_forward(y, batch_of(in), static_cast<const T*>(memory.packed),
                  NetworkTape<T>(y, in.batch, tape), logits, batch_mean, batch_variance, parallel);
}

template <class T>
void backward(const NetworkInput<T>& in, const T* cotangent, const T* tape_memory,
              const NetworkGradient<T>& out, T* adjoint_memory, T* workspace,
              const Parallel& parallel) {
  const Layout<T> y(in.shape);
  const BackwardMemory<T> memory(y, in.batch, workspace);
  pack(y, in.weights, memory.packed);
  transpose(y, memory.packed, memory.packed + y.packed);
  const NetworkTape<T> tape(y, in.batch, const_cast<T*>(tape_memory));
  const NetworkAdjoints<T> adjoints(y, in.batch, adjoint_memory);
  copy(in.batch, cotangent, adjoints.head.logits);
  network_backward(y, batch_of(in), {memory.packed, memory.packed + y.packed}, tape, adjoints,
                   NetworkScratch<T>(y, in.batch, memory.scratch), memory.gradient, out.film,
                   parallel);
  unpack(y, memory.gradient, T(1), out.weights);
  if (out.x == nullptr) return;
  transpose_input(y, memory.packed, memory.input_transposed);
  for (int64_t index = 0; index < chunk_count(in.batch); ++index) {
    const Rows rows = chunk_rows(in.batch, index);
    input_gradient(y, rows.count, adjoints.chunk(index).gates, memory.input_transposed, in.film,
                   false, memory.tile, out.x + rows.begin * y.T_ * y.F);
  }
}

template <class T>
void tangent(const NetworkInput<T>& in, const T* tape_memory, const T* adjoint_memory,
             const NetworkDirection<T>& along, T* logits_tangent, const NetworkGradient<T>& out,
             T* workspace, const Parallel& parallel) {
  const Layout<T> y(in.shape);
  const TangentMemory<T> memory(y, in.batch, workspace);
  const BackwardMemory<T>& scratch = memory.backward;
  pack(y, in.weights, scratch.packed);
  transpose(y, scratch.packed, scratch.packed + y.packed);
  pack(y, along.weights, memory.direction);
  transpose(y, memory.direction, memory.direction + y.packed);
  const Weights<T> weights = {scratch.packed, scratch.packed + y.packed};
  const Direction<T> direction = {
      {memory.direction, memory.direction + y.packed}, along.film, along.x};
  const Batch<T> batch = batch_of(in);
  const NetworkTape<T> tape(y, in.batch, const_cast<T*>(tape_memory));
  const NetworkAdjoints<T> adjoints(y, in.batch, const_cast<T*>(adjoint_memory));
  const NetworkTangents<T> tangents(y, in.batch, memory.tangents);
  network_tangent_forward(y, batch, weights.packed, tape, direction, tangents, logits_tangent,
                          parallel);
  network_tangent_backward(y, batch, weights, tape, adjoints, direction, tangents, along.cotangent,
                           NetworkScratch<T>(y, in.batch, scratch.scratch), scratch.gradient,
                           out.film, parallel);
  unpack(y, scratch.gradient, T(1), out.weights);
  if (out.x == nullptr) return;
  transpose_input(y, scratch.packed, scratch.input_transposed);
  transpose_input(y, memory.direction, memory.input_transposed_dot);
  for (int64_t index = 0; index < chunk_count(in.batch); ++index) {
    const Rows rows = chunk_rows(in.batch, index);
    T* x = out.x + rows.begin * y.T_ * y.F;
    const T* gates = adjoints.chunk(index).gates;
    input_gradient(y, rows.count, tangents.chunk(index).gate_adjoints, scratch.input_transposed,
                   in.film, false, scratch.tile, x);
    input_gradient(y, rows.count, gates, memory.input_transposed_dot, in.film, true, scratch.tile,
                   x);
    if (along.film != nullptr)
      input_gradient(y, rows.count, gates, scratch.input_transposed, along.film, true, scratch.tile,
                     x);
  }
}

// Evaluation: packed weights, FiLM and running statistics in one block.
template <class T>
struct Prepared {
  Prepared(const Layout<T>& y, T* memory) : arena(memory) {
    packed = arena.take(y.packed);
    film = arena.take(2 * y.T_ * y.F + 2 * y.L * y.H);
    running_mean = arena.take(y.L * y.H);
    running_variance = arena.take(y.L * y.H);
  }
  Arena<T> arena;
  T *packed, *film, *running_mean, *running_variance;
};

template <class T>
int64_t prepared_size(const Shape& s) {
  return Prepared<T>(Layout<T>(s), nullptr).arena.used();
}

template <class T>
void prepare(const NetworkInput<T>& in, T* memory) {
  const Layout<T> y(in.shape);
  const Prepared<T> prepared(y, memory);
  pack(y, in.weights, prepared.packed);
  copy(film_size(in.shape), in.film, prepared.film);
  copy(y.L * y.H, in.running_mean, prepared.running_mean);
  copy(y.L * y.H, in.running_variance, prepared.running_variance);
}

template <class T>
struct EvaluateMemory {
  EvaluateMemory(const Layout<T>& y, int64_t rows, T* memory)
      : arena(memory), lstm(y, rows, arena, false), head(y, rows, arena) {}
  Arena<T> arena;
  LstmTape<T> lstm;
  HeadTape<T> head;
};

template <class T>
int64_t evaluate_workspace(const Shape& s, int64_t rows) {
  return EvaluateMemory<T>(Layout<T>(s), rows < kChunkRows ? rows : kChunkRows, nullptr)
      .arena.used();
}

template <class T>
void evaluate(const Shape& s, const T* prepared_memory, const T* x, int64_t rows, T* logits,
              T* workspace) {
  const Layout<T> y(s);
  const Prepared<T> prepared(y, const_cast<T*>(prepared_memory));
  const int64_t series = y.T_ * y.F;
  for (int64_t index = 0; rows > 0 && index < chunk_count(rows); ++index) {
    const Rows chunk = chunk_rows(rows, index);
    const EvaluateMemory<T> memory(y, chunk.count, workspace);
    lstm_forward(y, chunk.count, x + chunk.begin * series, prepared.film, prepared.film + series,
                 static_cast<const T*>(nullptr), static_cast<const T*>(prepared.packed),
                 memory.lstm);
    hidden_to_head<T>(y, chunk.count,
                      memory.lstm.hidden + memory.lstm.hidden_slot(y.T_ - 1) * chunk.count * y.row,
                      memory.head.normal);
    head_forward(y, chunk.count, static_cast<const T*>(prepared.packed), prepared.film + 2 * series,
                 false, prepared.running_mean, prepared.running_variance, memory.head,
                 logits + chunk.begin, static_cast<T*>(nullptr), static_cast<T*>(nullptr));
  }
}

template <class T>
int64_t packed_size(const Shape& s) {
  return Layout<T>(s).packed;
}

template <class T>
int64_t base_size(const Shape& s) {
  const Layout<T> y(s);
  return y.packed + y.transposed;
}

template <class T>
int64_t meta_workspace(const MetaShape& m) {
  return MetaMemory<T>(Layout<T>(m.network), m, nullptr).arena.used();
}

template <class T>
void pack_base(const Shape& s, const T* weights, T* base) {
  const Layout<T> y(s);
  pack(y, weights, base);
  transpose(y, base, base + y.packed);
}

template <class T>
void meta_task(const MetaShape& m, const T* base, const T* step_sizes, const Episode<T>& episode,
               const EpisodeResult<T>& result, T* workspace) {
  meta_step(Layout<T>(m.network), m, base, step_sizes, episode, result, workspace);
}

template <class T>
void reduce_gradients(const Shape& s, int64_t tasks, const T* packed_gradients, T scale,
                      T* weights_gradient, T* scratch, const Parallel& parallel) {
  const Layout<T> y(s);
  struct Context {
    const Layout<T>* y;
    int64_t tasks;
    const T* gradients;
    T* sum;
  } context = {&y, tasks, packed_gradients, scratch};
  constexpr int64_t kPiece = 8192;  // elements summed by one call: one piece stays in L1
  parallel.run((y.packed + kPiece - 1) / kPiece,
               [](void* pointer, int64_t index) {
                 const Context& c = *static_cast<const Context*>(pointer);
                 const int64_t begin = index * kPiece;
                 const int64_t end = begin + kPiece < c.y->packed ? begin + kPiece : c.y->packed;
                 copy(end - begin, c.gradients + begin, c.sum + begin);
                 for (int64_t task = 1; task < c.tasks; ++task) {
                   const T* gradient = c.gradients + task * c.y->packed;
                   for (int64_t i = begin; i < end; ++i) c.sum[i] += gradient[i];
                 }
               },
               &context);
  unpack(y, scratch, scale, weights_gradient);
}

template <class T>
constexpr Engine<T> table() {
  return {TIML_ISA_NAME,         tape_size<T>,         adjoint_size<T>,       forward_workspace<T>,
          backward_workspace<T>, tangent_workspace<T>, evaluate_workspace<T>, forward<T>,
          backward<T>,           tangent<T>,           prepared_size<T>,      prepare<T>,
          evaluate<T>,           packed_size<T>,       base_size<T>,          meta_workspace<T>,
          pack_base<T>,          meta_task<T>,         reduce_gradients<T>};
}

}  // namespace

#define TIML_JOIN_(a, b) a##b
#define TIML_JOIN(a, b) TIML_JOIN_(a, b)
extern const Engine<float> TIML_JOIN(engine_float_, TIML_ISA);
extern const Engine<double> TIML_JOIN(engine_double_, TIML_ISA);
const Engine<float> TIML_JOIN(engine_float_, TIML_ISA) = table<float>();
const Engine<double> TIML_JOIN(engine_double_, TIML_ISA) = table<double>();

}  // namespace timl
