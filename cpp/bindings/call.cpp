// Calls of operators: threads, signals, forks, and the errors that end a call.
#include "call.h"

#include <pthread.h>
#include <pybind11/pybind11.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>

#include "torch_stable.h"

namespace timl {
namespace {

thread_local Call* current_call = nullptr;

// Half a second is the longest that Ctrl-C may wait; taking the interpreter's lock may take 5 ms.
constexpr auto kBetweenLooks = std::chrono::milliseconds(100);

// PyTorch and pybind11 let this type of exception choose what Python sees.
class OutOfMemory final : public pybind11::builtin_exception {
 public:
  using pybind11::builtin_exception::builtin_exception;
  void set_error() const override { PyErr_SetString(PyExc_MemoryError, what()); }
};

// Carries what a signal's handler raised: KeyboardInterrupt, unless it is the user's own.
class Interrupted final : public pybind11::builtin_exception {
 public:
  Interrupted(const std::string& message, pybind11::error_already_set raised)
      : builtin_exception(message), raised_(std::move(raised)) {}
  void set_error() const override { pybind11::error_already_set(raised_).restore(); }

 private:
  pybind11::error_already_set raised_;
};

// Whether this process has computed on several threads, and whether it was forked off one that had.
std::atomic<bool> used_threads = false, forked_off_threads = false;
const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { forked_off_threads = used_threads.load(); });

// Sets the thread's call for as long as it works for it.
class Working {
 public:
  explicit Working(Call* call) : previous_(std::exchange(current_call, call)) {}
  ~Working() { current_call = previous_; }
  Working(const Working&) = delete;
  Working& operator=(const Working&) = delete;

 private:
  Call* previous_;
};

}  // namespace

void out_of_memory(double bytes) {
  char size[32];
  std::snprintf(size, sizeof size, "%.3g GiB", bytes / (1 << 30));
  const Call* call = Call::current();
  throw OutOfMemory(std::string(call == nullptr ? "timl" : call->operation()) + ": " + size +
                    " of memory are needed at once, which the system does not give: give fewer "
                    "series, tasks or steps in a call");
}

Call::Call(const char* operation, int device)
    : operation_(operation),
      device_(device),
      previous_(std::exchange(current_call, this)),
      caller_(std::this_thread::get_id()),
      next_look_(std::chrono::steady_clock::now() + kBetweenLooks) {}

Call::~Call() { current_call = previous_; }

Call* Call::current() { return current_call; }

void Call::check() {
  if (ending_.load(std::memory_order_relaxed)) throw Abandoned();
  if (std::this_thread::get_id() != caller_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return;
  const pybind11::gil_scoped_acquire lock;
  if (PyErr_CheckSignals() != 0)  // runs the handlers, on Python's main thread only
    throw Interrupted(std::string(operation_) + ": interrupted by a signal",
                      pybind11::error_already_set());
  next_look_ = std::chrono::steady_clock::now() + kBetweenLooks;
}

void Call::fail(std::exception_ptr error) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!error_) error_ = std::move(error);
  ending_ = true;
}

void Call::run(int64_t count, void (*body)(void*, int64_t), void* context) {
  if (count <= 1 || torch::stable::get_num_threads() == 1) {
    for (int64_t index = 0; index < count; ++index) {
      check();
      body(context, index);
    }
    return;
  }
  if (forked_off_threads)
    throw std::runtime_error(
        std::string(operation_) +
        ": this process is a fork of one that had computed on several threads, and would wait for "
        "them for ever: start processes by \"spawn\" or \"forkserver\", or call "
        "torch.set_num_threads(1) in this one");
  used_threads = true;
  // Whichever thread is free takes the next piece, so that the calling one is never long without a
  // piece to check before, and looks for signals while it waits for the last pieces of the others.
  std::atomic<int64_t> next = 0;
  std::atomic<int> others = 0;  // threads at work besides the calling one
  torch::stable::parallel_for(0, count, 1, [&](int64_t, int64_t) {
    const Working working(this);
    const bool calling = std::this_thread::get_id() == caller_;
    if (!calling) ++others;
    try {
      for (int64_t index; (index = next++) < count;) {
        check();
        body(context, index);
      }
      for (int64_t rounds = 0; calling && others > 0; ++rounds) {
        check();
        if (rounds < 10000)
          std::this_thread::yield();
        else
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    } catch (const Abandoned&) {
    } catch (...) {
      fail(std::current_exception());
    }
    if (!calling) --others;
  });
  if (error_) std::rethrow_exception(error_);
}

}  // namespace timl
