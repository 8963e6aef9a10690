// LoReUn's weighted mean squared error: samples that a block has at hand, for the kernels of kernels.cuh.
#include "mean_squared.cuh"

#include "host.cuh"
#include "kernels.cuh"

namespace loreun::gpu {

template <>
struct Access<MeanSquared> {
  bool vectors;  // every row is whole aligned vectors, in the gradient, too
  bool both;     // the gradient needs the score differences, too

  explicit Access(const MeanSquared& part) {
    const int64_t lanes = kVectorBytes / kSize[static_cast<int>(part.dtype)];
    const auto whole = [&](const void* start, int64_t stride) { return !start || (aligned(start) && stride % lanes == 0); };
    vectors = part.row_size % lanes == 0 && whole(part.input, part.input_stride) &&
              whole(part.target, part.target_stride) && whole(part.score_target, part.score_stride) &&
              whole(part.grad, part.grad_stride);
    both = part.score_target && !part.weighting.detach;
  }
  Access() = default;

  Shape shape(const MeanSquared& part) const { return {part.rows, part.row_size, 1 + both}; }
};

template <typename T>
struct MeanSquaredTile : TileOf<T, MeanSquared, Squares<Acc<T>>, SampleState<Acc<T>>, SampleGradient<Acc<T>>> {
  using Base = TileOf<T, MeanSquared, Squares<Acc<T>>, SampleState<Acc<T>>, SampleGradient<Acc<T>>>;
  using typename Base::A, typename Base::Arguments, typename Base::Gradient, typename Base::State;
  using Base::access, Base::data, Base::first_row, Base::part, Base::plan;
  bool keeps;   // the differences, for the gradient
  Range piece;  // of each sample's units: vectors, or elements

  __device__ __forceinline__ MeanSquaredTile(const Arguments& a, int64_t unit)
      : Base(a, unit), keeps(a.with_grad), piece(units_of(part, access), Base::split, static_cast<int>(plan.splits)) {}

  static __device__ __forceinline__ int units_of(const MeanSquared& part, const Access<MeanSquared>& access) {
    return static_cast<int>(access.vectors ? part.row_size / kLanes<T> : part.row_size);
  }

  // Calls body with a unit.
  template <typename Body>
  static __device__ __forceinline__ auto by_unit(bool vectors, Body body) {
    return vectors ? body(Pack<T>{}) : body(One<T>{});
  }

  __device__ __forceinline__ A* kept(int r) const { return reinterpret_cast<A*>(data + r * plan.pitch); }
  __device__ __forceinline__ int units() const { return piece.last - piece.first; }

  template <bool kFused>
  __device__ __forceinline__ Squares<A> sum(int r, int chunk, const Group& group) const {
    return by_unit(access.vectors, [&](auto unit) {
      using Unit = decltype(unit);
      const Kept<Unit> kept{kFused && keeps ? this->kept(r) : nullptr, units()};
      return sum_units<kFused ? kUnroll : kPairs>(Sample<Unit>(part, first_row + r), piece.first,
                                                  Range(units(), chunk, plan.chunks), group, kept, access.both);
    });
  }

  template <bool kFused>
  __device__ __forceinline__ State finish(int64_t row, const Squares<A>& sums, bool write) const {
    return finish_sample(part, row, sums, write);
  }

  static __device__ __forceinline__ Gradient gradient_of(const MeanSquared& part, const State&, const Coefficients<A>& c) {
    return sample_gradient(part, c);
  }

  static __device__ __forceinline__ Gradient stored_gradient(const MeanSquared& part, int64_t row, A upstream) {
    return sample_gradient(part, stored_coefficients(part, row, upstream));
  }

  __device__ __forceinline__ void write(int r, int chunk, const Group& group, const Gradient& g) const {
    by_unit(access.vectors, [&](auto unit) {
      using Unit = decltype(unit);
      T* grad = static_cast<T*>(part.grad) + (first_row + r) * part.grad_stride;
      write_kept(Kept<Unit>{kept(r), units()}, grad, piece.first, Range(units(), chunk, plan.chunks), group, g, access.both);
    });
  }

  static __device__ __forceinline__ void write_row(const Arguments& a, int64_t row, int chunk, const Group& group,
                                                   A upstream) {
    const MeanSquared& part = a.part;
    const Access<MeanSquared>& access = a.access;
    by_unit(access.vectors, [&](auto unit) {
      const Range range(units_of(part, access), chunk, a.plan.chunks);
      write_units(Sample<decltype(unit)>(part, row), static_cast<T*>(part.grad) + row * part.grad_stride, range, group,
                  [&] { return stored_gradient(part, row, upstream); }, access.both);
    });
  }
};

template <>
struct LossOf<MeanSquared> {
  template <typename T>
  using Tile = MeanSquaredTile<T>;
  static constexpr auto kind = Loss::mean_squared;
};

template struct Kernels<MeanSquared>;

}  // namespace loreun::gpu
