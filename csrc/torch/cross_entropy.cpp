// torch's operators of the cross entropy: loreun::ce_forward, ce_backward, ce_backward_ (in place).
#include <tuple>

#include "torch/device.h"

namespace loreun {
namespace {

// What both passes are told. slice: the logits are some of the classes, and a label that is none of them is elsewhere.
struct Call {
  const Tensor &logits, &target;
  const Optional& score_target;
  int64_t ignore_index;
  double label_smoothing, scale;
  bool slice = false;

  CrossEntropy part() const {
    STD_TORCH_CHECK(logits.dim() == 2 && logits.size(1) > 0, "logits must be [N, C] with C > 0");
    STD_TORCH_CHECK(label_smoothing >= 0 && label_smoothing <= 1, "label_smoothing must be in [0, 1]");
    CrossEntropy p{};
    p.dtype = dtype_of(logits, "logits");
    p.logits = logits.const_data_ptr();
    p.rows = logits.size(0), p.classes = logits.size(1);
    p.row_stride = logits.stride(0), p.class_stride = logits.stride(1);
    p.ignore_index = ignore_index;
    p.target = labels_of(target, logits, "target", &ignore_index, slice), p.target_stride = target.stride(0);
    if (score_target) {
      p.score_target = labels_of(*score_target, logits, "score_target", &ignore_index, slice);
      p.score_stride = score_target->stride(0);
      const bool padding = ignore_index < 0 || ignore_index >= p.classes;  // else it is a class, of which a score may be
      for (int64_t i = 0; padding && logits.is_cpu() && !slice && i < p.rows; i++)
        STD_TORCH_CHECK(p.score_target[i * p.score_stride] != ignore_index || p.target[i * p.target_stride] == ignore_index,
                        "score_target is ignored at row ", i, ", target is not");
    }
    p.label_smoothing = label_smoothing, p.scale = scale;
    return p;
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> ce_forward(
    Tensor logits, Tensor target, Optional score_target, Optional score_loss, Optional ref, Optional eta_factor,
    Optional class_weight, int64_t rule, double eta, double ref_number, double importance, bool ratio, int64_t normalize,
    bool detach, int64_t ignore_index, double label_smoothing, double scale, bool may_grad) {
  CrossEntropy part = Call{logits, target, score_target, ignore_index, label_smoothing, scale}.part();
  STD_TORCH_CHECK(!score_target || !score_loss, "give score_target or score_loss, not both");
  part.weighting =
      WeightingArguments{score_loss, ref, eta_factor, rule, eta, ref_number, importance, ratio, normalize, detach}.of(
          part.dtype, logits);
  if (class_weight) part.class_weight = dense(*class_weight, part.dtype, logits, part.classes, "weight");
  if (class_weight && logits.is_cpu())
    STD_TORCH_CHECK(are_weights(part.class_weight, part.dtype, part.classes), "weight is negative");
  Tensor table = fresh(logits, {kCrossEntropyRows, part.rows}, acc_of(part.dtype));
  Tensor batch = fresh(logits, {kBatchValues}, ScalarType::Double);
  part.table = table.mutable_data_ptr(), part.batch = static_cast<double*>(batch.mutable_data_ptr());
  const bool keeps = keeps_exponentials(part), left = keeps && logits.is_cpu(), given = part.weighting.rule == Rule::given;
  if (!makes_gradient(logits, may_grad && (!given || left), keeps))
    return {forward(part, logits), table, batch, fresh(logits, {0}, logits.scalar_type())};
  Tensor grad = fresh(logits, {part.rows, part.classes}, logits.scalar_type()), kept = grad;
  part.grad = grad.mutable_data_ptr(), part.grad_row_stride = part.classes, part.grad_class_stride = 1;
  if (left && part.dtype == DType::bf16) kept = fresh(logits, {part.rows, part.classes}, ScalarType::Float);
  if (left) part.kept = kept.mutable_data_ptr();
  return {forward(part, logits), table, batch, given ? kept : grad};
}

void backward_into(Tensor& grad, const Call& call, const Optional& grad_out, const Tensor& table, const Tensor& batch,
                   const Optional& coefficients, const Optional& score_coefficients, const Optional& kept) {
  CrossEntropy part = call.part();
  stored(table, batch, kCrossEntropyRows * part.rows, &part.table, &part.batch);
  part.given = given_of(coefficients, score_coefficients, part.dtype, call.logits);
  part.grad = grad.mutable_data_ptr(), part.grad_row_stride = grad.stride(0), part.grad_class_stride = grad.stride(1);
  if (kept) {
    STD_TORCH_CHECK(grad.is_cpu() && keeps_exponentials(part) && kept->is_contiguous() && kept->numel() == grad.numel() &&
                        kept->scalar_type() == acc_of(part.dtype), "nothing was kept");
    part.kept = kept->mutable_data_ptr();
  }
  backward(part, grad_out, grad);
}

// Into the place of the logits. kept: what a forward pass of Rule::given left instead of them; nobody reads them then.
void ce_backward_(Optional grad_out, Tensor logits, Tensor target, Optional score_target, Tensor table, Tensor batch,
                  Optional coefficients, Optional score_coefficients, int64_t ignore_index, double label_smoothing,
                  double scale, Optional kept) {
  const bool slice = coefficients && !kept;
  backward_into(logits, Call{logits, target, score_target, ignore_index, label_smoothing, scale, slice}, grad_out, table, batch,
                coefficients, score_coefficients, kept);
}

Tensor ce_backward(Optional grad_out, Tensor logits, Tensor target, Optional score_target, Tensor table, Tensor batch,
                   Optional coefficients, Optional score_coefficients, int64_t ignore_index, double label_smoothing,
                   double scale) {
  Tensor grad = fresh(logits, {logits.size(0), logits.size(1)}, logits.scalar_type());
  const bool slice = coefficients.has_value();
  backward_into(grad, Call{logits, target, score_target, ignore_index, label_smoothing, scale, slice}, grad_out, table, batch,
                coefficients, score_coefficients, std::nullopt);
  return grad;
}

}  // namespace

STABLE_TORCH_LIBRARY(loreun, m) {
  m.def(
      "ce_forward(Tensor logits, Tensor target, Tensor? score_target, Tensor? score_loss, Tensor? ref, "
      "Tensor? eta_factor, Tensor? class_weight, int rule, float eta, float ref_number, float importance, bool ratio, "
      "int normalize, bool detach, int ignore_index, float label_smoothing, float scale, bool may_grad) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "ce_backward(Tensor? grad_out, Tensor logits, Tensor target, Tensor? score_target, Tensor table, Tensor batch, "
      "Tensor? coefficients, Tensor? score_coefficients, int ignore_index, float label_smoothing, float scale) -> Tensor");
  m.def(
      "ce_backward_(Tensor? grad_out, Tensor(a!) logits, Tensor target, Tensor? score_target, Tensor table, Tensor batch, "
      "Tensor? coefficients, Tensor? score_coefficients, int ignore_index, float label_smoothing, float scale, Tensor? kept) "
      "-> ()");
}

template <typename Library>
void implement(Library& m) {
  m.impl("ce_forward", TORCH_BOX(&ce_forward));
  m.impl("ce_backward", TORCH_BOX(&ce_backward));
  m.impl("ce_backward_", TORCH_BOX(&ce_backward_));
}
STABLE_TORCH_LIBRARY_IMPL(loreun, CPU, m) { implement(m); }
#ifdef LOREUN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(loreun, CUDA, m) { implement(m); }
#endif

}  // namespace loreun
