// The kernels of either loss. What a loss is to them is its tile: some rows (or, of one row, one of `splits` pieces) that a
// block has at hand, with functions that
//   prefetch_inputs, stage       ask for what was given for a row; bring short rows to shared memory,
//   sum<kFused>, finish<kFused>  find the sums of a piece of a row; turn a row's sums into its State, and fill its table,
//   gradient_of, stored_gradient turn a State and coefficients, or what the forward pass left, into a Gradient,
//   write, copy_out, write_row   write the gradient of a piece: of a row on chip, or of one that is read again.
// kFused: the row stays in shared memory.
#pragma once
#include <cooperative_groups.h>

#include "launch.cuh"
#include "reduce.cuh"

namespace loreun::gpu {

template <typename T, typename Part, typename Sums_, typename State_, typename Gradient_>
struct TileOf {
  using Element = T;
  using A = Acc<T>;
  using Arguments = gpu::Arguments<Part>;
  using Sums = Sums_;
  using State = State_;
  using Gradient = Gradient_;
  union Cell {  // a row's state becomes its gradient, in the same thread
    State state;
    Gradient gradient;
  };
  static_assert(sizeof(Cell) <= row_state_size(sizeof(A)) && sizeof(Sums) <= sums_size(sizeof(A)));

  const Part& part;
  const Plan& plan;
  const Access<Part>& access;
  int64_t first_row;
  int rows, split;
  unsigned char* data;
  Cell* cells;
  Sums* sums;

  __device__ __forceinline__ TileOf(const Arguments& a, int64_t unit)
      : part(a.part), plan(a.plan), access(a.access) {
    const int64_t index = plan.splits > 1 ? unit / plan.splits : unit;
    first_row = index * plan.tile;
    rows = static_cast<int>(max(int64_t(0), min(plan.tile, part.rows - first_row)));
    split = static_cast<int>(unit - index * plan.splits);
    unsigned char* memory = dynamic_shared<unsigned char>();
    data = memory + plan.data_offset;
    cells = reinterpret_cast<Cell*>(memory + plan.row_offset);
    sums = reinterpret_cast<Sums*>(memory + plan.moment_offset);
  }

  // What a loss whose rows are read straight from memory leaves as it is.
  __device__ __forceinline__ void prefetch_inputs(int64_t) const {}
  __device__ __forceinline__ void stage() const {}
  __device__ __forceinline__ void copy_out() const {}
};

// The sums of every row of the tile, by chunk.
template <bool kFused, typename Tile>
__device__ __forceinline__ void sum_rows(const Tile& tile, typename Tile::Sums* sums) {
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks;
  for (int first = 0; first < tasks; first += group.count) {
    const int task = first + group.index, r = task / chunks;
    typename Tile::Sums s;
    if (task < tasks) s = tile.template sum<kFused>(r, task - r * chunks, group);
    s = reduce_group(s, group.size);
    if (group.lane == 0 && task < tasks) sums[task] = s;
  }
}

// A thread to a row; its share of the batch's sums is added to `batch`.
template <bool kFused, typename Tile>
__device__ __forceinline__ void finish_rows(const Tile& tile, const typename Tile::Sums* sums,
                                            Partial<typename Tile::A>& batch) {
  for (int r = thread_index(); r < tile.rows; r += thread_count()) {
    const auto merged = merge_chunks(sums + r * tile.plan.chunks, tile.plan.chunks);
    const auto state = tile.template finish<kFused>(tile.first_row + r, merged, true);
    add_row(batch, tile.part, state);
    if (kFused) tile.cells[r].state = state;
  }
}

// Rows that several blocks shared: a group of lanes merges a row's pieces. write: into the table, too. mine: the tile whose
// row's state to keep, or null.
template <typename Tile>
__device__ __forceinline__ Partial<typename Tile::A> finish_pieces(const typename Tile::Arguments& a, bool write,
                                                                   const Tile* mine) {
  const Tile tile(a, 0);
  const int64_t splits = tile.plan.splits, rows = tile.part.rows;
  const typename Tile::Sums* pieces = workspace_of<typename Tile::Sums>(a);
  const Group group(lanes_for(splits, rows));
  Partial<typename Tile::A> batch;
  for (int64_t first = 0; first < rows; first += group.count) {
    const int64_t row = first + group.index;
    typename Tile::Sums s;
    if (row < rows)
      for (int64_t i = group.lane; i < splits; i += group.size) s = merge(s, pieces[row * splits + i]);
    s = reduce_group(s, group.size);
    if (group.lane > 0 || row >= rows) continue;
    const auto state = tile.template finish<false>(row, s, write);
    add_row(batch, tile.part, state);
    if (mine && mine->rows && row == mine->first_row) mine->cells->state = state;
  }
  return batch;
}

// Writes batch and loss.
template <typename Tile>
__device__ __forceinline__ void settle(const typename Tile::Arguments& a, const Partial<typename Tile::A>& batch) {
  using A = typename Tile::A;
  write_batch(a.part.batch, batch, a.part.weighting.normalize);
  *static_cast<A*>(a.loss) = static_cast<A>(a.part.scale) * (batch.weighted / batch.weight);
}

template <typename Tile>
__device__ __forceinline__ void write_rows(const Tile& tile) {
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks;
  for (int task = group.index; task < tasks; task += group.count) {
    const int r = task / chunks;
    const typename Tile::Gradient gradient = tile.cells[r].gradient;
    tile.write(r, task - r * chunks, group, gradient);
  }
  tile.copy_out();
}

// ---- fused: tiny and on_chip ----

// What the other blocks need of this one: its rows' share of the batch, or the sums of its piece of a row.
template <typename Tile>
__device__ __forceinline__ void leave_sums(const Tile& tile, const typename Tile::Arguments& a,
                                           Partial<typename Tile::A>* scratch) {
  if (tile.plan.splits == 1) {
    Partial<typename Tile::A> batch;
    finish_rows<true>(tile, tile.sums, batch);
    leave_warp_sum(batch, scratch);
  } else if (thread_index() == 0 && tile.rows > 0) {
    workspace_of<typename Tile::Sums>(a)[blockIdx.x] = merge_chunks(tile.sums, tile.plan.chunks);
  }
}

// All blocks' sums, each block by itself.
template <typename Tile>
__device__ __forceinline__ Partial<typename Tile::A> sum_of_blocks(const Tile& tile, const typename Tile::Arguments& a,
                                                                   Partial<typename Tile::A>* scratch) {
  using A = typename Tile::A;
  if (tile.plan.splits > 1) {
    cooperative_groups::this_grid().sync();
    return reduce_block(finish_pieces(a, blockIdx.x == 0, &tile), scratch);
  }
  const Partial<A> sums = sum_of_warps(scratch);
  if (thread_index() == 0) workspace_of<Partial<A>>(a)[blockIdx.x] = sums;
  cooperative_groups::this_grid().sync();
  return reduce_block(sum_of_partials(workspace_of<Partial<A>>(a), gridDim.x), scratch);
}

template <typename Tile>
__device__ __forceinline__ void prepare_gradients(const Tile& tile, const Partial<typename Tile::A>& batch) {
  using A = typename Tile::A;
  const A baseline = baseline_of(batch, tile.part.weighting.normalize), upstream = static_cast<A>(tile.part.scale);
  for (int r = thread_index(); r < tile.rows; r += thread_count()) {
    const typename Tile::State state = tile.cells[r].state;
    const A weight = exp_of(state.log_weight - batch.max) / batch.weight;
    const auto c = coefficients(weight, state.objective, baseline, state.slope, upstream);
    tile.cells[r].gradient = Tile::gradient_of(tile.part, state, c);
  }
}

template <typename Tile>
__global__ void __launch_bounds__(fused_threads(sizeof(typename Tile::A)), 1)
    fused_kernel(const __grid_constant__ typename Tile::Arguments a) {
  using A = typename Tile::A;
  Partial<A>* scratch = scratch_of<Partial<A>>(a);
  const Tile tile(a, blockIdx.x);
  for (int r = thread_index(); r < tile.rows; r += thread_count()) tile.prefetch_inputs(tile.first_row + r);
  if (a.plan.staged) tile.stage();
  __syncthreads();
  sum_rows<true>(tile, tile.sums);
  __syncthreads();
  leave_sums(tile, a, scratch);
  __syncthreads();
  const Partial<A> sums = gridDim.x == 1 ? sum_of_warps(scratch) : sum_of_blocks(tile, a, scratch);
  const Partial<A> batch = normalised(sums, a.part.weighting.normalize);
  if (blockIdx.x == 0 && thread_index() == 0) settle<Tile>(a, batch);
  if (!a.with_grad) return;
  prepare_gradients(tile, batch);
  __syncthreads();
  write_rows(tile);
}

// ---- split ----

template <typename Tile>
__global__ void __launch_bounds__(kSplitThreads, kResident<typename Tile::Element>)
    stats_kernel(const __grid_constant__ typename Tile::Arguments a) {
  using A = typename Tile::A;
  const Plan& plan = a.plan;
  const int thread = thread_index();
  Partial<A>* scratch = scratch_of<Partial<A>>(a);
  Partial<A>& batch = scratch[thread_count() / kWarp + thread];  // the loop over a row needs the registers
  batch = {};
  int turn = 0;  // the next unit's sums must not overwrite those still being read
#pragma unroll 1
  for (int64_t unit = blockIdx.x; unit < plan.units; unit += plan.blocks) {
    const Tile tile(a, unit);
    auto* sums = tile.sums + turn * plan.tile * plan.chunks;
    if (thread < tile.rows) tile.prefetch_inputs(tile.first_row + thread);
    if (plan.staged) {
      tile.stage();
      __syncthreads();
    }
    sum_rows<false>(tile, sums);
    __syncthreads();
    if (plan.splits == 1)
      finish_rows<false>(tile, sums, batch);
    else if (thread == 0)
      workspace_of<typename Tile::Sums>(a)[unit] = merge_chunks(sums, plan.chunks);
    if (plan.staged) __syncthreads();
    turn ^= 1;
  }
  const Partial<A> sum = reduce_block(batch, scratch);
  if (thread == 0 && plan.splits == 1) workspace_of<Partial<A>>(a)[blockIdx.x] = sum;
}

template <typename Tile>
__global__ void __launch_bounds__(kCombineThreads, 1) combine_kernel(const __grid_constant__ typename Tile::Arguments a) {
  using A = typename Tile::A;
  const Partial<A> mine = a.plan.splits > 1 ? finish_pieces<Tile>(a, true, nullptr)
                                            : sum_of_partials(workspace_of<Partial<A>>(a), a.plan.blocks);
  const Partial<A> sums = reduce_block(mine, dynamic_shared<Partial<A>>());
  if (thread_index() == 0) settle<Tile>(a, normalised(sums, a.part.weighting.normalize));
}

// Last rows first: they are what the forward pass left in the cache.
template <typename Tile>
__global__ void __launch_bounds__(kSplitThreads, kResident<typename Tile::Element>)
    gradient_kernel(const __grid_constant__ typename Tile::Arguments a) {
  using A = typename Tile::A;
  const Plan& plan = a.plan;
  const A upstream = static_cast<A>(a.part.scale) * (a.grad_out ? *static_cast<const A*>(a.grad_out) : A(1));
  if (plan.staged) {
    const Tile tile(a, plan.units - 1 - blockIdx.x);
    for (int r = thread_index(); r < tile.rows; r += thread_count())
      tile.cells[r].gradient = Tile::stored_gradient(tile.part, tile.first_row + r, upstream);
    tile.stage();
    __syncthreads();
    return write_rows(tile);
  }
  const Group group(plan.group);
  const int64_t task = int64_t(blockIdx.x) * group.count + group.index;
  if (task >= plan.units) return;
  // Most batches allow the shorter division.
  const int64_t index = plan.units <= UINT32_MAX ? uint32_t(task) / uint32_t(plan.chunks) : task / plan.chunks;
  Tile::write_row(a, a.part.rows - 1 - index, static_cast<int>(task - index * plan.chunks), group, upstream);
}

}  // namespace loreun::gpu
