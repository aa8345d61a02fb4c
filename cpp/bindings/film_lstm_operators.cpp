// The operators of the LSTM alone: hidden states, their gradients, and the tangents of both. They
// check their arguments and call the engine, on the CPU or on CUDA; timl/nn/operator_rules.py has
// the rest.
#include "cuda_call.h"
#include "torch_stable.h"

namespace timl {
namespace {

// Elements of a row of tape and adjoints where the current call computes.
template <class T>
int64_t tape_row(const FilmLstmShape& shape) {
  if constexpr (kHasCuda)
    if (Call::current()->on_cuda()) return cuda::film_lstm_tape_size<T>(shape, 1);
  return checked_engine<T>().film_lstm.tape_size(shape, 1);
}
template <class T>
int64_t adjoint_row(const FilmLstmShape& shape) {
  if constexpr (kHasCuda)
    if (Call::current()->on_cuda()) return cuda::film_lstm_adjoint_size<T>(shape, 1);
  return checked_engine<T>().film_lstm.adjoint_size(shape, 1);
}

// The arguments that the operators share, checked and contiguous.
template <class T>
struct Arguments {
  Arguments(const char* operation, const Tensor& x_in, const Tensor& weights_in,
            const OptionalTensor& film_in, const OptionalTensor& mask_in, int64_t hidden,
            bool every_step) {
    require(x_in.dim() == 3, operation, ": x is ", shape_text(x_in),
            ": give 3 dimensions, the last two steps and bands");
    shape = {
        .steps = x_in.size(1), .bands = x_in.size(2), .hidden = hidden, .every_step = every_step};
    for (const int64_t size : {shape.steps, shape.bands, shape.hidden})
      require(size >= 1 && size <= kLargestSize, operation, ": x is ", shape_text(x_in),
              " for hidden ", hidden, ": give steps, bands and hidden from 1 to ", kLargestSize);
    x = checked(operation, "x", x_in, kDtype<T>, {-1, shape.steps, shape.bands});
    batch = x.size(0);
    weights = checked(operation, "weights", weights_in, kDtype<T>, {film_lstm_weights_size(shape)});
    if (film_in)
      film = checked(operation, "film", *film_in, kDtype<T>, {2, shape.steps, shape.bands});
    if (mask_in) mask = checked(operation, "mask", *mask_in, kDtype<T>, {batch, hidden});
  }

  FilmLstmInput<T> input() const {
    return {.shape = shape,
            .batch = batch,
            .x = x.const_data_ptr<T>(),
            .weights = weights.const_data_ptr<T>(),
            .film = values_of<T>(film),
            .mask = values_of<T>(mask)};
  }
  Tensor empty(std::initializer_list<int64_t> sizes) const { return new_empty(x, sizes); }
  Tensor empty_states() const {
    return shape.every_step ? empty({batch, shape.steps, shape.hidden})
                            : empty({batch, shape.hidden});
  }
  Tensor checked_states(const char* operation, const char* name, const Tensor& tensor) const {
    return shape.every_step
               ? checked(operation, name, tensor, kDtype<T>, {batch, shape.steps, shape.hidden})
               : checked(operation, name, tensor, kDtype<T>, {batch, shape.hidden});
  }
  // Gradients, or tangents of them, of x (of shape [0] unless wanted), weights and film ([0] where
  // there is none).
  std::tuple<Tensor, Tensor, Tensor> empty_gradients(bool x_gradient) const {
    return {x_gradient ? empty({batch, shape.steps, shape.bands}) : empty({0}),
            empty({film_lstm_weights_size(shape)}),
            film ? empty({2, shape.steps, shape.bands}) : empty({0})};
  }
  FilmLstmGradient<T> gradients(const Tensor& dx, const Tensor& dw, const Tensor& df) const {
    return {.x = dx.numel() > 0 ? dx.mutable_data_ptr<T>() : nullptr,
            .weights = dw.mutable_data_ptr<T>(),
            .film = film ? df.mutable_data_ptr<T>() : nullptr};
  }

  FilmLstmShape shape;
  Tensor x;
  int64_t batch;
  Tensor weights;
  OptionalTensor film, mask;
};

using Two = std::tuple<Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// -> hidden states ([B,T,H] of every step, else [B,H]), tape
Two film_lstm(const Tensor& x, const Tensor& weights, const OptionalTensor& film,
              const OptionalTensor& mask, int64_t hidden, bool every_step) {
  return by_dtype_and_device("timl::film_lstm", x, [&](auto zero) -> Two {
    using T = decltype(zero);
    const FilmLstmEngine<T>& engine = checked_engine<T>().film_lstm;
    const Arguments<T> a("timl::film_lstm", x, weights, film, mask, hidden, every_step);
    check_finite<T>("timl::film_lstm", "x", a.x);
    const Tensor states = a.empty_states();
    const Tensor tape = a.empty({buffer_rows(a.batch) * tape_row<T>(a.shape)});
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = a.empty({cuda::film_lstm_forward_workspace<T>(a.shape)});
        call.check(cuda::film_lstm_forward(call.plan(), a.input(), states.mutable_data_ptr<T>(),
                                           tape.mutable_data_ptr<T>(),
                                           workspace.mutable_data_ptr<T>()));
        return {states, tape};
      }
    engine.forward(a.input(), states.mutable_data_ptr<T>(), tape.mutable_data_ptr<T>(),
                   thread_workspace<T>(engine.forward_workspace(a.shape, a.batch)), kTorchThreads);
    return {states, tape};
  });
}

// -> gradients of x ([0] unless wanted), weights and film ([0] where there is none), the adjoints
Four film_lstm_backward(const Tensor& cotangent, const Tensor& x, const Tensor& weights,
                        const OptionalTensor& film, const OptionalTensor& mask, const Tensor& tape,
                        int64_t hidden, bool every_step, bool x_gradient) {
  return by_dtype_and_device("timl::film_lstm_backward", x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const char* operation = "timl::film_lstm_backward";
    const FilmLstmEngine<T>& engine = checked_engine<T>().film_lstm;
    const Arguments<T> a(operation, x, weights, film, mask, hidden, every_step);
    const Tensor g = a.checked_states(operation, "cotangent", cotangent);
    const Tensor kept =
        checked(operation, "tape", tape, kDtype<T>, {buffer_rows(a.batch) * tape_row<T>(a.shape)});
    const auto [dx, dw, df] = a.empty_gradients(x_gradient);
    const Tensor adjoints = a.empty({buffer_rows(a.batch) * adjoint_row<T>(a.shape)});
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        call.check(cuda::film_lstm_backward(call.plan(), a.input(), g.const_data_ptr<T>(),
                                            kept.const_data_ptr<T>(), a.gradients(dx, dw, df),
                                            adjoints.mutable_data_ptr<T>()));
        return {dx, dw, df, adjoints};
      }
    engine.backward(a.input(), g.const_data_ptr<T>(), kept.const_data_ptr<T>(),
                    a.gradients(dx, dw, df), adjoints.mutable_data_ptr<T>(),
                    thread_workspace<T>(engine.backward_workspace(a.shape, a.batch)),
                    kTorchThreads);
    return {dx, dw, df, adjoints};
  });
}

// -> tangents of the hidden states and of the gradients of x ([0] unless wanted), weights and film
// ([0] where there is none)
Four film_lstm_tangent(const Tensor& x, const Tensor& weights, const OptionalTensor& film,
                       const OptionalTensor& mask, const Tensor& tape, const Tensor& adjoints,
                       const OptionalTensor& x_direction, const Tensor& weights_direction,
                       const OptionalTensor& film_direction, int64_t hidden, bool every_step,
                       bool x_gradient) {
  return by_dtype_and_device("timl::film_lstm_tangent", x, [&](auto zero) -> Four {
    using T = decltype(zero);
    const char* operation = "timl::film_lstm_tangent";
    const FilmLstmEngine<T>& engine = checked_engine<T>().film_lstm;
    const Arguments<T> a(operation, x, weights, film, mask, hidden, every_step);
    const Tensor kept =
        checked(operation, "tape", tape, kDtype<T>, {buffer_rows(a.batch) * tape_row<T>(a.shape)});
    const Tensor adjoint = checked(operation, "adjoints", adjoints, kDtype<T>,
                                   {buffer_rows(a.batch) * adjoint_row<T>(a.shape)});
    const Tensor v_weights = checked(operation, "weights_direction", weights_direction, kDtype<T>,
                                     {film_lstm_weights_size(a.shape)});
    OptionalTensor v_x, v_film;
    if (x_direction)
      v_x = checked(operation, "x_direction", *x_direction, kDtype<T>,
                    {a.batch, a.shape.steps, a.shape.bands});
    if (film_direction)
      v_film = checked(operation, "film_direction", *film_direction, kDtype<T>,
                       {2, a.shape.steps, a.shape.bands});
    const Tensor states = a.empty_states();
    const auto [dx, dw, df] = a.empty_gradients(x_gradient);
    const FilmLstmDirection<T> direction = {.x = values_of<T>(v_x),
                                            .weights = v_weights.const_data_ptr<T>(),
                                            .film = values_of<T>(v_film)};
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace = a.empty({cuda::film_lstm_tangent_workspace<T>(a.shape, a.batch)});
        call.check(cuda::film_lstm_tangent(call.plan(), a.input(), kept.const_data_ptr<T>(),
                                           adjoint.const_data_ptr<T>(), direction,
                                           states.mutable_data_ptr<T>(), a.gradients(dx, dw, df),
                                           workspace.mutable_data_ptr<T>()));
        return {states, dx, dw, df};
      }
    engine.tangent(a.input(), kept.const_data_ptr<T>(), adjoint.const_data_ptr<T>(), direction,
                   states.mutable_data_ptr<T>(), a.gradients(dx, dw, df),
                   thread_workspace<T>(engine.tangent_workspace(a.shape, a.batch)), kTorchThreads);
    return {states, dx, dw, df};
  });
}

// Hidden states without a tape, for any number of rows
Tensor film_lstm_evaluate(const Tensor& x, const Tensor& weights, const OptionalTensor& film,
                          const OptionalTensor& mask, int64_t hidden, bool every_step) {
  return by_dtype_and_device("timl::film_lstm_evaluate", x, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const char* operation = "timl::film_lstm_evaluate";
    const FilmLstmEngine<T>& engine = checked_engine<T>().film_lstm;
    const Arguments<T> a(operation, x, weights, film, mask, hidden, every_step);
    check_finite<T>(operation, "x", a.x);
    const Tensor states = a.empty_states();
    const FilmLstmInput<T> input = a.input();
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace =
            a.empty({cuda::film_lstm_evaluate_workspace<T>(a.shape, call.plan())});
        call.check(cuda::film_lstm_evaluate(call.plan(), input, states.mutable_data_ptr<T>(),
                                            workspace.mutable_data_ptr<T>()));
        return states;
      }
    static thread_local Workspace<T> preparation;
    T* prepared = preparation.of_size(engine.prepared_size(a.shape));
    engine.prepare(input, prepared);
    T* out = states.mutable_data_ptr<T>();
    const int64_t series = a.shape.steps * a.shape.bands;
    const int64_t states_size = film_lstm_states_size(a.shape);
    Call::current()->for_each((a.batch + kChunkRows - 1) / kChunkRows, [&](int64_t piece) {
      const int64_t first = piece * kChunkRows;
      const int64_t count = first + kChunkRows <= a.batch ? kChunkRows : a.batch - first;
      engine.evaluate(a.shape, prepared, input.x + first * series,
                      input.mask == nullptr ? nullptr : input.mask + first * hidden, count,
                      out + first * states_size,
                      thread_workspace<T>(engine.evaluate_workspace(a.shape, kChunkRows)));
    });
    return states;
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(timl, library) {
  library.def(
      "film_lstm(Tensor x, Tensor weights, Tensor? film, Tensor? mask, int hidden, bool "
      "every_step) -> (Tensor, Tensor)");
  library.def(
      "film_lstm_backward(Tensor cotangent, Tensor x, Tensor weights, Tensor? film, Tensor? mask, "
      "Tensor tape, int hidden, bool every_step, bool x_gradient) -> (Tensor, Tensor, Tensor, "
      "Tensor)");
  library.def(
      "film_lstm_tangent(Tensor x, Tensor weights, Tensor? film, Tensor? mask, Tensor tape, "
      "Tensor adjoints, Tensor? x_direction, Tensor weights_direction, Tensor? film_direction, "
      "int hidden, bool every_step, bool x_gradient) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "film_lstm_evaluate(Tensor x, Tensor weights, Tensor? film, Tensor? mask, int hidden, bool "
      "every_step) -> Tensor");
}

// For every device, so that the checks name the tensors that are on none which timl computes on.
STABLE_TORCH_LIBRARY_IMPL(timl, CompositeExplicitAutograd, library) {
  library.impl("film_lstm", TORCH_BOX(&film_lstm));
  library.impl("film_lstm_backward", TORCH_BOX(&film_lstm_backward));
  library.impl("film_lstm_tangent", TORCH_BOX(&film_lstm_tangent));
  library.impl("film_lstm_evaluate", TORCH_BOX(&film_lstm_evaluate));
}

}  // namespace timl
