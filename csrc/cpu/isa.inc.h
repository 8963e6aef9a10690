// Compiled once per instruction set: LOREUN_ISA is its name, the compiler's flags decide the width of the vectors.
#include "cpu/batch.inc.h"
#include "cpu/cross_entropy.inc.h"
#include "cpu/kernels.h"
#include "cpu/mean_squared.inc.h"

#define LOREUN_JOIN(a, b) a##b
#define LOREUN_KERNELS(isa) LOREUN_JOIN(cpu_kernels_, isa)
#define LOREUN_TEXT_(isa) #isa
#define LOREUN_TEXT(isa) LOREUN_TEXT_(isa)

namespace loreun {
namespace {

template <typename T>
constexpr CpuKernels kKernels{LOREUN_TEXT(LOREUN_ISA), ce_rows<T>, ce_grad<T, false>, ce_grad<T, true>, combine<Acc<T>>,
                              mse_sums<T>, mse_grad<T>};

}  // namespace

const CpuKernels& LOREUN_KERNELS(LOREUN_ISA)(DType dtype) {
  static constexpr const CpuKernels* all[] = {&kKernels<float>, &kKernels<double>, &kKernels<BFloat16>, &kKernels<Float16>};
  return *all[int(dtype)];
}

}  // namespace loreun
