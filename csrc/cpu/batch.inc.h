// The batch: a softmax over the rows' log-weights and the weighted mean of their losses, in double precision and in the
// order of the rows, so that neither the number of threads nor the type changes it.
#pragma once
#include "cpu/element.h"
#include "loreun/params.h"

namespace loreun {
namespace {

// An ignored row has log-weight -inf and objective 0 and so adds nothing. `count`: what weights are divided by if not by
// their sum. Where that is 0 the mean is NaN.
template <typename A>
static void combine(const void* table, int64_t rows, Normalize normalize, double count, double* batch) {
  const A *objective = (const A*)table + kObjective * rows, *log_weight = (const A*)table + kLogWeight * rows;
  constexpr int lanes = Lane<double>::count;
  A max = -A(__builtin_inf());
  for (int64_t i = 0; i < rows; i++) max = log_weight[i] > max ? log_weight[i] : max;
  const double from = max == -A(__builtin_inf()) ? 0.0 : double(max);
  Vec<double> sums{}, means{};
  for (int64_t i = 0; i < rows; i += lanes) {
    double s[lanes], o[lanes];
    for (int k = 0; k < lanes; k++) {
      const bool there = i + k < rows;
      s[k] = there ? double(log_weight[i + k]) - from : -__builtin_inf();
      o[k] = there ? double(objective[i + k]) : 0.0;
    }
    const Vec<double> weight = exp_negative<double>(load(s));
    sums += weight;
    means += weight * load(o);
  }
  const double sum = sum_of(sums);
  const bool by_sum = normalize == Normalize::batch;
  const double weighted = sum_of(means);
  batch[kLogNormaliser] = by_sum ? double(max) + __builtin_log(sum) : __builtin_log(count);
  batch[kMean] = by_sum ? weighted / sum : weighted * __builtin_exp(from) / count;
  batch[kBaseline] = by_sum ? batch[kMean] : 0.0;
}

}  // namespace
}  // namespace loreun
