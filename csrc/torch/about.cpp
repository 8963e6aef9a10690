// What Python asks of this library besides its operators, through ctypes.
#include "torch/device.h"

#define LOREUN_EXPORT extern "C" __attribute__((visibility("default")))

// portable, avx2 or avx512.
LOREUN_EXPORT const char* loreun_cpu_capability() { return loreun::cpu_kernels(loreun::DType::f32).name; }

// The CUDA that the kernels were built with, as 13.0; empty: without.
LOREUN_EXPORT const char* loreun_cuda_version() { return LOREUN_CUDA_VERSION; }

LOREUN_EXPORT bool loreun_finds_stream() { return loreun::current_stream() != nullptr; }
