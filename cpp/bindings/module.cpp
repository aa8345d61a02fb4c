// The extension module timl._core: what takes NumPy arrays, and facts about the engine. Importing
// it also registers the torch operators (operators.cpp), so torch must have been imported before.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "timl/engine.h"
#include "timl/philox.h"

namespace py = pybind11;

namespace {

using Words = py::array_t<uint32_t, py::array::c_style>;

// counters uint32 [n,4] -> random words uint32 [n,4]
Words philox4x32(uint32_t key0, uint32_t key1, const Words& counters) {
  if (counters.ndim() != 2 || counters.shape(1) != 4)
    throw std::invalid_argument("philox4x32: counters must have shape [n, 4]");
  const py::ssize_t count = counters.shape(0);
  Words out({count, py::ssize_t{4}});
  const uint32_t* from = counters.data();
  uint32_t* to = out.mutable_data();
  {
    py::gil_scoped_release release;
    for (py::ssize_t i = 0; i < count; ++i) {
      for (int word = 0; word < 4; ++word) to[4 * i + word] = from[4 * i + word];
      timl::philox4x32(key0, key1, to + 4 * i);
    }
  }
  return out;
}

// Elements that one row of the opaque buffers takes: what the fake kernels need.
template <class T>
std::pair<int64_t, int64_t> buffer_row(int64_t steps, int64_t bands, int64_t hidden,
                                       int64_t layers) {
  const timl::Engine<T>* engine = timl::engine<T>();
  if (engine == nullptr) throw std::runtime_error("TIML_FORCE_ISA names no usable set");
  const timl::Shape shape = {steps, bands, hidden, layers};
  return {engine->tape_size(shape, 1), engine->adjoint_size(shape, 1)};
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.doc() = "timl's compiled core: torch operators under torch.ops.timl, Philox for NumPy.";
  module.def("philox4x32", &philox4x32, py::arg("key0"), py::arg("key1"), py::arg("counters"),
             "Philox4x32-10 words [n,4] of counters [n,4] (uint32).");
  module.def(
      "instruction_set", [] { return timl::isa_in_use(); },
      "Name of the instruction set in use; None if TIML_FORCE_ISA names none usable.");
  module.def(
      "usable_instruction_sets",
      [] {
        const char* names[3];
        const int count = timl::usable_isas(names);
        return std::vector<std::string>(names, names + count);
      },
      "Names of the instruction sets this machine can run, best first.");
  const char* row = "Elements per row of (tape, adjoints); arguments steps, bands, hidden, layers.";
  module.def("buffer_row_float32", &buffer_row<float>, row);
  module.def("buffer_row_float64", &buffer_row<double>, row);
}
