// Compiled once per instruction set: LOREUN_ISA is its name, the compiler's flags decide the width of the vectors.
#include "cpu/batch.inc.h"
#include "cpu/cross_entropy.inc.h"
#include "cpu/kernels.h"
#include "cpu/mean_squared.inc.h"

namespace loreun {
namespace {

// Calls what<element type>(arguments...) for a run-time type.
#define LOREUN_BY_TYPE(what, dtype, ...)                         \
  switch (dtype) {                                               \
    case DType::f32: return what<float>(__VA_ARGS__);            \
    case DType::f64: return what<double>(__VA_ARGS__);           \
    case DType::bf16: return what<BFloat16>(__VA_ARGS__);        \
    case DType::f16: return what<Float16>(__VA_ARGS__);          \
  }

void ce_rows(const CrossEntropy& part, int64_t begin, int64_t end) {
  LOREUN_BY_TYPE(ce_rows_of, part.dtype, part, begin, end)
}
void ce_grad(const CrossEntropy& part, double grad_out, int64_t begin, int64_t end) {
  LOREUN_BY_TYPE(ce_grad_of, part.dtype, part, grad_out, begin, end)
}
void ce_scale(const CrossEntropy& part, double grad_out, int64_t begin, int64_t end) {
  LOREUN_BY_TYPE(ce_scale_of, part.dtype, part, grad_out, begin, end)
}
void combine(DType dtype, const void* table, int64_t rows, Normalize normalize, double count, double* batch) {
  const auto at = [&]<typename A>(const A* t) {
    combine_of(t + kObjective * rows, t + kLogWeight * rows, rows, normalize, count, batch);
  };
  dtype == DType::f64 ? at((const double*)table) : at((const float*)table);
}
void mse_sums(const MeanSquared& part, int64_t row, int64_t begin, int64_t end, double* sums) {
  LOREUN_BY_TYPE(mse_sums_of, part.dtype, part, row, begin, end, sums)
}
void mse_grad(const MeanSquared& part, double grad_out, int64_t row, int64_t begin, int64_t end, double* squares) {
  LOREUN_BY_TYPE(mse_grad_of, part.dtype, part, grad_out, row, begin, end, squares)
}

}  // namespace

#define LOREUN_JOIN(a, b) a##b
#define LOREUN_KERNELS(isa) LOREUN_JOIN(cpu_kernels_, isa)
#define LOREUN_TEXT_(isa) #isa
#define LOREUN_TEXT(isa) LOREUN_TEXT_(isa)

const CpuKernels& LOREUN_KERNELS(LOREUN_ISA)() {
  static constexpr CpuKernels kernels{LOREUN_TEXT(LOREUN_ISA), ce_rows, ce_grad, ce_scale, combine, mse_sums, mse_grad};
  return kernels;
}

}  // namespace loreun
