// Mean squared error, one instruction set: sums of squares and the gradient of a stretch of one row.
#pragma once
#include "cpu/element.h"
#include "cpu/kernels.h"
#include "loreun/weighting.h"

namespace loreun {
namespace {

// A gradient of more bytes is written past the caches: it would drive out what is still to be read, and be gone itself
// before anyone reads it. 64 x 4 x 128 x 128 in float32: 2.0 ms instead of 2.7.
constexpr int64_t kOutgrowsCaches = 8 << 20;

constexpr int64_t kStretch = 1024;  // elements at a time: three or four such copies fit a first-level cache of 32 KB

// Adds the sums of squares of x - t and, if there is a u, of x - u.
template <bool two, typename A>
static inline void add_squares(const A* x, const A* t, const A* u, int64_t n, double* sums) {
  constexpr int lanes = Lane<A>::count;
  Vec<A> first[4] = {}, second[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int k = 0; k < 4; k++) {
      const int64_t at = i + k * lanes;
      const Vec<A> v = load(x + at), d = v - load(t + at);
      first[k] += d * d;
      if constexpr (two) {
        const Vec<A> e = v - load(u + at);
        second[k] += e * e;
      }
    }
  sums[0] += sum_of((first[0] + first[1]) + (first[2] + first[3]));
  if constexpr (two) sums[1] += sum_of((second[0] + second[1]) + (second[2] + second[3]));
  for (; i < n; i++) {
    const double d = double(x[i]) - double(t[i]);
    sums[0] += d * d;
    if constexpr (two) {
      const double e = double(x[i]) - double(u[i]);
      sums[1] += e * e;
    }
  }
}

template <typename T>
static void mse_sums_of(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, double* sums) {
  using A = Acc<T>;
  A copies[3][sizeof(T) == sizeof(A) ? 1 : kStretch];
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  const T* u = part.score_target ? (const T*)part.score_target + row * part.score_stride : nullptr;
  sums[0] = sums[1] = 0;
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    const A* xs = read_block(x + at, n, 1, copies[0]);
    const A* ts = read_block(t + at, n, 1, copies[1]);
    if (u) add_squares<true>(xs, ts, read_block(u + at, n, 1, copies[2]), n, sums);
    else add_squares<false>(xs, ts, ts, n, sums);
  }
  if (!u) sums[1] = sums[0];
}

// out = a * (x - t) + b * (x - u), the second term only with a u; the sum of squares of x - t, if asked for, is that of
// add_squares bit by bit.
template <bool two, bool sum, typename A>
static inline void slope_of_squares(const A* x, const A* t, const A* u, A a, A b, int64_t n, bool past_caches, A* out,
                                    double* squares) {
  constexpr int lanes = Lane<A>::count;
  Vec<A> total[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int k = 0; k < 4; k++) {
      const int64_t at = i + k * lanes;
      const Vec<A> d = load(x + at) - load(t + at);
      if constexpr (sum) total[k] += d * d;
      Vec<A> g = d * a;
      if constexpr (two) g += (load(x + at) - load(u + at)) * b;
      past_caches ? stream(out + at, g) : store(out + at, g);
    }
  if constexpr (sum) *squares += sum_of((total[0] + total[1]) + (total[2] + total[3]));
  for (; i < n; i++) {
    const double d = double(x[i]) - double(t[i]);
    if constexpr (sum) *squares += d * d;
    out[i] = A(x[i] - t[i]) * a + (two ? (x[i] - u[i]) * b : A(0));
  }
}

// The gradient's coefficients of one row: of x - t and of x - u.
template <typename A>
static inline Coefficients<A> coefficients_of(const MeanSquared& part, double grad_out, int64_t row) {
  const A upstream = A(part.scale * grad_out * 2 / part.divisor);
  const auto found = [&] {
    const A* table = (const A*)part.table + row;
    const A weight = A(__builtin_exp(double(table[kLogWeight * part.rows]) - part.batch[kLogNormaliser]));
    return coefficients(weight, table[kObjective * part.rows], A(part.batch[kBaseline]), table[kSlope * part.rows], upstream);
  };
  auto c = part.given.objective ? coefficients(part.given, row, upstream) : found();
  if (!part.score_target) c.objective += c.score, c.score = 0;  // one target serves both
  return c;
}

template <typename T>
static void mse_grad_of(const MeanSquared& part, double grad_out, int64_t row, int64_t begin, int64_t end,
                        double* squares) {
  using A = Acc<T>;
  const auto c = coefficients_of<A>(part, grad_out, row);
  const T* u = c.score != 0 ? (const T*)part.score_target + row * part.score_stride : nullptr;
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  T* g = (T*)part.grad + row * part.grad_stride;
  constexpr bool direct = sizeof(T) == sizeof(A);
  const bool past_caches = direct && part.rows * part.row_size * int64_t(sizeof(T)) >= kOutgrowsCaches &&
                           (uintptr_t)(g + begin) % kBytes == 0;
  A copies[3][direct ? 1 : kStretch], made[direct ? 1 : kStretch];
  if (squares) *squares = 0;
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    const A* xs = read_block(x + at, n, 1, copies[0]);
    const A* ts = read_block(t + at, n, 1, copies[1]);
    A* out = made;
    if constexpr (direct) out = g + at;
    if (u) slope_of_squares<true, false>(xs, ts, read_block(u + at, n, 1, copies[2]), c.objective, c.score, n,
                                         past_caches, out, squares);
    else if (squares) slope_of_squares<false, true>(xs, ts, ts, c.objective, c.score, n, past_caches, out, squares);
    else slope_of_squares<false, false>(xs, ts, ts, c.objective, c.score, n, past_caches, out, squares);
    if constexpr (!direct) write_block(made, n, g + at, 1);
  }
  if (past_caches) streams_end();
}

}  // namespace
}  // namespace loreun
