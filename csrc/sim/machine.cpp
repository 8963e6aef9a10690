// The scheduler of the emulated GPU: fibers, blocks, barriers, and what goes wrong with them.
#include "machine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <queue>
#include <string>
#include <vector>

#include "fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace loreun_sim {
namespace {

constexpr size_t kGuard = 4096;           // bytes around the dynamic shared memory that nobody may write
constexpr unsigned char kPoison = 0xFF;   // NaN as float, double, half and bfloat16
constexpr uint64_t kMaxSwitches = uint64_t(1) << 31;
constexpr uint64_t kStackMark = 0x5AFE57AC5AFE57ACu;

enum class Wait { no, block, grid, warp, done };

struct Block;

struct Fiber {
  Context context;
  char* stack = nullptr;
  Block* block = nullptr;
  uint3 thread{};
  unsigned index = 0;
  uint32_t priority = 0;
  Wait wait = Wait::no;
  Where where;
  // What it brought to the collective operation it waits in, and what it gets back.
  Collective operation = nullptr;
  unsigned mask = 0, parameter = 0;
  uint64_t value = 0, result = 0;
};

struct Block {
  uint3 index{};
  std::vector<Fiber*> fibers;
  std::vector<unsigned> waiting;      // per warp, lanes inside a collective operation
  std::vector<uint32_t> priorities;   // of the warps
  uint32_t priority = 0;
  std::vector<unsigned char> memory;
  unsigned arrived = 0, votes = 0, finished = 0;
  Vote vote = Vote::none;
  Where where;
};

// Whose priority decides who runs. Chance alone never lets one warp, or one block, run far ahead of the others.
enum class Policy { chance, warp, block, thread };

struct Ready {
  uint64_t key;
  Fiber* fiber;
  bool operator<(const Ready& other) const { return key < other.key; }
};

struct Launch {
  Shape shape;
  void (*body)(void*);
  void* argument;
  uint64_t random;
  Policy policy;
  std::vector<Block> blocks{};      // the resident ones
  std::vector<unsigned> to_do{};    // indices of blocks that have not started, in random order
  std::priority_queue<Ready> ready{};
  uint64_t switches = 0;
  unsigned at_grid = 0;
  std::string error{};
};

std::mutex one_launch;
Launch* launch = nullptr;
Fiber* current = nullptr;
Context host;
std::vector<std::unique_ptr<Fiber>> pool;

uint64_t draw() {
  uint64_t z = launch->random += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::string text(uint3 i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

std::string text(const Where& where) {
  const std::string path = where.file_name();
  return path.substr(path.rfind('/') + 1) + ":" + std::to_string(where.line());
}

// Ends the launch from inside a fiber. Does not return: nobody resumes the fiber.
void fail(const std::string& message) {
  launch->error = message + " [block " + text(current->block->index) + " thread " + text(current->thread) + "]";
  switch_to(current->context, host);
}

Fiber* pick() {
  Fiber* next = launch->ready.top().fiber;
  launch->ready.pop();
  return next;
}

void queue(Fiber* fiber, uint32_t priority) { launch->ready.push({uint64_t(priority) << 32 | (draw() >> 32), fiber}); }

void wake(Fiber* fiber) {
  const Block& block = *fiber->block;
  const uint32_t priorities[] = {uint32_t(draw()), block.priorities[fiber->index / 32], block.priority, fiber->priority};
  fiber->wait = Wait::no;
  queue(fiber, priorities[int(launch->policy)]);
}

// Of a block that starts or goes on after a barrier.
void wake_all(Block& block) {
  for (uint32_t& priority : block.priorities) priority = uint32_t(draw());
  block.priority = uint32_t(draw());
  for (Fiber* fiber : block.fibers) {
    fiber->priority = uint32_t(draw());
    wake(fiber);
  }
}

void enter(Fiber* next) {
  current = next;
  threadIdx = next->thread;
  blockIdx = next->block->index;
}

// Runs somebody else; returns when the scheduler comes back to this fiber.
void suspend() {
  Fiber* self = current;
  if (launch->ready.empty() || ++launch->switches > kMaxSwitches) {
    switch_to(self->context, host);
  } else if (Fiber* next = pick(); next != self) {
    enter(next);
    switch_to(self->context, next->context);
  }
}

void wait(Wait reason, const Where& where) {
  current->wait = reason;
  current->where = where;
  suspend();
}

// 16 bytes of alignment are promised to a kernel, not more: an odd multiple of 16.
unsigned char* shared(Block& block) {
  const auto start = reinterpret_cast<uintptr_t>(block.memory.data()) + kGuard;
  return reinterpret_cast<unsigned char*>(((start + 15) & ~uintptr_t(31)) + 16);
}

void check_guards(Block& block) {
  const auto intact = [](unsigned char byte) { return byte == kPoison; };
  unsigned char *memory = block.memory.data(), *begin = shared(block), *end = begin + launch->shape.shared_bytes;
  if (!std::all_of(memory, begin, intact)) fail("a write before the dynamic shared memory");
  if (!std::all_of(end, memory + block.memory.size(), intact)) {
    fail("a write past the " + std::to_string(launch->shape.shared_bytes) + " bytes of dynamic shared memory");
  }
}

// The whole life of a fiber: one thread of one block after another.
void live() {
  for (;;) {
    launch->body(launch->argument);
    uint64_t mark;
    std::memcpy(&mark, current->stack, sizeof mark);
    if (mark != kStackMark) fail("stack overflow");
    Block& block = *current->block;
    current->wait = Wait::done;
    if (++block.finished < block.fibers.size()) {
      suspend();
    } else {
      check_guards(block);
      switch_to(current->context, host);
    }
  }
}

char* new_stack(size_t number) {
  // Stacks at equal distances would all fight for the same cache lines, so each starts a little further.
  const size_t colour = number % 61 * 64;
  void* memory = mmap(nullptr, kStackBytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  char* stack = static_cast<char*>(memory) + colour;
  std::memcpy(stack, &kStackMark, sizeof kStackMark);
  return stack;
}

bool grow_pool(size_t count) {
  while (pool.size() < count) {
    auto fiber = std::make_unique<Fiber>();
    if (!(fiber->stack = new_stack(pool.size()))) return false;
    prepare(fiber->context, fiber->stack, live);
    pool.push_back(std::move(fiber));
  }
  return true;
}

void start(Block& block, unsigned number) {
  const dim3& grid = launch->shape.grid;
  block.index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
  block.arrived = block.finished = 0;
  std::fill(block.waiting.begin(), block.waiting.end(), 0u);
  std::fill(block.memory.begin(), block.memory.end(), kPoison);
  wake_all(block);
}

void make_blocks(size_t count) {
  const dim3& size = launch->shape.block;
  const unsigned threads = size.x * size.y * size.z;
  launch->blocks.resize(count);
  auto fiber = pool.begin();
  for (Block& block : launch->blocks) {
    block.waiting.resize((threads + 31) / 32);
    block.priorities.resize(block.waiting.size());
    block.memory.resize(launch->shape.shared_bytes + 2 * kGuard + 32);
    for (unsigned i = 0; i < threads; ++i, ++fiber) {
      block.fibers.push_back(fiber->get());
      (*fiber)->block = &block;
      (*fiber)->thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
      (*fiber)->index = i;
    }
  }
}

void start_next(Block& block) {
  if (launch->to_do.empty()) return;
  start(block, launch->to_do.back());
  launch->to_do.pop_back();
}

// Who waits where, when nobody can go on.
std::string deadlock() {
  static const char* const names[] = {"can run", "wait at a block barrier", "wait for the grid", "wait for their warp", "have returned"};
  std::map<std::string, int> found;
  for (const Block& block : launch->blocks) {
    if (block.finished == block.fibers.size()) continue;
    for (const Fiber* fiber : block.fibers) {
      std::string line = " thread(s) of block " + text(block.index) + " " + names[int(fiber->wait)];
      if (fiber->wait != Wait::done) line += " at " + text(fiber->where);
      char mask[32];
      std::snprintf(mask, sizeof mask, " with mask %08x", fiber->mask);
      ++found[line + (fiber->wait == Wait::warp ? mask : "")];
    }
  }
  std::string message = "deadlock";
  int lines = 0;
  for (const auto& [line, count] : found) {
    if (++lines <= 6) message += "\n  " + std::to_string(count) + line;
  }
  return message;
}

void drive() {
  for (Block& block : launch->blocks) start_next(block);
  while (!launch->ready.empty() && launch->error.empty()) {
    if (launch->switches > kMaxSwitches) launch->error = "no end in sight: threads spin on atomics";
    else {
      enter(pick());
      switch_to(host, current->context);
      Block& block = *current->block;
      if (block.finished == block.fibers.size()) start_next(block);
    }
  }
  const auto running = [](const Block& block) { return block.finished < block.fibers.size(); };
  const auto& blocks = launch->blocks;
  if (launch->error.empty() && std::any_of(blocks.begin(), blocks.end(), running)) launch->error = deadlock();
}

void complete(Block& block, unsigned warp, unsigned mask) {
  Fiber** lanes = &block.fibers[warp * 32];
  uint64_t values[32];
  std::fill(values, values + 32, ~uint64_t(0));  // a lane that takes no part has nothing to give but NaN
  for (unsigned i = 0; i < 32; ++i) {
    if (mask >> i & 1) values[i] = lanes[i]->value;
  }
  for (unsigned i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    lanes[i]->result = lanes[i]->operation(values, mask, i, lanes[i]->parameter);
    wake(lanes[i]);
  }
  block.waiting[warp] &= ~mask;
}

}  // namespace

unsigned lane() { return current->index % 32; }

void* dynamic_shared() { return shared(*current->block); }

int sync_block(Vote vote, bool predicate, Where where) {
  Block& block = *current->block;
  if (block.arrived == 0) {
    block.vote = vote, block.where = where, block.votes = 0;
  } else if (block.vote != vote || block.where.line() != where.line()) {
    fail("one block meets at two barriers: " + text(block.where) + " and " + text(where));
  }
  block.votes += predicate;
  if (++block.arrived < block.fibers.size()) {
    wait(Wait::block, where);
    return int(current->result);
  }
  block.arrived = 0;
  const unsigned all = block.votes == block.fibers.size(), any = block.votes > 0;
  for (Fiber* fiber : block.fibers) fiber->result = vote == Vote::count ? block.votes : vote == Vote::all ? all : any;
  wake_all(block);
  suspend();
  return int(current->result);
}

void sync_grid(Where where) {
  if (!launch->shape.cooperative) fail("the grid cannot meet: the launch was not cooperative");
  if (++launch->at_grid < launch->blocks.size() * current->block->fibers.size()) return wait(Wait::grid, where);
  launch->at_grid = 0;
  for (Block& block : launch->blocks) wake_all(block);
  suspend();
}

uint64_t sync_warp(Collective operation, unsigned mask, uint64_t value, unsigned parameter, Where where) {
  Fiber& self = *current;
  Block& block = *self.block;
  const unsigned warp = self.index / 32;
  if (!(mask >> lane() & 1)) fail("the mask of a warp operation leaves out its own lane, at " + text(where));
  self.operation = operation, self.mask = mask, self.value = value, self.parameter = parameter;
  unsigned& waiting = block.waiting[warp];
  waiting |= 1u << lane();
  bool together = (waiting & mask) == mask;
  for (unsigned i = 0; i < 32 && together; ++i) {
    if (!(mask >> i & 1)) continue;
    const Fiber& other = *block.fibers[warp * 32 + i];
    together = other.mask == mask && other.operation == operation;
  }
  if (together) {
    complete(block, warp, mask);
    suspend();
  } else {
    wait(Wait::warp, where);
  }
  return self.result;
}

void maybe_switch(unsigned one_in) {
  if (one_in > 1 && draw() % one_in) return;
  queue(current, uint32_t(draw()));  // no priority, or threads that spin would keep the others out
  suspend();
}

void check_aligned(const void* address, size_t bytes, Where where) {
  if (reinterpret_cast<uintptr_t>(address) % bytes) {
    fail("an address is not aligned to " + std::to_string(bytes) + " bytes at " + text(where));
  }
  maybe_switch(64);
}

cudaError_t run(const void* kernel, const Shape& shape, void (*body)(void*), void* argument) {
  const std::lock_guard lock(one_launch);
  const uint64_t threads = uint64_t(shape.block.x) * shape.block.y * shape.block.z;
  const uint64_t blocks = uint64_t(shape.grid.x) * shape.grid.y * shape.grid.z;
  if (!threads || threads > 1024 || !blocks || blocks > 0x7FFFFFFF || shape.grid.y > 65535 || shape.grid.z > 65535) {
    return cudaErrorInvalidConfiguration;
  }
  if (shape.shared_bytes > shared_limit(kernel)) return cudaErrorInvalidValue;
  const uint64_t room = uint64_t(device.sms - device.held) * device.blocks_per_sm(int(threads), shape.shared_bytes);
  if (!room) return cudaErrorLaunchOutOfResources;
  if (shape.cooperative && device.capability < 60) return cudaErrorNotSupported;
  if (shape.cooperative && blocks > room) return cudaErrorCooperativeLaunchTooLarge;

  const size_t resident = std::min(blocks, room);
  if (!grow_pool(resident * threads)) return cudaErrorMemoryAllocation;
  Launch here{shape, body, argument, device.seed, Policy(device.seed % 4)};
  launch = &here;
  blockDim = shape.block, gridDim = shape.grid;
  for (unsigned i = 0; i < blocks; ++i) here.to_do.push_back(i);
  for (size_t i = blocks - 1; i > 0; --i) std::swap(here.to_do[i], here.to_do[draw() % (i + 1)]);
  make_blocks(resident);
  drive();
  launch = nullptr;
  if (here.error.empty()) return cudaSuccess;
  std::fprintf(stderr, "emulated launch failed (seed %llu): %s\n", (unsigned long long)device.seed, here.error.c_str());
  for (auto& fiber : pool) prepare(fiber->context, fiber->stack, live);  // their threads will never end
  return cudaErrorLaunchFailure;
}

}  // namespace loreun_sim
