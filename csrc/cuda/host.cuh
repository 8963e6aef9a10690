// From parts to a plan, from a plan to launches, for either loss.
#pragma once
#include "kernels.cuh"
#include "launch.h"

namespace loreun::gpu {

// A loss's kind, and its Tile for an element type.
template <typename Part>
struct LossOf;

template <typename Part>
Shape shape_of(const Arguments<Part>& a, int p) {
  return a.access[p].shape(a.part[p], a.with_grad);
}

// False if the parts do not go together, or are wider than the kernels count.
template <typename Part>
bool fill(Arguments<Part>* a, const Part* parts, int count) {
  if (count < 1 || count > 2) return false;
  *a = {};
  a->count = count;
  a->with_grad = true;
  for (int p = 0; p < count; p++) {
    a->part[p] = parts[p];
    a->access[p] = Access<Part>(parts[p]);
    const Shape shape = shape_of(*a, p);
    if (parts[p].dtype != parts[0].dtype || shape.size > INT32_MAX / 2) return false;
    if (shape.rows * shape.size > 0) a->with_grad = a->with_grad && parts[p].grad;  // none has no address
  }
  return true;
}

template <typename Part>
void lay_out(Arguments<Part>* a, const Device& device) {
  Shape shapes[2];
  for (int p = 0; p < a->count; p++) shapes[p] = shape_of(*a, p);
  a->plan = plan_forward(LossOf<Part>::kind, device, a->part[0].dtype, shapes, a->count, a->with_grad);
}

template <typename Part>
int prepare(Arguments<Part>* a, Device* device, const Part* parts, int count) {
  if (!fill(a, parts, count)) return cudaErrorInvalidValue;
  if (const cudaError_t error = current_device(device)) return error;
  lay_out(a, *device);
  return cudaSuccess;
}

template <typename T, typename Part>
int launch_gradient(const Arguments<Part>& forward, int p, const void* grad_out, void* stream) {
  Arguments<Part> a = forward;
  a.part[0] = forward.part[p];
  a.access[0] = forward.access[p];
  a.grad_out = grad_out;
  if (a.part[0].rows == 0) return cudaSuccess;
  a.plan = plan_gradient(LossOf<Part>::kind, a.part[0].dtype, shape_of(a, 0));
  return launch(gradient_kernel<typename LossOf<Part>::template Tile<T>>, a.plan, a, stream);
}

template <typename T, typename Part>
int launch_forward(Arguments<Part>& a, Device& device, void* stream) {
  using Tile = typename LossOf<Part>::template Tile<T>;
  if (a.plan.regime != Regime::split) {
    const int error = launch(fused_kernel<Tile>, a.plan, a, stream);
    if (error != cudaErrorCooperativeLaunchTooLarge) return error;
    device.cooperative = false;  // others hold a part of the GPU (MPS, MIG, a green context, a long kernel)
    lay_out(&a, device);
  }
  int error = launch(stats_kernel<Tile>, a.plan, a, stream);
  if (!error) error = launch(combine_kernel<Tile>, plan_combine(a.count, sizeof(Acc<T>)), a, stream);
  for (int p = 0; a.with_grad && !error && p < a.count; p++) error = launch_gradient<T>(a, p, nullptr, stream);
  return error;
}

// Enough for the plan, and for the one that takes its place where the GPU is shared.
template <typename Part>
int64_t Kernels<Part>::workspace(const Part* parts, int count) {
  Arguments<Part> a;
  Device device;
  if (prepare(&a, &device, parts, count)) return 0;
  const int64_t bytes = a.plan.workspace;
  if (a.plan.regime != Regime::on_chip) return bytes;
  device.cooperative = false;
  lay_out(&a, device);
  return max(bytes, a.plan.workspace);
}

template <typename Part>
int Kernels<Part>::plan(const Part* parts, int count, Plan* plan) {
  Arguments<Part> a;
  Device device;
  const int error = prepare(&a, &device, parts, count);
  *plan = a.plan;
  return error;
}

template <typename Part>
int Kernels<Part>::forward(const Part* parts, int count, void* loss, void* workspace, void* stream) {
  Arguments<Part> a;
  Device device;
  if (const int error = prepare(&a, &device, parts, count)) return error;
  a.loss = loss;
  a.workspace = workspace;
  return with_type(parts->dtype, [&](auto type) { return launch_forward<decltype(type)>(a, device, stream); });
}

template <typename Part>
int Kernels<Part>::backward(const Part& part, const void* grad_out, void* stream) {
  Arguments<Part> a;
  if (!fill(&a, &part, 1)) return cudaErrorInvalidValue;
  return with_type(part.dtype, [&](auto type) { return launch_gradient<decltype(type)>(a, 0, grad_out, stream); });
}

}  // namespace loreun::gpu
