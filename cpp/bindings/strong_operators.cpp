// The operators of the strong protocol: descriptions of series, and its fitted classifier. They
// check their arguments and call the engine; timl/nn/operators.py has the rest.
#include <vector>

#include "cuda_call.h"
#include "torch_stable.h"

namespace timl {
namespace {

constexpr int64_t kPiece = 4 * kChunkRows;  // rows of one piece of work

// Calls body(first row, rows) for pieces of the rows, on torch's threads.
template <class Body>
void for_each_piece(int64_t rows, const Body& body) {
  Call::current()->for_each((rows + kPiece - 1) / kPiece, [&](int64_t piece) {
    const int64_t first = piece * kPiece;
    body(first, first + kPiece <= rows ? kPiece : rows - first);
  });
}

// The size of a dimension, of which there must be `dimensions`.
int64_t size_of(const char* operation, const char* name, const Tensor& tensor, int64_t dimensions,
                int64_t dimension) {
  require(tensor.dim() == dimensions, operation, ": ", name, " is ", shape_text(tensor), ": give ",
          dimensions, " dimensions");
  const int64_t size = tensor.size(dimension);
  require(size <= kLargestSize, operation, ": ", name, " is ", shape_text(tensor),
          ": give sizes of at most ", kLargestSize);
  return size;
}

template <class T>
Tensor checked_series(const char* operation, const Tensor& x) {
  const int64_t steps = size_of(operation, "x", x, 3, 1);
  require(steps >= kLeastSteps, operation, ": x is ", shape_text(x), ": give at least ",
          kLeastSteps, " steps");
  const Tensor series = checked(operation, "x", x, kDtype<T>, {-1, steps, kRecordBands});
  check_finite<T>(operation, "x", series);
  return series;
}

// -> descriptions [n,D]
Tensor describe(const Tensor& x, const Tensor& bands) {
  return by_dtype_and_device("timl::describe", x, [&](auto zero) -> Tensor {
    using T = decltype(zero);
    const Engine<T>& engine = checked_engine<T>();
    const Tensor series = checked_series<T>("timl::describe", x);
    const Tensor how = checked("timl::describe", "bands", bands, kDtype<T>, {2, kRecordBands});
    const int64_t rows = series.size(0), steps = series.size(1), size = description_size(steps);
    const Tensor out = new_empty(series, {rows, size});
    const T *from = series.const_data_ptr<T>(), *normalization = how.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        call.check(cuda::describe(call.plan(), steps, normalization, from, rows, to));
        return out;
      }
    for_each_piece(rows, [&](int64_t first, int64_t count) {
      engine.describe(steps, normalization, from + first * steps * kRecordBands, count,
                      to + first * size, thread_workspace<T>(engine.describe_workspace(steps)));
    });
    return out;
  });
}

using Two = std::tuple<Tensor, Tensor>;

// -> logits ([B] with one output, else [B,K]), and distances [B] in units of the usual one ([0]
// without known points)
Two strong_evaluate(const Tensor& x, const Tensor& bands, const Tensor& columns, const Tensor& axes,
                    const Tensor& hidden_weight, const Tensor& hidden_vectors,
                    const Tensor& point_weight, const Tensor& heads, const Tensor& points,
                    const Tensor& coefficients, const Tensor& roots, const Tensor& left,
                    const Tensor& right, const Tensor& feature, const Tensor& threshold,
                    const Tensor& value, const OptionalTensor& known, const Tensor& constants) {
  return by_dtype_and_device("timl::strong_evaluate", x, [&](auto zero) -> Two {
    using T = decltype(zero);
    const char* operation = "timl::strong_evaluate";
    const Engine<T>& engine = checked_engine<T>();
    const Tensor series = checked_series<T>(operation, x);
    const StrongShape s = {.steps = series.size(1),
                           .networks = size_of(operation, "axes", axes, 3, 0),
                           .dimensions = size_of(operation, "axes", axes, 3, 2),
                           .width = size_of(operation, "hidden_weight", hidden_weight, 3, 1),
                           .labels = size_of(operation, "points", points, 3, 1),
                           .known = known ? size_of(operation, "known", *known, 2, 0) : 0,
                           .outputs = size_of(operation, "constants", constants, 1, 0) - 3};
    const int64_t size = description_size(s.steps), networks = s.networks;
    const auto real = [&](const char* name, const Tensor& tensor,
                          std::initializer_list<int64_t> sizes) {
      return checked(operation, name, tensor, kDtype<T>, sizes);
    };
    const auto whole = [&](const char* name, const Tensor& tensor, int64_t count) {
      return checked(operation, name, tensor, ScalarType::Long, {count});
    };
    const int64_t outputs = s.outputs;
    require(outputs > 0, operation, ": constants is ", shape_text(constants),
            ": give [3 + outputs]: kernel weight, slope, shifts, usual distance");
    require(networks > 0 && s.dimensions > 0 && s.labels > 0, operation, ": axes is ",
            shape_text(axes), " and points ", shape_text(points),
            ": give at least one network, dimension and label");
    const Tensor how = real("bands", bands, {2, kRecordBands});
    const Tensor c = real("columns", columns, {2, size});
    const Tensor a = real("axes", axes, {networks, size, s.dimensions});
    const Tensor hw = real("hidden_weight", hidden_weight, {networks, s.width, size});
    const Tensor hv = real("hidden_vectors", hidden_vectors, {networks, 3 + outputs, s.width});
    const Tensor pw = real("point_weight", point_weight, {networks, s.dimensions, s.width});
    const Tensor h = real("heads", heads, {networks, 2 + outputs});
    const Tensor p = real("points", points, {networks, s.labels, s.dimensions});
    const Tensor k = outputs == 1
                         ? real("coefficients", coefficients, {networks, s.labels})
                         : real("coefficients", coefficients, {networks, outputs, s.labels});
    const Tensor numbers = real("constants", constants, {3 + outputs});
    OptionalTensor near;
    if (known) near = real("known", *known, {-1, s.dimensions});
    const Tensor r = whole("roots", roots, -1), l = whole("left", left, -1);
    const int64_t trees = r.size(0), nodes = l.size(0);
    const Tensor rt = whole("right", right, nodes), f = whole("feature", feature, nodes);
    const Tensor t = real("threshold", threshold, {nodes});
    const Tensor v =
        outputs == 1 ? real("value", value, {nodes}) : real("value", value, {nodes, outputs});
    check_finite<T>(operation, "threshold", t);

    const PlainTrees<T> plain = {.trees = trees,
                                 .nodes = nodes,
                                 .outputs = outputs,
                                 .roots = r.const_data_ptr<int64_t>(),
                                 .left = l.const_data_ptr<int64_t>(),
                                 .right = rt.const_data_ptr<int64_t>(),
                                 .feature = f.const_data_ptr<int64_t>(),
                                 .threshold = t.const_data_ptr<T>(),
                                 .value = v.const_data_ptr<T>()};
    const StrongInput<T> input = {.shape = s,
                                  .bands = how.const_data_ptr<T>(),
                                  .columns = c.const_data_ptr<T>(),
                                  .axes = a.const_data_ptr<T>(),
                                  .hidden_weight = hw.const_data_ptr<T>(),
                                  .hidden_vectors = hv.const_data_ptr<T>(),
                                  .point_weight = pw.const_data_ptr<T>(),
                                  .heads = h.const_data_ptr<T>(),
                                  .points = p.const_data_ptr<T>(),
                                  .coefficients = k.const_data_ptr<T>(),
                                  .known = values_of<T>(near),
                                  .constants = numbers.const_data_ptr<T>()};
    const int64_t rows = series.size(0);
    const Tensor logits =
        outputs == 1 ? new_empty(series, {rows}) : new_empty(series, {rows, outputs});
    const Tensor distances = new_empty(series, {known ? rows : 0});
    const T* from = series.const_data_ptr<T>();
    T* to = logits.mutable_data_ptr<T>();
    T* far = known ? distances.mutable_data_ptr<T>() : nullptr;
    if constexpr (kHasCuda)
      if (Call::current()->on_cuda()) {
        const CudaCall call;
        const Tensor workspace =
            new_empty(series, {cuda::strong_workspace<T>(s, trees, call.plan())});
        call.check(cuda::strong_evaluate(call.plan(), input, plain, from, rows, to, far,
                                         workspace.mutable_data_ptr<T>()));
        return {logits, distances};
      }
    std::vector<uint32_t> packed_roots(static_cast<size_t>(trees));
    std::vector<ForestNode> packed_nodes(static_cast<size_t>(nodes));
    std::vector<float> packed_values(static_cast<size_t>(nodes * outputs));
    int64_t bad = 0;
    const bool packed = pack_forest(plain, size, packed_roots.data(), packed_nodes.data(),
                                    packed_values.data(), &bad);
    require(packed, operation, ": left is ", shape_text(left), " for ", trees,
            " trees, which are none at node ", bad,
            ": give children and features in range, each node the child of one other, and a leaf "
            "as both its children");
    const Forest forest = {.trees = trees,
                           .roots = packed_roots.data(),
                           .nodes = packed_nodes.data(),
                           .values = packed_values.data()};
    static thread_local Workspace<T> preparation;
    T* prepared = preparation.of_size(engine.strong_prepared_size(s));
    engine.strong_prepare(input, prepared);

    for_each_piece(rows, [&](int64_t first, int64_t count) {
      engine.strong_evaluate(s, prepared, forest, from + first * s.steps * kRecordBands, count,
                             to + first * outputs, far == nullptr ? nullptr : far + first,
                             thread_workspace<T>(engine.strong_workspace(s)));
    });
    return {logits, distances};
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(timl, library) {
  library.def("describe(Tensor x, Tensor bands) -> Tensor");
  library.def(
      "strong_evaluate(Tensor x, Tensor bands, Tensor columns, Tensor axes, Tensor hidden_weight, "
      "Tensor hidden_vectors, Tensor point_weight, Tensor heads, Tensor points, "
      "Tensor coefficients, Tensor roots, Tensor left, Tensor right, Tensor feature, "
      "Tensor threshold, Tensor value, Tensor? known, Tensor constants) -> (Tensor, Tensor)");
}

// For every device, so that the checks name the tensors that are on none which timl computes on.
STABLE_TORCH_LIBRARY_IMPL(timl, CompositeExplicitAutograd, library) {
  library.impl("describe", TORCH_BOX(&describe));
  library.impl("strong_evaluate", TORCH_BOX(&strong_evaluate));
}

}  // namespace timl
