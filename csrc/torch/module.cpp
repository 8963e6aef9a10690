// Makes the operator's library importable: importing it registers the operators with torch. Python's limited API, so
// that one build serves every Python from 3.10 on.
#define Py_LIMITED_API 0x030a0000
#include <Python.h>

#include "cpu/kernels.h"
#include "cuda/launch.h"
#include "torch/stream.h"

namespace {

PyObject* cpu_capability(PyObject*, PyObject*) { return PyUnicode_FromString(loreun::cpu_kernels(loreun::DType::f32).name); }

PyObject* cuda(PyObject*, PyObject*) {
#ifdef LOREUN_WITH_CUDA
  return Py_BuildValue("{s:O,s:i,s:i}", "stream", loreun::current_stream() ? Py_True : Py_False, "runtime",
                       loreun::gpu::runtime_version(), "driver", loreun::gpu::driver_version());
#else
  Py_RETURN_NONE;
#endif
}

PyMethodDef methods[] = {
    {"cpu_capability", cpu_capability, METH_NOARGS, "The CPU kernels in use: portable, avx2 or avx512."},
    {"cuda", cuda, METH_NOARGS,
     "None without CUDA kernels; else whether torch's stream is found, the CUDA they were built with, and the driver's."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_operator", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__operator() { return PyModule_Create(&definition); }
