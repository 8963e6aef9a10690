// What serves either loss: weights that were made elsewhere, with their normalisation and the loss; and the product of a
// finished gradient and the one that arrives.
#include "launch.cuh"
#include "launch.h"
#include "reduce.cuh"

namespace loreun::gpu {
namespace {

template <typename A>
__global__ void __launch_bounds__(kCombineThreads, 1) weigh_kernel(const __grid_constant__ Weighing w) {
  const A *table = static_cast<const A*>(w.table), *weights = static_cast<const A*>(w.weights);
  const auto weight = [&](int64_t i) { return row_weight(weights[i], table[kLogWeight * w.rows + i]); };
  Partial<A> mine{A(0)};  // plain sums: the maximum is 0
#pragma unroll 2
  for (int64_t i = thread_index(); i < w.rows; i += thread_count()) {
    const A u = weight(i);
    mine.weight += u, mine.weighted += u * table[kObjective * w.rows + i];
  }
  const Partial<A> sums = reduce_block(mine, dynamic_shared<Partial<A>>());
  const A divisor = divisor_of(w, sums.weight);
  for (int64_t i = thread_index(); i < w.rows; i += thread_count())
    static_cast<A*>(w.normalised)[i] = weight(i) / divisor;
  if (thread_index() == 0) *static_cast<A*>(w.loss) = static_cast<A>(w.scale) * sums.weighted / divisor;
}

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

int weigh(const Weighing& w, void* stream) {
  const Plan plan = plan_combine(acc_size(w.dtype));
  return w.dtype == DType::f64 ? launch(weigh_kernel<double>, plan, w, stream) : launch(weigh_kernel<float>, plan, w, stream);
}

int scale(DType dtype, void* grad, int64_t count, const void* grad_out, void* stream) {
  if (count == 0) return cudaSuccess;
  Device device;
  if (const cudaError_t error = current_device(&device)) return error;
  const Plan plan = plan_elementwise(device, count);
  return with_type(dtype, [&](auto type) {
    return launch(scale_kernel<decltype(type)>, plan, Scaling{grad, count, grad_out}, stream);
  });
}

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

}  // namespace loreun::gpu
