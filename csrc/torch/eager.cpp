// The operators under autograd, in C++: a training step outside torch.compile pays for no Python here. Unlike everything
// else this is built for exactly one torch, as autograd is not part of its stable ABI; beside another one, the package
// uses loreun_bench/ops/autograd.py, which does the same.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

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

// Runs the forward operator on the arguments of the call, and gives its loss a history.
void call(const Loss& loss, torch::jit::Stack* stack, size_t count) {
  const size_t start = stack->size() - count;
  torch::jit::Stack arguments(std::make_move_iterator(stack->begin() + start), std::make_move_iterator(stack->end()));
  stack->resize(start);
  const Tensor x = arguments[0].toTensor();
  TORCH_CHECK(!x._fw_grad(0).defined(), "the LoReUn losses have no forward-mode derivative");
  const bool differentiable = c10::GradMode::is_enabled() && x.requires_grad();
  torch::jit::Stack results;
  results.reserve(arguments.size() + 1);
  results.assign(arguments.begin(), arguments.end());
  results.emplace_back(differentiable);
  {
    at::AutoDispatchBelowADInplaceOrView below;
    loss.forward.callBoxed(&results);
  }
  Tensor value = results[0].toTensor();
  if (differentiable) {
    auto [node, held] = make_node(loss);
    node->set_next_edges(torch::autograd::collect_next_edges(x));
    for (size_t i = 0; i < kTensors; i++)
      if (arguments[i].isTensor()) node->tensors[i] = SavedVariable(arguments[i].toTensor(), false);
    node->table = SavedVariable(results[1].toTensor(), false), node->batch = SavedVariable(results[2].toTensor(), false);
    node->settings.assign(arguments.begin() + kTensors, arguments.end());
    if (results[3].toTensor().numel()) node->ready = results[3].toTensor();
    torch::autograd::set_history(value, held);
  }
  stack->emplace_back(std::move(value));
}

void cross_entropy(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  static const Loss loss("ce");
  call(loss, stack, op.schema().arguments().size());
}

void mean_squared(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  static const Loss loss("mse");
  call(loss, stack, op.schema().arguments().size());
}

}  // namespace

TORCH_LIBRARY(loreun_eager, m) {
  m.def(
      "cross_entropy(Tensor logits, Tensor target, Tensor? score_target, Tensor? score_loss, Tensor? ref, float eta, "
      "bool ratio, bool detach, int ignore_index, float label_smoothing, float scale) -> Tensor");
  m.def(
      "mean_squared(Tensor input, Tensor target, Tensor? score_target, Tensor? score_loss, Tensor? ref, float eta, "
      "bool ratio, bool detach, bool mean, float scale) -> Tensor");
}

TORCH_LIBRARY_IMPL(loreun_eager, CompositeImplicitAutograd, m) {
  m.impl("cross_entropy", torch::CppFunction::makeFromBoxedFunction<&cross_entropy>());
  m.impl("mean_squared", torch::CppFunction::makeFromBoxedFunction<&mean_squared>());
}
