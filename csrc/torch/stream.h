// torch's current CUDA stream.
#pragma once
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace loreun {

using CurrentStream = AOTITorchError (*)(int32_t device, void** stream);

// torch's function, or null where this torch has no CUDA. It lives in libtorch_cuda alone, with which this library is not
// linked, so that it serves torches without CUDA, too, and whose symbols it does not see, as Python loads torch's libraries
// for themselves.
CurrentStream current_stream();

}  // namespace loreun
