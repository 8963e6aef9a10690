// The two running sums: of exp over a row, and of weights over a batch. Orders are fixed: results repeat bit for bit.
#pragma once
#include "common.cuh"
#include "loreun/weighting.h"

namespace loreun::gpu {

template <typename A>
__device__ __forceinline__ A eta_of(const Weighting& weighting) {
  const A eta = static_cast<A>(weighting.eta);
  return weighting.eta_factor ? eta * *static_cast<const A*>(weighting.eta_factor) : eta;
}

// A batch so far: max log-weight, sum of exp(log_weight - max), the same sum with each term times its objective, and the
// rows that take part, each as much as its class weighs.
template <typename A>
struct Partial {
  A max = A(-INFINITY), weight = 0, weighted = 0, count = 0;
};

template <typename A>
__device__ __forceinline__ Partial<A> merge(const Partial<A>& a, const Partial<A>& b) {
  const A max = max_of(a.max, b.max), shift = shift_of(max);
  const A of_a = exp_of(a.max - shift), of_b = exp_of(b.max - shift);  // 0 for a maximum of -inf
  return {max, a.weight * of_a + b.weight * of_b, a.weighted * of_a + b.weighted * of_b, a.count + b.count};
}

// A row of weight exp(-inf) adds 0, or NaN if its objective is not finite; a NaN log-weight makes the sums NaN.
template <typename A>
__device__ __forceinline__ void add_row(Partial<A>& batch, A log_weight, A objective, A count) {
  const A one = log_weight == A(-INFINITY) ? A(0) : exp_of(log_weight - log_weight);
  batch = merge(batch, {log_weight, one, one * objective, count});
}

// The same sums such that weight is what the weights are divided by, and weighted / weight the batch's loss.
template <typename A>
__device__ __forceinline__ Partial<A> normalised(const Partial<A>& batch, Normalize by) {
  if (by == Normalize::batch) return batch;
  return {A(0), by == Normalize::mean ? batch.count : A(1), batch.weighted * exp_of(batch.max), batch.count};
}

// What a row's objective is measured from where gradients flow through the weights: see Batch.
template <typename A>
__device__ __forceinline__ A baseline_of(const Partial<A>& batch, Normalize by) {
  return by == Normalize::batch ? batch.weighted / batch.weight : A(0);
}

// The sums, numbers all of them, of the lane whose number differs in this bit.
template <template <typename> typename Sums, typename A>
__device__ __forceinline__ Sums<A> shuffle_xor(Sums<A> sums, int bit) {
  A* number = reinterpret_cast<A*>(&sums);
#pragma unroll
  for (size_t i = 0; i < sizeof(sums) / sizeof(A); i++) number[i] = __shfl_xor_sync(kAllLanes, number[i], bit);
  return sums;
}

// Over a group of neighbouring lanes (a power of two); every lane of the warp takes part and gets its group's result.
template <typename Value>
__device__ __forceinline__ Value reduce_group(Value value, int group) {
  for (int lanes = group / 2; lanes > 0; lanes /= 2) value = merge(value, shuffle_xor(value, lanes));
  return value;
}

// Lanes that merge `count` values of each of `rows` rows: not more than there are values, nor than leave a block's threads
// a row each, so that it is done in as few rounds as can be.
__device__ __forceinline__ int lanes_for(int64_t count, int64_t rows) {
  int lanes = kWarp;
  while (lanes > 1 && (lanes >= 2 * count || lanes * rows > thread_count())) lanes /= 2;
  return lanes;
}

// Over the block, in two steps with a barrier between them; every thread gets the result. scratch: a value per warp.
template <typename A>
__device__ __forceinline__ void leave_warp_sum(const Partial<A>& value, Partial<A>* scratch) {
  const Partial<A> sum = reduce_group(value, kWarp);
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = sum;
}

template <typename A>
__device__ __forceinline__ Partial<A> sum_of_warps(const Partial<A>* scratch) {
  const unsigned lane = threadIdx.x % kWarp;
  return reduce_group(lane < blockDim.x / kWarp ? scratch[lane] : Partial<A>{}, kWarp);
}

template <typename A>
__device__ __forceinline__ Partial<A> reduce_block(const Partial<A>& value, Partial<A>* scratch) {
  leave_warp_sum(value, scratch);
  __syncthreads();
  return sum_of_warps(scratch);
}

// One thread's share of all blocks' partial sums.
template <typename A>
__device__ __forceinline__ Partial<A> sum_of_partials(const Partial<A>* partials, int64_t count) {
  Partial<A> batch;
#pragma unroll 2
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) batch = merge(batch, partials[i]);
  return batch;
}

template <typename A>
__device__ __forceinline__ void write_batch(double* to, const Partial<A>& batch, Normalize by) {
  to[kLogNormaliser] = static_cast<double>(batch.max) + static_cast<double>(log_by(batch.weight));
  to[kMean] = static_cast<double>(batch.weighted / batch.weight);
  to[kBaseline] = static_cast<double>(baseline_of(batch, by));
}

// Of the backward pass: as they were given, or as table and batch say.
template <typename Part, typename A>
__device__ __forceinline__ Coefficients<A> stored_coefficients(const Part& part, int64_t row, A upstream) {
  if (part.given.objective) return coefficients(part.given, row, upstream);
  const A* table = static_cast<const A*>(part.table) + row;
  const double log_weight = table[kLogWeight * part.rows];
  const A weight = exp_of(static_cast<A>(log_weight - part.batch[kLogNormaliser]));
  return coefficients(weight, table[kObjective * part.rows], static_cast<A>(part.batch[kBaseline]),
                      table[kSlope * part.rows], upstream);
}

// Running maximum of a row, sum of exp(x - max), and sum of x - base (for label smoothing).
template <typename A>
struct Moments {
  A max = A(-INFINITY), sum = 0, total = 0;
};

template <typename A>
__device__ __forceinline__ Moments<A> merge(const Moments<A>& a, const Moments<A>& b) {
  const A max = max_of(a.max, b.max), shift = shift_of(max);
  return {max, a.sum * exp_of(a.max - shift) + b.sum * exp_of(b.max - shift), a.total + b.total};
}

static_assert(sizeof(Partial<float>) == sums_size(4) && sizeof(Moments<double>) <= sums_size(8));

}  // namespace loreun::gpu
