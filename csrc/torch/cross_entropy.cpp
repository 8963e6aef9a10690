// torch's operators of the cross entropy: loreun::ce_forward, ce_backward, ce_backward_ (in place), step_forward.
#include <tuple>

#include "torch/device.h"

namespace loreun {
namespace {

// What the schemas below have in common, in their order.
struct Call {
  const Tensor &logits, &target;
  const Optional& score_target;
  WeightingArguments weighting;
  int64_t ignore_index;
  double label_smoothing, scale;

  CrossEntropy part() const {
    STD_TORCH_CHECK(logits.dim() == 2 && logits.size(1) > 0, "logits must be [N, C] with C > 0");
    STD_TORCH_CHECK(label_smoothing >= 0 && label_smoothing <= 1, "label_smoothing must be in [0, 1]");
    STD_TORCH_CHECK(!score_target || !weighting.score_loss, "give score_target or score_loss, not both");
    CrossEntropy p{};
    p.dtype = dtype_of(logits, "logits");
    p.logits = logits.const_data_ptr();
    p.rows = logits.size(0), p.classes = logits.size(1);
    p.row_stride = logits.stride(0), p.class_stride = logits.stride(1);
    p.ignore_index = ignore_index;
    p.target = labels_of(target, logits, "target", &ignore_index), p.target_stride = target.stride(0);
    if (score_target) {
      p.score_target = labels_of(*score_target, logits, "score_target", nullptr);
      p.score_stride = score_target->stride(0);
    }
    p.label_smoothing = label_smoothing, p.scale = scale;
    p.weighting = weighting.of(p.dtype, logits);
    return p;
  }
};

// The forward pass's tensors of one batch.
struct Outputs {
  Tensor table, batch, grad;

  Outputs(CrossEntropy& p, const Tensor& logits, bool with_grad)
      : table(fresh(logits, {kCrossEntropyRows, p.rows}, acc_of(p.dtype))),
        batch(fresh(logits, {kBatchValues}, ScalarType::Double)),
        grad(with_grad ? fresh(logits, {p.rows, p.classes}, logits.scalar_type())
                       : fresh(logits, {0}, logits.scalar_type())) {
    p.table = table.mutable_data_ptr(), p.batch = static_cast<double*>(batch.mutable_data_ptr());
    if (with_grad) p.grad = grad.mutable_data_ptr(), p.grad_row_stride = p.classes, p.grad_class_stride = 1;
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> ce_forward(
    Tensor logits, Tensor target, Optional score_target, Optional score_loss, Optional ref, double eta, bool ratio,
    bool detach, int64_t ignore_index, double label_smoothing, double scale, bool may_grad) {
  CrossEntropy part =
      Call{logits, target, score_target, {score_loss, ref, eta, ratio, detach}, ignore_index, label_smoothing, scale}.part();
  Outputs out(part, logits, makes_gradient(logits, may_grad, keeps_exponentials(part.dtype, part.classes)));
  Tensor loss = forward(&part, 1, logits);
  return {loss, out.table, out.batch, out.grad};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> step_forward(
    Tensor forget_logits, Tensor forget_target, Optional forget_score_target, Tensor retain_logits,
    Tensor retain_target, double eta_f, double eta_r, double alpha, bool detach, int64_t ignore_index,
    double label_smoothing, double scale, bool may_grad) {
  const Optional none;
  CrossEntropy parts[2] = {
      Call{forget_logits, forget_target, forget_score_target, {none, none, -eta_f, false, detach}, ignore_index,
           label_smoothing, scale}.part(),
      Call{retain_logits, retain_target, none, {none, none, eta_r, false, detach}, ignore_index, label_smoothing,
           alpha * scale}.part()};
  STD_TORCH_CHECK(parts[0].dtype == parts[1].dtype, "retain_logits must have the dtype of forget_logits");
  same_device(forget_logits, retain_logits, "retain_logits");
  const bool with_grad =
      makes_gradient(forget_logits, may_grad, keeps_exponentials(parts[0].dtype, parts[0].classes)) &&
      makes_gradient(retain_logits, may_grad, keeps_exponentials(parts[1].dtype, parts[1].classes));
  Outputs forget(parts[0], forget_logits, with_grad), retain(parts[1], retain_logits, with_grad);
  Tensor loss = forward(parts, 2, forget_logits);
  return {loss, forget.table, forget.batch, forget.grad, retain.table, retain.batch, retain.grad};
}

void fill_gradient(const Tensor& grad_out, CrossEntropy part, const Tensor& table, const Tensor& batch, Tensor& grad) {
  STD_TORCH_CHECK(table.numel() == kCrossEntropyRows * part.rows && table.is_contiguous(), "table does not fit");
  STD_TORCH_CHECK(batch.numel() == kBatchValues && batch.scalar_type() == ScalarType::Double, "batch does not fit");
  part.table = table.data_ptr(), part.batch = static_cast<double*>(batch.data_ptr());
  part.grad = grad.mutable_data_ptr(), part.grad_row_stride = grad.stride(0), part.grad_class_stride = grad.stride(1);
  backward(part, grad_out, grad);
}

Tensor ce_backward(Tensor grad_out, Tensor logits, Tensor target, Optional score_target, Optional score_loss,
                   Optional ref, Tensor table, Tensor batch, double eta, bool ratio, bool detach, int64_t ignore_index,
                   double label_smoothing, double scale) {
  Tensor grad = fresh(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
  const Call call{logits, target, score_target, {score_loss, ref, eta, ratio, detach}, ignore_index, label_smoothing, scale};
  fill_gradient(grad_out, call.part(), table, batch, grad);
  return grad;
}

void ce_backward_(Tensor grad_out, Tensor logits, Tensor target, Optional score_target, Optional score_loss,
                  Optional ref, Tensor table, Tensor batch, double eta, bool ratio, bool detach, int64_t ignore_index,
                  double label_smoothing, double scale) {
  const Call call{logits, target, score_target, {score_loss, ref, eta, ratio, detach}, ignore_index, label_smoothing, scale};
  fill_gradient(grad_out, call.part(), table, batch, logits);
}

}  // namespace

STABLE_TORCH_LIBRARY(loreun, m) {
  m.def(
      "ce_forward(Tensor logits, Tensor target, Tensor? score_target, Tensor? score_loss, Tensor? ref, float eta, "
      "bool ratio, bool detach, int ignore_index, float label_smoothing, float scale, bool may_grad) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "step_forward(Tensor forget_logits, Tensor forget_target, Tensor? forget_score_target, Tensor retain_logits, "
      "Tensor retain_target, float eta_f, float eta_r, float alpha, bool detach, int ignore_index, "
      "float label_smoothing, float scale, bool may_grad) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "ce_backward(Tensor grad_out, Tensor logits, Tensor target, Tensor? score_target, Tensor? score_loss, "
      "Tensor? ref, Tensor table, Tensor batch, float eta, bool ratio, bool detach, int ignore_index, "
      "float label_smoothing, float scale) -> Tensor");
  m.def(
      "ce_backward_(Tensor grad_out, Tensor(a!) logits, Tensor target, Tensor? score_target, Tensor? score_loss, "
      "Tensor? ref, Tensor table, Tensor batch, float eta, bool ratio, bool detach, int ignore_index, "
      "float label_smoothing, float scale) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(loreun, CPU, m) {
  m.impl("ce_forward", TORCH_BOX(&ce_forward));
  m.impl("step_forward", TORCH_BOX(&step_forward));
  m.impl("ce_backward", TORCH_BOX(&ce_backward));
  m.impl("ce_backward_", TORCH_BOX(&ce_backward_));
}

#ifdef LOREUN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(loreun, CUDA, m) {
  m.impl("ce_forward", TORCH_BOX(&ce_forward));
  m.impl("step_forward", TORCH_BOX(&step_forward));
  m.impl("ce_backward", TORCH_BOX(&ce_backward));
  m.impl("ce_backward_", TORCH_BOX(&ce_backward_));
}
#endif

}  // namespace loreun
