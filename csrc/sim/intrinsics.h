// The built-in functions of device code, with the meaning of the CUDA C++ programming guide.
#pragma once

#define LOREUN_SIM_WHERE ::loreun_sim::Where where = ::loreun_sim::Where::current()

// ---- threads that meet ------------------------------------------------------------------------------------------------

inline void __syncthreads(LOREUN_SIM_WHERE) { loreun_sim::sync_block(loreun_sim::Vote::none, false, where); }
inline int __syncthreads_or(int p, LOREUN_SIM_WHERE) { return loreun_sim::sync_block(loreun_sim::Vote::any, p, where); }
inline int __syncthreads_and(int p, LOREUN_SIM_WHERE) { return loreun_sim::sync_block(loreun_sim::Vote::all, p, where); }
inline int __syncthreads_count(int p, LOREUN_SIM_WHERE) {
  return loreun_sim::sync_block(loreun_sim::Vote::count, p, where);
}

// The fences order nothing here, where memory is sequentially consistent, but others may run.
inline void __threadfence() { loreun_sim::maybe_switch(); }
inline void __threadfence_block() { loreun_sim::maybe_switch(); }
inline void __threadfence_system() { loreun_sim::maybe_switch(); }

namespace loreun_sim {

inline uint64_t nothing(const uint64_t*, unsigned, unsigned, unsigned) { return 0; }
inline uint64_t other_lane(const uint64_t* values, unsigned, unsigned, unsigned source) { return values[source]; }

inline uint64_t ballot(const uint64_t* values, unsigned mask, unsigned, unsigned) {
  uint64_t bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= uint64_t((mask >> i & 1) && values[i]) << i;
  return bits;
}

template <typename T>
uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <typename T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// One function per size, because lanes that shuffle different sizes do not meet.
template <size_t size>
uint64_t shuffled(const uint64_t* values, unsigned, unsigned, unsigned source) { return values[source]; }

template <typename T>
T shuffle(unsigned mask, T value, unsigned source, Where where) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  return from_bits<T>(sync_warp(shuffled<sizeof(T)>, mask, to_bits(value), source, where));
}

}  // namespace loreun_sim

inline void __syncwarp(unsigned mask = ~0u, LOREUN_SIM_WHERE) {
  loreun_sim::sync_warp(loreun_sim::nothing, mask, 0, 0, where);
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, LOREUN_SIM_WHERE) {
  const unsigned segment = loreun_sim::lane() & ~(unsigned(width) - 1);
  return loreun_sim::shuffle(mask, value, segment + unsigned(source) % unsigned(width), where);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32, LOREUN_SIM_WHERE) {
  const unsigned lane = loreun_sim::lane(), source = lane ^ unsigned(distance);
  const unsigned last = lane | (unsigned(width) - 1);  // of the lane's segment: beyond it everyone keeps his own
  return loreun_sim::shuffle(mask, value, source > last ? lane : source, where);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, LOREUN_SIM_WHERE) {
  const unsigned lane = loreun_sim::lane(), last = lane | (unsigned(width) - 1);
  return loreun_sim::shuffle(mask, value, lane + distance > last ? lane : lane + distance, where);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, LOREUN_SIM_WHERE) {
  const unsigned lane = loreun_sim::lane(), first = lane & ~(unsigned(width) - 1);
  return loreun_sim::shuffle(mask, value, lane < first + distance ? lane : lane - distance, where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, LOREUN_SIM_WHERE) {
  return unsigned(loreun_sim::sync_warp(loreun_sim::ballot, mask, predicate != 0, 0, where));
}
inline int __any_sync(unsigned mask, int predicate, LOREUN_SIM_WHERE) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, LOREUN_SIM_WHERE) {
  return __ballot_sync(mask, predicate, where) == mask;
}

// ---- atomics: whole numbers only, since sums of floats would depend on the order --------------------------------------

namespace loreun_sim {

template <typename T, typename Change>
T exchange(T* address, Change change) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "float atomics are not deterministic");
  check_aligned(address, sizeof(T), Where::current());
  maybe_switch();
  const T old = *address;
  *address = change(old);
  return old;
}

}  // namespace loreun_sim

template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T old) { return T(std::make_unsigned_t<T>(old) + std::make_unsigned_t<T>(value)); });
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T old) { return std::min(old, value); });
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T old) { return T(old | value); });
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T) { return value; });
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return loreun_sim::exchange(address, [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* address, unsigned limit) {
  return loreun_sim::exchange(address, [=](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// ---- memory, bits and arithmetic --------------------------------------------------------------------------------------

template <typename T> T __ldg(const T* address) { return *address; }
template <typename T> T __ldca(const T* address) { return *address; }
template <typename T> T __ldcg(const T* address) { return *address; }
template <typename T> T __ldcs(const T* address) { return *address; }
template <typename T> T __ldlu(const T* address) { return *address; }
template <typename T> T __ldcv(const T* address) { return *address; }
template <typename T> void __stwb(T* address, std::type_identity_t<T> value) { *address = value; }
template <typename T> void __stcg(T* address, std::type_identity_t<T> value) { *address = value; }
template <typename T> void __stcs(T* address, std::type_identity_t<T> value) { *address = value; }
template <typename T> void __stwt(T* address, std::type_identity_t<T> value) { *address = value; }

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }  // NaN becomes 0, as there
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

using std::max;
using std::min;
using std::isfinite;
using std::isinf;
using std::isnan;

#undef LOREUN_SIM_WHERE
