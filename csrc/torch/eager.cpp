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
#include <torch/csrc/utils/object_ptr.h>

namespace {

using at::Tensor;
using c10::IValue;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// Every loss's arguments: x, target, score target, then tensors that only the forward pass reads, then settings, the last
// of which the backward pass wants, too.
constexpr size_t kSaved = 3;   // x, target, score target
constexpr size_t kDetach = 6;  // the setting after which no gradient flows through the weights

struct Loss {
  c10::OperatorHandle forward, backward, in_place, scale;
  size_t tensors;          // of the arguments
  std::string_view kinds;  // of the settings: f a float, b a bool, i an int
  size_t shared;           // settings of the backward pass

  Loss(const std::string& name, size_t tensors, std::string_view kinds, size_t shared, bool has_in_place)
      : forward(find(name + "_forward")), backward(find(name + "_backward")),
        in_place(find(name + (has_in_place ? "_backward_" : "_backward"))), scale(find("scale_")), tensors(tensors),
        kinds(kinds), shared(shared) {}

  static c10::OperatorHandle find(const std::string& name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(("loreun::" + name).c_str(), "");
  }
};

struct LossBackward : torch::autograd::Node {
  const Loss& loss;
  std::array<SavedVariable, kSaved> tensors;
  SavedVariable table, batch;
  std::vector<IValue> settings;
  Tensor ready;  // the gradient, if the forward pass made it
  bool in_place = false;

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
    Tensor x = stack[1].toTensor();
    stack.emplace_back(table.unpack()), stack.emplace_back(batch.unpack());
    stack.emplace_back(), stack.emplace_back();  // no coefficients: table and batch say them
    stack.insert(stack.end(), settings.begin(), settings.end());
    if (!in_place) {
      loss.backward.callBoxed(&stack);
      return {stack[0].toTensor()};
    }
    stack.emplace_back();  // nothing kept
    loss.in_place.callBoxed(&stack);
    x.unsafeGetTensorImpl()->bump_version();  // whoever else saved them is told
    return {x.detach()};
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

// Runs the forward operator and gives its loss a history; the loss, table and batch.
std::array<Tensor, 3> call(const Loss& loss, const std::vector<Tensor>& tensors, std::vector<IValue>&& settings,
                           bool in_place) {
  const Tensor& x = tensors[0];
  const bool differentiable = c10::GradMode::is_enabled() && x.requires_grad();
  torch::jit::Stack stack;
  stack.reserve(tensors.size() + settings.size() + 1);
  for (const auto& t : tensors) stack.emplace_back(t.defined() ? IValue(t) : IValue());
  stack.insert(stack.end(), settings.begin(), settings.end());
  stack.emplace_back(differentiable && !in_place);
  {
    at::AutoDispatchBelowADInplaceOrView below;
    loss.forward.callBoxed(&stack);
  }
  std::array<Tensor, 3> found{std::move(stack[0]).toTensor(), std::move(stack[1]).toTensor(), std::move(stack[2]).toTensor()};
  if (!differentiable) return found;
  auto [node, held] = make_node(loss);
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  const size_t saved = settings[kDetach].toBool() ? kSaved - 1 : kSaved;
  for (size_t i = 0; i < saved; i++)
    if (tensors[i].defined()) node->tensors[i] = SavedVariable(tensors[i], false);
  node->table = SavedVariable(found[1], false), node->batch = SavedVariable(found[2], false);
  node->settings.assign(settings.end() - loss.shared, settings.end());
  node->in_place = in_place;
  if (stack[3].toTensor().numel()) node->ready = std::move(stack[3]).toTensor();
  torch::autograd::set_history(found[0], held);
  return found;
}

// A setting as its operator's schema has it.
IValue setting(PyObject* value, char kind) {
  const IValue found = kind == 'f'   ? IValue(PyFloat_AsDouble(value))
                       : kind == 'b' ? IValue(PyObject_IsTrue(value) == 1)
                                     : IValue(int64_t(PyLong_AsLongLong(value)));
  if (PyErr_Occurred()) throw python_error();
  return found;
}

// The weights and the effective sample size of a table and its batch on the CPU, where a call of torch's costs more.
template <typename A>
void fill_stats(const Tensor& table, const Tensor& batch, Tensor& weights, Tensor& effective) {
  const A* log_weight = table.const_data_ptr<A>() + 2 * table.size(1);
  A* to = weights.mutable_data_ptr<A>();
  const double log_normaliser = *batch.const_data_ptr<double>();
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < table.size(1); i++) {
    const double weight = to[i] = A(std::exp(double(log_weight[i]) - log_normaliser));
    sum += weight, squares += weight * weight;
  }
  *effective.mutable_data_ptr<A>() = A(sum * sum / squares);
}

// Objective, score, weights and the effective sample size.
std::array<Tensor, 4> stats_of(const Tensor& table, const Tensor& batch) {
  at::AutoDispatchBelowADInplaceOrView below;
  if (table.is_cpu() && !table.unsafeGetTensorImpl()->is_python_dispatch()) {
    Tensor made = at::empty({table.size(1)}, table.options()), effective = at::empty({}, table.options());
    if (table.scalar_type() == at::kDouble) fill_stats<double>(table, batch, made, effective);
    else fill_stats<float>(table, batch, made, effective);
    return {table.select(0, 0), table.select(0, 1), made, effective};
  }
  const Tensor weights = table.select(0, 2).to(at::kDouble).sub_(batch.select(0, 0)).exp_().to(table.scalar_type());
  const Tensor sum = weights.sum();
  return {table.select(0, 0), table.select(0, 1), weights, sum.mul(sum).div_(weights.dot(weights))};
}

// (in_place, with_stats, tensors..., settings...) -> the loss, or with stats (loss, objective, score, weights, effective
// samples); None for a caller to take the long way, where a tensor is missing, of a subclass, or watched, has a tangent, or
// is one row.
PyObject* call_from_python(const Loss& loss, PyObject* const* arguments, Py_ssize_t count) {
  HANDLE_TH_ERRORS
  TORCH_CHECK(count == Py_ssize_t(2 + loss.tensors + loss.kinds.size()), "wrong number of arguments");
  if (at::impl::torch_function_mode_enabled() ||  // a mode, or a transform, has to see the call
      c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode)) Py_RETURN_NONE;
  const bool in_place = PyObject_IsTrue(arguments[0]) == 1, with_stats = PyObject_IsTrue(arguments[1]) == 1;
  arguments += 2;
  std::vector<Tensor> tensors(loss.tensors);
  for (size_t i = 0; i < loss.tensors; i++) {
    if (i > 1 && Py_IsNone(arguments[i])) continue;
    if (!THPVariable_CheckExact(arguments[i])) Py_RETURN_NONE;
    tensors[i] = THPVariable_Unpack(arguments[i]);
  }
  if (tensors[0]._fw_grad(0).defined() || (tensors[0].dim() > 0 && tensors[0].size(0) == 1)) Py_RETURN_NONE;
  std::vector<IValue> settings;
  settings.reserve(loss.kinds.size());
  for (size_t i = 0; i < loss.kinds.size(); i++) settings.push_back(setting(arguments[loss.tensors + i], loss.kinds[i]));
  std::array<Tensor, 3> found;
  std::array<Tensor, 4> stats;
  {
    pybind11::gil_scoped_release released;
    found = call(loss, tensors, std::move(settings), in_place);
    if (with_stats) stats = stats_of(found[1], found[2]);
  }
  if (!with_stats) return THPVariable_Wrap(std::move(found[0]));
  THPObjectPtr result(PyTuple_New(5));
  if (!result) throw python_error();
  PyTuple_SET_ITEM(result.get(), 0, THPVariable_Wrap(std::move(found[0])));
  for (size_t i = 0; i < 4; i++) PyTuple_SET_ITEM(result.get(), i + 1, THPVariable_Wrap(std::move(stats[i])));
  return result.release();
  END_HANDLE_TH_ERRORS
}

// Tensors after the score target: score loss, reference, eta's factor, class weights. Settings: rule, eta, the reference as
// a number, importance, ratio, normalize, detach, ignore_index, label_smoothing, scale.
PyObject* cross_entropy(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  static const Loss loss("ce", kSaved + 4, "ifffbibiff", 3, true);
  return call_from_python(loss, arguments, count);
}

// Without class weights; settings after detach: mean, scale.
PyObject* mean_squared(PyObject*, PyObject* const* arguments, Py_ssize_t count) {
  static const Loss loss("mse", kSaved + 3, "ifffbibbf", 2, false);
  return call_from_python(loss, arguments, count);
}

PyMethodDef methods[] = {
    {"cross_entropy", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(cross_entropy)), METH_FASTCALL, nullptr},
    {"mean_squared", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(mean_squared)), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_eager", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__eager() { return PyModule_Create(&module); }
