// The operators under autograd, in C++, and called from Python without torch.ops: a training step outside torch.compile
// pays for no Python and no schema here. Unlike everything else this is built for exactly one torch and one Python, as
// neither autograd nor a tensor's Python object is part of a stable ABI; beside others, the package uses
// loreun_bench/ops/autograd.py, which does the same.
#include <Python.h>

#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/autograd/saved_variable.h>

namespace {

using at::Tensor;
using c10::IValue;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// Arguments of every loss: x, four further tensors (target, score target, score loss, reference), then settings.
constexpr size_t kTensors = 5;

struct Loss {
  c10::OperatorHandle forward, backward, scale;

  explicit Loss(const std::string& name)
      : forward(find(name + "_forward")), backward(find(name + "_backward")), scale(find("scale_")) {}

  static c10::OperatorHandle find(const std::string& name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(("loreun::" + name).c_str(), "");
  }
};

struct LossBackward : torch::autograd::Node {
  const Loss& loss;
  std::array<SavedVariable, kTensors> tensors;
  SavedVariable table, batch;
  std::vector<IValue> settings;
  Tensor ready;  // the gradient, if the forward pass made it

  explicit LossBackward(const Loss& l) : loss(l) {}
  std::string name() const override { return "LoReUnBackward"; }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);  // two threads may run backward over one graph
    for (auto& t : tensors) t.reset_data();
    table.reset_data(), batch.reset_data();
    ready.reset();
  }

  variable_list apply(variable_list&& grads) override {
    TORCH_CHECK(!c10::GradMode::is_enabled(),
                "the LoReUn losses have no second derivative: call backward without create_graph=True");
    if (!grads[0].defined()) return {Tensor()};
    std::lock_guard<std::mutex> lock(mutex_);
    at::AutoDispatchBelowADInplaceOrView below;
    if (ready.defined()) return {scaled(std::move(ready), grads[0])};  // a second pass through a kept graph goes below
    torch::jit::Stack stack{grads[0]};
    for (auto& t : tensors) {
      Tensor value = t.unpack();
      stack.emplace_back(value.defined() ? IValue(std::move(value)) : IValue());
    }
    stack.emplace_back(table.unpack()), stack.emplace_back(batch.unpack());
    stack.insert(stack.end(), settings.begin(), settings.end());
    loss.backward.callBoxed(&stack);
    return {stack[0].toTensor()};
  }

  static double number(const Tensor& scalar) {
    return scalar.scalar_type() == at::kDouble ? *scalar.const_data_ptr<double>() : *scalar.const_data_ptr<float>();
  }

  Tensor scaled(Tensor grad, const Tensor& grad_out) const {
    if (grad.is_cuda()) {  // grad_out is looked at on the device: no wait
      torch::jit::Stack stack{grad, grad_out};
      loss.scale.callBoxed(&stack);
    } else if (grad.unsafeGetTensorImpl()->is_python_dispatch() || number(grad_out) != 1.0) {
      grad.mul_(grad_out);  // by the tensor, as a number would be rounded to 16 bits first; a fake one cannot be looked at
    }
    return grad;
  }
};

// A node and what torch holds it by: shared_ptr in older versions, intrusive_ptr in newer ones.
template <typename Pointer = decltype(torch::autograd::Edge::function)>
std::pair<LossBackward*, Pointer> make_node(const Loss& loss) {
  if constexpr (std::is_same_v<Pointer, std::shared_ptr<torch::autograd::Node>>) {
    auto node = std::make_shared<LossBackward>(loss);
    return {node.get(), node};
  } else {
    auto node = c10::make_intrusive<LossBackward>(loss);
    return {node.get(), node};
  }
}

// Runs the forward operator and gives its loss a history.
Tensor call(const Loss& loss, const std::array<Tensor, kTensors>& tensors, std::vector<IValue>&& settings) {
  const Tensor& x = tensors[0];
  TORCH_CHECK(!x._fw_grad(0).defined(), "the LoReUn losses have no forward-mode derivative");
  const bool differentiable = c10::GradMode::is_enabled() && x.requires_grad();
  torch::jit::Stack stack;
  stack.reserve(kTensors + settings.size() + 1);
  for (const auto& t : tensors) stack.emplace_back(t.defined() ? IValue(t) : IValue());
  stack.insert(stack.end(), settings.begin(), settings.end());
  stack.emplace_back(differentiable);
  {
    at::AutoDispatchBelowADInplaceOrView below;
    loss.forward.callBoxed(&stack);
  }
  Tensor value = std::move(stack[0]).toTensor();
  if (differentiable) {
    auto [node, held] = make_node(loss);
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    for (size_t i = 0; i < kTensors; i++)
      if (tensors[i].defined()) node->tensors[i] = SavedVariable(tensors[i], false);
    node->table = SavedVariable(stack[1].toTensor(), false), node->batch = SavedVariable(stack[2].toTensor(), false);
    node->settings = std::move(settings);
    if (stack[3].toTensor().numel()) node->ready = std::move(stack[3]).toTensor();
    torch::autograd::set_history(value, held);
  }
  return value;
}

// Whether something stands between Python and the dispatcher that has to see the call: a mode, or a transform.
bool is_watched() {
  return at::impl::torch_function_mode_enabled() ||
         c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode);
}

// A setting as its operator's schema has it: f a float, b a bool, i an int.
IValue setting(PyObject* value, char kind) {
  const IValue found = kind == 'f'   ? IValue(PyFloat_AsDouble(value))
                       : kind == 'b' ? IValue(PyObject_IsTrue(value) == 1)
                                     : IValue(int64_t(PyLong_AsLongLong(value)));
  if (PyErr_Occurred()) throw python_error();
  return found;
}

// (x, target, score target, score loss, reference, settings...) -> the loss; None for a caller to take the long way,
// where a tensor is missing, of a subclass, or watched.
PyObject* call_from_python(const Loss& loss, std::string_view kinds, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  TORCH_CHECK(count == Py_ssize_t(kTensors + kinds.size()), "wrong number of arguments");
  if (is_watched()) Py_RETURN_NONE;
  std::array<Tensor, kTensors> tensors;
  for (size_t i = 0; i < kTensors; i++) {
    if (i > 1 && Py_IsNone(arguments[i])) continue;
    if (!THPVariable_CheckExact(arguments[i])) Py_RETURN_NONE;
    tensors[i] = THPVariable_Unpack(arguments[i]);
  }
  std::vector<IValue> settings;
  settings.reserve(kinds.size());
  for (size_t i = 0; i < kinds.size(); i++) settings.push_back(setting(arguments[kTensors + i], kinds[i]));
  Tensor value;
  {
    pybind11::gil_scoped_release released;
    value = call(loss, tensors, std::move(settings));
  }
  return THPVariable_Wrap(std::move(value));
  END_HANDLE_TH_ERRORS
}

// Settings: eta, ratio, detach, ignore_index, label_smoothing, scale.
PyObject* cross_entropy(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  static const Loss loss("ce");
  return call_from_python(loss, "fbbiff", arguments, count);
}

// Settings: eta, ratio, detach, mean, scale.
PyObject* mean_squared(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  static const Loss loss("mse");
  return call_from_python(loss, "fbbbf", arguments, count);
}

PyMethodDef methods[] = {
    {"cross_entropy", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(cross_entropy)), METH_FASTCALL, nullptr},
    {"mean_squared", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(mean_squared)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_eager", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__eager() { return PyModule_Create(&module); }
