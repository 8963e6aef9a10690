// A GPU made of fibers: every thread of every resident block is one, all in one OS thread, and a seeded scheduler picks
// who runs whenever a thread meets others. A run is reproducible from its seed, and a missing barrier shows up.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <source_location>
#include <tuple>
#include <utility>

// Device code reads them by these names; the scheduler sets them whenever it switches.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace loreun_sim {

using Where = std::source_location;

// What a collective operation of a warp gives to one lane. values: what each lane brought; parameter: what this lane asked.
using Collective = uint64_t (*)(const uint64_t values[32], unsigned mask, unsigned lane, unsigned parameter);

enum class Vote { none, any, all, count };

// Called by device code. Each may switch to other threads; a mistake ends the launch and does not return.
unsigned lane();
void* dynamic_shared();
int sync_block(Vote vote, bool predicate, Where where);
void sync_grid(Where where);
uint64_t sync_warp(Collective operation, unsigned mask, uint64_t value, unsigned parameter, Where where);
void maybe_switch(unsigned one_in = 1);
void check_aligned(const void* address, size_t bytes, Where where);

// Called by host code.
struct Shape {
  dim3 grid, block;
  size_t shared_bytes;
  bool cooperative;
};
cudaError_t run(const void* kernel, const Shape& shape, void (*body)(void*), void* argument);

struct Device {
  int sms = 4, shared_optin = 227 * 1024, capability = 90;
  int held = 0;  // SMs that others' kernels hold: what the runtime says of the device does not tell
  uint64_t seed = 1;
  int blocks_per_sm(int threads, size_t shared_bytes) const;
};
extern Device device;
size_t shared_limit(const void* kernel);                     // what cudaFuncSetAttribute allowed
cudaError_t record(const Shape& shape, cudaError_t error);  // for cudaGetLastError, and for tests

}  // namespace loreun_sim
