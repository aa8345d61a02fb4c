// One call of the CUDA engine by an operator: on the device of the current call, in torch's current
// stream of it.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>

#include "timl/cuda.h"
#include "torch_stable.h"

namespace timl {

// torch's current stream of a CUDA device. The function is in libtorch_cuda, which a PyTorch for
// the CPU lacks: it is looked up in the library that torch has loaded.
inline void* current_cuda_stream(int device) {
  using Get = AOTITorchError (*)(int32_t, void**);
  static const Get get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* found =
        library == nullptr ? nullptr : dlsym(library, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<Get>(found);
  }();
  const char* operation = Call::current()->operation();
  require(get != nullptr, operation, ": this PyTorch has no CUDA: install one that has");
  void* stream = nullptr;
  require(get(device, &stream) == AOTI_TORCH_SUCCESS, operation,
          ": PyTorch gives no CUDA stream of device ", device);
  return stream;
}

class CudaCall {
 public:
  CudaCall() : guard_(Call::current()->device()) {
    const int device = Call::current()->device();
    check(cuda::plan_for_device(device, current_cuda_stream(device), &plan_));
  }
  const cuda::Plan& plan() const { return plan_; }
  // Throws what went wrong, if anything did.
  void check(const char* trouble) const {
    require(trouble == nullptr, Call::current()->operation(), ": CUDA says: ", trouble);
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cuda::Plan plan_;
};

}  // namespace timl
