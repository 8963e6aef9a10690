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

// Memory for as many samples, each laid out as those of x, one after the other.
Tensor rows_like(const Tensor& x) {
  std::array<int64_t, kMaxDims> sizes, strides;
  int64_t row_size = 1;
  for (int64_t d = 0; d < x.dim(); d++) {
    sizes[d] = x.size(d), strides[d] = x.stride(d);
    if (d > 0) row_size *= x.size(d);
  }
  strides[0] = row_size;
  return fresh(x, x.dim(), sizes.data(), strides.data(), x.scalar_type());
}

// The tensors of a call, each sample in one piece and in the same order: the input's, or, where it has gaps, its copy's.
struct Layout {
  Tensor input, target;
  Optional score_target;

  Layout(const Tensor& x, const Tensor& t, const Optional& u) : input(x) {
    STD_TORCH_CHECK(x.dim() >= 1 && x.dim() <= kMaxDims, "input must be [N, ...]");
    if (!dense_rows(x)) input = torch::stable::contiguous(x);
    target = like_input(t, "target");
    if (u) score_target = like_input(*u, "score_target");
  }

  Tensor like_input(const Tensor& t, const char* name) const {
    STD_TORCH_CHECK(t.dim() == input.dim() && t.scalar_type() == input.scalar_type(), name, " must be like input");
    bool alike = true;
    for (int64_t d = 0; d < t.dim(); d++) {
      STD_TORCH_CHECK(t.size(d) == input.size(d), name, " must be like input");
      alike &= d == 0 || t.size(d) == 1 || t.stride(d) == input.stride(d);
    }
    same_device(t, input, name);
    if (alike) return t;
    Tensor copy = rows_like(input);
    torch::stable::copy_(copy, t);
    return copy;
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

// The gradient's memory.
Tensor gradient_of(const Layout& layout, MeanSquared& part) {
  Tensor grad = rows_like(layout.input);
  part.grad = grad.mutable_data_ptr(), part.grad_stride = part.row_size;
  return grad;
}

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
  Tensor grad = gradient_of(layout, part);
  return {forward(part, input), table, batch, grad};
}

Tensor mse_backward(Optional grad_out, Tensor input, Tensor target, Optional score_target, Tensor table, Tensor batch,
                    Optional coefficients, Optional score_coefficients, bool mean, double scale) {
  const Layout layout(input, target, score_target);
  MeanSquared part = layout.part(mean, scale);
  stored(table, batch, kMeanSquaredRows * part.rows, &part.table, &part.batch);
  part.given = given_of(coefficients, score_coefficients, part.dtype, input);
  Tensor grad = gradient_of(layout, part);
  backward(part, grad_out, input);
  return grad;
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

template <typename Library>
void implement(Library& m) {
  m.impl("mse_forward", TORCH_BOX(&mse_forward));
  m.impl("mse_backward", TORCH_BOX(&mse_backward));
}
STABLE_TORCH_LIBRARY_IMPL(loreun, CPU, m) { implement(m); }
#ifdef LOREUN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(loreun, CUDA, m) { implement(m); }
#endif

}  // namespace loreun
