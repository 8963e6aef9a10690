// torch's current CUDA stream.
#pragma once
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <atomic>

namespace loreun {

using CurrentStream = AOTITorchError (*)(int32_t device, void** stream);

// torch's function, or null where this torch has no CUDA. It lives in libtorch_cuda alone, with which this library is not
// linked, so that it serves torches without CUDA, too, and whose symbols it does not see, as Python loads torch's libraries
// for themselves.
inline CurrentStream current_stream() {
  static std::atomic<CurrentStream> found{nullptr};
  if (!found)
    if (void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD))  // only if torch has loaded it
      found = reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  return found;
}

}  // namespace loreun
