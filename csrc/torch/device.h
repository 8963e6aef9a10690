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

inline int64_t size_of(const CrossEntropy& p) { return p.classes; }
inline int64_t size_of(const MeanSquared& p) { return p.row_size; }

// What was launched, in an error's words.
template <typename Part>
std::string named(const char* pass, const Part& part) {
  return std::string(pass) + " of " + std::to_string(part.rows) + " x " + std::to_string(size_of(part));
}

// How a forward pass was laid out. (A backward pass is one plain launch.)
template <typename Part>
std::string layout_of(const Part& part) {
  Plan plan;
  if (gpu::Kernels<Part>::plan(part, &plan) != 0) return "";
  return std::string(", ") + kRegimeNames[int(plan.regime)] + ": " + std::to_string(plan.blocks) + " blocks of " +
         std::to_string(plan.threads) + " threads, " + std::to_string(plan.smem) + " bytes of shared memory";
}

inline void cuda_failed(int code, const std::string& what) {
  STD_TORCH_CHECK(false, what, ": ", gpu::error_text(code), " (cudaError ", code, ")");
}
#endif

// Fills the part's table and batch, its gradient where asked for, and returns the loss.
template <typename Part>
Tensor forward(const Part& part, const Tensor& like) {
  Tensor loss = fresh(like, {}, acc_of(part.dtype));
  if (like.is_cpu()) {
    set_number(loss, cpu_forward(part, parallel_for));
    return loss;
  }
#ifdef LOREUN_WITH_CUDA
  const Stream stream(like);
  Tensor work = fresh(like, {gpu::Kernels<Part>::workspace(part)}, ScalarType::Byte);
  const int code = gpu::Kernels<Part>::forward(part, loss.mutable_data_ptr(), work.mutable_data_ptr(), stream.handle);
  if (code != 0) cuda_failed(code, named("forward pass", part) + layout_of(part));
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
  if (like.is_cpu()) return cpu_backward(part, grad_out ? number_of(*grad_out) : 1.0, parallel_for);
#ifdef LOREUN_WITH_CUDA
  const Stream stream(like);
  const int code = gpu::Kernels<Part>::backward(part, grad_out ? grad_out->const_data_ptr() : nullptr, stream.handle);
  if (code != 0) cuda_failed(code, named("backward pass", part));
#else
  STD_TORCH_CHECK(false, "built without CUDA");
#endif
}

}  // namespace loreun
