// One call of an operator: its pieces of work on torch's threads, and what ends it before its time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

namespace timl {

// Throws what Python sees as a MemoryError that names how much was asked for.
[[noreturn]] void out_of_memory(double bytes);

// Lives on the stack of the thread that called the operator, on which alone Python's signal
// handlers may run. Where Ctrl-C or an error on any thread ends the call, the calling thread throws
// what happened once all others have stopped: no result is ever partial.
class Call {
 public:
  // Where a call computes, which is where its first tensor is: on the CPU, or on the CUDA device of
  // an index from 0 on.
  static constexpr int kCpu = -1;

  Call(const char* operation, int device);
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // The call that this thread works for; null outside of any.
  static Call* current();

  const char* operation() const { return operation_; }
  int device() const { return device_; }
  bool on_cuda() const { return device_ >= 0; }

  // Throws if the call is to end; on the calling thread, looks for signals every now and then. It
  // costs less than a microsecond.
  void check();

  // Runs body(context, index) for index in [0, count) on torch's threads, checking before each.
  void run(int64_t count, void (*body)(void* context, int64_t index), void* context);

  // The same with a callable of one argument.
  template <class Body>
  void for_each(int64_t count, const Body& body) {
    run(
        count, [](void* context, int64_t index) { (*static_cast<const Body*>(context))(index); },
        const_cast<Body*>(&body));
  }

 private:
  struct Abandoned {};  // thrown on a thread because another one's error ends the call

  void fail(std::exception_ptr error);

  const char* operation_;
  int device_;
  Call* previous_;
  std::thread::id caller_;
  std::chrono::steady_clock::time_point next_look_;  // for signals
  std::atomic<bool> ending_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace timl
