// What a kernel is given, and how it is launched.
#pragma once
#include "common.cuh"

namespace loreun::gpu {

// How the memory of a part can be read and written: each loss's own.
template <typename Part>
struct Access;

template <typename Part>
struct Arguments {
  Part part;
  Access<Part> access;
  Plan plan;
  bool with_grad;
  void *loss, *workspace;
  const void* grad_out;  // null: 1
};

// Memory that a kernel finds through the plan.
template <typename Value, typename Given>
__device__ __forceinline__ Value* scratch_of(const Given& a) {
  return reinterpret_cast<Value*>(dynamic_shared<unsigned char>() + a.plan.scratch_offset);
}

template <typename Value, typename Given>
__device__ __forceinline__ Value* workspace_of(const Given& a) {
  return static_cast<Value*>(a.workspace);
}

// The current device. Not cached: the runtime keeps these values, and partitioning may change them.
inline cudaError_t current_device(Device* device) {
  int id, smem, cooperative;
  cudaError_t error = cudaGetDevice(&id);
  if (!error) error = cudaDeviceGetAttribute(&device->sms, cudaDevAttrMultiProcessorCount, id);
  if (!error) error = cudaDeviceGetAttribute(&smem, cudaDevAttrMaxSharedMemoryPerBlockOptin, id);
  if (!error) error = cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, id);
  if (error) return error;
  device->smem_per_block = smem;
  device->cooperative = cooperative != 0;
  return cudaSuccess;
}

// Every kernel takes one struct by value.
template <typename Arguments>
int launch(void (*kernel)(Arguments), const Plan& plan, const Arguments& arguments, void* stream) {
  if (plan.smem > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(plan.smem));
    if (error) return error;
  }
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(plan.blocks));
  config.blockDim = dim3(static_cast<unsigned>(plan.threads));
  config.dynamicSmemBytes = static_cast<size_t>(plan.smem);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &cooperative;
  config.numAttrs = plan.regime == Regime::on_chip ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments);
  if (error) cudaGetLastError();  // reported once, by the caller
  return error;
}

// Calls body with a value of the element type.
template <typename Body>
int with_type(DType dtype, Body body) {
  switch (dtype) {
    case DType::f32: return body(float{});
    case DType::f64: return body(double{});
    case DType::bf16: return body(__nv_bfloat16{});
    case DType::f16: return body(__half{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace loreun::gpu
