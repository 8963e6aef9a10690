// The kernels' host functions under names that Python's ctypes finds.
#include "launch.h"

using namespace loreun;

#define LOREUN_SIM_LOSS(name, Part)                                                                        \
  extern "C" int sim_##name##_forward(const Part* part, void* loss, void* (*scratch)(int64_t)) {           \
    return gpu::Kernels<Part>::forward(*part, loss, scratch, nullptr);                                     \
  }                                                                                                        \
  extern "C" int sim_##name##_backward(const Part* part, const void* grad_out) {                           \
    return gpu::Kernels<Part>::backward(*part, grad_out, nullptr);                                         \
  }

LOREUN_SIM_LOSS(ce, CrossEntropy)
LOREUN_SIM_LOSS(mse, MeanSquared)

extern "C" int sim_weigh(const Weighing* weighing) { return gpu::weigh(*weighing, nullptr); }
extern "C" int sim_scale(DType dtype, void* grad, int64_t count, const void* grad_out) {
  return gpu::scale(dtype, grad, count, grad_out, nullptr);
}
