// torch's operators of the mean squared error: loreun::mse_forward, mse_backward.
#include <algorithm>
#include <array>
#include <tuple>

#include "torch/device.h"

namespace loreun {
namespace {

constexpr int64_t kMaxDims = 64;

// Whether each sample of t lies in one piece, its dimensions in any order (channels-last, say).
bool dense_rows(const Tensor& t) {
  std::array<std::pair<int64_t, int64_t>, kMaxDims> dims;  // stride, size
  int64_t count = 0;
  for (int64_t d = 1; d < t.dim(); d++)
    if (t.size(d) != 1) dims[count++] = {t.stride(d), t.size(d)};
  std::sort(dims.begin(), dims.begin() + count);
  int64_t expected = 1;
  for (int64_t k = 0; k < count; expected *= dims[k++].second)
    if (dims[k].first != expected) return false;
  return true;
}

// Whether the samples of a and b lie in the same order.
bool same_rows(const Tensor& a, const Tensor& b) {
  for (int64_t d = 1; d < a.dim(); d++)
    if (a.size(d) != 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

// The tensors of a call in a layout the kernels read: as they are if their samples lie alike and in one piece.
struct Layout {
  Tensor input, target;
  Optional score_target;

  Layout(const Tensor& x, const Tensor& t, const Optional& u) : input(x), target(t), score_target(u) {
    STD_TORCH_CHECK(x.dim() >= 1 && x.dim() <= kMaxDims, "input must be [N, ...]");
    fits(t, "target");
    if (u) fits(*u, "score_target");
    if (dense_rows(x) && same_rows(x, t) && (!u || same_rows(x, *u))) return;
    input = torch::stable::contiguous(x), target = torch::stable::contiguous(t);
    if (u) score_target = torch::stable::contiguous(*u);
  }

  void fits(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.dim() == input.dim() && t.scalar_type() == input.scalar_type(), name, " must be like input");
    for (int64_t d = 0; d < t.dim(); d++) STD_TORCH_CHECK(t.size(d) == input.size(d), name, " must be like input");
    same_device(t, input, name);
  }

  MeanSquared part(bool mean, double scale) const {
    MeanSquared p{};
    p.dtype = dtype_of(input, "input");
    p.rows = input.size(0), p.row_size = 1;
    for (int64_t d = 1; d < input.dim(); d++) p.row_size *= input.size(d);
    p.input = input.const_data_ptr(), p.input_stride = input.stride(0);
    p.target = target.const_data_ptr(), p.target_stride = target.stride(0);
    if (score_target) p.score_target = score_target->const_data_ptr(), p.score_stride = score_target->stride(0);
    p.divisor = mean ? double(p.row_size) : 1.0;
    p.scale = scale;
    return p;
  }
};

// Memory laid out as `original`; without the look-up by name of torch::stable::empty_like where it lies in one piece.
Tensor empty_like(const Tensor& original, int64_t row_size) {
  if (!dense_rows(original) || original.stride(0) != row_size) return torch::stable::empty_like(original);
  std::array<int64_t, kMaxDims> sizes, strides;
  for (int64_t d = 0; d < original.dim(); d++) sizes[d] = original.size(d), strides[d] = original.stride(d);
  return fresh(original, original.dim(), sizes.data(), strides.data(), original.scalar_type());
}

// The gradient's memory, laid out as the input; the kernels write elsewhere first where they cannot write it as it lies.
struct Gradient {
  Tensor grad, place;

  Gradient(const Tensor& input, const Layout& layout, MeanSquared& part)
      : grad(empty_like(input, part.row_size)), place(grad) {
    if (!dense_rows(grad) || !same_rows(grad, layout.input)) place = torch::stable::empty_like(layout.input);
    part.grad = place.mutable_data_ptr(), part.grad_stride = place.stride(0);
  }

  Tensor finished() {
    if (place.get() != grad.get()) torch::stable::copy_(grad, place);
    return grad;
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> mse_forward(
    Tensor input, Tensor target, Optional score_target, Optional score_loss, Optional ref, Optional eta_factor,
    int64_t rule, double eta, double ref_number, double importance, bool ratio, int64_t normalize, bool detach, bool mean,
    double scale, bool may_grad) {
  STD_TORCH_CHECK(!score_target || !score_loss, "give score_target or score_loss, not both");
  const Layout layout(input, target, score_target);
  MeanSquared part = layout.part(mean, scale);
  part.weighting =
      WeightingArguments{score_loss, ref, eta_factor, rule, eta, ref_number, importance, ratio, normalize, detach}.of(
          part.dtype, input);
  Tensor table = fresh(input, {kMeanSquaredRows, part.rows}, acc_of(part.dtype));
  Tensor batch = fresh(input, {kBatchValues}, ScalarType::Double);
  part.table = table.mutable_data_ptr(), part.batch = static_cast<double*>(batch.mutable_data_ptr());
  if (!makes_gradient(input, may_grad && part.weighting.rule != Rule::given, detach))
    return {forward(part, input), table, batch, fresh(input, {0}, input.scalar_type())};
  Gradient gradient(input, layout, part);
  Tensor loss = forward(part, input);
  return {loss, table, batch, gradient.finished()};
}

Tensor mse_backward(Optional grad_out, Tensor input, Tensor target, Optional score_target, Tensor table, Tensor batch,
                    Optional coefficients, Optional score_coefficients, bool mean, double scale) {
  const Layout layout(input, target, score_target);
  MeanSquared part = layout.part(mean, scale);
  stored(table, batch, kMeanSquaredRows * part.rows, &part.table, &part.batch);
  part.given = given_of(coefficients, score_coefficients, part.dtype, input);
  Gradient gradient(input, layout, part);
  backward(part, grad_out, input);
  return gradient.finished();
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(loreun, m) {
  m.def(
      "mse_forward(Tensor input, Tensor target, Tensor? score_target, Tensor? score_loss, Tensor? ref, "
      "Tensor? eta_factor, int rule, float eta, float ref_number, float importance, bool ratio, int normalize, "
      "bool detach, bool mean, float scale, bool may_grad) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "mse_backward(Tensor? grad_out, Tensor input, Tensor target, Tensor? score_target, Tensor table, Tensor batch, "
      "Tensor? coefficients, Tensor? score_coefficients, bool mean, float scale) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(loreun, CPU, m) {
  m.impl("mse_forward", TORCH_BOX(&mse_forward));
  m.impl("mse_backward", TORCH_BOX(&mse_backward));
}

#ifdef LOREUN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(loreun, CUDA, m) {
  m.impl("mse_forward", TORCH_BOX(&mse_forward));
  m.impl("mse_backward", TORCH_BOX(&mse_backward));
}
#endif

}  // namespace loreun
