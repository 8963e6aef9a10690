// Stands before CUDA's own <cuda_runtime.h> when a .cu file is compiled by a host compiler: the language, the built-in
// functions of device code, and the launch. Types and constants are CUDA's.
#pragma once
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "machine.h"

#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __shared__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __align__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static_assert(false, "only dynamic shared memory is emulated");
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __grid_constant__

#define LOREUN_CHECK_ALIGNED(address, bytes) ::loreun_sim::check_aligned(address, bytes, ::loreun_sim::Where::current())

constexpr int warpSize = 32;

#include "intrinsics.h"

// Launches and waits. Arguments convert to the kernel's parameters as they would in a call.
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  using Call = std::pair<void (*)(Parameters...), std::tuple<Parameters...>>;
  Call call{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  loreun_sim::Shape shape{config->gridDim, config->blockDim, config->dynamicSmemBytes, false};
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const auto& attribute = config->attrs[i];
    if (attribute.id == cudaLaunchAttributeCooperative) shape.cooperative = attribute.val.cooperative;
  }
  const auto body = [](void* pointer) {
    const Call& it = *static_cast<Call*>(pointer);
    std::apply(it.first, it.second);
  };
  return loreun_sim::record(shape, loreun_sim::run(reinterpret_cast<const void*>(kernel), shape, body, &call));
}

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel* kernel, int threads, size_t shared_bytes) {
  if (shared_bytes > loreun_sim::shared_limit(reinterpret_cast<const void*>(kernel))) return *blocks = 0, cudaSuccess;
  *blocks = loreun_sim::device.blocks_per_sm(threads, shared_bytes);
  return cudaSuccess;
}
