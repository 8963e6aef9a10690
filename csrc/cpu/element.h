// Conversion between the stored element types and the type of the arithmetic, a block at a time.
#pragma once
#include "cpu/vector.h"
#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace loreun {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

template <typename T>
struct AccOf {
  using type = float;
};
template <>
struct AccOf<double> {
  using type = double;
};
template <typename T>
using Acc = typename AccOf<T>::type;

static inline uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
static inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

static inline float to_acc(float x) { return x; }
static inline double to_acc(double x) { return x; }
static inline float to_acc(BFloat16 x) { return float_of(uint32_t(x.bits) << 16); }

static inline void from_acc(float x, float* out) { *out = x; }
static inline void from_acc(double x, double* out) { *out = x; }
static inline void from_acc(float x, BFloat16* out) {  // to nearest, ties to even; NaN stays NaN
  const uint32_t bits = float_bits(x);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  out->bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

#if defined(__F16C__)
static inline float to_acc(Float16 x) { return _cvtsh_ss(x.bits); }
static inline void from_acc(float x, Float16* out) { out->bits = _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT); }
#else
static inline float to_acc(Float16 x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return float_of(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  if (rest >= 0x400) return float_of(sign | ((rest << 13) + 0x38000000));
  const float denormal = float(rest) * 5.9604644775390625e-08f;  // 2^-24
  return sign ? -denormal : denormal;
}
static inline void from_acc(float x, Float16* out) {
  const uint32_t bits = float_bits(x), sign = (bits >> 16) & 0x8000, rest = bits & 0x7fffffff;
  uint32_t half;
  if (rest > 0x7f800000) half = 0x7e00;
  else if (rest >= 0x477ff000) half = 0x7c00;       // rounds past the largest number
  else if (rest < 0x38800000) half = float_bits(float_of(rest) + 0.5f) - 0x3f000000;  // denormal: the sum rounds it
  else half = (rest - 0x38000000 + 0xfff + ((rest >> 13) & 1)) >> 13;
  out->bits = uint16_t(sign | half);
}
#endif

template <typename T>
static inline void widen(const T* p, int64_t n, Acc<T>* out) {
  for (int64_t i = 0; i < n; i++) out[i] = to_acc(p[i]);
}

template <typename T>
static inline void narrow(const Acc<T>* values, int64_t n, T* p) {
  for (int64_t i = 0; i < n; i++) from_acc(values[i], p + i);
}

#if defined(__F16C__)
// No compiler vectorises the scalar conversions: eight at a time by hand.
static inline void widen(const Float16* p, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + i))));
  for (; i < n; i++) out[i] = to_acc(p[i]);
}

static inline void narrow(const float* values, int64_t n, Float16* p) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128((__m128i*)(p + i), _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; i++) from_acc(values[i], p + i);
}
#endif

// A block of a row in the type of the arithmetic: the row itself where it can be read as it lies, else a copy.
template <typename T>
static inline const Acc<T>* read_block(const T* p, int64_t n, int64_t stride, Acc<T>* copy) {
  if (stride == 1) {
    if constexpr (sizeof(T) == sizeof(Acc<T>)) return p;
    widen(p, n, copy);
  } else {
    for (int64_t i = 0; i < n; i++) copy[i] = to_acc(p[i * stride]);
  }
  return copy;
}

template <typename T>
static inline void write_block(const Acc<T>* values, int64_t n, T* p, int64_t stride) {
  if (stride == 1) {
    narrow(values, n, p);
  } else {
    for (int64_t i = 0; i < n; i++) from_acc(values[i], p + i * stride);
  }
}

// The first n lanes, or all of them.
template <typename A>
static inline void store_some(A* p, Vec<A> v, int64_t n) {
  if (n >= Lane<A>::count) return store(p, v);
  for (int64_t k = 0; k < n; k++) p[k] = v[k];
}

// Calls body(index of the first lane, vector, k) over n values, k = 0..3 in turn, so that four sums run side by side.
// The last vector is filled up with `rest`.
template <typename A, typename Body>
static inline void each_vector(const A* values, int64_t n, A rest, Body body) {
  constexpr int lanes = Lane<A>::count;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
#pragma GCC unroll 4  // so that the four sums stay in registers
    for (int k = 0; k < 4; k++) body(i + k * lanes, load(values + i + k * lanes), k);
  for (; i + lanes <= n; i += lanes) body(i, load(values + i), 0);
  if (i == n) return;
  A last[lanes];
  for (int k = 0; k < lanes; k++) last[k] = i + k < n ? values[i + k] : rest;
  body(i, load(last), 0);
}

}  // namespace
}  // namespace loreun
