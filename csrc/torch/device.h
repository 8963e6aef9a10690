// Where a batch is computed: the CPU kernels, or the CUDA kernels if they were built.
#pragma once
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <atomic>

#include "cpu/kernels.h"
#include "cuda/launch.h"
#include "torch/arguments.h"

namespace loreun {

inline void parallel_for(int64_t count, int64_t grain, void* context, Body body) {
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

using CurrentStream = AOTITorchError (*)(int32_t device, void** stream);

// torch's function, or null where this torch has no CUDA. It lives in libtorch_cuda alone, with which this library is not
// linked, so that it serves torches without CUDA, too, and whose symbols it does not see, as Python loads torch's libraries
// for themselves.
inline CurrentStream current_stream() {
  static std::atomic<CurrentStream> found{nullptr};
  if (!found)
    if (void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD))  // only if torch has loaded it
      found = reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  return found;
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

inline void check_cuda(int code, const char* what, int64_t count) {
  STD_TORCH_CHECK(code == 0, what, " of ", count, " rows: ", gpu::error_text(code), " (cudaError ", code, ")");
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
  Tensor work;
  const auto scratch = [&](int64_t bytes) {
    work = fresh(like, {bytes}, ScalarType::Byte);
    return work.mutable_data_ptr();
  };
  check_cuda(gpu::Kernels<Part>::forward(part, loss.mutable_data_ptr(), scratch, stream.handle), "forward pass", part.rows);
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
  const void* arriving = grad_out ? grad_out->const_data_ptr() : nullptr;
  check_cuda(gpu::Kernels<Part>::backward(part, arriving, stream.handle), "backward pass", part.rows);
#endif
}

}  // namespace loreun
