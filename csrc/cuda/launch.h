// The entry points of the CUDA kernels, plain C, so that the binding needs no CUDA header and the host emulation
// (csrc/sim) can be called in their place. Every pointer is device memory; `stream` is a cudaStream_t.
// Each returns 0 or a cudaError_t. Nothing here allocates, synchronises with the host or uses the default stream.
#pragma once
#include "loreun/params.h"
#include "loreun/plan.h"

extern "C" {

// Bytes of scratch memory the forward pass needs, for a device as it is now. No initialisation is needed.
int64_t loreun_cuda_ce_workspace(const loreun::CrossEntropy* parts, int count);
int64_t loreun_cuda_mse_workspace(const loreun::MeanSquared* parts, int count);

// How the forward pass would be launched on the current device.
int loreun_cuda_ce_plan(const loreun::CrossEntropy* parts, int count, loreun::Plan* plan);
int loreun_cuda_mse_plan(const loreun::MeanSquared* parts, int count, loreun::Plan* plan);

// Fills table and batch of each part and *loss (acc scalar) = sum over parts of scale * batch[kMean]. If grad is not
// null in every part, it is filled too, for an incoming gradient of 1. count is 1 or 2.
int loreun_cuda_ce_forward(const loreun::CrossEntropy* parts, int count, void* loss, void* workspace, void* stream);
int loreun_cuda_mse_forward(const loreun::MeanSquared* parts, int count, void* loss, void* workspace, void* stream);

// Fills grad from table and batch. grad_out: acc scalar on the device, the gradient that arrives.
int loreun_cuda_ce_backward(const loreun::CrossEntropy* part, const void* grad_out, void* stream);
int loreun_cuda_mse_backward(const loreun::MeanSquared* part, const void* grad_out, void* stream);

// Fills loss and normalised.
int loreun_cuda_weigh(const loreun::Weighing* weighing, void* stream);

// grad *= *grad_out over `count` elements; does nothing if *grad_out is 1. The type is grad's.
int loreun_cuda_scale(loreun::DType dtype, void* grad, int64_t count, const void* grad_out, void* stream);

// A cudaError_t in words. The CUDA that the kernels were built with and that the driver runs, as 13020 for 13.2; 0: none.
const char* loreun_cuda_error(int error);
int loreun_cuda_runtime_version();
int loreun_cuda_driver_version();
}
