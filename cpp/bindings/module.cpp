// The extension module timl._core: what takes NumPy arrays, and facts about the engine. Importing
// it also registers the torch operators (operators.cpp), so torch must have been imported before.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "timl/cuda.h"
#include "timl/engine.h"
#include "timl/philox.h"

namespace py = pybind11;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

std::string shape_text(const py::array& array) {
  std::string text = "[";
  for (py::ssize_t d = 0; d < array.ndim(); ++d)
    text += (d ? ", " : "") + std::to_string(array.shape(d));
  return text + "]";
}

// keys uint32 [n,3], the last three words of each counter -> random words uint32 [n, 4 * groups]:
// group g of row i is Philox of the counter (g, keys[i]).
py::array_t<uint32_t> philox_words(uint32_t key0, uint32_t key1, const Array<uint32_t>& keys,
                                   uint32_t groups) {
  if (keys.ndim() != 2 || keys.shape(1) != 3)
    throw std::invalid_argument("keys is " + shape_text(keys) + ": give [n, 3]");
  const py::ssize_t rows = keys.shape(0);
  py::array_t<uint32_t> out({rows, py::ssize_t{4} * groups});
  const uint32_t* key = keys.data();
  uint32_t* to = out.mutable_data();
  const py::gil_scoped_release release;
  for (py::ssize_t row = 0; row < rows; ++row, key += 3)
    for (uint32_t group = 0; group < groups; ++group, to += 4) {
      uint32_t counter[4] = {group, key[0], key[1], key[2]};
      timl::philox4x32(key0, key1, counter);
      for (int word = 0; word < 4; ++word) to[word] = counter[word];
    }
  return out;
}

// The first `count` places of Fisher and Yates's shuffle of 0 .. limit - 1, one row for each limit:
// place p swaps with p + (words[p] * (limit - p) >> 32). Only the places touched are kept, in a
// list that is searched: counts are small.
py::array_t<int64_t> draw_distinct(const Array<int64_t>& limits, const Array<uint32_t>& words) {
  if (limits.ndim() != 1 || words.ndim() != 2 || words.shape(0) != limits.shape(0))
    throw std::invalid_argument("limits is " + shape_text(limits) + " and words " +
                                shape_text(words) + ": give [rows] and [rows, count]");
  const py::ssize_t rows = words.shape(0), count = words.shape(1);
  py::array_t<int64_t> out({rows, count});
  const int64_t* limit = limits.data();
  const uint32_t* word = words.data();
  int64_t* drawn = out.mutable_data();
  const py::gil_scoped_release release;
  std::unordered_map<int64_t, int64_t> moved;  // place -> what stands there now, if not itself
  for (py::ssize_t row = 0; row < rows; ++row, ++limit) {
    moved.clear();
    const auto standing = [&](int64_t place) {
      const auto found = moved.find(place);
      return found == moved.end() ? place : found->second;
    };
    for (py::ssize_t place = 0; place < count; ++place, ++word, ++drawn) {
      const uint64_t left = static_cast<uint64_t>(*limit - place);
      const int64_t target = place + static_cast<int64_t>(*word * left >> 32);
      *drawn = standing(target);
      moved[target] = standing(place);
    }
  }
  return out;
}

// (series[positions] - mean) / deviation in double, rounded once: float32 [m, steps, bands].
// series is mapped from disk.
py::array_t<float> normalised_series(const py::array_t<float, py::array::c_style>& series,
                                     const Array<int64_t>& positions, const Array<double>& mean,
                                     const Array<double>& deviation) {
  if (series.ndim() != 3 || positions.ndim() != 1 || mean.ndim() != 1 || deviation.ndim() != 1 ||
      mean.shape(0) != series.shape(2) || deviation.shape(0) != series.shape(2))
    throw std::invalid_argument("series is " + shape_text(series) + ", positions " +
                                shape_text(positions) + ", mean " + shape_text(mean) +
                                ", deviation " + shape_text(deviation) +
                                ": give [n, steps, bands], [m], [bands] and [bands]");
  const py::ssize_t rows = positions.shape(0), steps = series.shape(1), bands = series.shape(2);
  for (py::ssize_t row = 0; row < rows; ++row)
    if (positions.data()[row] < 0 || positions.data()[row] >= series.shape(0))
      throw std::out_of_range("positions is " + shape_text(positions) + " with " +
                              std::to_string(positions.data()[row]) + ": give positions in [0, " +
                              std::to_string(series.shape(0)) + ")");
  py::array_t<float> out({rows, steps, bands});
  const float* all = series.data();
  const double *m = mean.data(), *d = deviation.data();
  const int64_t* position = positions.data();
  float* to = out.mutable_data();
  const py::gil_scoped_release release;
  for (py::ssize_t row = 0; row < rows; ++row) {
    const float* from = all + position[row] * steps * bands;
    for (py::ssize_t step = 0; step < steps; ++step, from += bands, to += bands)
      for (py::ssize_t band = 0; band < bands; ++band)
        to[band] = static_cast<float>((static_cast<double>(from[band]) - m[band]) / d[band]);
  }
  return out;
}

template <class T>
const timl::Engine<T>& usable_engine() {
  const timl::Engine<T>* engine = timl::engine<T>();
  if (engine == nullptr)
    throw std::runtime_error(
        "TIML_FORCE_ISA is a set that cannot run here: give one of "
        "timl._core.usable_instruction_sets()");
  return *engine;
}

void require_no_cuda(bool cuda) {
  if (cuda) throw std::invalid_argument("cuda is True: this build of timl has no CUDA engine");
}

// Elements that one row of the opaque buffers takes on the CPU or on CUDA: what the fake kernels
// need.
template <class T>
std::pair<int64_t, int64_t> buffer_row(int64_t steps, int64_t bands, int64_t hidden, int64_t layers,
                                       int64_t outputs, bool cuda) {
  const timl::Shape shape = {
      .steps = steps, .bands = bands, .hidden = hidden, .layers = layers, .outputs = outputs};
  if constexpr (timl::kHasCuda)
    if (cuda) return {timl::cuda::tape_size<T>(shape, 1), timl::cuda::adjoint_size<T>(shape, 1)};
  require_no_cuda(cuda);
  const timl::Engine<T>& engine = usable_engine<T>();
  return {engine.tape_size(shape, 1), engine.adjoint_size(shape, 1)};
}

// Likewise of the buffers of the LSTM alone.
template <class T>
std::pair<int64_t, int64_t> film_lstm_buffer_row(int64_t steps, int64_t bands, int64_t hidden,
                                                 bool cuda) {
  const timl::FilmLstmShape shape = {
      .steps = steps, .bands = bands, .hidden = hidden, .every_step = true};
  if constexpr (timl::kHasCuda)
    if (cuda)
      return {timl::cuda::film_lstm_tape_size<T>(shape, 1),
              timl::cuda::film_lstm_adjoint_size<T>(shape, 1)};
  require_no_cuda(cuda);
  const timl::FilmLstmEngine<T>& engine = usable_engine<T>().film_lstm;
  return {engine.tape_size(shape, 1), engine.adjoint_size(shape, 1)};
}

// The mean loss of logits [B] or [B,K] against labels [B], its gradient and its curvature by the
// logits, as they are.
template <class T>
std::tuple<T, py::array_t<T>, py::array_t<T>> mean_loss(
    const Array<T>& logits, const Array<T>& labels, const std::optional<Array<T>>& class_weights) {
  if ((logits.ndim() != 1 && logits.ndim() != 2) || labels.ndim() != 1 ||
      logits.shape(0) != labels.shape(0))
    throw std::invalid_argument("logits is " + shape_text(logits) + " and labels " +
                                shape_text(labels) + ": give [B] or [B, K], and [B]");
  const py::ssize_t batch = logits.shape(0), outputs = logits.ndim() == 1 ? 1 : logits.shape(1);
  const py::ssize_t classes = outputs == 1 ? 2 : outputs;
  for (py::ssize_t b = 0; b < batch; ++b)
    if (const T label = labels.data()[b];
        !(label >= T(-1) && label < T(classes)) || label != std::floor(label))
      throw std::invalid_argument("labels is " + shape_text(labels) + " with the label " +
                                  std::to_string(label) + ": give classes 0 to " +
                                  std::to_string(classes - 1) + ", or -1 for none");
  if (class_weights && (class_weights->ndim() != 1 || class_weights->shape(0) != classes))
    throw std::invalid_argument("class_weights is " + shape_text(*class_weights) + ": give [" +
                                std::to_string(classes) + "]");
  const std::vector<py::ssize_t> shape(logits.shape(), logits.shape() + logits.ndim());
  py::array_t<T> gradient(shape), curvature(shape);
  const T value = usable_engine<T>().loss(batch, outputs, logits.data(), labels.data(),
                                          class_weights ? class_weights->data() : nullptr,
                                          gradient.mutable_data(), curvature.mutable_data());
  return {value, gradient, curvature};
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "timl's compiled core: torch operators under torch.ops.timl, Philox for NumPy.";
  module.def("philox_words", &philox_words, py::arg("key0"), py::arg("key1"), py::arg("keys"),
             py::arg("groups"),
             "Return Philox4x32-10 words [n, 4 groups] of counters (group, keys[n,3]).");
  module.def("draw_distinct", &draw_distinct, py::arg("limits"), py::arg("words"),
             "Return different numbers below each limit [rows, count], from words [rows, count].");
  module.def("normalised_series", &normalised_series, py::arg("series"), py::arg("positions"),
             py::arg("mean"), py::arg("deviation"),
             "Return (series[positions] - mean) / deviation as float32, computed in float64.");
  module.def(
      "instruction_set", [] { return timl::isa_in_use(); },
      "Return the instruction set in use; None if TIML_FORCE_ISA names none usable.");
  module.def(
      "usable_instruction_sets",
      [] {
        const char* names[3];
        const int count = timl::usable_isas(names);
        return std::vector<std::string>(names, names + count);
      },
      "Return the instruction sets that this machine can run, best first.");
  const char* row =
      "Return elements per row of tape and adjoints, for steps, bands, hidden, layers, outputs, on "
      "the CPU or on CUDA.";
  module.def("buffer_row_float32", &buffer_row<float>, row);
  module.def("buffer_row_float64", &buffer_row<double>, row);
  const char* lstm_row =
      "Return elements per row of tape and adjoints of the LSTM alone, for steps, bands, hidden, "
      "on the CPU or on CUDA.";
  module.def("film_lstm_buffer_row_float32", &film_lstm_buffer_row<float>, lstm_row);
  module.def("film_lstm_buffer_row_float64", &film_lstm_buffer_row<double>, lstm_row);
  const char* loss =
      "Return the mean loss of logits [B] or [B,K] against labels [B], its gradient and curvature.";
  module.def("mean_loss_float32", &mean_loss<float>, py::arg("logits"), py::arg("labels"),
             py::arg("class_weights") = py::none(), loss);
  module.def("mean_loss_float64", &mean_loss<double>, py::arg("logits"), py::arg("labels"),
             py::arg("class_weights") = py::none(), loss);
  module.attr("HAS_CUDA") = timl::kHasCuda;
  module.attr("CHUNK_ROWS") = timl::kChunkRows;
  module.attr("LARGEST_SIZE") = timl::kLargestSize;
  module.attr("BATCH_NORM_EPSILON") = timl::kBatchNormEpsilon;
}
