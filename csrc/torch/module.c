/* Makes the operator's library importable; importing it registers the operators with torch. */
#define Py_LIMITED_API 0x030a0000
#include <Python.h>

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_operator", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__operator(void) { return PyModule_Create(&definition); }
