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

// Elements [begin, end) of one row. sum: adds the squares of x - t and, if there are two targets, of x - u. write: the
// gradient becomes c.objective * (x - t) + c.score * (x - u).
template <bool two, bool sum, bool write, typename T, typename A = Acc<T>>
static void mse_pass(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, Coefficients<A> c, double* sums) {
  constexpr int lanes = Lane<A>::count;
  const T* x = (const T*)part.input + row * part.input_stride;
  const T* t = (const T*)part.target + row * part.target_stride;
  const T* u = (const T*)part.score_target + (two ? row * part.score_stride : 0);
  T* grad = (T*)part.grad + (write ? row * part.grad_stride : 0);
  const bool past_caches =
      write && part.rows * part.row_size * int64_t(sizeof(T)) >= kOutgrowsCaches && (uintptr_t)(grad + begin) % kBytes == 0;
  for (int64_t i = begin; i < end;) {
    const int64_t stop = end - i < kStretch ? end : i + kStretch;
    Vec<A> first[4] = {}, second[4] = {};
    for (; i + 4 * lanes <= stop; i += 4 * lanes)
      for (int k = 0; k < 4; k++) {
        const int64_t at = i + k * lanes;
        const Vec<A> v = load_as(x + at), d = v - load_as(t + at);
        Vec<A> e{}, g = d * c.objective;
        if constexpr (two) e = v - load_as(u + at), g += e * c.score;
        if constexpr (sum) first[k] += d * d;
        if constexpr (sum && two) second[k] += e * e;
        if constexpr (write) past_caches ? stream_as(grad + at, g) : store_as(grad + at, g);
      }
    if constexpr (sum) sums[0] += sum_of((first[0] + first[1]) + (first[2] + first[3]));
    if constexpr (sum && two) sums[1] += sum_of((second[0] + second[1]) + (second[2] + second[3]));
    for (; i < stop; i++) {
      const A v = to_acc(x[i]), d = v - to_acc(t[i]), e = two ? v - to_acc(u[i]) : A(0);
      if constexpr (sum) sums[0] += double(d) * double(d);
      if constexpr (sum && two) sums[1] += double(e) * double(e);
      if constexpr (write) from_acc(d * c.objective + e * c.score, grad + i);
    }
  }
  if (past_caches) streams_end();
}

template <typename T>
static void mse_sums(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, double* sums) {
  sums[0] = sums[1] = 0;
  if (part.score_target) return mse_pass<true, true, false, T>(part, row, begin, end, {}, sums);
  mse_pass<false, true, false, T>(part, row, begin, end, {}, sums);
  sums[1] = sums[0];
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
static void mse_grad(const MeanSquared& part, double grad_out, int64_t row, int64_t begin, int64_t end, double* squares) {
  const auto c = coefficients_of<Acc<T>>(part, grad_out, row);
  if (squares) *squares = 0;
  if (c.score != 0) mse_pass<true, false, true, T>(part, row, begin, end, c, nullptr);
  else if (squares) mse_pass<false, true, true, T>(part, row, begin, end, c, squares);
  else mse_pass<false, false, true, T>(part, row, begin, end, c, nullptr);
}

}  // namespace
}  // namespace loreun
