// How the operator was built, and how its CUDA kernels would be launched: both can be asked without a GPU.
#include <pybind11/pybind11.h>

#include <array>

#include "loreun/plan.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

py::dict build() {
  return py::dict("compiler"_a = LOREUN_COMPILER, "build_type"_a = LOREUN_BUILD_TYPE, "cuda"_a = LOREUN_CUDA_VERSION,
                  "cuda_architectures"_a = LOREUN_CUDA_ARCHITECTURES);
}

loreun::DType dtype_named(const std::string& name) {
  constexpr std::array names = {"float32", "float64", "bfloat16", "float16"};
  for (size_t i = 0; i < names.size(); i++)
    if (name == names[i]) return loreun::DType(i);
  throw py::value_error("dtype must be float32, float64, bfloat16 or float16, got " + name);
}

// The forward pass's plan on a device: what the launcher in csrc/cuda would do.
py::dict plan(const std::string& loss, const std::string& dtype, int64_t rows, int64_t size, bool with_grad, int sms,
              int64_t smem_per_block) {
  const bool squares = loss == "mean_squared";
  if (!squares && loss != "cross_entropy") throw py::value_error("loss must be cross_entropy or mean_squared");
  const auto kind = squares ? loreun::Loss::mean_squared : loreun::Loss::cross_entropy;
  const auto p = loreun::plan_forward(kind, {sms, smem_per_block}, dtype_named(dtype), {rows, size}, with_grad);
  return py::dict("regime"_a = loreun::kRegimeNames[int(p.regime)], "blocks"_a = p.blocks, "threads"_a = p.threads,
                  "shared_memory"_a = p.smem, "workspace"_a = p.workspace, "splits"_a = p.splits);
}

}  // namespace

PYBIND11_MODULE(_info, m) {
  m.def("build", &build, "How the compiled operator was built; cuda is empty for a build without CUDA.");
  m.def("plan", &plan, py::arg("loss"), py::arg("dtype"), py::arg("rows"), py::arg("size"), py::arg("with_grad") = true,
        py::arg("sms") = 132, py::arg("smem_per_block") = 232448,
        "How the CUDA kernels would be launched, by default on an H200: regime, blocks, threads, bytes.");
}
