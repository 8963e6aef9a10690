// Between the stored element types and the type of the arithmetic, an element or a vector at a time.
#pragma once
#include <utility>

#include "cpu/vector.h"

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

// A vector of 16-bit elements, to and from the type of the arithmetic.
typedef uint16_t Halves __attribute__((vector_size(kBytes / 2)));
typedef uint32_t Words __attribute__((vector_size(kBytes)));

#if defined(__AVX512F__)
static const bool kRoundsToBFloat16 = (__builtin_cpu_init(), __builtin_cpu_supports("avx512bf16"));
constexpr Words kLanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// One permutation puts each half into the upper half of its word, or takes it from there. A NaN that arithmetic made is quiet:
// its upper half is one.
static inline Vec<float> to_acc(Halves h, BFloat16) {
  const __m512i halves = _mm512_castsi256_si512((__m256i)h);
  return (Vec<float>)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, (__m512i)(kLanes << 16), halves);
}
static inline Halves from_acc(Vec<float> v, BFloat16) {
  if (kRoundsToBFloat16) {  // one instruction for six, written out as this file is also for processors that do not have it
    Halves h;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(v));
    return h;
  }
  const Words bits = (Words)v, more = ((bits >> 16) & 1) + 0x7fff;
  const __mmask16 number = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_ORD_Q);
  const __m512i rounded = _mm512_mask_add_epi32((__m512i)v, number, (__m512i)bits, (__m512i)more);
  return (Halves)_mm512_castsi512_si256(_mm512_permutexvar_epi16((__m512i)(kLanes * 0x40004 + 0x30001), rounded));
}
#else
static inline Vec<float> to_acc(Halves h, BFloat16) { return (Vec<float>)(__builtin_convertvector(h, Words) << 16); }
static inline Halves from_acc(Vec<float> v, BFloat16) {
  const Words bits = (Words)v, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector(v == v ? rounded : Words{} + 0x7fc0, Halves);
}
#endif

#if defined(__AVX512F__)
static inline Vec<float> to_acc(Halves h, Float16) { return (Vec<float>)_mm512_cvtph_ps((__m256i)h); }
static inline Halves from_acc(Vec<float> v, Float16) {
  return (Halves)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT);
}
#elif defined(__F16C__)
static inline Vec<float> to_acc(Halves h, Float16) { return (Vec<float>)_mm256_cvtph_ps((__m128i)h); }
static inline Halves from_acc(Vec<float> v, Float16) {
  return (Halves)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
}
#else
static inline Vec<float> to_acc(Halves h, Float16) {
  Vec<float> v;
  for (int k = 0; k < Lane<float>::count; k++) v[k] = to_acc(Float16{h[k]});
  return v;
}
static inline Halves from_acc(Vec<float> v, Float16) {
  Halves h;
  for (int k = 0; k < Lane<float>::count; k++) {
    Float16 x;
    from_acc(v[k], &x);
    h[k] = x.bits;
  }
  return h;
}
#endif

// As load and store of vector.h, for every element type.
template <typename T>
static inline Vec<Acc<T>> load_as(const T* p) {
  if constexpr (sizeof(T) == sizeof(Acc<T>)) return load(p);
  else {
    Halves h;
    std::memcpy(&h, p, sizeof h);
    return to_acc(h, T{});
  }
}

template <typename T>
static inline void store_as(T* p, Vec<Acc<T>> v) {
  if constexpr (sizeof(T) == sizeof(Acc<T>)) return store(p, v);
  else {
    const Halves h = from_acc(v, T{});
    std::memcpy(p, &h, sizeof h);
  }
}

template <typename T>
static inline void stream_as(T* p, Vec<Acc<T>> v) {
  if constexpr (sizeof(T) == sizeof(Acc<T>)) return stream(p, v);
  else store_as(p, v);
}

// The first n lanes, or all of them.
template <typename T>
static inline Vec<Acc<T>> load_as(const T* p, int64_t n, Acc<T> rest) {
  using A = Acc<T>;
  if (n >= Lane<A>::count) return load_as(p);
  if constexpr (sizeof(T) == sizeof(A)) return load_some(p, n, rest);
  else {
#if defined(__AVX512F__)
    const __mmask16 there = __mmask16((1u << n) - 1);
    const Vec<float> v = to_acc((Halves)_mm256_maskz_loadu_epi16(there, p), T{});
    return (Vec<float>)_mm512_mask_mov_ps(_mm512_set1_ps(rest), there, (__m512)v);
#else
    A lane[Lane<A>::count];
    for (int k = 0; k < Lane<A>::count; k++) lane[k] = k < n ? to_acc(p[k]) : rest;
    return load(lane);
#endif
  }
}

template <typename T>
static inline void store_as(T* p, Vec<Acc<T>> v, int64_t n) {
  using A = Acc<T>;
  if (n >= Lane<A>::count) return store_as(p, v);
  if constexpr (sizeof(T) == sizeof(A)) return store_some(p, v, n);
  else {
    const Halves h = from_acc(v, T{});
#if defined(__AVX512F__)
    _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), (__m256i)h);
#else
    for (int64_t k = 0; k < n; k++) p[k].bits = h[k];
#endif
  }
}

// n elements as they lie, or gathered in `copy` where they have gaps; and back.
template <typename T>
static inline const T* read_block(const T* p, int64_t n, int64_t stride, T* copy) {
  if (stride == 1) return p;
  for (int64_t i = 0; i < n; i++) copy[i] = p[i * stride];
  return copy;
}

template <typename T>
static inline void write_block(const T* values, int64_t n, T* p, int64_t stride) {
  for (int64_t i = 0; i < n; i++) p[i * stride] = values[i];
}

// Calls body(index of the first lane, vector, lanes that count, k) over n elements, k = 0..3 in turn, so that four sums run
// side by side. The last vector is filled up with `rest`.
template <typename T, typename Body>
static inline void each_vector(const T* x, int64_t n, Acc<T> rest, Body body) {
  constexpr int lanes = Lane<Acc<T>>::count;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
#pragma GCC unroll 4  // so that the four sums stay in registers
    for (int k = 0; k < 4; k++) body(i + k * lanes, load_as(x + i + k * lanes), lanes, k);
  for (; i + lanes <= n; i += lanes) body(i, load_as(x + i), lanes, 0);
  if (i < n) body(i, load_as(x + i, n - i, rest), int(n - i), 0);
}

// Rows of a matrix of as many rows as a vector has lanes become columns: a perfect shuffle of the rows' halves rotates the
// index's bits, row and lane together, by one.
#if defined(__clang__)
#define LOREUN_SHUFFLE(A, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define LOREUN_SHUFFLE(A, a, b, ...) __builtin_shuffle(a, b, typename Types<A>::I{__VA_ARGS__})
#endif
template <typename A, int... k>
static inline void transpose(Vec<A>* rows, std::integer_sequence<int, k...>) {
  constexpr int lanes = sizeof...(k);
#pragma GCC unroll 8
  for (int step = 0; step < __builtin_ctz(lanes); step++) {
    Vec<A> next[lanes];
    for (int i = 0; i < lanes / 2; i++) {
      const Vec<A> a = rows[i], b = rows[i + lanes / 2];
      next[2 * i] = LOREUN_SHUFFLE(A, a, b, (k % 2 * lanes + k / 2)...);
      next[2 * i + 1] = LOREUN_SHUFFLE(A, a, b, (k % 2 * lanes + (k + lanes) / 2)...);
    }
    for (int i = 0; i < lanes; i++) rows[i] = next[i];
  }
}

template <typename A>
static inline void transpose(Vec<A>* rows) {
  transpose<A>(rows, std::make_integer_sequence<int, Lane<A>::count>());
}

}  // namespace
}  // namespace loreun
