// Makes the operator's library importable: importing it registers the operators with torch. Python's limited API, so
// that one build serves every Python from 3.10 on.
#define Py_LIMITED_API 0x030a0000
#include <Python.h>

#include "cpu/kernels.h"

namespace {

PyObject* cpu_capability(PyObject*, PyObject*) { return PyUnicode_FromString(loreun::cpu_kernels().name); }

PyMethodDef methods[] = {
    {"cpu_capability", cpu_capability, METH_NOARGS, "The CPU kernels in use: portable, avx2 or avx512."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_operator", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__operator() { return PyModule_Create(&definition); }
