// Tiny kernels, right and wrong on purpose, that test the emulation itself. Not part of any product.
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace {

__device__ float* shared_floats() { return static_cast<float*>(loreun_sim::dynamic_shared()); }

// Each block sums `count` floats of its own. bug 1: no barrier before the warps' sums are read. bug 2: shuffles start
// too low. bug 3: a write past the shared memory. bug 4: half of the lanes shuffle. bug 5: one warp has left.
__global__ void block_sum(const float* in, float* out, int count, int bug) {
  float* sums = shared_floats();
  float sum = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += in[blockIdx.x * count + i];
  if (bug == 5 && threadIdx.x >= blockDim.x - 32) return;
  if (bug != 4 || threadIdx.x % 2) {
    for (int o = bug == 2 ? 8 : 16; o; o /= 2) sum += __shfl_xor_sync(~0u, sum, o);
  }
  const int warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  if (bug == 3 && threadIdx.x == 0) sums[warps] = sum;
  if (bug != 1) __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < warps; ++w) sum += sums[w];
    out[blockIdx.x] = sum;
  }
}

// Every block tells all others its number. bug 1: nobody waits for the grid.
__global__ void everyone(const float*, float* out, int, int bug) {
  if (threadIdx.x == 0) out[gridDim.x + blockIdx.x] = float(blockIdx.x + 1);
  if (bug != 1) cooperative_groups::this_grid().sync();
  float sum = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += out[gridDim.x + b];
  if (threadIdx.x == blockIdx.x % blockDim.x) out[blockIdx.x] = sum;
}

// The last block to finish adds up. bug 1: the last by number believes it is the last to finish.
__global__ void last_block(const float*, float* out, int, int bug) {
  float* flag = shared_floats();
  auto* counter = reinterpret_cast<unsigned*>(out + 2 * gridDim.x);
  if (threadIdx.x == 0) {
    out[gridDim.x + blockIdx.x] = float(blockIdx.x + 1);
    __threadfence();
    *flag = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  const bool last = bug == 1 ? blockIdx.x == gridDim.x - 1 : *flag != 0;
  if (last && threadIdx.x < gridDim.x) {
    float sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += out[gridDim.x + b];
    out[threadIdx.x] = sum;
  }
}

// Warp functions, one result each. bug 1: an address that is not aligned.
__global__ void warp_functions(const float* in, float* out, int, int bug) {
  const int i = threadIdx.x;
  LOREUN_CHECK_ALIGNED(in + (bug == 1), 16);
  const float up = __shfl_up_sync(~0u, float(i), 1), down = __shfl_down_sync(~0u, float(i), 2, 16);
  const double first = __shfl_sync(~0u, double(i), 0, 8);
  const unsigned even = __ballot_sync(~0u, i % 2 == 0);
  const int odd = __syncthreads_count(i % 2), any = __syncthreads_or(i == 3), all = __syncthreads_and(i < 31);
  float pair = float(i);
  if (i < 16) pair = __shfl_xor_sync(0xFFFFu, pair, 1);
  const float values[] = {up, down, float(first), float(even), float(odd), float(any), float(all), pair};
  for (int k = 0; k < 8; ++k) out[k * 32 + i] = values[k];
}

// bug 0: right. bug 1: the threads of one block meet at two barriers. bug 2: shared memory is read before it is written.
__global__ void divergent(const float*, float* out, int, int bug) {
  float* memory = shared_floats();
  if (bug != 2) memory[threadIdx.x] = 1;
  if (bug == 1 && threadIdx.x % 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = memory[threadIdx.x] + memory[(threadIdx.x + 1) % blockDim.x];
}

// Every thread writes over its neighbour's value after all have read it. bug 1: no barrier between the two.
__global__ void rotate(const float* in, float* out, int count, int bug) {
  float* memory = shared_floats();
  memory[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  for (int step = 0; step < count; ++step) {
    const float next = memory[(threadIdx.x + 1) % blockDim.x];
    if (bug != 1) __syncthreads();
    memory[threadIdx.x] = next;
    __syncthreads();
  }
  out[threadIdx.x] = memory[threadIdx.x];
}

using Kernel = void (*)(const float*, float*, int, int);
constexpr Kernel kKernels[] = {block_sum, everyone, last_block, warp_functions, divergent, rotate};

}  // namespace

extern "C" int selftest(int kernel, const float* in, float* out, int count, int bug, int blocks, int threads, int shared,
                        int cooperative) {
  if (shared > 48 * 1024) {
    const cudaError_t error = cudaFuncSetAttribute(kKernels[kernel], cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperative;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = size_t(shared);
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kKernels[kernel], in, out, count, bug);
}
