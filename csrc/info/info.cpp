// What was built, and what this processor can do. The launch plan is asked here too, so that it can be tested without
// a GPU.
#include <pybind11/pybind11.h>

#include "cpu/kernels.h"

namespace py = pybind11;

namespace {

py::dict build() {
  py::dict d;
  d["compiler"] = LOREUN_COMPILER;
  d["build_type"] = LOREUN_BUILD_TYPE;
  d["cuda"] = LOREUN_CUDA_VERSION;
  d["cuda_architectures"] = LOREUN_CUDA_ARCHITECTURES;
  return d;
}

}  // namespace

PYBIND11_MODULE(_info, m) {
  m.def("build", &build, "How the compiled operator was built; cuda is empty for a build without CUDA.");
  m.def("cpu_capability", [] { return loreun::cpu_kernels().name; }, "The CPU kernels in use: portable, avx2 or avx512.");
}
