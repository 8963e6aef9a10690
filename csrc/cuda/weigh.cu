// Weights that were made elsewhere: their normalisation, and the loss.
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

}  // namespace

int weigh(const Weighing& w, void* stream) {
  const Plan plan = plan_combine(acc_size(w.dtype));
  return w.dtype == DType::f64 ? launch(weigh_kernel<double>, plan, w, stream) : launch(weigh_kernel<float>, plan, w, stream);
}

}  // namespace loreun::gpu
