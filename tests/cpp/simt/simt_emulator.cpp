// The scheduler of the CUDA emulator: fibers, barriers, warp collectives, checks.
//
// Compiled without -fsanitize=thread also where the kernels are compiled with it: what the
// scheduler does for a fiber is not the kernel's doing. TIML_SIMT_RACES tells that they are.
#include "simt_emulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(TIML_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TIML_SIMT_RACES)
#include <sanitizer/tsan_interface.h>
#endif

namespace timl::simt {

Options& options() {
  static Options only;
  return only;
}

namespace emulator {
namespace {

constexpr size_t kStack = 256 * 1024, kPage = 4096;  // reserved; pages come when they are touched
constexpr size_t kLargestShared = 227 * 1024;        // of a block, on sm_90
constexpr size_t kFence = 128;                       // bytes beside shared memory
constexpr unsigned char kFenceByte = 0xA5;

// What the race detector is told: nothing else orders two CUDA threads.
#if defined(TIML_SIMT_RACES)
void publish(void* at) { __tsan_release(at); }
void observe(void* at) { __tsan_acquire(at); }
#else
void publish(void*) {}
void observe(void*) {}
#endif

// --- fibers -------------------------------------------------------------------------------------

struct Context {
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t state;  // right, and slower by a system call
#endif
  const void* bottom = nullptr;
  size_t size = 0;
  void* fake_stack = nullptr;  // of the address sanitizer
  void* fiber = nullptr;       // of the race detector
};

#if defined(__x86_64__)
// Saves what a call preserves on the stack, leaves it at *save, and goes on at `load`.
__attribute__((naked, noinline, no_sanitize("address", "undefined"))) void switch_stack(void**,
                                                                                        void*) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

#if defined(TIML_SIMT_RACES)
// The race detector's threads. Making one is slow: a launch, which everything before it is ordered
// before, takes those of the launch before again.
std::vector<void*> race_fibers;
size_t race_fibers_in_use = 0;
void* next_race_fiber() {
  if (race_fibers_in_use == race_fibers.size()) race_fibers.push_back(__tsan_create_fiber(0));
  return race_fibers[race_fibers_in_use++];
}
#endif

void prepare(Context& context, void (*entry)()) {
#if defined(TIML_ADDRESS_SANITIZER)
  __asan_unpoison_memory_region(context.bottom, context.size);  // left by a fiber before
#endif
  char* const bottom = static_cast<char*>(const_cast<void*>(context.bottom));
#if defined(__x86_64__)
  void** top = reinterpret_cast<void**>(bottom + context.size);
  top[-1] = nullptr;
  top[-2] = reinterpret_cast<void*>(entry);  // switch_stack returns to it
  context.stack_pointer = top - 8;           // below six registers
#else
  getcontext(&context.state);
  context.state.uc_stack.ss_sp = bottom;
  context.state.uc_stack.ss_size = context.size;
  makecontext(&context.state, entry, 0);
#endif
}

void jump(Context& from, Context& to, [[maybe_unused]] bool for_good) {
#if defined(TIML_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.bottom, to.size);
#endif
#if defined(TIML_SIMT_RACES)
  __tsan_switch_to_fiber(to.fiber, __tsan_switch_to_fiber_no_sync);
#endif
#if defined(__x86_64__)
  switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.state, &to.state);
#endif
#if defined(TIML_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// Stacks of a cluster's threads, each above a page that faults.
class Stacks {
 public:
  explicit Stacks(size_t count) : count_(count), bytes_(count * kStack) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    for (size_t i = 0; i < count; ++i) mprotect(at(i) - kPage, kPage, PROT_NONE);
  }
  Stacks(const Stacks&) = delete;
  ~Stacks() { munmap(memory_, bytes_); }
  char* at(size_t i) const { return static_cast<char*>(memory_) + i * kStack + kPage; }
  size_t count() const { return count_; }
  static constexpr size_t kUsable = kStack - kPage;

 private:
  size_t count_, bytes_;
  void* memory_;
};

// --- a cluster at work --------------------------------------------------------------------------

// A block's shared memory, all NaN, between two fences.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : bytes_(bytes) {
    if (posix_memalign(&memory_, 128, bytes + 2 * kFence) != 0) throw std::bad_alloc();
    std::memset(memory_, kFenceByte, bytes + 2 * kFence);
    std::memset(begin(), 0xFF, bytes);
    guard(true);
  }
  SharedMemory(const SharedMemory&) = delete;
  ~SharedMemory() {
    guard(false);
    std::free(memory_);
  }
  char* begin() const { return static_cast<char*>(memory_) + kFence; }
  size_t size() const { return bytes_; }
  bool intact() {
    guard(false);
    const unsigned char* byte = static_cast<unsigned char*>(memory_);
    bool all = true;
    for (size_t i = 0; i < kFence; ++i)
      all = all && byte[i] == kFenceByte && byte[kFence + bytes_ + i] == kFenceByte;
    return all;
  }

 private:
  void guard([[maybe_unused]] bool on) {
#if defined(TIML_ADDRESS_SANITIZER)
    const auto set = on ? __asan_poison_memory_region : __asan_unpoison_memory_region;
    set(memory_, kFence);
    set(begin() + bytes_, kFence);
#endif
  }
  size_t bytes_;
  void* memory_;
};

struct Copy {
  char* to;
  const char* from;
  int bytes;
};

struct Block;
struct Thread {
  Context context;
  Block* block = nullptr;
  unsigned index = 0;
  const char* waits = nullptr;  // for what; null while it can run
  Where where;
  uint64_t lent = 0, taken = 0;  // values of a warp collective
  int source = 0;                // lane that `taken` is of
  bool ended = false;
  bool reaches = false;      // into another block's shared memory, since the last cluster_sync
  std::vector<Copy> copies;  // that have not landed
  char arrived = 0, released = 0;  // addresses for publish and observe
};

struct Block {
  unsigned index = 0;
  int rank = 0;
  size_t alive = 0;
  std::unique_ptr<SharedMemory> shared;
  Thread* threads = nullptr;
  std::vector<Thread*> waiting;
};

class Cluster {
 public:
  Cluster(const Launch& launch, void (*body)(void*), void* argument, char* over)
      : launch_(launch), body_(body), argument_(argument), over_(over) {}

  std::string run(const Stacks& stacks, unsigned first_block);

  // What the running thread calls.
  void barrier(Scope scope, const Where& where);
  void shuffle(unsigned mask, void* value, size_t bytes, int source, const Where& where);
  void require_shared(const void* at, const Where& where);
  void* map_shared(void* mine, int rank, const Where& where);
  // Gives the launch up. A fiber that is left for good destroys nothing: it must own nothing.
  [[noreturn]] void fail(const char* what, const Where& where);
  Thread& self() const { return *running_; }
  int size() const { return launch_.cluster; }

 private:
  static void entry();
  void leave();
  void finish();
  void wait_for(const char* what, const Where& where);
  void release(Thread* const* group, size_t count);
  std::string describe_deadlock() const;

  const Launch launch_;
  void (*const body_)(void*);
  void* const argument_;
  char* const over_;  // observed when the launch is over: nothing orders one cluster before another
  Context scheduler_;
  std::vector<Block> blocks_;
  std::vector<Thread> threads_;
  std::vector<Thread*> ready_, waiting_;
  Thread* running_ = nullptr;
  std::string failure_;
  char began_ = 0;
};

Cluster* cluster = nullptr;
std::string message;

uint64_t random_word() {  // splitmix64
  static uint64_t state = 0, seed = ~0ull;
  if (seed != options().seed) state = seed = options().seed;
  uint64_t z = state += 0x9E3779B97F4A7C15ull;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

std::string describe(const Where& where) {
  const std::string path = where.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}
std::string describe(const Thread& t) {
  return "thread " + std::to_string(t.index) + " of block " + std::to_string(t.block->index);
}

std::string Cluster::run(const Stacks& stacks, unsigned first_block) {
  const auto per_block = static_cast<size_t>(launch_.threads);
  blocks_ = std::vector<Block>(static_cast<size_t>(launch_.cluster));
  threads_ = std::vector<Thread>(blocks_.size() * per_block);
  // Lists that fibers share never grow: the race detector would see it as the kernel's doing.
  ready_.reserve(threads_.size());
  waiting_.reserve(threads_.size());
  for (size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    block.index = first_block + static_cast<unsigned>(b);
    block.rank = static_cast<int>(b);
    block.alive = per_block;
    block.threads = &threads_[b * per_block];
    block.waiting.reserve(per_block);
    block.shared = std::make_unique<SharedMemory>(launch_.shared);
    for (size_t i = 0; i < per_block; ++i) {
      Thread& t = block.threads[i];
      t.block = &block;
      t.index = static_cast<unsigned>(i);
      t.context.bottom = stacks.at(b * per_block + i);
      t.context.size = Stacks::kUsable;
#if defined(TIML_SIMT_RACES)
      t.context.fiber = next_race_fiber();
#endif
      prepare(t.context, entry);
      ready_.push_back(&t);
    }
  }
#if defined(TIML_SIMT_RACES)
  scheduler_.fiber = __tsan_get_current_fiber();
#endif
  publish(&began_);
  cluster = this;
  blockDim.x = static_cast<unsigned>(launch_.threads);
  gridDim.x = static_cast<unsigned>(launch_.blocks);
  const uint64_t seed = options().seed;
  if (seed == 0) std::reverse(ready_.begin(), ready_.end());
  while (!ready_.empty() && failure_.empty()) {
    if (seed > 1) std::swap(ready_.back(), ready_[random_word() % ready_.size()]);
    running_ = ready_.back();
    ready_.pop_back();
    threadIdx.x = running_->index;
    blockIdx.x = running_->block->index;
    jump(scheduler_, running_->context, false);
  }
  cluster = nullptr;
  for (Block& block : blocks_)
    if (failure_.empty() && !block.shared->intact())
      failure_ = "block " + std::to_string(block.index) + " wrote beside its shared memory";
  if (failure_.empty()) failure_ = describe_deadlock();
  return failure_;
}

void Cluster::entry() {
#if defined(TIML_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(nullptr, &cluster->scheduler_.bottom, &cluster->scheduler_.size);
#endif
  observe(&cluster->began_);
  cluster->body_(cluster->argument_);
  cluster->finish();
}

void Cluster::finish() {
  Thread& t = self();
  if (failure_.empty() && !t.copies.empty())
    failure_ = describe(t) + " ends before its asynchronous copies were waited for";
  if (failure_.empty() && t.reaches)
    failure_ = describe(t) + " ends without a cluster_sync after its last cluster_map";
  publish(over_);
  t.ended = true;
  --t.block->alive;
  leave();
}

void Cluster::leave() { jump(self().context, scheduler_, self().ended); }

void Cluster::fail(const char* what, const Where& where) {
  failure_ = describe(self()) + ": " + what + ", " + describe(where);
  publish(over_);
  leave();
  std::abort();  // it is never resumed
}

void Cluster::wait_for(const char* what, const Where& where) {
  self().waits = what;
  self().where = where;
  publish(&self().arrived);
}

// The last of a group has come: what each did before lies before what each will do.
void Cluster::release(Thread* const* group, size_t count) {
  for (size_t i = 0; i < count; ++i) observe(&group[i]->arrived);
  for (size_t i = 0; i < count; ++i) {
    publish(&group[i]->released);
    group[i]->waits = nullptr;
    ready_.push_back(group[i]);
  }
}

void Cluster::barrier(Scope scope, const Where& where) {
  const bool of_block = scope == Scope::kBlock;
  if (!of_block && options().without_cluster_barriers) return;
  Thread& t = self();
  std::vector<Thread*>& group = of_block ? t.block->waiting : waiting_;
  if (!group.empty() && group.front()->where.line() != where.line())
    fail("comes to another barrier than others do", where);
  wait_for(of_block ? "__syncthreads" : "cluster_sync", where);
  if (!of_block) t.reaches = false;
  group.push_back(&t);
  if (group.size() == (of_block ? blockDim.x : threads_.size())) {
    release(group.data(), group.size());
    group.clear();
  }
  leave();
  observe(&t.released);
}

void Cluster::shuffle(unsigned mask, void* value, size_t bytes, int source, const Where& where) {
  Thread& t = self();
  if (mask != ~0u) fail("calls a warp collective for a part of the warp", where);
  Thread* const warp = t.block->threads + t.index / 32 * 32;
  if (t.index / 32 * 32 + 32 > blockDim.x) fail("calls a warp collective in part of a warp", where);
  // Constant sizes: a call of memcpy would be seen by the race detector.
  if (bytes == 8)
    __builtin_memcpy(&t.lent, value, 8);
  else
    __builtin_memcpy(&t.lent, value, 4);
  t.source = source;
  // A warp collective exchanges values, but orders no memory.
  t.waits = "a warp collective";
  t.where = where;
  Thread* lanes[32];
  size_t come = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (warp[lane].waits == t.waits && warp[lane].where.line() == where.line())
      lanes[come++] = warp + lane;
  if (come == 32)
    for (Thread* lane : lanes) {
      lane->taken = warp[lane->source].lent;
      lane->waits = nullptr;
      ready_.push_back(lane);
    }
  leave();
  if (bytes == 8)
    __builtin_memcpy(value, &t.taken, 8);
  else
    __builtin_memcpy(value, &t.taken, 4);
}

void Cluster::require_shared(const void* at, const Where& where) {
  const SharedMemory& own = *self().block->shared;
  const ptrdiff_t offset = static_cast<const char*>(at) - own.begin();
  if (offset < 0 || offset > static_cast<ptrdiff_t>(own.size()))
    fail("takes a pointer that is not into the block's shared memory for one that is", where);
}

void* Cluster::map_shared(void* mine, int rank, const Where& where) {
  const SharedMemory& own = *self().block->shared;
  require_shared(mine, where);
  const ptrdiff_t offset = static_cast<char*>(mine) - own.begin();
  if (rank < 0 || rank >= launch_.cluster) fail("cluster_map to a rank beyond the cluster", where);
  const Block& other = blocks_[static_cast<size_t>(rank)];
  if (other.alive == 0) fail("cluster_map to a block that has ended", where);
  if (&other != self().block) self().reaches = true;
  return other.shared->begin() + offset;
}

std::string Cluster::describe_deadlock() const {
  const Thread* stuck = nullptr;
  for (const Thread& t : threads_)
    if (t.waits != nullptr && stuck == nullptr) stuck = &t;
  if (stuck == nullptr) return "";
  std::string text =
      describe(*stuck) + " waits for ever at " + stuck->waits + ", " + describe(stuck->where);
  for (const Thread& t : threads_)
    if (t.waits == nullptr || t.where.line() != stuck->where.line())
      return text + "; " + describe(t) +
             (t.waits == nullptr ? " has ended" : " waits at " + describe(t.where));
  return text;
}

}  // namespace

void barrier(Scope scope, const Where& where) { cluster->barrier(scope, where); }
void shuffle(unsigned mask, void* value, size_t bytes, int source, const Where& where) {
  cluster->shuffle(mask, value, bytes, source, where);
}
int lane() { return static_cast<int>(cluster->self().index % 32); }
void* shared_memory() { return cluster->self().block->shared->begin(); }
void require_shared(const void* at, const Where& where) { cluster->require_shared(at, where); }
void* map_shared(void* mine, int rank, const Where& where) {
  return cluster->map_shared(mine, rank, where);
}
int cluster_rank() { return cluster->self().block->rank; }
int cluster_size() { return cluster->size(); }

void copy_async(void* shared, const void* global, int bytes, const Where& where) {
  const auto aligned = [&](const void* at) { return reinterpret_cast<uintptr_t>(at) % bytes == 0; };
  if (!aligned(shared) || !aligned(global))
    cluster->fail("copies bytes that are not aligned to as many", where);
  std::memset(shared, 0xFF, static_cast<size_t>(bytes));  // NaN until the wait
  cluster->self().copies.push_back(
      {static_cast<char*>(shared), static_cast<const char*>(global), bytes});
}
void copy_async_wait() {
  for (const Copy& copy : cluster->self().copies)
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
  cluster->self().copies.clear();
}

const char* run(const Launch& launch, void (*body)(void*), void* context) {
  message.clear();
  if (launch.threads < 1 || launch.threads > 1024) message = "give 1 to 1024 threads a block";
  if (launch.cluster < 1 || launch.cluster > 8 || launch.blocks < 1 ||
      launch.blocks % launch.cluster != 0)
    message = "give 1 to 8 blocks a cluster and whole clusters";
  if (launch.shared > kLargestShared) message = "give 227 KB of shared memory at most";
  if (!message.empty()) return message.c_str();
  std::vector<unsigned> order(static_cast<size_t>(launch.blocks / launch.cluster));
  std::iota(order.begin(), order.end(), 0u);
  if (options().seed > 1)
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_word() % i]);
  const auto fibers = static_cast<size_t>(launch.threads * launch.cluster);
  static std::vector<std::unique_ptr<Stacks>> stacks;
  std::vector<std::unique_ptr<Cluster>> clusters;
  char over = 0;
#if defined(TIML_SIMT_RACES)
  stacks.clear();
  race_fibers_in_use = 0;
#endif
  for (const unsigned at : order) {
#if defined(TIML_SIMT_RACES)
    // All memory stays to the end: using it again would be a race of its own.
    stacks.push_back(std::make_unique<Stacks>(fibers));
#else
    if (stacks.empty() || stacks.back()->count() < fibers) {
      stacks.clear();
      stacks.push_back(std::make_unique<Stacks>(fibers));
    }
    clusters.clear();
#endif
    clusters.push_back(std::make_unique<Cluster>(launch, body, context, &over));
    message = clusters.back()->run(*stacks.back(), at * static_cast<unsigned>(launch.cluster));
    if (!message.empty()) break;
  }
  observe(&over);
  return message.empty() ? nullptr : message.c_str();
}

}  // namespace emulator
}  // namespace timl::simt
