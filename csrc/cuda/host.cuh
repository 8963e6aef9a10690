// From a part to a plan, from a plan to launches, for either loss.
#pragma once
#include "kernels.cuh"
#include "launch.h"

namespace loreun::gpu {

// A loss's kind, and its Tile for an element type.
template <typename Part>
struct LossOf;

template <typename Part>
void lay_out(Arguments<Part>* a, const Device& device) {
  a->plan = plan_forward(LossOf<Part>::kind, device, a->part.dtype, a->access.shape(a->part), a->with_grad);
}

// All but memory that a call brings.
template <typename Part>
int prepare(Arguments<Part>* a, Device* device, const Part& part) {
  a->part = part;
  a->access = Access<Part>(part);
  const Shape shape = a->access.shape(part);
  if (shape.size > INT32_MAX / 2) return cudaErrorInvalidValue;  // wider than the kernels count
  a->with_grad = part.grad || shape.rows * shape.size == 0;      // none has no address
  if (const cudaError_t error = current_device(device)) return error;
  lay_out(a, *device);
  return cudaSuccess;
}

template <typename T, typename Part>
int launch_gradient(Arguments<Part>& a, void* stream) {
  if (a.part.rows == 0) return cudaSuccess;  // a grid of no blocks is an error
  a.plan = plan_gradient(LossOf<Part>::kind, a.part.dtype, a.access.shape(a.part));
  return launch(gradient_kernel<typename LossOf<Part>::template Tile<T>>, a.plan, a, stream);
}

template <typename T, typename Part>
int launch_forward(Arguments<Part>& a, Device& device, const std::function<void*(int64_t)>& scratch, void* stream) {
  using Tile = typename LossOf<Part>::template Tile<T>;
  a.workspace = scratch(a.plan.workspace);
  if (a.plan.regime != Regime::split) {
    const int error = launch(fused_kernel<Tile>, a.plan, a, stream);
    if (error != cudaErrorCooperativeLaunchTooLarge) return error;
    device.cooperative = false;  // others hold a part of the GPU (MPS, MIG, a green context, a long kernel)
    lay_out(&a, device);
    a.workspace = scratch(a.plan.workspace);
  }
  int error = launch(stats_kernel<Tile>, a.plan, a, stream);
  if (!error) error = launch(combine_kernel<Tile>, plan_combine(sizeof(Acc<T>)), a, stream);
  return error || !a.with_grad ? error : launch_gradient<T>(a, stream);
}

template <typename Part>
int Kernels<Part>::forward(const Part& part, void* loss, const std::function<void*(int64_t)>& scratch, void* stream) {
  Arguments<Part> a{};
  Device device;
  if (const int error = prepare(&a, &device, part)) return error;
  a.loss = loss;
  return with_type(part.dtype, [&](auto type) { return launch_forward<decltype(type)>(a, device, scratch, stream); });
}

template <typename Part>
int Kernels<Part>::backward(const Part& part, const void* grad_out, void* stream) {
  Arguments<Part> a{};
  Device device;
  if (const int error = prepare(&a, &device, part)) return error;
  a.grad_out = grad_out;
  return with_type(part.dtype, [&](auto type) { return launch_gradient<decltype(type)>(a, stream); });
}

}  // namespace loreun::gpu
