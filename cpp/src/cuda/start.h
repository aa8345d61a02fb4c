// How a call's kernels are started, one after another on the plan's stream.
#pragma once

#include "product.h"
#include "timl/cuda.h"

namespace timl {
namespace {

inline constexpr int kMostThreads = 256;  // of a block: each may then have 255 registers

// Starts kernels until one cannot be.
template <class T>
class Start {
 public:
  explicit Start(const cuda::Plan& plan) : plan_(plan) {
    if (plan.threads < kLanes || plan.threads > kMostThreads || plan.threads % kLanes != 0 ||
        plan.cluster < 1 || plan.clusters < 1)
      trouble_ = "the plan's threads are not 1 to 8 whole warps, or it has no cluster";
  }

  // Clusters, each of which is a team.
  template <class... Parameters, class... Arguments>
  void on_clusters(int64_t count, void (*kernel)(Parameters...), const Arguments&... arguments) {
    start(count * plan_.cluster, plan_.cluster, 0, kernel, arguments...);
  }
  // Whether a block may have so many elements of shared memory besides what products need.
  bool has_room(int64_t elements) const {
    return product_shared<T>(plan_.threads) + static_cast<size_t>(elements) * sizeof(T) <=
           static_cast<size_t>(plan_.shared);
  }
  // The same with shared memory for so many elements, where the plan has it; the kernel's last
  // parameter says whether.
  template <class... Parameters, class... Arguments>
  void on_clusters_with_room(int64_t count, int64_t elements, void (*kernel)(Parameters...),
                             const Arguments&... arguments) {
    const bool staged = has_room(elements);
    start(count * plan_.cluster, plan_.cluster,
          staged ? static_cast<size_t>(elements) * sizeof(T) : 0, kernel, arguments..., staged);
  }
  // Blocks that never meet, about as many as the device runs at once.
  template <class... Parameters, class... Arguments>
  void on_grid(void (*kernel)(Parameters...), const Arguments&... arguments) {
    start(int64_t{plan_.clusters} * plan_.cluster, 1, 0, kernel, arguments...);
  }

  const cuda::Plan& plan() const { return plan_; }
  const char* trouble() const { return trouble_; }

 private:
  template <class... Parameters, class... Arguments>
  void start(int64_t blocks, int cluster, size_t room, void (*kernel)(Parameters...),
             const Arguments&... arguments) {
    if (trouble_ != nullptr) return;
    const simt::Launch launch = {.blocks = static_cast<int>(blocks),
                                 .threads = plan_.threads,
                                 .cluster = cluster,
                                 .shared = product_shared<T>(plan_.threads) + room,
                                 .stream = static_cast<simt::Stream>(plan_.stream)};
    trouble_ = simt::launch(kernel, launch, arguments...);
  }

  const cuda::Plan plan_;
  const char* trouble_ = nullptr;
};

}  // namespace
}  // namespace timl
