#include <cstdlib>
#include <cstring>

#include "cpu/kernels.h"

namespace loreun {
namespace {

int widest() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 2;
  if (avx2) return 1;
#endif
  return 0;
}

auto choose() {
  int level = widest();
  if (const char* wish = std::getenv("LOREUN_CPU_CAPABILITY")) {
    if (std::strcmp(wish, "portable") == 0) level = 0;
    if (std::strcmp(wish, "avx2") == 0 && level > 1) level = 1;
  }
#if defined(__x86_64__)
  if (level == 2) return cpu_kernels_avx512;
  if (level == 1) return cpu_kernels_avx2;
#endif
  return cpu_kernels_portable;
}

}  // namespace

const CpuKernels& cpu_kernels(DType dtype) {
  static const auto chosen = choose();
  return chosen(dtype);
}

}  // namespace loreun
