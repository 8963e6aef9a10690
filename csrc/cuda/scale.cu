// Multiplies a finished gradient by the gradient that arrives.
#include "launch.cuh"
#include "launch.h"
#include "vector.cuh"

namespace loreun::gpu {
namespace {

struct Scaling {
  void* grad;
  int64_t count;
  const void* grad_out;
  bool vectors;
};

template <typename T>
__global__ void __launch_bounds__(kSplitThreads) scale_kernel(const __grid_constant__ Scaling a) {
  const Acc<T> factor = *static_cast<const Acc<T>*>(a.grad_out);
  if (factor == 1) return;
  T* grad = static_cast<T*>(a.grad);
  const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, threads = int64_t(gridDim.x) * blockDim.x;
  const int64_t vectors = a.vectors ? a.count / kLanes<T> : 0;
  for (int64_t v = thread; v < vectors; v += threads) {
    const Pack<T> pack = load(grad + v * kLanes<T>);
    Acc<T> x[kLanes<T>];
#pragma unroll
    for (int e = 0; e < kLanes<T>; e++) x[e] = element(pack, e) * factor;
    store(grad + v * kLanes<T>, packed<Pack<T>>(x));
  }
  for (int64_t i = vectors * kLanes<T> + thread; i < a.count; i += threads)
    grad[i] = from_acc<T>(to_acc(grad[i]) * factor);
}

}  // namespace

int scale(DType dtype, void* grad, int64_t count, const void* grad_out, void* stream) {
  if (count == 0) return cudaSuccess;
  Device device;
  if (const cudaError_t error = current_device(&device)) return error;
  const Scaling scaling{grad, count, grad_out, aligned(grad)};
  const Plan plan = plan_elementwise(device, dtype, count);
  return with_type(dtype, [&](auto type) { return launch(scale_kernel<decltype(type)>, plan, scaling, stream); });
}

}  // namespace loreun::gpu
