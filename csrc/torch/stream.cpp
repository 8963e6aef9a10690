#include "torch/stream.h"

#include <dlfcn.h>

#include <atomic>

namespace loreun {

CurrentStream current_stream() {
  static std::atomic<CurrentStream> found{nullptr};
  if (!found)
    if (void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD))  // only if torch has loaded it
      found = reinterpret_cast<CurrentStream>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  return found;
}

}  // namespace loreun
