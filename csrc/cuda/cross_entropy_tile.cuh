// Some rows of cross entropy that a block has at hand: reading, summing, writing them with all its threads.
#pragma once
#include "cross_entropy.cuh"
#include "launch.cuh"

namespace loreun::gpu {
namespace {

// How the memory of one part can be read and written.
struct Access {
  bool dense_rows, vectors;       // logits: one aligned run without gaps; class_stride 1
  bool dense_grad, grad_vectors;  // the same of grad; grad_vectors: and each row is aligned as its logits are
};

using Arguments = ArgumentsOf<CrossEntropy, Access>;

// The rows a block has at hand, and their place in shared memory.
template <typename T>
struct Tile {
  using A = Acc<T>;
  const CrossEntropy& part;
  const PartPlan& plan;
  const Access& access;
  int64_t first_row;
  int rows, classes;
  T* data;
  RowState<A>* states;
  Moments<A>* moments;

  __device__ __forceinline__ Tile(const Arguments& a, int p, int64_t index)
      : part(a.part[p]),
        plan(a.plan.part[p]),
        access(a.access[p]),
        first_row(index * plan.tile),
        rows(static_cast<int>(max(int64_t(0), min(plan.tile, part.rows - first_row)))),
        classes(static_cast<int>(part.classes)) {
    unsigned char* memory = dynamic_shared<unsigned char>();
    data = reinterpret_cast<T*>(memory + plan.data_offset);
    states = reinterpret_cast<RowState<A>*>(memory + plan.row_offset);
    moments = reinterpret_cast<Moments<A>*>(memory + plan.moment_offset);
  }

  __device__ __forceinline__ const T* global_row(int r) const {
    return static_cast<const T*>(part.logits) + (first_row + r) * part.row_stride;
  }

  __device__ __forceinline__ T* global_grad(int r) const {
    return static_cast<T*>(part.grad) + (first_row + r) * part.grad_row_stride;
  }

  // Row r in shared memory, aligned as it is in global memory where that matters.
  __device__ __forceinline__ T* shared_row(int r) const {
    const int64_t shift =
        !plan.staged && access.vectors ? reinterpret_cast<uintptr_t>(global_row(r)) % kVectorBytes : 0;
    return reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(data) + r * plan.pitch + shift);
  }

  // What Moments::total is relative to, so that the mean of logits far from zero stays exact.
  __device__ __forceinline__ A base(const T* row) const {
    if (part.label_smoothing == 0) return 0;
    const A first = to_acc(row[0]);
    return first - first == 0 ? first : A(0);
  }
};

// Brings a tile of short rows to shared memory.
template <typename T>
__device__ void stage(const Tile<T>& tile) {
  const int n = tile.rows * tile.classes;
  if (tile.access.dense_rows) return copy_run(tile.data, tile.global_row(0), n);
#pragma unroll 4
  for (int i = thread_index(); i < n; i += thread_count()) {
    const int r = i / tile.classes;
    tile.data[i] = tile.global_row(r)[(i - r * tile.classes) * tile.part.class_stride];
  }
}

// Sums of every row of the tile (or of one of `splits` pieces of its only row), by chunk. keep: leave the row on chip.
template <typename T>
__device__ void sum_tile(const Tile<T>& tile, Moments<Acc<T>>* moments, int split, bool keep) {
  using A = Acc<T>;
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks, pieces = chunks * static_cast<int>(tile.plan.splits);
  const bool total = tile.part.label_smoothing != 0;
  for (int first = 0; first < tasks; first += group.count) {
    const int task = first + group.index;
    Moments<A> m;
    if (task < tasks) {
      const int r = task / chunks, piece = split * chunks + task - r * chunks;
      const T *staged = tile.shared_row(r), *row = tile.global_row(r);
      T* kept = keep ? tile.shared_row(r) : nullptr;
      if (tile.plan.staged)
        m = sum_elements(staged, 1, (T*)nullptr, tile.classes, 0, 1, group, tile.base(staged), total);
      else if (tile.access.vectors)
        m = sum_vectors(row, kept, tile.classes, piece, pieces, group, tile.base(row), total);
      else
        m = sum_elements(row, tile.part.class_stride, kept, tile.classes, piece, pieces, group, tile.base(row), total);
    }
    m = reduce_group(m, group.size);
    if (group.lane == 0 && task < tasks) moments[task] = m;
  }
}

// Two passes, each of independent reads, instead of a chain of merges.
template <typename A>
__device__ __forceinline__ Moments<A> merge_chunks(const Moments<A>* chunk, int chunks) {
  Moments<A> m = chunk[0];
#pragma unroll 2
  for (int i = 1; i < chunks; i++) m.max = max_of(m.max, chunk[i].max);
  const A shift = shift_of(m.max);
  m.sum *= exp_of(chunk[0].max - shift);
#pragma unroll 2
  for (int i = 1; i < chunks; i++) {
    m.sum += chunk[i].sum * exp_of(chunk[i].max - shift);
    m.total += chunk[i].total;
  }
  return m;
}

// From shared memory to grad, or, where grad is one run, in place first.
template <typename T>
__device__ void write_tile(const Tile<T>& tile) {
  const Group group(tile.plan.group);
  const int chunks = tile.plan.chunks, tasks = tile.rows * chunks;
  const bool in_place = tile.plan.staged && tile.access.dense_grad;
  for (int task = group.index; task < tasks; task += group.count) {
    const int r = task / chunks, chunk = task - r * chunks;
    T *row = tile.shared_row(r), *grad = tile.global_grad(r);
    const RowGradient<Acc<T>> g = reinterpret_cast<const RowGradient<Acc<T>>*>(tile.states)[r];
    if (in_place)
      write_elements(row, 1, row, 1, tile.classes, chunk, chunks, group, g);
    else if (!tile.plan.staged && tile.access.grad_vectors)
      write_vectors(row, grad, tile.classes, chunk, chunks, group, [&] { return g; });
    else
      write_elements(row, 1, grad, tile.part.grad_class_stride, tile.classes, chunk, chunks, group, g);
  }
  if (!in_place) return;
  __syncthreads();
  copy_run(tile.global_grad(0), tile.data, tile.rows * tile.classes);
}

}  // namespace
}  // namespace loreun::gpu
