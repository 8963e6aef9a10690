// Mean squared error, one instruction set: sums of squares and the gradient of a stretch of one row.
#pragma once
#include "cpu/element.h"
#include "loreun/weighting.h"

namespace loreun {
namespace {

constexpr int64_t kStretch = 1024;  // elements; three blocks of float are 12 KB

template <typename A>
static inline double sum_of_squares(const A* x, const A* t, int64_t n) {
  constexpr int lanes = Lane<A>::count;
  Vec<A> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int k = 0; k < 4; k++) {
      const Vec<A> d = load(x + i + k * lanes) - load(t + i + k * lanes);
      sums[k] += d * d;
    }
  double rest = 0;
  for (; i < n; i++) rest += double(x[i] - t[i]) * double(x[i] - t[i]);
  return lanes_sum<A>((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest;
}

template <typename T>
static void mse_sums_of(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, double* sums) {
  using A = Acc<T>;
  A copies[3][kStretch];
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  const T* u = part.score_target ? (const T*)part.score_target + row * part.score_stride : nullptr;
  sums[0] = sums[1] = 0;
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    const A* values = read_block(x + at, n, 1, copies[0]);
    sums[0] += sum_of_squares(values, read_block(t + at, n, 1, copies[1]), n);
    if (u) sums[1] += sum_of_squares(values, read_block(u + at, n, 1, copies[2]), n);
  }
  if (!u) sums[1] = sums[0];
}

// out = a * (x - t) + b * (x - u)
template <typename A>
static inline void slope_of_squares(const A* x, const A* t, const A* u, A a, A b, int64_t n, A* out) {
  constexpr int lanes = Lane<A>::count;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    Vec<A> g = (load(x + i) - load(t + i)) * a;
    if (u) g += (load(x + i) - load(u + i)) * b;
    store(out + i, g);
  }
  for (; i < n; i++) out[i] = (x[i] - t[i]) * a + (u ? (x[i] - u[i]) * b : A(0));
}

template <typename T>
static void mse_grad_of(const MeanSquared& part, double grad_out, int64_t row, int64_t begin, int64_t end) {
  using A = Acc<T>;
  const Weighting& w = part.weighting;
  const A* table = (const A*)part.table;
  const A weight = A(__builtin_exp(double(table[kLogWeight * part.rows + row]) - part.batch[kLogNormaliser]));
  const A ref = w.ref_loss ? ((const A*)w.ref_loss)[row * w.ref_stride] : A(0);
  auto c = coefficients(weight, table[kObjective * part.rows + row], A(part.batch[kMean]), ref, A(w.eta), w.ratio,
                        w.detach, A(part.scale * grad_out * 2 / part.divisor));
  if (w.score_loss) c.score = 0;
  const T* u = part.score_target && c.score != 0 ? (const T*)part.score_target + row * part.score_stride : nullptr;
  if (!part.score_target) c.objective += c.score;  // one target serves both
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  T* g = (T*)part.grad + row * part.grad_stride;
  A copies[3][kStretch], made[kStretch];
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    const A* xs = read_block(x + at, n, 1, copies[0]);
    const A* ts = read_block(t + at, n, 1, copies[1]);
    const A* us = u ? read_block(u + at, n, 1, copies[2]) : nullptr;
    if constexpr (sizeof(T) == sizeof(A)) {
      slope_of_squares(xs, ts, us, c.objective, c.score, n, g + at);
    } else {
      slope_of_squares(xs, ts, us, c.objective, c.score, n, made);
      write_block(made, n, g + at, 1);
    }
  }
}

}  // namespace
}  // namespace loreun
