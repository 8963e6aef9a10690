// Multiplies a finished gradient by the gradient that arrives.
#include "launch.cuh"
#include "launch.h"

namespace loreun::gpu {
namespace {

struct Scaling {
  void* grad;
  int64_t count;
  const void* grad_out;
};

template <typename T>
__global__ void __launch_bounds__(kSplitThreads) scale_kernel(const __grid_constant__ Scaling a) {
  const Acc<T> factor = *static_cast<const Acc<T>*>(a.grad_out);
  if (factor == 1) return;
  T* grad = static_cast<T*>(a.grad);
  for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += int64_t(gridDim.x) * blockDim.x)
    grad[i] = from_acc<T>(to_acc(grad[i]) * factor);
}

}  // namespace

int scale(DType dtype, void* grad, int64_t count, const void* grad_out, void* stream) {
  if (count == 0) return cudaSuccess;
  Device device;
  if (const cudaError_t error = current_device(&device)) return error;
  const Plan plan = plan_elementwise(device, count);
  return with_type(dtype, [&](auto type) {
    return launch(scale_kernel<decltype(type)>, plan, Scaling{grad, count, grad_out}, stream);
  });
}

}  // namespace loreun::gpu
