// The CPU kernels of one instruction set and element type. Rows [begin, end) are independent of every other row, so that a result does
// not depend on the number of threads.
#pragma once
#include "loreun/params.h"

namespace loreun {

struct CpuKernels {
  const char* name;
  // Fills the table of rows [begin, end).
  void (*ce_rows)(const CrossEntropy&, int64_t begin, int64_t end);
  // Fills the gradient of rows [begin, end) from table and batch.
  void (*ce_grad)(const CrossEntropy&, double grad_out, int64_t begin, int64_t end);
  // The same where ce_rows kept the exponentials.
  void (*ce_scale)(const CrossEntropy&, double grad_out, int64_t begin, int64_t end);
  // Fills batch from a table's log-weights and objective losses; count: what the weights are divided by if not by their sum.
  void (*combine)(const void* table, int64_t rows, Normalize, double count, double* batch);
  // Sums of squares of elements [begin, end) of one row: to the target and to the score target.
  void (*mse_sums)(const MeanSquared&, int64_t row, int64_t begin, int64_t end, double* sums);
  // Fills the gradient of the same stretch; sums the squares to the target on the way, if there is a place for them.
  void (*mse_grad)(const MeanSquared&, double grad_out, int64_t row, int64_t begin, int64_t end, double* squares);
};

// Classes up to which rows are turned, so that each lane holds a row, and the elements of a block that stays in the
// first-level cache.
constexpr int64_t kShort = 64, kBlock = 2048;
constexpr int64_t kKept = 1 << 24;  // exponentials in memory of their own

// Whether a forward pass that also makes the gradient leaves exp(x - max) for it, so that the second exponential is saved: in
// its place, or, for 16 bits, in memory of its own, as it would be rounded twice. Not where a row has several maxima on the
// way, nor where that memory is large.
static inline bool keeps_exponentials(const CrossEntropy& part) {
  const bool wide = part.dtype == DType::f32 || part.dtype == DType::f64;
  return part.classes > kShort && part.classes <= kBlock &&
         (wide || (part.dtype == DType::bf16 && part.rows * part.classes <= kKept));
}

const CpuKernels& cpu_kernels_portable(DType);
const CpuKernels& cpu_kernels_avx2(DType);
const CpuKernels& cpu_kernels_avx512(DType);

// The widest set this machine has; LOREUN_CPU_CAPABILITY=portable|avx2|avx512 asks for a narrower one.
const CpuKernels& cpu_kernels(DType);

// Elements one task works on at least: below that, starting a thread costs more than it saves.
constexpr int64_t kGrain = 16384;

using Body = void (*)(void* context, int64_t begin, int64_t end);
using ParallelFor = void (*)(int64_t count, int64_t grain, void* context, Body body);

// Forward: table, batch and, if there is a place for it, grad for an incoming gradient of 1; returns the part's share of
// the loss. Where weights come between the passes, exponentials stay in grad's place.
// Backward: grad, for the gradient that arrives; of what was kept, if that is given.
double cpu_forward(const CrossEntropy&, ParallelFor);
void cpu_backward(const CrossEntropy&, double grad_out, ParallelFor);
double cpu_forward(const MeanSquared&, ParallelFor);
void cpu_backward(const MeanSquared&, double grad_out, ParallelFor);
void cpu_weigh(const Weighing&);

}  // namespace loreun
