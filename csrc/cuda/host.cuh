// What the host does for either loss: from parts to a plan, from a plan to launches. `Loss` names what is its own: Part and
// Access, access_of, shape_of, plan, gradient_plan, and the kernels fused, stats, combine and gradient for an element type.
#pragma once
#include "launch.cuh"

namespace loreun::gpu {

template <typename Loss>
struct Host {
  using Part = typename Loss::Part;
  using Arguments = ArgumentsOf<Part, typename Loss::Access>;

  // False if the parts do not go together, or are wider than the kernels count.
  static bool fill(Arguments* a, const Part* parts, int count) {
    if (count < 1 || count > 2) return false;
    *a = {};
    a->count = count;
    a->with_grad = true;
    for (int p = 0; p < count; p++) {
      a->part[p] = parts[p];
      a->access[p] = Loss::access_of(parts[p]);
      const Shape shape = Loss::shape_of(*a, p);
      if (parts[p].dtype != parts[0].dtype || shape.size > INT32_MAX / 2) return false;
      if (shape.rows * shape.size > 0) a->with_grad = a->with_grad && parts[p].grad;  // none has no address
    }
    return true;
  }

  static void lay_out(Arguments* a, const Device& device) {
    Shape shapes[2];
    for (int p = 0; p < a->count; p++) shapes[p] = Loss::shape_of(*a, p);
    a->plan = Loss::plan(device, a->part[0].dtype, shapes, a->count, a->with_grad);
  }

  // Enough for the plan, and for the one that takes its place where the GPU is shared.
  static int64_t workspace(const Part* parts, int count) {
    Arguments a;
    Device device;
    if (!fill(&a, parts, count) || current_device(&device)) return 0;
    lay_out(&a, device);
    const int64_t bytes = a.plan.workspace;
    if (a.plan.regime != Regime::on_chip) return bytes;
    device.cooperative = false;
    lay_out(&a, device);
    return a.plan.workspace > bytes ? a.plan.workspace : bytes;
  }

  static int plan(const Part* parts, int count, Plan* plan) {
    Arguments a;
    Device device;
    if (!fill(&a, parts, count)) return cudaErrorInvalidValue;
    if (const cudaError_t error = current_device(&device)) return error;
    lay_out(&a, device);
    *plan = a.plan;
    return cudaSuccess;
  }

  template <typename T>
  static int launch_gradient(const Arguments& forward, int p, const void* grad_out, void* stream) {
    Arguments a = forward;
    a.part[0] = forward.part[p];
    a.access[0] = forward.access[p];
    a.grad_out = grad_out;
    if (a.part[0].rows == 0) return cudaSuccess;
    a.plan = Loss::gradient_plan(a.part[0].dtype, Loss::shape_of(a, 0));
    return launch(Loss::template gradient<T>(), a.plan, a, stream);
  }

  template <typename T>
  static int launch_forward(Arguments& a, Device& device, void* stream) {
    if (a.plan.regime != Regime::split) {
      const int error = launch(Loss::template fused<T>(), a.plan, a, stream);
      if (error != cudaErrorCooperativeLaunchTooLarge) return error;
      device.cooperative = false;  // others hold a part of the GPU (MPS, MIG, a green context, a long kernel)
      lay_out(&a, device);
    }
    int error = launch(Loss::template stats<T>(), a.plan, a, stream);
    if (!error) error = launch(Loss::template combine<T>(), plan_combine(a.count, sizeof(Acc<T>)), a, stream);
    for (int p = 0; a.with_grad && !error && p < a.count; p++) error = launch_gradient<T>(a, p, nullptr, stream);
    return error;
  }

  static int forward(const Part* parts, int count, void* loss, void* workspace, void* stream) {
    Arguments a;
    Device device;
    if (!fill(&a, parts, count)) return cudaErrorInvalidValue;
    if (const cudaError_t error = current_device(&device)) return error;
    lay_out(&a, device);
    a.loss = loss;
    a.workspace = workspace;
    return with_type(parts->dtype, [&](auto type) { return launch_forward<decltype(type)>(a, device, stream); });
  }

  static int backward(const Part* part, const void* grad_out, void* stream) {
    Arguments a;
    if (!fill(&a, part, 1)) return cudaErrorInvalidValue;
    return with_type(part->dtype, [&](auto type) { return launch_gradient<decltype(type)>(a, 0, grad_out, stream); });
  }
};

}  // namespace loreun::gpu

// The entry points of launch.h for the loss that `Launcher` launches.
#define LOREUN_ENTRY_POINTS(name, Part)                                                                                  \
  extern "C" int64_t loreun_cuda_##name##_workspace(const Part* p, int n) { return Launcher::workspace(p, n); }          \
  extern "C" int loreun_cuda_##name##_plan(const Part* p, int n, loreun::Plan* plan) { return Launcher::plan(p, n, plan); } \
  extern "C" int loreun_cuda_##name##_forward(const Part* p, int n, void* loss, void* workspace, void* stream) {         \
    return Launcher::forward(p, n, loss, workspace, stream);                                                             \
  }                                                                                                                      \
  extern "C" int loreun_cuda_##name##_backward(const Part* part, const void* grad_out, void* stream) {                   \
    return Launcher::backward(part, grad_out, stream);                                                                   \
  }
