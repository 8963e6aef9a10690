// Between the stored element types and the type of the arithmetic, an element or a vector at a time.
#pragma once
#include <utility>

#include "cpu/vector.h"
#include "loreun/params.h"

namespace loreun {
namespace {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

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
static inline Vec<float> to_acc(Halves h, Float16) { return (Vec<float>)_mm512_cvtph_ps((__m256i)h); }
static inline Halves from_acc(Vec<float> v, Float16) { return (Halves)_mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT); }
static inline Vec<float> to_acc(Halves h, BFloat16) {  // one permutation puts each into the upper half of its word
  constexpr Words place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const __m512i halves = _mm512_castsi256_si512((__m256i)h);
  return (Vec<float>)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, (__m512i)(place << 16), halves);
}
static inline Halves upper_halves(Words w) { return __builtin_convertvector(w >> 16, Halves); }
#elif defined(__AVX2__)
static inline Vec<float> to_acc(Halves h, Float16) { return (Vec<float>)_mm256_cvtph_ps((__m128i)h); }
static inline Halves from_acc(Vec<float> v, Float16) { return (Halves)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT); }
static inline Vec<float> to_acc(Halves h, BFloat16) {
  return (Vec<float>)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)h), 16);
}
static inline Halves upper_halves(Words w) {
  const __m256i signs = _mm256_srai_epi32((__m256i)w, 16);
  return (Halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packs_epi32(signs, signs), 8));
}
#else
static inline Vec<float> to_acc(Halves h, Float16) {
  float x[Lane<float>::count];
  for (int k = 0; k < Lane<float>::count; k++) x[k] = to_acc(Float16{h[k]});
  return load(x);
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
static inline Vec<float> to_acc(Halves h, BFloat16) { return (Vec<float>)(__builtin_convertvector(h, Words) << 16); }
static inline Halves upper_halves(Words w) { return __builtin_convertvector(w >> 16, Halves); }
#endif

static inline Halves from_acc(Vec<float> v, BFloat16) {
#if defined(__AVX512F__)
  if (kRoundsToBFloat16) {  // by name, as this file is for processors without it, too; what is below 1e-38 becomes 0
    Halves h;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(h) : "v"(v));
    return h;
  }
#endif
  const Words bits = (Words)v, more = ((bits >> 16) & 1) + 0x7fff;
  return upper_halves(bits + (more & (Words)(v == v)));  // a NaN that arithmetic made is one by its upper half
}
static inline Vec<float> to_acc(Vec<float> v, float) { return v; }
static inline Vec<double> to_acc(Vec<double> v, double) { return v; }
static inline Vec<float> from_acc(Vec<float> v, float) { return v; }
static inline Vec<double> from_acc(Vec<double> v, double) { return v; }

template <typename T>
using Stored = decltype(from_acc(Vec<Acc<T>>(), T()));  // a vector of elements as they lie in memory

// As load, store and stream of vector.h, for every element type.
template <typename T>
static inline Vec<Acc<T>> load_as(const T* p) {
  Stored<T> s;
  std::memcpy(&s, p, sizeof s);
  return to_acc(s, T());
}
template <typename T>
static inline void store_as(T* p, Vec<Acc<T>> v) {
  const Stored<T> s = from_acc(v, T());
  std::memcpy(p, &s, sizeof s);
}
template <typename T>
static inline void stream_as(T* p, Vec<Acc<T>> v) {
  stream(p, from_acc(v, T()));
}

// The first n lanes, or all of them; the others are `rest`. With a mask where there are masks: what is put together lane by
// lane is read back before it has arrived.
template <typename T>
static inline Vec<Acc<T>> load_as(const T* p, int64_t n, Acc<T> rest) {
  using A = Acc<T>;
  constexpr int lanes = Lane<A>::count;
  if (n >= lanes) return load_as(p);
#if defined(__AVX512F__)
  const __mmask16 there = __mmask16((1u << n) - 1);
  const __m512i others = (__m512i)splat(rest);
  if constexpr (sizeof(T) == 8) return (Vec<A>)_mm512_mask_loadu_epi64(others, __mmask8(there), p);
  else if constexpr (sizeof(T) == 4) return (Vec<A>)_mm512_mask_loadu_epi32(others, there, p);
  else {
    const Vec<A> v = to_acc((Halves)_mm256_maskz_loadu_epi16(there, p), T());
    return (Vec<A>)_mm512_mask_mov_epi32(others, there, (__m512i)v);
  }
#else
  A lane[lanes];
  for (int k = 0; k < lanes; k++) lane[k] = k < n ? to_acc(p[k]) : rest;
  return load(lane);
#endif
}
template <typename T>
static inline void store_as(T* p, Vec<Acc<T>> v, int64_t n) {
  if (n >= Lane<Acc<T>>::count) return store_as(p, v);
#if defined(__AVX512F__)
  const __mmask16 there = __mmask16((1u << n) - 1);
  if constexpr (sizeof(T) == 2) _mm256_mask_storeu_epi16(p, there, (__m256i)from_acc(v, T()));
  else if constexpr (sizeof(T) == 4) _mm512_mask_storeu_epi32(p, there, (__m512i)v);
  else _mm512_mask_storeu_epi64(p, __mmask8(there), (__m512i)v);
#else
  for (int64_t k = 0; k < n; k++) from_acc(v[k], p + k);
#endif
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

// A square of vectors, rows to columns: a perfect shuffle of the rows' halves rotates the bits of an element's index, row
// and lane together, by one.
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
      next[2 * i] = LOREUN_SHUFFLE(A, rows[i], rows[i + lanes / 2], (k % 2 * lanes + k / 2)...);
      next[2 * i + 1] = LOREUN_SHUFFLE(A, rows[i], rows[i + lanes / 2], (k % 2 * lanes + (k + lanes) / 2)...);
    }
    for (int i = 0; i < lanes; i++) rows[i] = next[i];
  }
}

}  // namespace
}  // namespace loreun
