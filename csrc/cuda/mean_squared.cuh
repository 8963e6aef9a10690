// One sample of the mean squared error: its sums, its losses, its gradient.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

namespace loreun::gpu {

// Sums of squared differences, from target and from score_target.
template <typename A>
struct Squares {
  A objective = 0, score = 0;
};

template <typename A>
__device__ __forceinline__ Squares<A> merge(const Squares<A>& a, const Squares<A>& b) {
  return {a.objective + b.objective, a.score + b.score};
}

template <typename A>
__device__ __forceinline__ Squares<A> shuffle_xor(const Squares<A>& a, int lanes) {
  return {__shfl_xor_sync(kAllLanes, a.objective, lanes), __shfl_xor_sync(kAllLanes, a.score, lanes)};
}

template <typename A>
struct SampleState {
  A objective, log_weight, slope;
};

template <typename A>
__device__ __forceinline__ SampleState<A> finish_sample(const MeanSquared& part, int64_t row, const Squares<A>& sums,
                                                        bool write) {
  const Weighting& w = part.weighting;
  const A divisor = static_cast<A>(part.divisor), ref = reference_loss<A>(w, row);
  const A objective = sums.objective / divisor;
  A score = part.score_target ? sums.score / divisor : objective;
  if (w.score_loss) score = static_cast<const A*>(w.score_loss)[row];
  const auto weight = log_weight(w, eta_of<A>(w), score, ref);
  const A slope = w.detach || w.score_loss ? A(0) : weight.slope;
  if (write) {
    A* table = static_cast<A*>(part.table) + row;
    table[kObjective * part.rows] = objective;
    table[kScore * part.rows] = score;
    table[kLogWeight * part.rows] = weight.value;
    table[kSlope * part.rows] = slope;
  }
  return {objective, weight.value, slope};
}

// dx = target * (x - target) + score * (x - score_target)
template <typename A>
struct SampleGradient {
  A target, score;
};

template <typename A>
__device__ __forceinline__ SampleGradient<A> sample_gradient(const MeanSquared& part, const Coefficients<A>& c) {
  const A both = 2 / static_cast<A>(part.divisor);
  if (!part.score_target) return {both * (c.objective + c.score), A(0)};
  return {both * c.objective, both * c.score};
}

// The three tensors of one sample.
template <typename T>
struct Sample {
  const T *input, *target, *score;
  __device__ __forceinline__ Sample(const MeanSquared& part, int64_t row)
      : input(static_cast<const T*>(part.input) + row * part.input_stride),
        target(static_cast<const T*>(part.target) + row * part.target_stride),
        score(part.score_target ? static_cast<const T*>(part.score_target) + row * part.score_stride : nullptr) {}
};

// Where the differences of a block's piece of a sample stay on chip. In vectors, the 16-byte parts of one vector's
// differences lie `units` apart, so that neighbouring threads use neighbouring memory.
template <typename T>
struct Kept {
  using A = Acc<T>;
  static constexpr int kPlanes = kLanes<T> / kLanes<A>;
  A* data;  // null: nothing is kept
  int units;

  __device__ __forceinline__ void put(int unit, int which, const A (&d)[kLanes<T>]) const {
#pragma unroll
    for (int p = 0; p < kPlanes; p++) {
      A plane[kLanes<A>];
#pragma unroll
      for (int e = 0; e < kLanes<A>; e++) plane[e] = d[p * kLanes<A> + e];
      store(data + (int64_t(which * kPlanes + p) * units + unit) * kLanes<A>, packed<A>(plane));
    }
  }

  __device__ __forceinline__ void get(int unit, int which, A (&d)[kLanes<T>]) const {
#pragma unroll
    for (int p = 0; p < kPlanes; p++) {
      const Pack<A> pack = load(data + (int64_t(which * kPlanes + p) * units + unit) * kLanes<A>);
#pragma unroll
      for (int e = 0; e < kLanes<A>; e++) d[p * kLanes<A> + e] = element(pack, e);
    }
  }
};

// Squares of one vector's differences, which stay on chip if `kept` says so.
template <typename T>
__device__ __forceinline__ Acc<T> square(const Pack<T>& x, const Pack<T>& y, const Kept<T>& kept, int unit, int which) {
  using A = Acc<T>;
  A d[kLanes<T>], even = 0, odd = 0;
#pragma unroll
  for (int e = 0; e < kLanes<T>; e++) d[e] = element(x, e) - element(y, e);
#pragma unroll
  for (int e = 0; e < kLanes<T>; e += 2) even += d[e] * d[e], odd += d[e + 1] * d[e + 1];
  if (kept.data) kept.put(unit, which, d);
  return even + odd;
}

// One lane's share of a piece: units `first` (of the sample) + [range) (of the block). kDeep: vectors of each
// tensor under way. keep_score: keep those, too.
template <int kDeep, typename T>
__device__ __forceinline__ Squares<Acc<T>> sum_vectors(const Sample<T>& sample, int first, const Range& range,
                                                       const Group& group, const Kept<T>& kept, bool keep_score) {
  Squares<Acc<T>> sums[kDeep];
  const Kept<T> second{keep_score ? kept.data : nullptr, kept.units};
  Pack<T> x[kDeep], y[kDeep], z[kDeep];
  int u = range.first + group.lane;
  const auto fetch = [&](int i) {
    if (u + i * group.size >= range.last) return;
    const int64_t at = int64_t(first + u + i * group.size) * kLanes<T>;
    x[i % kDeep] = load(sample.input + at);
    y[i % kDeep] = load(sample.target + at);
    if (sample.score) z[i % kDeep] = load(sample.score + at);
  };
#pragma unroll
  for (int i = 0; i < kDeep; i++) fetch(i);
  for (; u < range.last; u += group.size * kDeep) {
#pragma unroll
    for (int i = 0; i < kDeep; i++) {
      if (u + i * group.size >= range.last) continue;
      sums[i].objective += square(x[i], y[i], kept, u + i * group.size, 0);
      if (sample.score) sums[i].score += square(x[i], z[i], second, u + i * group.size, 1);
      fetch(i + kDeep);  // under way while the others are summed
    }
  }
  for (int i = 1; i < kDeep; i++) sums[0] = merge(sums[0], sums[i]);
  return sums[0];
}

template <typename T>
__device__ __forceinline__ Squares<Acc<T>> sum_elements(const Sample<T>& sample, int first, const Range& range,
                                                        const Group& group, const Kept<T>& kept, bool keep_score) {
  using A = Acc<T>;
  Squares<A> sums;
#pragma unroll 2
  for (int u = range.first + group.lane; u < range.last; u += group.size) {
    const int64_t at = first + u;
    const A x = to_acc(sample.input[at]), d = x - to_acc(sample.target[at]);
    sums.objective += d * d;
    if (kept.data) kept.data[u] = d;
    if (!sample.score) continue;
    const A other = x - to_acc(sample.score[at]);
    sums.score += other * other;
    if (keep_score) kept.data[kept.units + u] = other;
  }
  return sums;
}

template <typename T>
__device__ __forceinline__ Pack<T> mix(const SampleGradient<Acc<T>>& g, const Acc<T> (&d)[kLanes<T>],
                                       const Acc<T> (&other)[kLanes<T>], bool both) {
  Acc<T> dx[kLanes<T>];
#pragma unroll
  for (int e = 0; e < kLanes<T>; e++) dx[e] = both ? g.target * d[e] + g.score * other[e] : g.target * d[e];
  return packed<T>(dx);
}

template <typename T>
__device__ __forceinline__ void put_vector(T* to, const Pack<T>& pack, bool whole) {
  if (whole) return store(to, pack);
#pragma unroll
  for (int e = 0; e < kLanes<T>; e++) to[e] = from_acc<T>(element(pack, e));
}

// The gradient of a piece whose differences stayed on chip. both: score differences, too.
template <typename T>
__device__ __forceinline__ void write_kept(const Kept<T>& kept, T* grad, int first, const Range& range,
                                           const Group& group, const SampleGradient<Acc<T>>& g, bool both, bool vectors,
                                           bool grad_vectors) {
  using A = Acc<T>;
#pragma unroll 2
  for (int u = range.first + group.lane; u < range.last; u += group.size) {
    if (vectors) {
      A d[kLanes<T>], other[kLanes<T>];
      kept.get(u, 0, d);
      if (both) kept.get(u, 1, other);
      put_vector(grad + int64_t(first + u) * kLanes<T>, mix<T>(g, d, other, both), grad_vectors);
    } else {
      A dx = g.target * kept.data[u];
      if (both) dx += g.score * kept.data[kept.units + u];
      grad[first + u] = from_acc<T>(dx);
    }
  }
}

// The gradient of a piece, read again. grad may be one of the tensors. gradient() gives the sample's SampleGradient: it
// is asked for after the first vectors, so that all are under way together.
template <typename T, typename Gradient>
__device__ __forceinline__ void write_vectors(const Sample<T>& sample, T* grad, const Range& range, const Group& group,
                                              Gradient gradient, bool both, bool grad_vectors) {
  using A = Acc<T>;
  int u = range.first + group.lane;
  Pack<T> x[kPairs], y[kPairs], z[kPairs];
  const auto valid = [&](int i) { return u + i * group.size < range.last; };
  const auto at = [&](int i) { return int64_t(u + i * group.size) * kLanes<T>; };
  const auto fetch = [&](int i) {
    if (!valid(i)) return;
    x[i % kPairs] = load(sample.input + at(i));
    y[i % kPairs] = load(sample.target + at(i));
    if (both) z[i % kPairs] = load(sample.score + at(i));
  };
#pragma unroll
  for (int i = 0; i < kPairs; i++) fetch(i);
  const SampleGradient<A> g = gradient();
  for (; u < range.last; u += group.size * kPairs) {
#pragma unroll
    for (int i = 0; i < kPairs; i++) {
      A d[kLanes<T>], other[kLanes<T>];
#pragma unroll
      for (int e = 0; e < kLanes<T>; e++) {
        d[e] = element(x[i], e) - element(y[i], e);
        other[e] = both ? element(x[i], e) - element(z[i], e) : A(0);
      }
      if (valid(i)) put_vector(grad + at(i), mix<T>(g, d, other, both), grad_vectors);
      fetch(i + kPairs);  // reads go on beside the writes
    }
  }
}

template <typename T>
__device__ __forceinline__ void write_elements(const Sample<T>& sample, T* grad, const Range& range, const Group& group,
                                               const SampleGradient<Acc<T>>& g, bool both) {
  for (int u = range.first + group.lane; u < range.last; u += group.size) {
    const Acc<T> x = to_acc(sample.input[u]);
    Acc<T> dx = g.target * (x - to_acc(sample.target[u]));
    if (both) dx += g.score * (x - to_acc(sample.score[u]));
    grad[u] = from_acc<T>(dx);
  }
}

}  // namespace loreun::gpu
