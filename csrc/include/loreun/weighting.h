// The arithmetic of one row, the same on CPU and GPU: excess loss, log-weight, weight, and the gradient's coefficients.
#pragma once
#include "loreun/params.h"

#ifdef __CUDACC__
#define LOREUN_INLINE __host__ __device__ __forceinline__
#else
#define LOREUN_INLINE static inline  // one copy per instruction set: see cpu/vector.h
#endif

namespace loreun {

// Logarithm of a row's weight before renormalisation (LoReUn, eqs. 4 and 5): eta * d(loss, ref).
template <typename Acc>
LOREUN_INLINE Acc log_weight(Acc loss, Acc ref, Acc eta, bool ratio) {
  return eta * (ratio ? loss / ref : loss - ref);
}

// The gradient of a row's share of the loss is objective * d(objective loss) + score * d(score loss).
template <typename Acc>
struct Coefficients {
  Acc objective, score;
};

// weight: the renormalised weight; upstream: scale times the gradient that arrives. score is 0 for detached weights.
template <typename Acc>
LOREUN_INLINE Coefficients<Acc> coefficients(Acc weight, Acc objective_loss, Acc mean, Acc ref, Acc eta, bool ratio,
                                             bool detach, Acc upstream) {
  const Acc a = upstream * weight;
  if (detach) return {a, Acc(0)};
  const Acc slope = ratio ? eta / ref : eta;
  return {a, a * slope * (objective_loss - mean)};
}

}  // namespace loreun
