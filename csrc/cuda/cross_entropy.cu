// LoReUn's weighted cross entropy: the fused kernel, and the three of the split regime.
#include <cooperative_groups.h>

#include "cross_entropy_tile.cuh"
#include "host.cuh"
#include "launch.h"

namespace loreun::gpu {
namespace {

// ---- fused: tiny and on_chip ----

// The thread's first row is asked for before the logits, so that both are under way together.
template <typename T>
__device__ __forceinline__ void bring_in(const Arguments& a) {
  const int thread = thread_index();
  RowState<Acc<T>> mine[2];
#pragma unroll
  for (int p = 0; p < 2; p++) {
    if (p >= a.count) continue;
    const Tile<T> tile(a, p, blockIdx.x);
    if (thread < tile.rows) mine[p] = read_inputs<Acc<T>>(tile.part, tile.first_row + thread);
  }
#pragma unroll 1
  for (int p = 0; p < a.count; p++)
    if (a.plan.part[p].staged) stage(Tile<T>(a, p, blockIdx.x));
#pragma unroll
  for (int p = 0; p < 2; p++) {
    if (p >= a.count) continue;
    const Tile<T> tile(a, p, blockIdx.x);
    for (int r = thread; r < tile.rows; r += thread_count())
      tile.states[r] = r == thread ? mine[p] : read_inputs<Acc<T>>(tile.part, tile.first_row + r);
  }
}

template <typename T>
__device__ __forceinline__ Partial<Acc<T>> finish_tile(const Tile<T>& tile) {
  using A = Acc<T>;
  Partial<A> sums;
  for (int r = thread_index(); r < tile.rows; r += thread_count()) {
    RowState<A> state = tile.states[r];
    const T* row = tile.shared_row(r);
    const auto logit = [&](int64_t label) { return to_acc(row[label]); };
    finish_row(tile.part, tile.first_row + r, state,
               merge_chunks(tile.moments + r * tile.plan.chunks, tile.plan.chunks), tile.base(row), logit);
    add_row(sums, tile.part, state);
    tile.states[r] = state;
  }
  return sums;
}

// States become gradients in place; the same thread reads and writes each.
template <typename T>
__device__ __forceinline__ void prepare_gradients(const Tile<T>& tile, const Partial<Acc<T>>& batch) {
  using A = Acc<T>;
  const A baseline = baseline_of(batch, tile.part.weighting.normalize), upstream = static_cast<A>(tile.part.scale);
  for (int r = thread_index(); r < tile.rows; r += thread_count()) {
    const RowState<A> state = tile.states[r];
    const A weight = exp_of(state.log_weight - batch.max) / batch.weight;
    const auto c = coefficients(weight, state.objective, baseline, state.slope, upstream);
    reinterpret_cast<RowGradient<A>*>(tile.states)[r] = row_gradient(tile.part, state, c);
  }
}

template <typename T>
__global__ void __launch_bounds__(fused_threads(sizeof(Acc<T>)), 1) fused_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const bool alone = gridDim.x == 1, first = blockIdx.x == 0 && thread_index() == 0;
  Partial<A>* scratch = scratch_of<Partial<A>>(a);
  const int warps = thread_count() / kWarp;
  bring_in<T>(a);
  __syncthreads();
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const Tile<T> tile(a, p, blockIdx.x);
    sum_tile(tile, tile.moments, 0, true);
  }
  __syncthreads();
#pragma unroll 1
  for (int p = 0; p < a.count; p++) leave_warp_sum(finish_tile(Tile<T>(a, p, blockIdx.x)), scratch + p * warps);
  __syncthreads();
  if (!alone) {
    for (int p = 0; p < a.count; p++) {
      const Partial<A> sums = sum_of_warps(scratch + p * warps);
      if (thread_index() == 0) workspace_of<Partial<A>>(a, p)[blockIdx.x] = sums;
    }
    cooperative_groups::this_grid().sync();
  }
  A loss = 0;
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const Normalize by = a.part[p].weighting.normalize;
    const Partial<A> batch = normalised(
        alone ? sum_of_warps(scratch + p * warps)
              : reduce_block(sum_of_partials(workspace_of<Partial<A>>(a, p), gridDim.x), scratch + p * warps), by);
    if (first) write_batch(a.part[p].batch, batch, by);
    loss += static_cast<A>(a.part[p].scale) * (batch.weighted / batch.weight);
    if (a.with_grad) prepare_gradients(Tile<T>(a, p, blockIdx.x), batch);
  }
  if (first) *static_cast<A*>(a.loss) = loss;
  if (!a.with_grad) return;
  __syncthreads();
#pragma unroll 1
  for (int p = 0; p < a.count; p++) write_tile(Tile<T>(a, p, blockIdx.x));
}

// ---- split ----

// The tile's rows, a thread each. Their logits were just read: they are in a cache, or in shared memory.
template <typename T>
__device__ __forceinline__ void finish_rows(const Tile<T>& tile, const Moments<Acc<T>>* moments,
                                            Partial<Acc<T>>& sums) {
  const int r = thread_index();
  if (r >= tile.rows) return;
  const T* row = tile.plan.staged ? tile.shared_row(r) : tile.global_row(r);
  const int64_t stride = tile.plan.staged ? 1 : tile.part.class_stride;
  const auto logit = [&](int64_t label) { return to_acc(row[label * stride]); };
  RowState<Acc<T>> state = read_inputs<Acc<T>>(tile.part, tile.first_row + r);
  finish_row(tile.part, tile.first_row + r, state, merge_chunks(moments + r * tile.plan.chunks, tile.plan.chunks),
             tile.base(row), logit);
  add_row(sums, tile.part, state);
}

template <typename T>
__global__ void __launch_bounds__(kSplitThreads, kResident<T>) stats_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const int p = a.count > 1 && blockIdx.x >= a.plan.part[1].first_block ? 1 : 0;
  const PartPlan& plan = a.plan.part[p];
  const int64_t block = blockIdx.x - plan.first_block;
  const int thread = thread_index();
  Partial<A>* scratch = scratch_of<Partial<A>>(a);
  Partial<A>& sums = scratch[thread_count() / kWarp + thread];  // the loop over a row needs the registers
  sums = {};
  int turn = 0;  // the next unit's sums must not overwrite those still being read
#pragma unroll 1
  for (int64_t unit = block; unit < plan.units; unit += plan.blocks) {
    const int64_t index = plan.splits > 1 ? unit / plan.splits : unit;
    const Tile<T> tile(a, p, index);
    Moments<A>* moments = tile.moments + turn * plan.tile * plan.chunks;
    if (thread < tile.rows) prefetch_inputs<A>(tile.part, tile.first_row + thread);
    if (plan.staged) {
      stage(tile);
      __syncthreads();
    }
    sum_tile(tile, moments, static_cast<int>(unit - index * plan.splits), false);
    __syncthreads();
    if (plan.splits == 1)
      finish_rows(tile, moments, sums);
    else if (thread == 0)
      workspace_of<Moments<A>>(a, p)[unit] = merge_chunks(moments, plan.chunks);
    if (plan.staged) __syncthreads();
    turn ^= 1;
  }
  const Partial<A> batch = reduce_block(sums, scratch);
  if (thread == 0 && plan.splits == 1) workspace_of<Partial<A>>(a, p)[block] = batch;
}

// Rows that several blocks shared: a group of lanes merges a row's pieces.
template <typename T>
__device__ Partial<Acc<T>> finish_pieces(const Arguments& a, int p) {
  using A = Acc<T>;
  const CrossEntropy& part = a.part[p];
  const int64_t splits = a.plan.part[p].splits;
  const Group group(lanes_for(splits, part.rows));
  const Tile<T> tile(a, p, 0);
  Partial<A> sums;
  for (int64_t first = 0; first < part.rows; first += group.count) {
    const int64_t row = first + group.index;
    Moments<A> m;
    if (row < part.rows)
      for (int64_t i = group.lane; i < splits; i += group.size)
        m = merge(m, workspace_of<Moments<A>>(a, p)[row * splits + i]);
    m = reduce_group(m, group.size);
    if (group.lane > 0 || row >= part.rows) continue;
    RowState<A> state = read_inputs<A>(part, row);
    const T* logits = static_cast<const T*>(part.logits) + row * part.row_stride;
    const auto logit = [&](int64_t label) { return to_acc(logits[label * part.class_stride]); };
    finish_row(part, row, state, m, tile.base(logits), logit);
    add_row(sums, part, state);
  }
  return sums;
}

template <typename T>
__global__ void __launch_bounds__(kCombineThreads, 1) combine_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  A loss = 0;
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const PartPlan& plan = a.plan.part[p];
    const Partial<A> mine =
        plan.splits > 1 ? finish_pieces<T>(a, p) : sum_of_partials(workspace_of<Partial<A>>(a, p), plan.blocks);
    const Normalize by = a.part[p].weighting.normalize;
    const Partial<A> batch =
        normalised(reduce_block(mine, dynamic_shared<Partial<A>>() + p * (thread_count() / kWarp)), by);
    if (thread_index() == 0) write_batch(a.part[p].batch, batch, by);
    loss += static_cast<A>(a.part[p].scale) * (batch.weighted / batch.weight);
  }
  if (thread_index() == 0) *static_cast<A*>(a.loss) = loss;
}

template <typename T>
__device__ __forceinline__ RowGradient<Acc<T>> stored_gradient(const CrossEntropy& part, int64_t row, Acc<T> upstream) {
  using A = Acc<T>;
  RowState<A> state = read_labels<A>(part, row);
  const A* table = static_cast<const A*>(part.table) + row;
  state.max = table[kMax * part.rows], state.log_sum = table[kLogSum * part.rows];
  return row_gradient(part, state, stored_coefficients(part, row, upstream));
}

// Last rows first: they are what the forward pass left in the cache.
template <typename T>
__global__ void __launch_bounds__(kSplitThreads, kResident<T>) gradient_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const CrossEntropy& part = a.part[0];
  const PartPlan& plan = a.plan.part[0];
  const A upstream = static_cast<A>(part.scale) * (a.grad_out ? *static_cast<const A*>(a.grad_out) : A(1));
  if (plan.staged) {
#pragma unroll 1
    for (int64_t unit = blockIdx.x; unit < plan.units; unit += gridDim.x) {
      const Tile<T> tile(a, 0, plan.units - 1 - unit);
      for (int r = thread_index(); r < tile.rows; r += thread_count())
        reinterpret_cast<RowGradient<A>*>(tile.states)[r] = stored_gradient<T>(part, tile.first_row + r, upstream);
      stage(tile);
      __syncthreads();
      write_tile(tile);
      __syncthreads();
    }
    return;
  }
  const Group group(plan.group);
  const int classes = static_cast<int>(part.classes);
#pragma unroll 1
  for (int64_t task = int64_t(blockIdx.x) * group.count + group.index; task < plan.units;
       task += int64_t(gridDim.x) * group.count) {
    // Most batches allow the shorter division.
    const int64_t index = plan.units <= UINT32_MAX ? uint32_t(task) / uint32_t(plan.chunks) : task / plan.chunks;
    const int64_t row = part.rows - 1 - index;
    const int chunk = static_cast<int>(task - index * plan.chunks);
    const T* logits = static_cast<const T*>(part.logits) + row * part.row_stride;
    T* grad = static_cast<T*>(part.grad) + row * part.grad_row_stride;
    const auto gradient = [&] { return stored_gradient<T>(part, row, upstream); };
    if (a.access[0].grad_vectors)
      write_vectors(logits, grad, classes, chunk, plan.chunks, group, gradient);
    else
      write_elements(logits, part.class_stride, grad, part.grad_class_stride, classes, chunk, plan.chunks, group,
                     gradient());
  }
}

// ---- host ----

struct Loss {
  using Part = CrossEntropy;
  using Access = gpu::Access;

  static Access access_of(const Part& part) {
    const int64_t size = kSize[static_cast<int>(part.dtype)];
    const auto dense = [&](const void* start, int64_t row_stride, int64_t class_stride) {
      return class_stride == 1 && row_stride == part.classes && aligned(start);
    };
    Access access;
    access.vectors = part.class_stride == 1;
    access.dense_rows = dense(part.logits, part.row_stride, part.class_stride);
    access.dense_grad = dense(part.grad, part.grad_row_stride, part.grad_class_stride);
    const auto offset = reinterpret_cast<intptr_t>(part.grad) - reinterpret_cast<intptr_t>(part.logits);
    access.grad_vectors = access.vectors && part.grad_class_stride == 1 && offset % kVectorBytes == 0 &&
                          (part.grad_row_stride - part.row_stride) * size % kVectorBytes == 0;
    return access;
  }

  static Shape shape_of(const Arguments& a, int p) { return {a.part[p].rows, a.part[p].classes}; }
  static constexpr auto plan = plan_cross_entropy;
  static constexpr auto gradient_plan = plan_cross_entropy_gradient;

  template <typename T>
  static constexpr auto fused() { return fused_kernel<T>; }
  template <typename T>
  static constexpr auto stats() { return stats_kernel<T>; }
  template <typename T>
  static constexpr auto combine() { return combine_kernel<T>; }
  template <typename T>
  static constexpr auto gradient() { return gradient_kernel<T>; }
};

using Launcher = Host<Loss>;

}  // namespace
}  // namespace loreun::gpu

using loreun::gpu::Launcher;

LOREUN_ENTRY_POINTS(ce, loreun::CrossEntropy)
