// What the binding calls of the CUDA kernels: it needs no CUDA header. Every pointer is device memory; `stream` is a
// cudaStream_t. What returns an int returns 0 or a cudaError_t. Nothing here allocates, synchronises with the host or uses the
// default stream.
#pragma once
#include "loreun/params.h"
#include "loreun/plan.h"

namespace loreun::gpu {

// Of one loss: Part is CrossEntropy or MeanSquared.
template <typename Part>
struct Kernels {
  // Bytes of scratch memory the forward pass needs, for a device as it is now. No initialisation is needed.
  static int64_t workspace(const Part& part);

  // How the forward pass would be launched on the current device.
  static int plan(const Part& part, Plan* plan);

  // Fills table, batch and *loss (acc scalar) = scale * batch[kMean], and grad, if it is not null, for an incoming
  // gradient of 1.
  static int forward(const Part& part, void* loss, void* workspace, void* stream);

  // Fills grad from table and batch. grad_out: acc scalar on the device, the gradient that arrives.
  static int backward(const Part& part, const void* grad_out, void* stream);
};

// Fills loss and normalised.
int weigh(const Weighing& weighing, void* stream);

// grad *= *grad_out over `count` elements; does nothing if *grad_out is 1. The type is grad's.
int scale(DType dtype, void* grad, int64_t count, const void* grad_out, void* stream);

// A cudaError_t in words. The CUDA that the kernels were built with and that the driver runs, as 13020 for 13.2; 0: none.
const char* error_text(int error);
int runtime_version();
int driver_version();

}  // namespace loreun::gpu
