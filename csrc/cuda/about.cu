// What can be asked of the CUDA runtime that the kernels were linked with.
#include <cuda_runtime.h>

#include "launch.h"

extern "C" const char* loreun_cuda_error(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

extern "C" int loreun_cuda_runtime_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) ? 0 : version;
}

extern "C" int loreun_cuda_driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) ? 0 : version;
}
