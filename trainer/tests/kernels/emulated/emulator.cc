// Runs the launches of plans, which it reads from standard input, and writes what all buffers have in them then to standard output. Every access of
// memory is checked where this is compiled with sanitizers; what is checked here: names and kinds of arguments, the shape of blocks, and that no
// thread waits for another that never comes.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "emulator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

Index threadIdx, blockIdx, blockDim, gridDim;
Kernel *Kernel::first = nullptr;

namespace {

constexpr size_t STACK = 64 << 10;
constexpr unsigned WARP = 32;
constexpr unsigned char CANARY = 0xa5;

[[noreturn]] void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  exit(3);
}

enum class State { Ready, AtBlock, AtWarp, Done };

struct Fiber {
  ucontext_t context;
  State state;
  Index index;
  char *stack;
  void *fake;
  // Which of a warp's two boards the next shuffle writes to.
  unsigned board;
};

ucontext_t scheduler;
void *scheduler_fake;
const void *scheduler_stack;
size_t scheduler_size;
std::vector<Fiber> fibers;
Fiber *running;
// What lanes have shown each other, on two boards: a lane that goes on to the next shuffle wipes nothing that another has yet to read.
std::vector<float> boards[2];
const Kernel *kernel;
const Value *values;

void leave(void **fake, const void *stack, size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, stack, size);
#else
  (void)fake, (void)stack, (void)size;
#endif
}

void arrive(void *fake, const void **from, size_t *size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, from, size);
#else
  (void)fake, (void)from, (void)size;
#endif
}

void yield(State state) {
  Fiber *self = running;
  self->state = state;
  leave(&self->fake, scheduler_stack, scheduler_size);
  swapcontext(&self->context, &scheduler);
  arrive(self->fake, &scheduler_stack, &scheduler_size);
}

void begin() {
  arrive(nullptr, &scheduler_stack, &scheduler_size);
  kernel->call(kernel->kernel, values);
  running->state = State::Done;
  leave(nullptr, scheduler_stack, scheduler_size);
  setcontext(&scheduler);
}

void resume(Fiber &fiber) {
  running = &fiber;
  threadIdx = fiber.index;
  leave(&scheduler_fake, fiber.stack, STACK);
  swapcontext(&scheduler, &fiber.context);
  arrive(scheduler_fake, nullptr, nullptr);
}

using Lanes = std::vector<Fiber>::iterator;

// Lets fibers go on if all of them wait for each other.
bool release(Lanes from, Lanes to, State waiting) {
  if (!std::all_of(from, to, [waiting](const Fiber &fiber) { return fiber.state == waiting; })) return false;
  std::for_each(from, to, [](Fiber &fiber) { fiber.state = State::Ready; });
  return true;
}

// Lets each lane of a warp have a turn, as often as it is ready; whether any had one.
bool run_warp(Lanes warp, unsigned order) {
  bool any = false;
  for (unsigned at = 0; at < WARP; at++) {
    Fiber &fiber = warp[order == 1 ? WARP - 1 - at : at];
    if (fiber.state != State::Ready) continue;
    resume(fiber);
    any = true;
  }
  return any;
}

// Order 0 has warps take a step in turn; 1 and 2 have each go as far as it can before the next does, from the last one or as it happens.
void run_block(unsigned order, std::mt19937 &random) {
  std::vector<size_t> warps(fibers.size() / WARP);
  for (size_t at = 0; at < fibers.size(); at++) {
    Fiber &fiber = fibers[at];
    fiber.state = State::Ready;
    fiber.board = 0;
    fiber.index = {static_cast<unsigned>(at) % blockDim.x, static_cast<unsigned>(at) / blockDim.x, 0};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, begin, 0);
  }
  for (size_t at = 0; at < warps.size(); at++) warps[at] = order == 1 ? warps.size() - 1 - at : at;
  for (bool any = true; any;) {
    any = false;
    if (order == 2) std::shuffle(warps.begin(), warps.end(), random);
    for (size_t at : warps) {
      const Lanes warp = fibers.begin() + at * WARP;
      do {
        any |= run_warp(warp, order);
      } while (release(warp, warp + WARP, State::AtWarp) && order != 0);
    }
    any |= release(fibers.begin(), fibers.end(), State::AtBlock);
  }
  if (!std::all_of(fibers.begin(), fibers.end(), [](const Fiber &fiber) { return fiber.state == State::Done; })) {
    fail("%s: threads of block %u, %u wait for others that never come", kernel->name, blockIdx.x, blockIdx.y);
  }
}

void take(void *to, size_t bytes) {
  if (fread(to, 1, bytes, stdin) != bytes) fail("the input ends early");
}

template <typename T>
T taken() {
  T value;
  take(&value, sizeof(value));
  return value;
}

// A buffer, beginning anywhere, with bytes before it that nobody may touch; those behind it are the sanitizer's.
struct Buffer {
  std::unique_ptr<unsigned char, decltype(&free)> whole;
  uint64_t before, bytes;

  Buffer() : whole(nullptr, free), before(taken<uint64_t>()), bytes(taken<uint64_t>()) {
    void *memory;
    if (posix_memalign(&memory, 16, before + bytes) != 0) fail("no memory");
    whole.reset(static_cast<unsigned char *>(memory));
    memset(memory, CANARY, before);
    take(begin(), bytes);
  }

  unsigned char *begin() const { return whole.get() + before; }

  void put() const {
    if (std::any_of(whole.get(), begin(), [](unsigned char byte) { return byte != CANARY; })) fail("written before a buffer");
    fwrite(begin(), 1, bytes, stdout);
  }
};

// A parameter that is only read takes a buffer that may be written, too.
bool fits(char argument, char parameter) { return argument == parameter || argument == parameter - 'a' + 'A'; }

void launch(const std::vector<Buffer> &buffers, unsigned order) {
  std::string name(taken<uint32_t>(), ' ');
  take(&name[0], name.size());
  for (kernel = Kernel::first; kernel != nullptr && name != kernel->name;) kernel = kernel->next;
  if (kernel == nullptr) fail("there is no kernel %s", name.c_str());
  const auto grid_x = taken<uint32_t>(), grid_y = taken<uint32_t>(), block_x = taken<uint32_t>(), block_y = taken<uint32_t>();
  gridDim = {grid_x, grid_y, 1};
  blockDim = {block_x, block_y, 1};
  const size_t threads = static_cast<size_t>(block_x) * block_y;
  if (grid_x == 0 || grid_y == 0 || grid_y > 65535 || threads == 0 || threads > kernel->threads || block_x % WARP != 0) {
    fail("%s cannot be launched so", kernel->name);
  }
  std::vector<Value> given(taken<uint32_t>());
  if (given.size() != kernel->count) fail("%s is given %zu arguments for %zu", kernel->name, given.size(), kernel->count);
  for (size_t at = 0; at < given.size(); at++) {
    given[at].kind = taken<char>();
    given[at].bits = taken<uint64_t>();
    if (!fits(given[at].kind, kernel->kinds[at])) fail("%s: argument %zu is %c for %c", kernel->name, at, given[at].kind, kernel->kinds[at]);
    if (given[at].kind != 'c' && given[at].kind != 'n') given[at].bits = reinterpret_cast<uint64_t>(buffers.at(given[at].bits).begin());
  }
  values = given.data();
  std::mt19937 random(7);
  static char *stacks = static_cast<char *>(mmap(nullptr, 1024 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  fibers.assign(threads, Fiber());
  for (size_t at = 0; at < threads; at++) fibers[at].stack = stacks + at * STACK;
  boards[0].assign(threads, 0);
  boards[1].assign(threads, 0);
  for (unsigned y = 0; y < grid_y; y++) {
    for (unsigned x = 0; x < grid_x; x++) {
      blockIdx = {order == 1 ? grid_x - 1 - x : x, order == 1 ? grid_y - 1 - y : y, 0};
      run_block(order, random);
    }
  }
}

}  // namespace

void __syncthreads() { yield(State::AtBlock); }

float __shfl_xor_sync(unsigned lanes, float value, unsigned other) {
  if (lanes != 0xffffffffu || other >= WARP) fail("%s: not all lanes take part", kernel->name);
  std::vector<float> &board = boards[running->board];
  running->board ^= 1;
  const size_t self = running - fibers.data();
  board[self] = value;
  yield(State::AtWarp);
  return board[self / WARP * WARP + (self % WARP ^ other)];
}

int main() {
  for (auto runs = taken<uint32_t>(); runs > 0; runs--) {
    const auto order = taken<uint32_t>(), count = taken<uint32_t>();
    std::vector<Buffer> buffers;
    for (uint32_t at = 0; at < count; at++) buffers.emplace_back();
    for (auto launches = taken<uint32_t>(); launches > 0; launches--) launch(buffers, order);
    for (const Buffer &buffer : buffers) buffer.put();
  }
}
