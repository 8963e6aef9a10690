// Where a batch is computed: the CPU kernels, or the CUDA kernels if they were built.
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <string>

#include "cpu/kernels.h"
#include "cuda/launch.h"
#include "torch/arguments.h"
#include "torch/stream.h"

namespace loreun {

inline void parallel_for(int64_t count, int64_t grain, void* context, Body body) {
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

#ifdef LOREUN_WITH_CUDA
// Makes the tensor's device current and names the stream torch works on.
struct Stream {
  torch::stable::accelerator::DeviceGuard guard;
  void* handle = nullptr;
  explicit Stream(const Tensor& t) : guard(t.get_device_index()) {
    const CurrentStream current = current_stream();
    STD_TORCH_CHECK(current, "torch's current CUDA stream was not found: this torch has no CUDA");
    TORCH_ERROR_CODE_CHECK(current(t.get_device_index(), &handle));
  }
};

inline int plan_of(const CrossEntropy* p, int n, Plan* plan) { return loreun_cuda_ce_plan(p, n, plan); }
inline int plan_of(const MeanSquared* p, int n, Plan* plan) { return loreun_cuda_mse_plan(p, n, plan); }
inline int64_t size_of(const CrossEntropy& p) { return p.classes; }
inline int64_t size_of(const MeanSquared& p) { return p.row_size; }

// What was launched, in an error's words.
template <typename Part>
std::string named(const char* pass, const Part& part) {
  return std::string(pass) + " of " + std::to_string(part.rows) + " x " + std::to_string(size_of(part));
}

// How a forward pass was laid out. (A backward pass is one plain launch.)
template <typename Part>
std::string layout_of(const Part* parts, int count) {
  Plan plan;
  if (plan_of(parts, count, &plan) != 0) return "";
  return std::string(", ") + kRegimeNames[int(plan.regime)] + ": " + std::to_string(plan.blocks) + " blocks of " +
         std::to_string(plan.threads) + " threads, " + std::to_string(plan.smem) + " bytes of shared memory";
}

inline void cuda_failed(int code, const std::string& what) {
  STD_TORCH_CHECK(false, what, ": ", loreun_cuda_error(code), " (cudaError ", code, ")");
}
#endif

// The two losses differ in their struct and in nothing else here.
inline double on_cpu_forward(const CrossEntropy& part) { return cpu_ce_forward(part, parallel_for); }
inline double on_cpu_forward(const MeanSquared& part) { return cpu_mse_forward(part, parallel_for); }
inline void on_cpu_backward(const CrossEntropy& p, double grad) { cpu_ce_backward(p, grad, parallel_for); }
inline void on_cpu_backward(const MeanSquared& p, double grad) { cpu_mse_backward(p, grad, parallel_for); }

#ifdef LOREUN_WITH_CUDA
inline int64_t workspace(const CrossEntropy* p, int n) { return loreun_cuda_ce_workspace(p, n); }
inline int64_t workspace(const MeanSquared* p, int n) { return loreun_cuda_mse_workspace(p, n); }
inline int on_cuda_forward(const CrossEntropy* p, int n, void* loss, void* work, void* stream) {
  return loreun_cuda_ce_forward(p, n, loss, work, stream);
}
inline int on_cuda_forward(const MeanSquared* p, int n, void* loss, void* work, void* stream) {
  return loreun_cuda_mse_forward(p, n, loss, work, stream);
}
inline int on_cuda_backward(const CrossEntropy* p, const void* grad, void* s) { return loreun_cuda_ce_backward(p, grad, s); }
inline int on_cuda_backward(const MeanSquared* p, const void* grad, void* s) { return loreun_cuda_mse_backward(p, grad, s); }
#endif

// Fills every part's table and batch, their gradients where asked for, and returns the loss.
template <typename Part>
Tensor forward(const Part* parts, int count, const Tensor& like) {
  Tensor loss = fresh(like, {}, acc_of(parts[0].dtype));
  if (like.is_cpu()) {
    double total = 0;
    for (int i = 0; i < count; i++) total += on_cpu_forward(parts[i]);
    set_number(loss, total);
    return loss;
  }
#ifdef LOREUN_WITH_CUDA
  const Stream stream(like);
  Tensor work = fresh(like, {workspace(parts, count)}, ScalarType::Byte);
  const int code = on_cuda_forward(parts, count, loss.mutable_data_ptr(), work.mutable_data_ptr(), stream.handle);
  if (code != 0) cuda_failed(code, named("forward pass", *parts) + layout_of(parts, count));
#else
  STD_TORCH_CHECK(false, "built without CUDA");
#endif
  return loss;
}

// Fills the part's gradient. grad_out: one number, or nothing for 1.
template <typename Part>
void backward(const Part& part, const Optional& grad_out, const Tensor& like) {
  STD_TORCH_CHECK(!grad_out || (grad_out->numel() == 1 && grad_out->scalar_type() == acc_of(part.dtype)),
                  "grad_out does not fit");
  if (grad_out) same_device(*grad_out, like, "grad_out");
  if (like.is_cpu()) return on_cpu_backward(part, grad_out ? number_of(*grad_out) : 1.0);
#ifdef LOREUN_WITH_CUDA
  const Stream stream(like);
  const int code = on_cuda_backward(&part, grad_out ? grad_out->const_data_ptr() : nullptr, stream.handle);
  if (code != 0) cuda_failed(code, named("backward pass", part));
#else
  STD_TORCH_CHECK(false, "built without CUDA");
#endif
}

}  // namespace loreun
