// 16-byte vectors of elements.
#pragma once
#include <cstring>

#include "common.cuh"

namespace loreun::gpu {

template <typename T>
constexpr int kLanes = static_cast<int>(kVectorBytes / sizeof(T));  // elements per vector

// Kept as words: arrays of a 16-bit class go to local memory.
template <typename T>
struct alignas(16) Pack {
  using Element = T;
  static constexpr int width = kLanes<T>;
  uint32_t word[4];
};

template <typename To, typename From>
__device__ __forceinline__ To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof(To));
  return to;
}

// Element e; known when it is compiled.
template <typename T>
__device__ __forceinline__ Acc<T> element(const Pack<T>& pack, int e) {
  if constexpr (sizeof(T) == 2) return to_acc(bits_as<T>(static_cast<uint16_t>(pack.word[e / 2] >> (e % 2 * 16))));
  else if constexpr (sizeof(T) == 4) return bits_as<T>(pack.word[e]);
  else return bits_as<T>(uint64_t(pack.word[2 * e + 1]) << 32 | pack.word[2 * e]);
}

__device__ __forceinline__ auto pair_of(float low, float high, __nv_bfloat16) { return __floats2bfloat162_rn(low, high); }
__device__ __forceinline__ auto pair_of(float low, float high, __half) { return __floats2half2_rn(low, high); }

template <typename T>
__device__ __forceinline__ void put_elements(Pack<T>& pack, const Acc<T> (&x)[kLanes<T>]) {
#pragma unroll
  for (int w = 0; w < 4; w++) {
    if constexpr (sizeof(T) == 2) pack.word[w] = bits_as<uint32_t>(pair_of(x[2 * w], x[2 * w + 1], T()));
    else if constexpr (sizeof(T) == 4) pack.word[w] = bits_as<uint32_t>(x[w]);
    else pack.word[w] = static_cast<uint32_t>(bits_as<uint64_t>(x[w / 2]) >> (w % 2 * 32));
  }
}

template <typename T>
__device__ __forceinline__ Pack<T> load(const T* from) {
  LOREUN_CHECK_ALIGNED(from, 16);
  return *reinterpret_cast<const Pack<T>*>(from);
}

template <typename T>
__device__ __forceinline__ void store(T* to, const Pack<T>& pack) {
  LOREUN_CHECK_ALIGNED(to, 16);
  *reinterpret_cast<Pack<T>*>(to) = pack;
}

// An element by itself, where rows are no whole vectors. Pack and One are the units that rows are read and written by.
template <typename T>
struct One {
  using Element = T;
  static constexpr int width = 1;
  T value;
};

template <typename T>
__device__ __forceinline__ Acc<T> element(const One<T>& one, int) {
  return to_acc(one.value);
}

template <typename T>
__device__ __forceinline__ void put_elements(One<T>& one, const Acc<T> (&x)[1]) {
  one.value = from_acc<T>(x[0]);
}

template <typename Unit>
using ElementOf = typename Unit::Element;
template <typename Unit>
constexpr int kWidth = Unit::width;

template <typename Unit, typename A>
__device__ __forceinline__ Unit packed(const A (&x)[kWidth<Unit>]) {
  Unit unit;
  put_elements(unit, x);
  return unit;
}

template <typename Unit, typename A>
__device__ __forceinline__ Unit filled(A value) {
  A x[kWidth<Unit>];
#pragma unroll
  for (int e = 0; e < kWidth<Unit>; e++) x[e] = value;
  return packed<Unit>(x);
}

// Units by their number.
template <typename Unit>
__device__ __forceinline__ Unit load_unit(const ElementOf<Unit>* from, int64_t unit) {
  if constexpr (kWidth<Unit> == 1) return {from[unit]};
  else return load(from + unit * kWidth<Unit>);
}

template <typename Unit>
__device__ __forceinline__ void store_unit(ElementOf<Unit>* to, int64_t unit, const Unit& value) {
  if constexpr (kWidth<Unit> == 1) to[unit] = value.value;
  else store(to + unit * kWidth<Unit>, value);
}

// A run of n elements as aligned vectors with some elements before and after them.
struct Span {
  int head, vectors;
  __device__ __forceinline__ Span(int head, int vectors) : head(head), vectors(vectors) {}
  template <typename T>
  __device__ __forceinline__ Span(const T* start, int n) {
    const int past = static_cast<int>((reinterpret_cast<uintptr_t>(start) % kVectorBytes) / sizeof(T));
    head = min(n, past ? kLanes<T> - past : 0);
    vectors = (n - head) / kLanes<T>;
  }
};

// Element i of those that belong to no vector.
template <typename T>
__device__ __forceinline__ int loose_element(const Span& span, int i) {
  return i < span.head ? i : i + span.vectors * kLanes<T>;
}

// The piece of [0, n) that belongs to one of `chunks` groups.
struct Range {
  int first, last;
  __device__ __forceinline__ Range(int n, int chunk, int chunks) {
    const int each = chunks == 1 ? n : (n + chunks - 1) / chunks;
    first = min(n, chunk * each);
    last = min(n, first + each);
  }
};

// A lane's share of a range's units, with kDeep of them under way: fetch(slot, unit) asks for one, use(slot, unit) has it.
// begin() is called when the first are on their way.
template <int kDeep, typename Fetch, typename Begin, typename Use>
__device__ __forceinline__ void stream(const Range& range, const Group& group, Fetch fetch, Begin begin, Use use) {
  int u = range.first + group.lane;
#pragma unroll
  for (int i = 0; i < kDeep; i++)
    if (u + i * group.size < range.last) fetch(i, u + i * group.size);
  begin();
  for (; u < range.last; u += group.size * kDeep) {
#pragma unroll
    for (int i = 0; i < kDeep; i++) {
      if (u + i * group.size < range.last) use(i, u + i * group.size);
      const int next = u + (i + kDeep) * group.size;  // reads go on beside what is done
      if (next < range.last) fetch(i, next);
    }
  }
}

inline bool aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kVectorBytes == 0; }

// Copies n elements with the whole block; both sides aligned.
template <typename T>
__device__ __forceinline__ void copy_run(T* to, const T* from, int n) {
  const int vectors = n / kLanes<T>, threads = static_cast<int>(blockDim.x);
  for (int v = static_cast<int>(threadIdx.x); v < vectors; v += threads * kUnroll) {
    Pack<T> x[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; i++)
      if (v + i * threads < vectors) x[i] = load(from + (v + i * threads) * kLanes<T>);
#pragma unroll
    for (int i = 0; i < kUnroll; i++)
      if (v + i * threads < vectors) store(to + (v + i * threads) * kLanes<T>, x[i]);
  }
  for (int i = vectors * kLanes<T> + static_cast<int>(threadIdx.x); i < n; i += threads) to[i] = from[i];
}

}  // namespace loreun::gpu
