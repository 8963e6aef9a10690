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
__device__ __forceinline__ Squares<A> merge_chunks(const Squares<A>* chunk, int chunks) {
  Squares<A> s = chunk[0];
  for (int i = 1; i < chunks; i++) s = merge(s, chunk[i]);
  return s;
}

template <typename A>
struct SampleState {
  A objective, log_weight, slope;
};

template <typename A>
__device__ __forceinline__ void add_row(Partial<A>& batch, const MeanSquared&, const SampleState<A>& row) {
  add_row(batch, row.log_weight, row.objective, A(1));
}

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

// The three tensors of one sample, read a unit at a time: a vector, or an element where rows are no whole vectors.
template <typename Unit>
struct Sample {
  using T = ElementOf<Unit>;
  const T *input, *target, *score;
  __device__ __forceinline__ Sample(const MeanSquared& part, int64_t row)
      : input(static_cast<const T*>(part.input) + row * part.input_stride),
        target(static_cast<const T*>(part.target) + row * part.target_stride),
        score(part.score_target ? static_cast<const T*>(part.score_target) + row * part.score_stride : nullptr) {}
};

// Where the differences of a block's piece of a sample stay on chip: those of one unit `units` apart, so that neighbouring
// threads use neighbouring memory.
template <typename Unit>
struct Kept {
  using A = Acc<ElementOf<Unit>>;
  A* data;  // null: nothing is kept
  int units;

  __device__ __forceinline__ A& at(int unit, int which, int e) const {
    return data[int64_t(which * kWidth<Unit> + e) * units + unit];
  }
};

template <typename Unit, typename A>
__device__ __forceinline__ void subtract(const Unit& x, const Unit& y, A (&d)[kWidth<Unit>]) {
#pragma unroll
  for (int e = 0; e < kWidth<Unit>; e++) d[e] = element(x, e) - element(y, e);
}

// Squares of one unit's differences, which stay on chip if `keep`.
template <typename Unit>
__device__ __forceinline__ auto square(const Unit& x, const Unit& y, const Kept<Unit>& kept, bool keep, int unit, int which) {
  constexpr int width = kWidth<Unit>;
  Acc<ElementOf<Unit>> d[width], even = 0, odd = 0;
  subtract(x, y, d);
#pragma unroll
  for (int e = 0; e < width; e += 2) {
    even += d[e] * d[e];
    if constexpr (width > 1) odd += d[e + 1] * d[e + 1];
  }
#pragma unroll
  for (int e = 0; e < width; e++)
    if (keep) kept.at(unit, which, e) = d[e];
  return even + odd;
}

// One lane's share of a piece: units `first` (of the sample) + [range) (of the block). kDeep: units of each tensor under
// way. both: keep the score differences, too.
template <int kDeep, typename Unit>
__device__ __forceinline__ auto sum_units(const Sample<Unit>& sample, int first, const Range& range, const Group& group,
                                          const Kept<Unit>& kept, bool both) {
  Squares<typename Kept<Unit>::A> sums[kDeep];
  Unit x[kDeep], y[kDeep], z[kDeep];
  const auto fetch = [&](int i, int u) {
    const int64_t at = int64_t(first) + u;
    x[i] = load_unit<Unit>(sample.input, at);
    y[i] = load_unit<Unit>(sample.target, at);
    if (sample.score) z[i] = load_unit<Unit>(sample.score, at);
  };
  stream<kDeep>(range, group, fetch, [] {}, [&](int i, int u) {
    sums[i].objective += square(x[i], y[i], kept, kept.data, u, 0);
    if (sample.score) sums[i].score += square(x[i], z[i], kept, kept.data && both, u, 1);
  });
  for (int i = 1; i < kDeep; i++) sums[0] = merge(sums[0], sums[i]);
  return sums[0];
}

// Writes one unit of the gradient. both: score differences, too.
template <typename Unit, typename A, int width>
__device__ __forceinline__ void put_gradient(ElementOf<Unit>* grad, int64_t unit, const SampleGradient<A>& g,
                                             const A (&d)[width], const A (&other)[width], bool both) {
  A dx[width];
#pragma unroll
  for (int e = 0; e < width; e++) dx[e] = both ? g.target * d[e] + g.score * other[e] : g.target * d[e];
  store_unit(grad, unit, packed<Unit>(dx));
}

// The gradient of a piece whose differences stayed on chip.
template <typename Unit, typename A>
__device__ __forceinline__ void write_kept(const Kept<Unit>& kept, ElementOf<Unit>* grad, int first, const Range& range,
                                           const Group& group, const SampleGradient<A>& g, bool both) {
#pragma unroll 2
  for (int u = range.first + group.lane; u < range.last; u += group.size) {
    A d[kWidth<Unit>], other[kWidth<Unit>];
#pragma unroll
    for (int e = 0; e < kWidth<Unit>; e++) d[e] = kept.at(u, 0, e), other[e] = both ? kept.at(u, 1, e) : A(0);
    put_gradient<Unit>(grad, int64_t(first) + u, g, d, other, both);
  }
}

// The gradient of a piece, read again. grad may be one of the tensors. gradient() gives the sample's SampleGradient: it
// is asked for after the first units, so that all are under way together.
template <typename Unit, typename Gradient>
__device__ __forceinline__ void write_units(const Sample<Unit>& sample, ElementOf<Unit>* grad, const Range& range,
                                            const Group& group, Gradient gradient, bool both) {
  Unit x[kPairs], y[kPairs], z[kPairs];
  decltype(gradient()) g;
  const auto fetch = [&](int i, int u) {
    x[i] = load_unit<Unit>(sample.input, u);
    y[i] = load_unit<Unit>(sample.target, u);
    if (both) z[i] = load_unit<Unit>(sample.score, u);
  };
  stream<kPairs>(range, group, fetch, [&] { g = gradient(); }, [&](int i, int u) {
    typename Kept<Unit>::A d[kWidth<Unit>], other[kWidth<Unit>] = {};
    subtract(x[i], y[i], d);
    if (both) subtract(x[i], z[i], other);
    put_gradient<Unit>(grad, u, g, d, other, both);
  });
}

}  // namespace loreun::gpu
