// torch's operators that serve either loss: loreun::weigh, for weights that were made elsewhere, and scale_, for a gradient
// that is ready.
#include <tuple>

#include "torch/device.h"

namespace loreun {
namespace {

std::tuple<Tensor, Tensor> weigh(Tensor table, Tensor batch, Tensor weights, int64_t normalize, double scale) {
  STD_TORCH_CHECK(table.dim() == 2 && table.size(0) > kLogWeight && table.is_contiguous(), "table does not fit");
  STD_TORCH_CHECK(batch.numel() == kBatchValues && batch.scalar_type() == ScalarType::Double, "batch does not fit");
  STD_TORCH_CHECK(normalize >= 0 && normalize <= 2, "no such normalisation");
  Weighing w{};
  w.dtype = dtype_of(table, "table"), w.rows = table.size(1), w.table = table.const_data_ptr();
  w.weights = dense(weights, w.dtype, table, w.rows, "weights");
  w.batch = static_cast<const double*>(batch.const_data_ptr());
  w.normalize = Normalize(normalize), w.scale = scale;
  Tensor loss = fresh(table, {}, table.scalar_type()), normalised = fresh(table, {w.rows}, table.scalar_type());
  w.loss = loss.mutable_data_ptr(), w.normalised = normalised.mutable_data_ptr();
  if (table.is_cpu()) {
    STD_TORCH_CHECK(are_weights(w.weights, w.dtype, w.rows), "weights must be finite and not negative");
    cpu_weigh(w);
    return {loss, normalised};
  }
#ifdef LOREUN_WITH_CUDA
  const Stream stream(table);
  check_cuda(gpu::weigh(w, stream.handle), "weighing", w.rows);
#endif
  return {loss, normalised};
}

#ifdef LOREUN_WITH_CUDA
void scale_(Tensor grad, Tensor grad_out) {
  const DType dtype = dtype_of(grad, "grad");
  STD_TORCH_CHECK(grad_out.numel() == 1 && grad_out.scalar_type() == acc_of(dtype), "grad_out does not fit");
  same_device(grad_out, grad, "grad_out");
  const Stream stream(grad);
  check_cuda(gpu::scale(dtype, grad.mutable_data_ptr(), grad.numel(), grad_out.const_data_ptr(), stream.handle), "scaling",
             grad.size(0));
}
#endif

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(loreun, m) {
  m.def("weigh(Tensor table, Tensor batch, Tensor weights, int normalize, float scale) -> (Tensor, Tensor)");
  m.def("scale_(Tensor(a!) grad, Tensor grad_out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(loreun, CPU, m) { m.impl("weigh", TORCH_BOX(&weigh)); }

#ifdef LOREUN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(loreun, CUDA, m) {
  m.impl("weigh", TORCH_BOX(&weigh));
  m.impl("scale_", TORCH_BOX(&scale_));
}
#endif

}  // namespace loreun
