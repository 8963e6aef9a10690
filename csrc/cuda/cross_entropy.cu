// LoReUn's weighted cross entropy: rows that a block has at hand, for the kernels of kernels.cuh.
#include "cross_entropy.cuh"

#include "host.cuh"
#include "kernels.cuh"

namespace loreun::gpu {

// How the memory of one part can be read and written.
template <>
struct Access<CrossEntropy> {
  bool dense_rows, vectors;       // logits: one aligned run without gaps; class_stride 1
  bool dense_grad, grad_vectors;  // the same of grad; grad_vectors: and each row is aligned as its logits are

  explicit Access(const CrossEntropy& part) {
    const int64_t size = kSize[static_cast<int>(part.dtype)];
    const auto dense = [&](const void* start, int64_t row_stride, int64_t class_stride) {
      return class_stride == 1 && row_stride == part.classes && aligned(start);
    };
    vectors = part.class_stride == 1;
    dense_rows = dense(part.logits, part.row_stride, part.class_stride);
    dense_grad = dense(part.grad, part.grad_row_stride, part.grad_class_stride);
    const auto offset = reinterpret_cast<intptr_t>(part.grad) - reinterpret_cast<intptr_t>(part.logits);
    grad_vectors = vectors && part.grad_class_stride == 1 && offset % kVectorBytes == 0 &&
                   (part.grad_row_stride - part.row_stride) * size % kVectorBytes == 0;
  }
  Access() = default;

  static Shape shape(const CrossEntropy& part) { return {part.rows, part.classes}; }
};

template <typename T>
struct CrossEntropyTile : TileOf<T, CrossEntropy, Moments<Acc<T>>, RowState<Acc<T>>, RowGradient<Acc<T>>> {
  using Base = TileOf<T, CrossEntropy, Moments<Acc<T>>, RowState<Acc<T>>, RowGradient<Acc<T>>>;
  using typename Base::A, typename Base::Arguments, typename Base::Gradient, typename Base::State;
  using Base::access, Base::data, Base::first_row, Base::part, Base::plan, Base::rows, Base::split;
  int classes;

  __device__ __forceinline__ CrossEntropyTile(const Arguments& a, int64_t unit)
      : Base(a, unit), classes(static_cast<int>(part.classes)) {}

  __device__ __forceinline__ const T* global_row(int64_t row) const {
    return static_cast<const T*>(part.logits) + row * part.row_stride;
  }

  __device__ __forceinline__ T* global_grad(int64_t row) const {
    return static_cast<T*>(part.grad) + row * part.grad_row_stride;
  }

  // Row r in shared memory, aligned as it is in global memory where that matters.
  __device__ __forceinline__ T* shared_row(int r) const {
    const bool shifts = !plan.staged && access.vectors;
    const int64_t shift = shifts ? reinterpret_cast<uintptr_t>(global_row(first_row + r)) % kVectorBytes : 0;
    return reinterpret_cast<T*>(data + r * plan.pitch + shift);
  }

  // All of a row, where its elements are no vectors.
  __device__ __forceinline__ Span loose() const { return {classes, 0}; }

  // What Moments::total is relative to, so that the mean of logits far from zero stays exact.
  __device__ __forceinline__ A base(const T* row) const {
    if (part.label_smoothing == 0) return 0;
    const A first = to_acc(row[0]);
    return first - first == 0 ? first : A(0);
  }

  // So that the end of a row does not wait for them.
  __device__ __forceinline__ void prefetch_inputs(int64_t row) const {
    const Weighting& w = part.weighting;
    prefetch(part.target + row * part.target_stride);
    if (part.score_target) prefetch(part.score_target + row * part.score_stride);
    if (w.score_loss) prefetch(static_cast<const A*>(w.score_loss) + row);
    if (w.ref_loss) prefetch(static_cast<const A*>(w.ref_loss) + row * w.ref_stride);
  }

  __device__ __forceinline__ void stage() const {
    const int n = rows * classes;
    T* to = reinterpret_cast<T*>(data);
    if (access.dense_rows) return copy_run(to, global_row(first_row), n);
#pragma unroll 4
    for (int i = thread_index(); i < n; i += thread_count()) {
      const int r = i / classes;
      to[i] = global_row(first_row + r)[(i - r * classes) * part.class_stride];
    }
  }

  template <bool kFused>
  __device__ __forceinline__ Moments<A> sum(int r, int chunk, const Group& group) const {
    const int chunks = plan.chunks, piece = split * chunks + chunk, pieces = chunks * static_cast<int>(plan.splits);
    const bool total = part.label_smoothing != 0;
    const T *staged = shared_row(r), *row = global_row(first_row + r);
    T* kept = kFused ? shared_row(r) : nullptr;
    if (plan.staged) return sum_row(staged, 1, (T*)nullptr, classes, loose(), 0, 1, group, base(staged), total);
    return sum_row(row, part.class_stride, kept, classes, access.vectors ? Span(row, classes) : loose(), piece, pieces, group,
                   base(row), total);
  }

  // The row's logits were just read: they are in a cache, or in shared memory.
  template <bool kFused>
  __device__ __forceinline__ State finish(int64_t row, const Moments<A>& moments, bool write) const {
    const bool here = kFused || plan.staged;
    const T* logits = here ? shared_row(static_cast<int>(row - first_row)) : global_row(row);
    const int64_t stride = here ? 1 : part.class_stride;
    const auto logit = [&](int64_t label) { return to_acc(logits[label * stride]); };
    State state = read_inputs<A>(part, row);
    finish_row(part, row, state, moments, base(logits), write, logit);
    return state;
  }

  static __device__ __forceinline__ Gradient gradient_of(const CrossEntropy& part, const State& state,
                                                         const Coefficients<A>& c) {
    return row_gradient(part, state, c);
  }

  static __device__ __forceinline__ Gradient stored_gradient(const CrossEntropy& part, int64_t row, A upstream) {
    State state = read_labels<A>(part, row);
    const A* table = static_cast<const A*>(part.table) + row;
    state.max = table[kMax * part.rows], state.log_sum = table[kLogSum * part.rows];
    return row_gradient(part, state, stored_coefficients(part, row, upstream));
  }

  __device__ __forceinline__ bool in_place() const { return plan.staged && access.dense_grad; }

  // From shared memory to grad, or, where grad is one run, in place first.
  __device__ __forceinline__ void write(int r, int chunk, const Group& group, const Gradient& g) const {
    T *row = shared_row(r), *grad = global_grad(first_row + r);
    const auto gradient = [&] { return g; };
    if (in_place()) return write_piece(row, 1, row, 1, classes, loose(), chunk, plan.chunks, group, gradient);
    const bool vectors = !plan.staged && access.grad_vectors;
    write_piece(row, 1, grad, part.grad_class_stride, classes, vectors ? Span(row, classes) : loose(), chunk, plan.chunks, group,
                gradient);
  }

  __device__ __forceinline__ void copy_out() const {
    if (!in_place()) return;
    __syncthreads();
    copy_run(global_grad(first_row), reinterpret_cast<T*>(data), rows * classes);
  }

  static __device__ __forceinline__ void write_row(const Arguments& a, int64_t row, int chunk, const Group& group,
                                                   A upstream) {
    const CrossEntropy& part = a.part;
    const int classes = static_cast<int>(part.classes), chunks = a.plan.chunks;
    const T* logits = static_cast<const T*>(part.logits) + row * part.row_stride;
    T* grad = static_cast<T*>(part.grad) + row * part.grad_row_stride;
    write_piece(logits, part.class_stride, grad, part.grad_class_stride, classes,
                a.access.grad_vectors ? Span(logits, classes) : Span{classes, 0}, chunk, chunks, group,
                [&] { return stored_gradient(part, row, upstream); });
  }
};

template <>
struct LossOf<CrossEntropy> {
  template <typename T>
  using Tile = CrossEntropyTile<T>;
  static constexpr auto kind = Loss::cross_entropy;
};

template struct Kernels<CrossEntropy>;

}  // namespace loreun::gpu
