// Vectors of the compiler (GCC and Clang), as wide as the instruction set this file is compiled for. Every function is
// static: the same header is compiled once per instruction set, and no copy may stand in for another at link time.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace loreun {
namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

// The exponential's constants. ln2 is split in two so that n * ln2_high is exact for every n in range.
template <typename T>
struct Lane;

template <>
struct Lane<float> {
  using Int = int32_t;
  static constexpr int count = kBytes / 4, mantissa = 23, bias = 127;
  static constexpr float round = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer
  static constexpr float smallest = -87.33654f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};

template <>
struct Lane<double> {
  using Int = int64_t;
  static constexpr int count = kBytes / 8, mantissa = 52, bias = 1023;
  static constexpr double round = 6755399441055744.;  // 1.5 * 2^52
  static constexpr double smallest = -708.39641853226408, ln2_high = 6.93145751953125e-1;
  static constexpr double ln2_low = 1.42860682030941723212e-6;
};

template <typename T>
struct Types {
  typedef T V __attribute__((vector_size(kBytes)));
  typedef typename Lane<T>::Int I __attribute__((vector_size(kBytes)));
};
template <typename T>
using Vec = typename Types<T>::V;

template <typename T>
static inline Vec<T> splat(T x) {
  return x - Vec<T>{};
}

template <typename T>
static inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <typename T>
static inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// Past the caches, at a vector's boundary; streams_end, before another thread may read it.
template <typename V>
static inline void stream(void* p, V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof v == 64) return _mm512_stream_si512((__m512i*)p, (__m512i)v);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof v == 32) return _mm256_stream_si256((__m256i*)p, (__m256i)v);
  if constexpr (sizeof v == 16) return _mm_stream_si128((__m128i*)p, (__m128i)v);
#endif
  std::memcpy(p, &v, sizeof v);
}
static inline void streams_end() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// The larger of the two; x where either is NaN. By hand, as compilers take a comparison and a selection for it.
template <typename V>
static inline V larger(V best, V x) {
  [[maybe_unused]] constexpr bool single = sizeof x[0] == 4;
#if defined(__AVX512F__)
  if constexpr (sizeof x == 64 && single) return (V)_mm512_max_ps((__m512)best, (__m512)x);
  else if constexpr (sizeof x == 64) return (V)_mm512_max_pd((__m512d)best, (__m512d)x);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof x == 32 && single) return (V)_mm256_max_ps((__m256)best, (__m256)x);
  else if constexpr (sizeof x == 32) return (V)_mm256_max_pd((__m256d)best, (__m256d)x);
#endif
  return best > x ? best : x;
}

// A vector's halves. What goes over all lanes goes by halves: a loop would be a chain of one operation after the other.
template <typename T, int bytes>
struct Halved {
  typedef T V __attribute__((vector_size(bytes / 2)));
  V low, high;
};
template <typename V, typename T = std::remove_cvref_t<decltype(V()[0])>>
static inline Halved<T, sizeof(V)> halved(V v) {
  Halved<T, sizeof(V)> both;
  std::memcpy(&both, &v, sizeof v);
  return both;
}

// The largest lane, of lanes that are no NaN.
template <typename V>
static inline auto max_lane(V v) {
  if constexpr (sizeof v == 16) {
    auto best = v[0];
    for (unsigned i = 1; i < sizeof v / sizeof v[0]; i++) best = v[i] > best ? v[i] : best;
    return best;
  } else {
    const auto [low, high] = halved(v);
    return max_lane(larger(low, high));
  }
}

// The sum of the lanes, in double.
template <typename V>
static inline double sum_of(V v) {
  if constexpr (sizeof v == 2 * sizeof(double) && sizeof v[0] == sizeof(double)) {
    return v[0] + v[1];
  } else {
    const auto [low, high] = halved(v);
    if constexpr (sizeof v[0] == sizeof(double)) return sum_of(low + high);
    else return sum_of(__builtin_convertvector(low, Vec<double>) + __builtin_convertvector(high, Vec<double>));
  }
}

// x / ln2 - n. Fused by hand, as a compiler takes the rounded product that n was made of and is off by |x| * 6e-8; the
// float nearest to 1 / ln2 leaves |x| * 1.3e-8.
static inline Vec<float> fraction_of_log2(Vec<float> x, Vec<float> n) {
#if defined(__FMA__) && !defined(__AVX512F__)
  return (Vec<float>)_mm256_fmsub_ps((__m256)x, _mm256_set1_ps(1.44269504f), (__m256)n);
#else
  return x * 1.44269504f - n;
#endif
}

// exp(x) / 2^n for n the integer nearest to x / ln2. float: 2^fraction by a polynomial fitted to 9e-8. double: Taylor's
// series, 4e-18, of x less n ln2 in two parts.
static inline Vec<float> exp_fraction(Vec<float> x, Vec<float> n) {
  constexpr float c[] = {1.3264727199e-03f, 9.6715126895e-03f, 5.5507337437e-02f,
                         2.4022242085e-01f, 6.9314697760e-01f, 1.f};
  const Vec<float> f = fraction_of_log2(x, n);
  Vec<float> p = splat(c[0]);
  for (int i = 1; i < 6; i++) p = p * f + c[i];
  return p;
}

static inline Vec<double> exp_fraction(Vec<double> x, Vec<double> n) {
  const Vec<double> r = (x - n * Lane<double>::ln2_high) - n * Lane<double>::ln2_low;
  double factorial = 6227020800.;  // 13!
  Vec<double> p = splat(1 / factorial);
  for (int k = 13; k > 0; k--) p = p * r + 1 / (factorial /= k);
  return p;
}

// exp(x) for x <= 0: 0 for -inf, NaN for NaN. A denormal result may be 0.
template <typename T>
static inline Vec<T> exp_negative(Vec<T> x) {
  using L = Lane<T>;
  using I = typename Types<T>::I;
  const Vec<T> shifted = x * T(1.4426950408889634) + L::round;
  const Vec<T> n = shifted - L::round;
  const I exponent = ((I)shifted - (I)splat(L::round) + L::bias) << L::mantissa;
  const Vec<T> result = exp_fraction(x, n) * (Vec<T>)exponent;
  return x < L::smallest ? Vec<T>{} : result;
}

#if defined(__AVX512F__)
// 2^(j/32) in float, less j at the place where n is added: n = 32 k + j makes 2^(n/32) of the entry for j.
struct Powers {
  alignas(kBytes) int32_t bits[32];
  constexpr Powers() : bits() {
    double power = 1;
    for (int j = 0; j < 32; j++, power *= 1.0218971486541166)
      bits[j] = __builtin_bit_cast(int32_t, float(power)) - (j << 18);
  }
};
constexpr Powers kPowers;

// A table of 32 lies in two registers, and leaves so small a fraction f = 32 x / ln2 - n that two terms of its series do
// (5e-8, fitted): half the multiplications of the polynomial above, which are what bounds it.
template <>
inline Vec<float> exp_negative<float>(Vec<float> x) {
  const __m512 scale = _mm512_set1_ps(46.16624131f), round = _mm512_set1_ps(Lane<float>::round);
  const __m512 shifted = _mm512_fmadd_ps((__m512)x, scale, round);
  const __m512 f = _mm512_fmsub_ps((__m512)x, scale, _mm512_sub_ps(shifted, round));
  const __m512i n = _mm512_castps_si512(shifted);
  const __m512i entry =
      _mm512_permutex2var_epi32(_mm512_load_si512(kPowers.bits), n, _mm512_load_si512(kPowers.bits + 16));
  const __m512 power = _mm512_castsi512_ps(_mm512_add_epi32(entry, _mm512_slli_epi32(n, 18)));
  const __m512 rest = _mm512_mul_ps(f, _mm512_fmadd_ps(f, _mm512_set1_ps(2.3459849e-4f), _mm512_set1_ps(2.1661166e-2f)));
  const __mmask16 there = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(Lane<float>::smallest), _CMP_NLT_UQ);
  return (Vec<float>)_mm512_maskz_fmadd_ps(there, power, rest, power);
}
#endif

// log(x) for normal x > 0, and NaN for NaN: x = 2^e m with m near 1, log m = 2 atanh((m - 1) / (m + 1)) by its series.
template <typename T>
static inline Vec<T> log_positive(Vec<T> x) {
  using L = Lane<T>;
  using I = typename Types<T>::I;
  const I half = (I)splat(T(0.70710678118654752));
  const I shift = ((I)x - half) >> L::mantissa;  // e, such that m lies in [sqrt(1/2), sqrt(2))
  const Vec<T> m = (Vec<T>)((I)x - (shift << L::mantissa));
  const Vec<T> s = (m - 1) / (m + 1), square = s * s;
  constexpr int last = sizeof(T) == 4 ? 11 : 23;
  Vec<T> series = splat(T(1) / last);
  for (int k = last - 2; k > 0; k -= 2) series = series * square + T(1) / k;
  const Vec<T> e = __builtin_convertvector(shift, Vec<T>);
  const Vec<T> result = e * L::ln2_high + (2 * s * series + e * L::ln2_low);
  return x == x ? result : x;
}

}  // namespace
}  // namespace loreun
