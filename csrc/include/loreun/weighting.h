// The arithmetic of one row, the same on CPU and GPU: log-weight, its slope, and the gradient's coefficients.
#pragma once
#include <math.h>  // C's functions: an inline one of C++ could be linked from a file of a wider instruction set

#include "loreun/params.h"

#ifdef __CUDACC__
#define LOREUN_INLINE __host__ __device__ __forceinline__
#else
#define LOREUN_INLINE static inline  // one copy per instruction set: see cpu/vector.h
#endif

namespace loreun {

LOREUN_INLINE float exp_by(float x) { return expf(x); }
LOREUN_INLINE double exp_by(double x) { return exp(x); }
LOREUN_INLINE float log_by(float x) { return logf(x); }
LOREUN_INLINE double log_by(double x) { return log(x); }
LOREUN_INLINE float log1p_by(float x) { return log1pf(x); }
LOREUN_INLINE double log1p_by(double x) { return log1p(x); }
LOREUN_INLINE float expm1_by(float x) { return expm1f(x); }
LOREUN_INLINE double expm1_by(double x) { return expm1(x); }

// Logarithm of a row's weight before normalisation, and its derivative by the score.
template <typename Acc>
struct LogWeight {
  Acc value, slope;
};

template <typename Acc>
LOREUN_INLINE Acc reference_loss(const Weighting& w, int64_t row) {
  return w.ref_loss ? static_cast<const Acc*>(w.ref_loss)[row * w.ref_stride] : Acc(w.ref);
}

// A score of 0 to a negative power is as large as the smallest normal number makes it.
template <typename Acc>
constexpr Acc kSmallest = sizeof(Acc) == 4 ? Acc(1.17549435e-38) : Acc(2.2250738585072014e-308);

// log(2 sigmoid(z)) and its derivative.
template <typename Acc>
LOREUN_INLINE LogWeight<Acc> log_two_sigmoid(Acc z) {
  const Acc e = exp_by(z < 0 ? z : -z);
  const Acc value = Acc(0.69314718055994531) + (z < 0 ? z : Acc(0)) - log1p_by(e);
  return {value, (z < 0 ? Acc(1) : e) / (1 + e)};
}

template <typename Acc>
LOREUN_INLINE LogWeight<Acc> log_weight(const Weighting& w, Acc eta, Acc score, Acc ref) {
  const Acc d = w.ratio ? score / ref : score - ref, slope = w.ratio ? eta / ref : eta;
  switch (w.rule) {
    case Rule::exp: break;
    case Rule::given: return {Acc(0), Acc(0)};
    case Rule::power: {
      const bool tiny = d < kSmallest<Acc> && d >= 0;
      return {eta * log_by(tiny ? kSmallest<Acc> : d), tiny ? Acc(0) : slope / d};
    }
    case Rule::satimp: {
      const Acc rest = -expm1_by(-score), importance = Acc(w.importance);
      const Acc of_rest = importance == 0 ? Acc(0) : importance * log_by(rest);
      return {eta * score + of_rest, rest == 0 ? eta : eta + importance * exp_by(-score) / rest};
    }
    case Rule::logistic: {
      const LogWeight<Acc> l = log_two_sigmoid(eta * d);
      return {l.value, slope * l.slope};
    }
  }
  return {eta * d, slope};
}

// What a weight that was made elsewhere becomes with its class's, whose logarithm a table has; that of an ignored row is 0.
template <typename Acc>
LOREUN_INLINE Acc row_weight(Acc weight, Acc log_class_weight) {
  if (log_class_weight == -Acc(INFINITY)) return Acc(0);
  return weight >= 0 ? weight * exp_by(log_class_weight) : Acc(NAN);
}

template <typename Acc>
LOREUN_INLINE Acc divisor_of(const Weighing& w, Acc sum) {
  if (w.normalize == Normalize::batch) return sum;
  return w.normalize == Normalize::mean ? Acc(exp_by(w.batch[kLogNormaliser])) : Acc(1);
}

// The gradient of a row's share of the loss is objective * d(objective loss) + score * d(score loss).
template <typename Acc>
struct Coefficients {
  Acc objective, score;
};

// weight: the normalised weight; baseline: see Batch; upstream: scale times the gradient that arrives.
template <typename Acc>
LOREUN_INLINE Coefficients<Acc> coefficients(Acc weight, Acc objective_loss, Acc baseline, Acc slope, Acc upstream) {
  const Acc a = upstream * weight;
  return {a, slope == 0 ? Acc(0) : a * slope * (objective_loss - baseline)};
}

template <typename Acc>
LOREUN_INLINE Coefficients<Acc> coefficients(const Given& given, int64_t row, Acc upstream) {
  const Acc *objective = static_cast<const Acc*>(given.objective), *score = static_cast<const Acc*>(given.score);
  return {upstream * objective[row], score ? upstream * score[row] : Acc(0)};
}

}  // namespace loreun
