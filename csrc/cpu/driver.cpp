// What surrounds the kernels: rows in parallel, then the batch, serially, so that the result is the same for any number
// of threads.
#include <algorithm>
#include <vector>

#include "cpu/kernels.h"

namespace loreun {
namespace {

template <typename F>
void parallel(ParallelFor pf, int64_t count, int64_t grain, const F& body) {
  pf(count, grain, const_cast<F*>(&body), [](void* f, int64_t begin, int64_t end) { (*static_cast<F*>(f))(begin, end); });
}

// Rows of cross entropy come in groups of this many, so that short rows fill the lanes of a vector.
constexpr int64_t kGroup = 16;

template <typename F>
void over_rows(ParallelFor pf, const CrossEntropy& part, const F& body) {
  const int64_t groups = (part.rows + kGroup - 1) / kGroup;
  const int64_t grain = std::max<int64_t>(1, kGrain / (part.classes * kGroup));
  if (part.classes * kGroup > kGrain) return parallel(pf, part.rows, 1, body);
  parallel(pf, groups, grain,
           [&](int64_t begin, int64_t end) { body(begin * kGroup, std::min(end * kGroup, part.rows)); });
}

// Runs a kernel that fills the gradient over all of it.
void fill(const CrossEntropy& part, double grad_out, ParallelFor pf, decltype(CpuKernels::ce_grad) kernel) {
  over_rows(pf, part, [&](int64_t begin, int64_t end) { kernel(part, grad_out, begin, end); });
}

// Stretches of a row that one task works on; a fixed length, so that sums do not depend on the number of threads.
constexpr int64_t kTask = 32768;

struct Stretches {
  int64_t per_row, total;
  explicit Stretches(const MeanSquared& part)
      : per_row(std::max<int64_t>(1, (part.row_size + kTask - 1) / kTask)), total(per_row * part.rows) {}
};

template <bool backwards = false, typename F>
void over_stretches(ParallelFor pf, const MeanSquared& part, const F& body) {
  const Stretches all(part);
  const int64_t size = std::clamp<int64_t>(part.row_size, 1, kTask);
  parallel(pf, all.total, std::max<int64_t>(1, kGrain / size), [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      const int64_t task = backwards ? all.total - 1 - k : k;
      const int64_t row = task / all.per_row, from = task % all.per_row * kTask;
      body(task, row, from, std::min(from + kTask, part.row_size));
    }
  });
}

template <typename Acc>
void finish(const MeanSquared& part, const std::vector<double>& sums) {
  const Weighting& w = part.weighting;
  const int64_t per_row = Stretches(part).per_row;
  Acc* table = static_cast<Acc*>(part.table);
  for (int64_t i = 0; i < part.rows; i++) {
    double objective = 0, score = 0;
    for (int64_t k = i * per_row; k < (i + 1) * per_row; k++) objective += sums[2 * k], score += sums[2 * k + 1];
    objective /= part.divisor, score /= part.divisor;
    if (w.score_loss) score = static_cast<const Acc*>(w.score_loss)[i];
    const double ref = w.ref_loss ? static_cast<const Acc*>(w.ref_loss)[i * w.ref_stride] : Acc(0);
    table[kObjective * part.rows + i] = Acc(objective);
    table[kScore * part.rows + i] = Acc(score);
    table[kLogWeight * part.rows + i] = Acc(w.eta * (w.ratio ? score / ref : score - ref));
  }
}

// Runs a kernel that fills the gradient, from the last stretch to the first: what the forward pass read last is still
// in cache.
void fill(const MeanSquared& part, double grad_out, ParallelFor pf, decltype(CpuKernels::mse_grad) kernel) {
  over_stretches<true>(pf, part, [&](int64_t, int64_t row, int64_t begin, int64_t end) {
    kernel(part, grad_out, row, begin, end);
  });
}

}  // namespace

double cpu_ce_forward(const CrossEntropy& part, ParallelFor pf) {
  const CpuKernels& kernels = cpu_kernels();
  over_rows(pf, part, [&](int64_t begin, int64_t end) { kernels.ce_rows(part, begin, end); });
  kernels.combine(part.dtype, part.table, part.rows, part.batch);
  if (part.grad) fill(part, 1.0, pf, keeps_exponentials(part.dtype, part.classes) ? kernels.ce_scale : kernels.ce_grad);
  return part.scale * part.batch[kMean];
}

void cpu_ce_backward(const CrossEntropy& part, double grad_out, ParallelFor pf) {
  fill(part, grad_out, pf, cpu_kernels().ce_grad);
}

double cpu_mse_forward(const MeanSquared& part, ParallelFor pf) {
  const CpuKernels& kernels = cpu_kernels();
  std::vector<double> sums(2 * Stretches(part).total);
  over_stretches(pf, part, [&](int64_t task, int64_t row, int64_t begin, int64_t end) {
    kernels.mse_sums(part, row, begin, end, &sums[2 * task]);
  });
  if (part.dtype == DType::f64) finish<double>(part, sums);
  else finish<float>(part, sums);
  kernels.combine(part.dtype, part.table, part.rows, part.batch);
  if (part.grad) fill(part, 1.0, pf, keeps_difference(part) ? kernels.mse_scale : kernels.mse_grad);
  return part.scale * part.batch[kMean];
}

void cpu_mse_backward(const MeanSquared& part, double grad_out, ParallelFor pf) {
  fill(part, grad_out, pf, cpu_kernels().mse_grad);
}

}  // namespace loreun
