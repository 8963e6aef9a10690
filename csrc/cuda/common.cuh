// What every kernel needs: types, and arithmetic by accumulation type.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>

#include "loreun/params.h"
#include "loreun/plan.h"

#ifndef LOREUN_CHECK_ALIGNED  // the host emulation checks what the hardware would fault on
#define LOREUN_CHECK_ALIGNED(pointer, bytes) ((void)0)
#endif

namespace loreun::gpu {

#ifdef LOREUN_SIM
template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(loreun_sim::dynamic_shared());
}
#else
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}
#endif

// Blocks of kSplitThreads the compiler must leave room for: exp() of double needs more registers.
template <typename T>
constexpr int kResident = sizeof(T) == 8 ? 1 : kBlocksPerSm;

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;

__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int thread_count() { return static_cast<int>(blockDim.x); }

// This thread's place among groups of neighbouring threads; a group is a power of two, at most a warp.
struct Group {
  int size, lane, index, count;
  __device__ __forceinline__ explicit Group(int threads) : size(threads) {
    const int shift = __ffs(threads) - 1;
    lane = thread_index() & (threads - 1);
    index = thread_index() >> shift;
    count = thread_count() >> shift;
  }
};

template <typename T>
__device__ __forceinline__ Acc<T> to_acc(T x) {
  return static_cast<Acc<T>>(x);
}

template <typename T>
__device__ __forceinline__ T from_acc(Acc<T> x) {  // to nearest
  return static_cast<T>(x);
}

// exp2f handles denormal results with three more instructions per element; results below 2^-126 may be 0 here.
__device__ __forceinline__ float exp_of(float x) {
  const float y = x * 1.44269504f;
#ifdef LOREUN_SIM
  return exp2f(y);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(y));
  return result;
#endif
}
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float max_of(float a, float b) { return fmaxf(a, b); }  // drops NaN
__device__ __forceinline__ double max_of(double a, double b) { return fmax(a, b); }

__device__ __forceinline__ void prefetch([[maybe_unused]] const void* address) {
#ifndef LOREUN_SIM
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
#endif
}

// What to subtract before exp: a maximum of -inf would turn -inf terms into NaN instead of 0.
template <typename A>
__device__ __forceinline__ A shift_of(A max) {
  return max == A(-INFINITY) ? A(0) : max;
}

}  // namespace loreun::gpu
