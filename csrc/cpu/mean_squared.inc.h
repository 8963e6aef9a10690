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

constexpr int64_t kStretch = 1024;  // elements whose squares are summed in the type of the arithmetic; then in double

// Adds the sums of squares of x - t and, if there is a u, of x - u.
template <bool two, typename T, typename A = Acc<T>>
static inline void add_squares(const T* x, const T* t, const T* u, int64_t n, double* sums) {
  constexpr int lanes = Lane<A>::count;
  Vec<A> first[4] = {}, second[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int k = 0; k < 4; k++) {
      const int64_t at = i + k * lanes;
      const Vec<A> v = load_as(x + at), d = v - load_as(t + at);
      first[k] += d * d;
      if constexpr (two) {
        const Vec<A> e = v - load_as(u + at);
        second[k] += e * e;
      }
    }
  sums[0] += sum_of((first[0] + first[1]) + (first[2] + first[3]));
  if constexpr (two) sums[1] += sum_of((second[0] + second[1]) + (second[2] + second[3]));
  for (; i < n; i++) {
    const double d = double(to_acc(x[i])) - double(to_acc(t[i]));
    sums[0] += d * d;
    if constexpr (two) {
      const double e = double(to_acc(x[i])) - double(to_acc(u[i]));
      sums[1] += e * e;
    }
  }
}

template <typename T>
static void mse_sums(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, double* sums) {
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  const T* u = part.score_target ? (const T*)part.score_target + row * part.score_stride : nullptr;
  sums[0] = sums[1] = 0;
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    if (u) add_squares<true>(x + at, t + at, u + at, n, sums);
    else add_squares<false>(x + at, t + at, u, n, sums);
  }
  if (!u) sums[1] = sums[0];
}

// out = a * (x - t) + b * (x - u), the second term only with a u; the sum of squares of x - t, if asked for, is that of
// add_squares bit by bit.
template <bool two, bool sum, typename T, typename A = Acc<T>>
static inline void slope_of_squares(const T* x, const T* t, const T* u, A a, A b, int64_t n, bool past_caches, T* out,
                                    double* squares) {
  constexpr int lanes = Lane<A>::count;
  Vec<A> total[4] = {};
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (int k = 0; k < 4; k++) {
      const int64_t at = i + k * lanes;
      const Vec<A> v = load_as(x + at), d = v - load_as(t + at);
      if constexpr (sum) total[k] += d * d;
      Vec<A> g = d * a;
      if constexpr (two) g += (v - load_as(u + at)) * b;
      past_caches ? stream_as(out + at, g) : store_as(out + at, g);
    }
  if constexpr (sum) *squares += sum_of((total[0] + total[1]) + (total[2] + total[3]));
  for (; i < n; i++) {
    const double d = double(to_acc(x[i])) - double(to_acc(t[i]));
    if constexpr (sum) *squares += d * d;
    const A v = to_acc(x[i]), g = (v - to_acc(t[i])) * a;
    from_acc(two ? g + (v - to_acc(u[i])) * b : g, out + i);
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
static void mse_grad(const MeanSquared& part, double grad_out, int64_t row, int64_t begin, int64_t end,
                        double* squares) {
  using A = Acc<T>;
  const auto c = coefficients_of<A>(part, grad_out, row);
  const T* u = c.score != 0 ? (const T*)part.score_target + row * part.score_stride : nullptr;
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  T* g = (T*)part.grad + row * part.grad_stride;
  const bool past_caches =
      part.rows * part.row_size * int64_t(sizeof(T)) >= kOutgrowsCaches && (uintptr_t)(g + begin) % kBytes == 0;
  if (squares) *squares = 0;
  for (int64_t at = begin; at < end; at += kStretch) {
    const int64_t n = end - at < kStretch ? end - at : kStretch;
    const auto make = [&]<bool two, bool sum>() {
      slope_of_squares<two, sum>(x + at, t + at, two ? u + at : u, c.objective, c.score, n, past_caches, g + at, squares);
    };
    if (u) make.template operator()<true, false>();
    else if (squares) make.template operator()<false, true>();
    else make.template operator()<false, false>();
  }
  if (past_caches) streams_end();
}

}  // namespace
}  // namespace loreun
