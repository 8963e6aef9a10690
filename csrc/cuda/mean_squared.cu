// LoReUn's weighted mean squared error: the fused kernel, and the three of the split regime.
#include <cooperative_groups.h>

#include "host.cuh"
#include "launch.h"
#include "mean_squared.cuh"

namespace loreun::gpu {
namespace {

struct Access {
  bool vectors, grad_vectors;  // rows of the inputs, of grad are whole aligned vectors
  bool both;                   // the gradient needs the score differences, too
};

using Arguments = ArgumentsOf<MeanSquared, Access>;

// Some samples, or one of `splits` pieces of one, and their place in shared memory. Units are vectors, or elements.
template <typename T>
struct Tile {
  using A = Acc<T>;
  const MeanSquared& part;
  const PartPlan& plan;
  const Access& access;
  int64_t first_row;
  int rows, split;
  Range piece;  // of each sample's units
  SampleState<A>* states;
  Squares<A>* sums;

  __device__ __forceinline__ Tile(const Arguments& a, int p, int64_t unit)
      : part(a.part[p]),
        plan(a.plan.part[p]),
        access(a.access[p]),
        first_row(unit / plan.splits * plan.tile),
        rows(static_cast<int>(max(int64_t(0), min(plan.tile, part.rows - first_row)))),
        split(static_cast<int>(unit % plan.splits)),
        piece(static_cast<int>(access.vectors ? part.row_size / kLanes<T> : part.row_size), split,
              static_cast<int>(plan.splits)) {
    states = reinterpret_cast<SampleState<A>*>(dynamic_shared<unsigned char>() + plan.row_offset);
    sums = reinterpret_cast<Squares<A>*>(dynamic_shared<unsigned char>() + plan.moment_offset);
  }

  __device__ __forceinline__ Kept<T> kept(int r) const {
    return {reinterpret_cast<A*>(dynamic_shared<unsigned char>() + plan.data_offset + r * plan.pitch), units()};
  }

  __device__ __forceinline__ int units() const { return piece.last - piece.first; }
};

template <int kDeep, typename T>
__device__ void sum_tile(const Tile<T>& tile, Squares<Acc<T>>* sums, bool keep) {
  using A = Acc<T>;
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks;
  for (int first = 0; first < tasks; first += group.count) {
    const int task = first + group.index;
    Squares<A> s;
    if (task < tasks) {
      const int r = task / chunks;
      const Range range(tile.units(), task - r * chunks, chunks);
      const Sample<T> sample(tile.part, tile.first_row + r);
      const Kept<T> kept = keep ? tile.kept(r) : Kept<T>{nullptr, 0};
      const bool both = keep && tile.access.both;
      s = tile.access.vectors ? sum_vectors<kDeep>(sample, tile.piece.first, range, group, kept, both)
                              : sum_elements(sample, tile.piece.first, range, group, kept, both);
    }
    s = reduce_group(s, group.size);
    if (group.lane == 0 && task < tasks) sums[task] = s;
  }
}

template <typename A>
__device__ __forceinline__ Squares<A> merge_chunks(const Squares<A>* chunk, int chunks) {
  Squares<A> s = chunk[0];
  for (int i = 1; i < chunks; i++) s = merge(s, chunk[i]);
  return s;
}

// Samples that several blocks shared: a group of lanes merges a sample's pieces. mine: the sample whose state to keep.
template <typename A>
__device__ Partial<A> finish_pieces(const Arguments& a, int p, bool write, int64_t mine, SampleState<A>* state) {
  const MeanSquared& part = a.part[p];
  const int64_t splits = a.plan.part[p].splits;
  const Squares<A>* pieces = workspace_of<Squares<A>>(a, p);
  const Group group(lanes_for(splits, part.rows));
  Partial<A> batch;
  for (int64_t first = 0; first < part.rows; first += group.count) {
    const int64_t row = first + group.index;
    Squares<A> s;
    if (row < part.rows)
      for (int64_t i = group.lane; i < splits; i += group.size) s = merge(s, pieces[row * splits + i]);
    s = reduce_group(s, group.size);
    if (group.lane > 0 || row >= part.rows) continue;
    const SampleState<A> finished = finish_sample(part, row, s, write);
    add_row(batch, finished.log_weight, finished.objective, A(1));
    if (row == mine) *state = finished;
  }
  return batch;
}

// ---- fused: tiny and on_chip ----

template <typename T>
__device__ __forceinline__ Partial<Acc<T>> finish_tile(const Tile<T>& tile) {
  Partial<Acc<T>> batch;
  for (int r = thread_index(); r < tile.rows; r += thread_count()) {
    const auto sums = merge_chunks(tile.sums + r * tile.plan.chunks, tile.plan.chunks);
    tile.states[r] = finish_sample(tile.part, tile.first_row + r, sums, true);
    add_row(batch, tile.states[r].log_weight, tile.states[r].objective, Acc<T>(1));
  }
  return batch;
}

// What the other blocks need of this one.
template <typename T>
__device__ __forceinline__ void leave_sums(const Arguments& a, int p, Partial<Acc<T>>* scratch) {
  using A = Acc<T>;
  const Tile<T> tile(a, p, blockIdx.x);
  if (tile.plan.splits == 1)
    leave_warp_sum(finish_tile(tile), scratch);
  else if (thread_index() == 0 && tile.rows > 0)
    workspace_of<Squares<A>>(a, p)[blockIdx.x] = merge_chunks(tile.sums, tile.plan.chunks);
}

template <typename T>
__device__ __forceinline__ Partial<Acc<T>> sum_batch(const Arguments& a, int p, Partial<Acc<T>>* scratch) {
  using A = Acc<T>;
  const Tile<T> tile(a, p, blockIdx.x);
  if (tile.plan.splits > 1)
    return reduce_block(finish_pieces<A>(a, p, blockIdx.x == 0, tile.rows ? tile.first_row : -1, tile.states), scratch);
  return reduce_block(sum_of_partials(workspace_of<Partial<A>>(a, p), gridDim.x), scratch);
}

template <typename T>
__device__ __forceinline__ void write_tile(const Tile<T>& tile, const Partial<Acc<T>>& batch) {
  using A = Acc<T>;
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks;
  const A baseline = baseline_of(batch, tile.part.weighting.normalize), upstream = static_cast<A>(tile.part.scale);
  for (int task = group.index; task < tasks; task += group.count) {
    const int r = task / chunks;
    const SampleState<A> state = tile.states[r];
    const A weight = exp_of(state.log_weight - batch.max) / batch.weight;
    const auto g =
        sample_gradient(tile.part, coefficients(weight, state.objective, baseline, state.slope, upstream));
    T* grad = static_cast<T*>(tile.part.grad) + (tile.first_row + r) * tile.part.grad_stride;
    write_kept(tile.kept(r), grad, tile.piece.first, Range(tile.units(), task - r * chunks, chunks), group, g,
               tile.access.both, tile.access.vectors, tile.access.grad_vectors);
  }
}

template <typename T>
__global__ void __launch_bounds__(fused_threads(sizeof(Acc<T>)), 1) fused_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const bool alone = gridDim.x == 1, first = blockIdx.x == 0 && thread_index() == 0;
  Partial<A>* scratch = scratch_of<Partial<A>>(a);
  const int warps = thread_count() / kWarp;
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const Tile<T> tile(a, p, blockIdx.x);
    sum_tile<kUnroll>(tile, tile.sums, a.with_grad);
  }
  __syncthreads();
#pragma unroll 1
  for (int p = 0; p < a.count; p++) leave_sums<T>(a, p, scratch + p * warps);
  __syncthreads();
  if (!alone) {
    for (int p = 0; p < a.count; p++) {
      if (a.plan.part[p].splits > 1) continue;
      const Partial<A> sums = sum_of_warps(scratch + p * warps);
      if (thread_index() == 0) workspace_of<Partial<A>>(a, p)[blockIdx.x] = sums;
    }
    cooperative_groups::this_grid().sync();
  }
  A loss = 0;
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const Normalize by = a.part[p].weighting.normalize;
    const Partial<A> batch =
        normalised(alone ? sum_of_warps(scratch + p * warps) : sum_batch<T>(a, p, scratch + p * warps), by);
    if (first) write_batch(a.part[p].batch, batch, by);
    loss += static_cast<A>(a.part[p].scale) * (batch.weighted / batch.weight);
    if (a.with_grad) write_tile(Tile<T>(a, p, blockIdx.x), batch);
  }
  if (first) *static_cast<A*>(a.loss) = loss;
}

// ---- split ----

template <typename T>
__global__ void __launch_bounds__(kSplitThreads, kResident<T>) stats_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const int p = a.count > 1 && blockIdx.x >= a.plan.part[1].first_block ? 1 : 0;
  const PartPlan& plan = a.plan.part[p];
  const int64_t block = blockIdx.x - plan.first_block;
  Partial<A> batch;
  int turn = 0;  // the next unit's sums must not overwrite those still being read
#pragma unroll 1
  for (int64_t unit = block; unit < plan.units; unit += plan.blocks) {
    const Tile<T> tile(a, p, unit);
    Squares<A>* sums = tile.sums + turn * plan.tile * plan.chunks;
    sum_tile<kPairs>(tile, sums, false);
    __syncthreads();
    const int r = thread_index();
    if (plan.splits > 1) {
      if (r == 0) workspace_of<Squares<A>>(a, p)[unit] = merge_chunks(sums, plan.chunks);
    } else if (r < tile.rows) {
      const auto state =
          finish_sample(tile.part, tile.first_row + r, merge_chunks(sums + r * plan.chunks, plan.chunks), true);
      add_row(batch, state.log_weight, state.objective, A(1));
    }
    turn ^= 1;
  }
  batch = reduce_block(batch, scratch_of<Partial<A>>(a));
  if (thread_index() == 0 && plan.splits == 1) workspace_of<Partial<A>>(a, p)[block] = batch;
}

template <typename A>
__global__ void __launch_bounds__(kCombineThreads, 1) combine_kernel(const __grid_constant__ Arguments a) {
  A loss = 0;
#pragma unroll 1
  for (int p = 0; p < a.count; p++) {
    const PartPlan& plan = a.plan.part[p];
    SampleState<A> unused;
    const Partial<A> mine = plan.splits > 1 ? finish_pieces<A>(a, p, true, -1, &unused)
                                            : sum_of_partials(workspace_of<Partial<A>>(a, p), plan.blocks);
    const Normalize by = a.part[p].weighting.normalize;
    const Partial<A> batch =
        normalised(reduce_block(mine, dynamic_shared<Partial<A>>() + p * (thread_count() / kWarp)), by);
    if (thread_index() == 0) write_batch(a.part[p].batch, batch, by);
    loss += static_cast<A>(a.part[p].scale) * (batch.weighted / batch.weight);
  }
  if (thread_index() == 0) *static_cast<A*>(a.loss) = loss;
}

// Last rows first: they are what the forward pass left in the cache.
template <typename T>
__global__ void __launch_bounds__(kSplitThreads, kResident<T>) gradient_kernel(const __grid_constant__ Arguments a) {
  using A = Acc<T>;
  const MeanSquared& part = a.part[0];
  const PartPlan& plan = a.plan.part[0];
  const Access& access = a.access[0];
  const A upstream = static_cast<A>(part.scale) * (a.grad_out ? *static_cast<const A*>(a.grad_out) : A(1));
  const Group group(plan.group);
  const int units = static_cast<int>(access.vectors ? part.row_size / kLanes<T> : part.row_size);
#pragma unroll 1
  for (int64_t task = int64_t(blockIdx.x) * group.count + group.index; task < plan.units;
       task += int64_t(gridDim.x) * group.count) {
    // Most batches allow the shorter division.
    const int64_t index = plan.units <= UINT32_MAX ? uint32_t(task) / uint32_t(plan.chunks) : task / plan.chunks;
    const int64_t row = part.rows - 1 - index;
    const auto gradient = [&] { return sample_gradient(part, stored_coefficients(part, row, upstream)); };
    const Range range(units, static_cast<int>(task - index * plan.chunks), plan.chunks);
    const Sample<T> sample(part, row);
    T* grad = static_cast<T*>(part.grad) + row * part.grad_stride;
    if (access.vectors)
      write_vectors(sample, grad, range, group, gradient, access.both, access.grad_vectors);
    else
      write_elements(sample, grad, range, group, gradient(), access.both);
  }
}

// ---- host ----

struct Loss {
  using Part = MeanSquared;
  using Access = gpu::Access;

  static Access access_of(const Part& part) {
    const int64_t lanes = kVectorBytes / kSize[static_cast<int>(part.dtype)];
    const auto whole = [&](const void* start, int64_t stride) { return aligned(start) && stride % lanes == 0; };
    const auto shared = [&](const void* start, int64_t stride) { return !start || whole(start, stride); };
    const bool vectors = part.row_size % lanes == 0 && whole(part.input, part.input_stride) &&
                         whole(part.target, part.target_stride) && shared(part.score_target, part.score_stride);
    const bool both = part.score_target && !part.weighting.detach;
    return {vectors, whole(part.grad, part.grad_stride), both};
  }

  static Shape shape_of(const Arguments& a, int p) {
    return {a.part[p].rows, a.part[p].row_size, a.with_grad ? 1 + a.access[p].both : 0};
  }
  static constexpr auto plan = plan_mean_squared;
  static constexpr auto gradient_plan = plan_mean_squared_gradient;

  template <typename T>
  static constexpr auto fused() { return fused_kernel<T>; }
  template <typename T>
  static constexpr auto stats() { return stats_kernel<T>; }
  template <typename T>
  static constexpr auto combine() { return combine_kernel<Acc<T>>; }
  template <typename T>
  static constexpr auto gradient() { return gradient_kernel<T>; }
};

using Launcher = Host<Loss>;

}  // namespace
}  // namespace loreun::gpu

using loreun::gpu::Launcher;

LOREUN_ENTRY_POINTS(mse, loreun::MeanSquared)
