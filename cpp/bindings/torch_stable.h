// The one place that knows PyTorch's stable C++ interface and its gaps: includes, argument checks
// with full shapes in their messages, torch's threads for the engine, and working memory that is
// kept between calls.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Layout.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "call.h"
#include "timl/cuda.h"
#include "timl/engine.h"

namespace timl {

using Tensor = torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using ScalarType = torch::headeronly::ScalarType;

// Throws what Python sees as a RuntimeError under every PyTorch (other types arrive as themselves
// under some releases only). STD_TORCH_CHECK would put this file's path into the message.
template <class... Parts>
inline void require(bool holds, const Parts&... parts) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

inline std::string shape_text(const Tensor& tensor) {
  if (!tensor.defined()) return "None";
  std::ostringstream text;
  text << "[";
  for (int64_t d = 0; d < tensor.dim(); ++d) text << (d ? ", " : "") << tensor.size(d);
  text << "]";
  return text.str();
}

inline const char* dtype_text(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Long: return "int64";
    case ScalarType::Int: return "int32";
    case ScalarType::Bool: return "bool";
    default: return "an unsupported dtype";
  }
}

// A new tensor of the dtype of `like`.
inline Tensor new_empty(const Tensor& like, std::initializer_list<int64_t> sizes) {
  try {
    return torch::stable::new_empty(like, std::vector<int64_t>(sizes));
  } catch (const std::exception&) {  // sizes are checked before: only memory can be missing
    double bytes = static_cast<double>(like.element_size());
    for (const int64_t size : sizes) bytes *= static_cast<double>(size);
    out_of_memory(bytes);
  }
}

inline Tensor as_contiguous(const Tensor& tensor) {
  try {
    return torch::stable::contiguous(tensor);
  } catch (const std::exception&) {
    out_of_memory(static_cast<double>(tensor.element_size()) * static_cast<double>(tensor.numel()));
  }
}

// The tensor's dtype; Undefined for those that the stable interface does not know.
inline ScalarType dtype_of(const char* operation, const char* name, const Tensor& tensor) {
  require(tensor.defined(), operation, ": ", name, " is None: give a tensor");
  try {
    return tensor.scalar_type();
  } catch (const std::exception&) {
    return ScalarType::Undefined;
  }
}

inline std::string device_text(const Tensor& tensor) {
  if (tensor.is_cpu()) return "cpu";
  return tensor.is_cuda() ? "cuda:" + std::to_string(tensor.get_device_index()) : "another device";
}

// Checks that the tensor is where the current call computes.
inline void check_device(const char* operation, const char* name, const Tensor& tensor) {
  const Call& call = *Call::current();
  const auto refuse = [&](const auto&... parts) {
    require(false, operation, ": ", name, " is ", shape_text(tensor), " on ", parts...);
  };
  const char* one = ": give all tensors on one device";
  if (call.on_cuda()) {
    if (!tensor.is_cuda() || tensor.get_device_index() != call.device())
      refuse(device_text(tensor), ", x on cuda:", call.device(), one);
  } else if (kHasCuda && tensor.is_cuda()) {
    refuse(device_text(tensor), ", x on cpu", one);
  } else if (!tensor.is_cpu()) {
    refuse("another device: this build of timl computes on the CPU ",
           kHasCuda ? "and on CUDA only" : "only",
           ", so move the model and its inputs with .cpu()");
  }
}

// Checks device, layout, dtype and shape (-1 = any size but zero) and returns the tensor,
// contiguous.
inline Tensor checked(const char* operation, const char* name, const Tensor& tensor,
                      ScalarType dtype, std::initializer_list<int64_t> sizes) {
  const ScalarType given = dtype_of(operation, name, tensor);
  check_device(operation, name, tensor);
  if (tensor.layout() != torch::headeronly::Layout::Strided)
    require(false, operation, ": ", name, " is ", shape_text(tensor),
            " of another layout than strided: give .to_dense()");
  if (given != dtype)
    require(false, operation, ": ", name, " is ", dtype_text(given), " of shape ",
            shape_text(tensor), ": give ", dtype_text(dtype),
            dtype == ScalarType::Long ? "" : ", all tensors of one dtype, float32 or float64");
  bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
  std::ostringstream expected;
  int64_t d = 0;
  for (const int64_t size : sizes) {
    if (fits) fits = size < 0 ? tensor.size(d) > 0 : tensor.size(d) == size;
    expected << (d ? ", " : "");
    if (size < 0)
      expected << "at least 1";
    else
      expected << size;
    ++d;
  }
  if (!fits)
    require(false, operation, ": ", name, " is ", shape_text(tensor), ": give [", expected.str(),
            "]");
  return as_contiguous(tensor);
}

template <class T>
inline constexpr ScalarType kDtype =
    sizeof(T) == sizeof(float) ? ScalarType::Float : ScalarType::Double;

// The values of a tensor, or null where there is none.
template <class T>
inline const T* values_of(const OptionalTensor& tensor) {
  return tensor ? tensor->template const_data_ptr<T>() : nullptr;
}

// Checks that every value is finite. Not on CUDA, where looking would mean waiting for the device:
// what is not finite there makes results that are not.
template <class T>
inline void check_finite(const char* operation, const char* name, const Tensor& tensor) {
  if (Call::current()->on_cuda()) return;
  const T* values = tensor.const_data_ptr<T>();
  const int64_t count = tensor.numel();
  T sum = 0;  // stays zero unless a value is infinite or not a number
  for (int64_t i = 0; i < count; ++i) sum += values[i] * T(0);
  if (sum == T(0)) return;
  int64_t bad = 0, first = -1;
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(values[i])) {
      if (first < 0) first = i;
      ++bad;
    }
  require(false, operation, ": ", name, " is ", shape_text(tensor), " with ", bad,
          " NaN or infinite values, the first at flat index ", first,
          ": fill or drop them before the call");
}

// The current call's pieces of work on torch's own threads: no second pool, and
// torch.set_num_threads applies.
inline constexpr Parallel kTorchThreads = {
    .run = [](int64_t count, void (*body)(void*, int64_t),
              void* context) { Call::current()->run(count, body, context); },
    .check = [] { Call::current()->check(); }};

// The pieces of what is itself a piece of the current call.
inline constexpr Parallel kOneThread = {
    .run =
        [](int64_t count, void (*body)(void*, int64_t), void* context) {
          for (int64_t index = 0; index < count; ++index) {
            Call::current()->check();
            body(context, index);
          }
        },
    .check = kTorchThreads.check};

// Aligned working memory that grows and is then reused: after the first call of a size, a step
// allocates nothing. One per thread and use.
template <class T>
class Workspace {
 public:
  T* of_size(int64_t count) {
    if (count > capacity_) {
      memory_.reset();
      capacity_ = 0;
      const size_t bytes =
          (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
      memory_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, bytes)));
      if (memory_ == nullptr) out_of_memory(static_cast<double>(bytes));
      capacity_ = count;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T, Free> memory_;
  int64_t capacity_ = 0;
};

// Working memory of the calling thread.
template <class T>
inline T* thread_workspace(int64_t count) {
  static thread_local Workspace<T> workspace;
  return workspace.of_size(count);
}

// Rows of the opaque buffers, tapes and adjoints, that forward and backward hand on. Linear in the
// batch (but for a floor division), so that fake kernels can say it for symbolic batches; the
// layouts need at most as much, because rounding up a sum is never more than the sum of the rounded
// parts.
inline int64_t buffer_rows(int64_t batch) { return batch + batch / kChunkRows + 1; }

// Begins a call of an operator that computes where the tensor is, on the CPU or on CUDA: calls body
// with a float or a double, by the tensor's dtype.
template <class Body>
inline auto by_dtype_and_device(const char* operation, const Tensor& tensor, const Body& body) {
  const ScalarType dtype = dtype_of(operation, "x", tensor);
  require(dtype == ScalarType::Float || dtype == ScalarType::Double, operation, ": x is ",
          dtype_text(dtype), " of shape ", shape_text(tensor), ": give float32 or float64");
  const bool cuda = kHasCuda && tensor.is_cuda();
  const Call call(operation, cuda ? tensor.get_device_index() : Call::kCpu);
  return dtype == ScalarType::Float ? body(float{}) : body(double{});
}

// The engine in use, or an error that says which instruction sets can run.
template <class T>
inline const Engine<T>& checked_engine() {
  const Engine<T>* found = engine<T>();
  if (found == nullptr) {
    const char* names[3];
    std::string usable;
    for (int i = 0, count = usable_isas(names); i < count; ++i)
      usable += (i ? ", " : "") + std::string(names[i]);
    const char* forced = std::getenv("TIML_FORCE_ISA");
    require(false, "TIML_FORCE_ISA is ", forced ? forced : "",
            ", which cannot run here: give one of ", usable);
  }
  return *found;
}

}  // namespace timl
