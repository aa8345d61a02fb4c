// A bump allocator that both measures and hands out pieces of a caller's buffer, and plain loops
// over such pieces.
#pragma once

#include "host_device.h"
#include "timl/engine.h"

namespace timl {
namespace {

// Hands out aligned pieces of a caller's buffer. With a null base it only counts, so that the code
// that carves a buffer also tells its size.
template <class T>
class Arena {
 public:
  TIML_HOST_DEVICE explicit Arena(T* base) : base_(base) {}
  TIML_HOST_DEVICE T* take(int64_t count) {
    constexpr int64_t kAlign = kAlignment / static_cast<int64_t>(sizeof(T));
    T* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count + kAlign - 1) / kAlign * kAlign;
    return piece;
  }
  TIML_HOST_DEVICE int64_t used() const { return used_; }

 private:
  T* base_;
  int64_t used_ = 0;
};

template <class T>
inline void copy(int64_t count, const T* source, T* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = source[i];
}

template <class T>
inline void fill(int64_t count, T value, T* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = value;
}

}  // namespace
}  // namespace timl
