// What can be asked of the CUDA runtime that the kernels were linked with.
#include <cuda_runtime.h>

#include "launch.h"

namespace loreun::gpu {

const char* error_text(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int runtime_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) ? 0 : version;
}

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) ? 0 : version;
}

}  // namespace loreun::gpu
