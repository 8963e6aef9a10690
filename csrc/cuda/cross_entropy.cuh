// One row of cross entropy: its sums, its losses, its gradient.
#pragma once
#include "reduce.cuh"
#include "vector.cuh"

namespace loreun::gpu {

// Labels as the kernels use them: a column, or one of these.
enum Label : int64_t { kWrong = -1, kIgnored = -2 };

// A row apart from its logits: what was given, and what the batch and the gradient need.
template <typename A>
struct RowState {
  A objective, log_weight, max, log_sum, ref;
  A slope;  // until the row is finished the score loss, where the kernel does not compute it
  int64_t target, score;
};

__device__ __forceinline__ int64_t label_in_range(int64_t label, int64_t classes) {
  return label >= 0 && label < classes ? label : static_cast<int64_t>(kWrong);
}

template <typename A>
__device__ __forceinline__ RowState<A> read_labels(const CrossEntropy& part, int64_t row) {
  const int64_t label = part.target[row * part.target_stride];
  RowState<A> in{};
  in.target = label == part.ignore_index ? static_cast<int64_t>(kIgnored) : label_in_range(label, part.classes);
  in.score = in.target;
  if (part.score_target) {
    const int64_t score = part.score_target[row * part.score_stride];
    in.score = label_in_range(score, part.classes);
    if (in.score == kWrong && score == part.ignore_index && in.target == kIgnored) in.score = kIgnored;
  }
  return in;
}

template <typename A>
__device__ __forceinline__ RowState<A> read_inputs(const CrossEntropy& part, int64_t row) {
  RowState<A> in = read_labels<A>(part, row);
  in.ref = reference_loss<A>(part.weighting, row);
  in.slope = part.weighting.score_loss ? static_cast<const A*>(part.weighting.score_loss)[row] : A(0);
  return in;
}

template <typename A>
__device__ __forceinline__ A class_weight(const CrossEntropy& part, int64_t target) {
  return part.class_weight && target >= 0 ? static_cast<const A*>(part.class_weight)[target] : A(1);
}

template <typename A>
__device__ __forceinline__ void add_row(Partial<A>& batch, const CrossEntropy& part, const RowState<A>& row) {
  if (row.target != kIgnored) add_row(batch, row.log_weight, row.objective, class_weight<A>(part, row.target));
}

// logit(label): the row's logit there. base: what Moments::total is relative to. write: fill the row's table, too.
template <typename A, typename Logit>
__device__ __forceinline__ void finish_row(const CrossEntropy& part, int64_t row, RowState<A>& r,
                                           const Moments<A>& moments, A base, bool write, Logit logit) {
  const bool ignored = r.target == kIgnored;
  const auto above = [&](int64_t label) { return label < 0 ? A(NAN) : logit(label) - moments.max; };
  r.max = moments.max;
  r.log_sum = log_by(moments.sum);
  r.objective = 0;
  if (!ignored) {
    const A smoothing = static_cast<A>(part.label_smoothing), of_target = above(r.target);
    r.objective = r.log_sum - of_target;
    if (smoothing != 0) {  // 0 * mean would be NaN where a logit is -inf
      const A mean = moments.total / static_cast<A>(part.classes) + (base - r.max);
      r.objective = r.log_sum - (1 - smoothing) * of_target - smoothing * mean;
    }
  }
  A score = r.slope;
  if (!part.weighting.score_loss) score = r.score == kIgnored ? A(0) : r.log_sum - above(r.score);
  const auto weight = log_weight(part.weighting, eta_of<A>(part.weighting), score, r.ref);
  r.log_weight = ignored ? A(-INFINITY) : weight.value;
  if (part.class_weight && !ignored) r.log_weight += log_by(class_weight<A>(part, r.target));
  r.slope = ignored || part.weighting.detach || part.weighting.score_loss ? A(0) : weight.slope;
  if (!write) return;
  A* table = static_cast<A*>(part.table) + row;
  table[kObjective * part.rows] = r.objective;
  table[kScore * part.rows] = score;
  table[kLogWeight * part.rows] = r.log_weight;
  table[kSlope * part.rows] = r.slope;
  table[kMax * part.rows] = r.max;
  table[kLogSum * part.rows] = r.log_sum;
}

// dx = both * p - even, less on_target and on_score in those columns.
template <typename A>
struct RowGradient {
  A max, log_sum, both, even, on_target, on_score;
  int64_t target, score;
};

template <typename A>
__device__ __forceinline__ RowGradient<A> row_gradient(const CrossEntropy& part, const RowState<A>& row,
                                                       const Coefficients<A>& c) {
  const A smoothing = static_cast<A>(part.label_smoothing);
  RowGradient<A> g{row.max,    row.log_sum, c.objective + c.score, A(0), c.objective * (1 - smoothing), c.score,
                   row.target, row.score};
  if (smoothing != 0) g.even = c.objective * smoothing / static_cast<A>(part.classes);
  if (row.target == kWrong && !part.given.objective) g.both = A(NAN);  // given: it is a class elsewhere
  return g;
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

// Vectors that are added to a row's sums at once: 8 or 16 elements, for the registers' sake, and so that others are under
// way meanwhile.
constexpr int kSlice = kUnroll / 2;

// Adds `count` units to the row's sums: one exponential per element and one to rescale. Elements outside the row are
// -inf; valid(i) says whether unit i is inside.
template <int count, typename Unit, typename A, typename Valid>
__device__ __forceinline__ void absorb(Moments<A>& m, const Unit* x, A base, bool total, Valid valid) {
  A tops[count], sums[count];
  if (total) {
#pragma unroll
    for (int i = 0; i < count; i++)
#pragma unroll
      for (int e = 0; e < kWidth<Unit>; e++)
        if (valid(i)) m.total += element(x[i], e) - base;
  }
#pragma unroll
  for (int i = 0; i < count; i++) {
    tops[i] = element(x[i], 0);
#pragma unroll
    for (int e = 1; e < kWidth<Unit>; e++) tops[i] = max_of(tops[i], element(x[i], e));
  }
  A top = m.max;
#pragma unroll
  for (int i = 0; i < count; i++) top = max_of(top, tops[i]);
  const A shift = shift_of(top);
#pragma unroll
  for (int i = 0; i < count; i++) {
    sums[i] = exp_of(element(x[i], 0) - shift);
#pragma unroll
    for (int e = 1; e < kWidth<Unit>; e++) sums[i] += exp_of(element(x[i], e) - shift);
  }
  m.sum *= exp_of(m.max - shift);
#pragma unroll
  for (int i = 0; i < count; i++) m.sum += sums[i];
  m.max = top;
}

// One lane's share of one of `chunks` pieces of a row; copied to `keep`, aligned alike, if not null. span: which elements are
// vectors; none where they are no neighbours.
template <typename T>
__device__ __forceinline__ Moments<Acc<T>> sum_row(const T* row, int64_t stride, T* keep, int n, const Span& span, int chunk,
                                                   int chunks, const Group& group, Acc<T> base, bool total) {
  Moments<Acc<T>> m;
  const Range range(span.vectors, chunk, chunks);
  Pack<T> x[kUnroll];
  int v = range.first + group.lane;
  const auto valid = [&](int i) { return v + i * group.size < range.last; };
  const auto at = [&](int i) { return span.head + (v + i * group.size) * kLanes<T>; };
  const auto fetch = [&](int i) { x[i % kUnroll] = valid(i) ? load(row + at(i)) : filled<Pack<T>>(Acc<T>(-INFINITY)); };
#pragma unroll
  for (int i = 0; i < kUnroll; i++) fetch(i);
  for (; v < range.last; v += group.size * kUnroll) {
#pragma unroll
    for (int s = 0; s < kUnroll; s += kSlice) {
      if (keep) {
#pragma unroll
        for (int i = s; i < s + kSlice; i++)
          if (valid(i)) store(keep + at(i), x[i]);
      }
      absorb<kSlice>(m, x + s, base, total, [&](int i) { return valid(s + i); });
#pragma unroll
      for (int i = s; i < s + kSlice; i++) fetch(i + kUnroll);  // under way while the next slice is summed
    }
  }
  const int loose = n - span.vectors * kLanes<T>, step = group.size * chunks;
  for (int i = chunk * group.size + group.lane; i < loose; i += step * kUnroll) {
    One<T> one[kUnroll];
    const auto inside = [&](int k) { return i + k * step < loose; };
#pragma unroll
    for (int k = 0; k < kUnroll; k++) {
      const int column = loose_element<T>(span, i + k * step);
      one[k] = inside(k) ? One<T>{row[column * stride]} : filled<One<T>>(Acc<T>(-INFINITY));
      if (keep && inside(k)) keep[column] = one[k].value;
    }
    absorb<kUnroll>(m, one, base, total, inside);
  }
  return m;
}

// A unit of the gradient, the first of whose elements stands in `column`. Exactly 0 in an ignored row, whatever its logits are.
template <typename Unit, typename A>
__device__ __forceinline__ Unit unit_gradient(const RowGradient<A>& g, const Unit& x, int column) {
  if (g.target == kIgnored) return filled<Unit>(A(0));
  const int target = static_cast<int>(g.target) - column, score = static_cast<int>(g.score) - column;
  const bool special = (target >= 0 && target < kWidth<Unit>) || (score >= 0 && score < kWidth<Unit>);
  A dx[kWidth<Unit>];
#pragma unroll
  for (int e = 0; e < kWidth<Unit>; e++) dx[e] = g.both * exp_of((element(x, e) - g.max) - g.log_sum) - g.even;
  if (special) {  // one unit of a row, or two
#pragma unroll
    for (int e = 0; e < kWidth<Unit>; e++) {
      if (e == target) dx[e] -= g.on_target;
      if (e == score) dx[e] -= g.on_score;
    }
  }
  return packed<Unit>(dx);
}

// One lane's share of a piece of a row's gradient. row and grad may be the same memory; where there are vectors, they are
// aligned alike. gradient() gives the row's RowGradient: it is asked for after the first vectors, so that both are under way
// together.
template <typename T, typename Gradient>
__device__ __forceinline__ void write_piece(const T* row, int64_t stride, T* grad, int64_t grad_stride, int n,
                                            const Span& span, int chunk, int chunks, const Group& group, Gradient gradient) {
  RowGradient<Acc<T>> g;
  Pack<T> x[kUnroll];
  const auto at = [&](int v) { return span.head + v * kLanes<T>; };
  stream<kUnroll>(
      Range(span.vectors, chunk, chunks), group, [&](int i, int v) { x[i] = load(row + at(v)); },
      [&] { g = gradient(); }, [&](int i, int v) { store(grad + at(v), unit_gradient(g, x[i], at(v))); });
  const int loose = n - span.vectors * kLanes<T>;
  for (int i = chunk * group.size + group.lane; i < loose; i += group.size * chunks) {
    const int column = loose_element<T>(span, i);
    grad[column * grad_stride] = unit_gradient(g, One<T>{row[column * stride]}, column).value;
  }
}

}  // namespace loreun::gpu
