// From tensors to the kernels' structs. The checks keep memory safe; their messages are short, as Python explains a
// refused call in full (loreun_bench/ops/checks.py).
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cmath>
#include <optional>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "loreun/params.h"

namespace loreun {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;

inline DType dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return DType::f32;
    case ScalarType::Double: return DType::f64;
    case ScalarType::BFloat16: return DType::bf16;
    case ScalarType::Half: return DType::f16;
    default: STD_TORCH_CHECK(false, name, " must be float16, bfloat16, float32 or float64"); return DType::f32;
  }
}

inline ScalarType acc_of(DType d) { return d == DType::f64 ? ScalarType::Double : ScalarType::Float; }

inline void same_device(const Tensor& a, const Tensor& b, const char* name) {
  STD_TORCH_CHECK(a.is_cpu() == b.is_cpu() && a.get_device_index() == b.get_device_index(), name,
                  " is on another device");
}

// The labels of a batch: [rows] int64. On the CPU every one is looked at, as the kernels index with it, unless they may be
// any: where the backward pass is given its coefficients.
inline const int64_t* labels_of(const Tensor& labels, const Tensor& logits, const char* name, const int64_t* ignore,
                                bool any) {
  STD_TORCH_CHECK(labels.dim() == 1 && labels.scalar_type() == ScalarType::Long && labels.size(0) == logits.size(0),
                  name, " must be int64 [N]");
  same_device(labels, logits, name);
  const auto* p = static_cast<const int64_t*>(labels.const_data_ptr());
  if (!logits.is_cpu() || any) return p;
  const int64_t rows = labels.size(0), stride = labels.stride(0), classes = logits.size(1);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t label = p[i * stride];
    STD_TORCH_CHECK((label >= 0 && label < classes) || (ignore && label == *ignore), name, " is out of range at row ", i);
  }
  return p;
}

// A [rows] or one-element tensor of the accumulation type, its memory and the step from row to row.
inline const void* per_row(const Tensor& t, DType dtype, const Tensor& like, const char* name, int64_t* stride) {
  STD_TORCH_CHECK(t.scalar_type() == acc_of(dtype), name, " must have the accumulation type");
  STD_TORCH_CHECK(t.dim() == 0 || (t.dim() == 1 && t.size(0) == like.size(0)), name, " must be a number or [N]");
  same_device(t, like, name);
  *stride = t.dim() == 0 ? 0 : t.stride(0);
  return t.const_data_ptr();
}

// A contiguous [count] tensor of the accumulation type.
inline const void* dense(const Tensor& t, DType dtype, const Tensor& like, int64_t count, const char* name) {
  STD_TORCH_CHECK(t.scalar_type() == acc_of(dtype) && t.dim() == 1 && t.size(0) == count && t.is_contiguous(), name,
                  " must be contiguous [", count, "] of the accumulation type");
  same_device(t, like, name);
  return t.const_data_ptr();
}

// Whether all of `count` numbers of the accumulation type are good.
template <typename Good>
bool all_of(const void* numbers, DType dtype, int64_t count, int64_t stride, Good good) {
  const auto over = [&]<typename A>(const A* x) {
    bool all = true;
    for (int64_t i = 0; i < count; i++) all &= good(double(x[i * stride]));
    return all;
  };
  return dtype == DType::f64 ? over(static_cast<const double*>(numbers)) : over(static_cast<const float*>(numbers));
}

// Whether these are what weights can be. On a GPU nobody looks, as looking would wait: a negative one gives NaN.
inline bool are_weights(const void* weights, DType dtype, int64_t count) {
  return all_of(weights, dtype, count, 1, [](double w) { return w >= 0 && std::isfinite(w); });
}

inline double number_of(const Tensor& scalar) {
  if (scalar.scalar_type() == ScalarType::Double) return *static_cast<const double*>(scalar.const_data_ptr());
  return *static_cast<const float*>(scalar.const_data_ptr());
}

// What a weighting is told.
struct WeightingArguments {
  const Optional &score_loss, &ref, &eta_factor;
  int64_t rule;
  double eta, ref_number, importance;
  bool ratio;
  int64_t normalize;
  bool detach;

  Weighting of(DType dtype, const Tensor& like) const {
    STD_TORCH_CHECK(rule >= 0 && rule <= 4 && normalize >= 0 && normalize <= 2, "no such rule or normalisation");
    Weighting w{};
    w.eta = eta, w.ref = ref_number, w.importance = importance;
    w.rule = Rule(rule), w.normalize = Normalize(normalize), w.ratio = ratio, w.detach = detach;
    if (score_loss) w.score_loss = dense(*score_loss, dtype, like, like.size(0), "score_loss");
    if (ref) w.ref_loss = per_row(*ref, dtype, like, "ref_loss", &w.ref_stride);
    if (eta_factor) {
      int64_t stride = 0;
      w.eta_factor = per_row(*eta_factor, dtype, like, "eta", &stride);
      STD_TORCH_CHECK(stride == 0, "eta must be a number");
      if (like.is_cpu()) w.eta *= number_of(*eta_factor), w.eta_factor = nullptr;
    }
    STD_TORCH_CHECK(std::isfinite(w.eta) && std::isfinite(ref_number) && (ref || !ratio || ref_number > 0),
                    "eta or ref_loss is out of range");
    const auto good = [&](double r) { return std::isfinite(r) && (!ratio || r > 0); };
    if (ref && like.is_cpu())
      STD_TORCH_CHECK(all_of(w.ref_loss, dtype, ref->numel(), w.ref_stride, good), "ref_loss is out of range");
    return w;
  }
};

inline int32_t shim_type(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return aoti_torch_dtype_float32();
    case ScalarType::Double: return aoti_torch_dtype_float64();
    case ScalarType::BFloat16: return aoti_torch_dtype_bfloat16();
    case ScalarType::Half: return aoti_torch_dtype_float16();
    default: return aoti_torch_dtype_uint8();
  }
}

// Memory that is new to the process is had a page at a time, on the first write to each; for a large gradient that takes
// longer than all that is computed. Linux has larger pages for those who ask.
constexpr uintptr_t kHuge = 2 << 20;

inline void prefer_huge_pages([[maybe_unused]] void* start, [[maybe_unused]] int64_t bytes) {
#ifdef __linux__
  const uintptr_t first = (uintptr_t(start) + kHuge - 1) / kHuge * kHuge, last = (uintptr_t(start) + bytes) / kHuge * kHuge;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// A tensor on the device of `like`, to be written in full. By the shim, as torch::stable::new_empty looks its operator
// up by name at every call (2 us).
inline Tensor fresh(const Tensor& like, int64_t dims, const int64_t* sizes, const int64_t* strides, ScalarType type) {
  int32_t device = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(dims, sizes, strides, shim_type(type), device, like.get_device_index(), &made));
  Tensor result(made);
  int64_t bytes = int64_t(result.element_size());
  for (int64_t d = 0; d < dims; d++) bytes *= sizes[d];
  if (bytes >= int64_t(kHuge) && like.is_cpu()) prefer_huge_pages(result.mutable_data_ptr(), bytes);
  return result;
}

// The same, contiguous.
inline Tensor fresh(const Tensor& like, std::initializer_list<int64_t> size, ScalarType type) {
  int64_t strides[2] = {1, 1};
  if (size.size() == 2) strides[0] = size.begin()[1];
  return fresh(like, int64_t(size.size()), size.begin(), strides, type);
}

// Whether a forward pass makes the gradient too, for an incoming gradient of 1: while the logits are at hand (on a GPU:
// in shared memory), or where it saves a call, or, `cheap`, a pass over the tensors. Never in float16: a gradient that
// is scaled after it was rounded loses what a loss scaler is there to keep. loreun_bench/ops/native.py tells
// torch.compile the same.
inline bool makes_gradient(const Tensor& t, bool allowed, bool cheap = false) {
  const int64_t limit = !t.is_cpu() ? 24 << 20 : cheap ? 256 << 20 : 1 << 20;
  return allowed && t.scalar_type() != ScalarType::Half && t.numel() * int64_t(t.element_size()) <= limit;
}

// The coefficients that a backward pass is given: [rows] each, instead of what table and batch say.
inline Given given_of(const Optional& objective, const Optional& score, DType dtype, const Tensor& like) {
  STD_TORCH_CHECK(objective || !score, "score_coefficients without coefficients");
  Given given{};
  if (objective) given.objective = dense(*objective, dtype, like, like.size(0), "coefficients");
  if (score) given.score = dense(*score, dtype, like, like.size(0), "score_coefficients");
  return given;
}

// The forward pass's results, as a backward pass finds them.
inline void stored(const Tensor& table, const Tensor& batch, int64_t values, void** to_table, double** to_batch) {
  STD_TORCH_CHECK(table.numel() == values && table.is_contiguous(), "table does not fit");
  STD_TORCH_CHECK(batch.numel() == kBatchValues && batch.scalar_type() == ScalarType::Double, "batch does not fit");
  *to_table = table.data_ptr(), *to_batch = static_cast<double*>(batch.data_ptr());
}

inline void set_number(Tensor& scalar, double value) {
  if (scalar.scalar_type() == ScalarType::Double) *static_cast<double*>(scalar.mutable_data_ptr()) = value;
  else *static_cast<float*>(scalar.mutable_data_ptr()) = float(value);
}

}  // namespace loreun
