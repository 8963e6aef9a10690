// What the binding calls of the CUDA kernels: it needs no CUDA header. Every pointer is device memory; `stream` is a
// cudaStream_t. What returns an int returns 0 or a cudaError_t. Nothing here allocates, synchronises with the host or uses the
// default stream.
#pragma once
#include <functional>

#include "loreun/params.h"

namespace loreun::gpu {

// Of one loss: Part is CrossEntropy or MeanSquared.
template <typename Part>
struct Kernels {
  // Fills table, batch and *loss (acc scalar) = scale * batch[kMean], and grad, if it is not null, for an incoming
  // gradient of 1. scratch: gives so many bytes, on the stream; they need no initialisation.
  static int forward(const Part& part, void* loss, const std::function<void*(int64_t)>& scratch, void* stream);

  // Fills grad from table and batch. grad_out: acc scalar on the device, the gradient that arrives.
  static int backward(const Part& part, const void* grad_out, void* stream);
};

// Fills loss and normalised.
int weigh(const Weighing& weighing, void* stream);

// grad *= *grad_out over `count` elements; does nothing if *grad_out is 1. The type is grad's.
int scale(DType dtype, void* grad, int64_t count, const void* grad_out, void* stream);

const char* error_text(int error);  // a cudaError_t in words

}  // namespace loreun::gpu
