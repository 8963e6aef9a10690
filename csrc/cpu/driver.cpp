// What surrounds the kernels: rows in parallel, then the batch, serially, so that the result is the same for any number
// of threads.
#include <algorithm>
#include <vector>

#include "cpu/kernels.h"
#include "loreun/weighting.h"

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

// From sums of squares to the table.
template <typename Acc>
void fill_table(const MeanSquared& part, const std::vector<double>& sums) {
  const Weighting& w = part.weighting;
  const int64_t per_row = Stretches(part).per_row;
  Acc* table = static_cast<Acc*>(part.table);
  for (int64_t i = 0; i < part.rows; i++) {
    double objective = 0, score = 0;
    for (int64_t k = i * per_row; k < (i + 1) * per_row; k++) objective += sums[2 * k], score += sums[2 * k + 1];
    objective /= part.divisor, score /= part.divisor;
    if (w.score_loss) score = static_cast<const Acc*>(w.score_loss)[i];
    const double ref = w.ref_loss ? reference_loss<Acc>(w, i) : w.ref;  // not rounded
    const auto weight = log_weight(w, w.eta, score, ref);
    table[kObjective * part.rows + i] = Acc(objective);
    table[kScore * part.rows + i] = Acc(score);
    table[kLogWeight * part.rows + i] = Acc(weight.value);
    table[kSlope * part.rows + i] = w.detach || w.score_loss ? Acc(0) : Acc(weight.slope);
  }
}

// From sums of squares to table and batch.
void settle(const MeanSquared& part, const std::vector<double>& sums) {
  if (part.dtype == DType::f64) fill_table<double>(part, sums);
  else fill_table<float>(part, sums);
  const Normalize by = part.weighting.normalize;
  cpu_kernels(part.dtype).combine(part.table, part.rows, by, by == Normalize::mean ? double(part.rows) : 1, part.batch);
}

// What weights are divided by if not by their sum: the rows that take part, each as much as its class weighs.
double count_of(const CrossEntropy& part) {
  if (part.weighting.normalize != Normalize::mean) return 1;
  double count = 0;
  for (int64_t i = 0; i < part.rows; i++) {
    const int64_t target = part.target[i * part.target_stride];
    if (target == part.ignore_index) continue;
    if (!part.class_weight) count += 1;
    else if (part.dtype == DType::f64) count += static_cast<const double*>(part.class_weight)[target];
    else count += static_cast<const float*>(part.class_weight)[target];
  }
  return count;
}

// Fills the gradient, from the last stretch to the first: what the pass before read last is still in cache. Sums the
// objective on the way if there is a place for it.
void fill(const MeanSquared& part, double grad_out, ParallelFor pf, std::vector<double>* sums = nullptr) {
  over_stretches<true>(pf, part, [&](int64_t task, int64_t row, int64_t begin, int64_t end) {
    cpu_kernels(part.dtype).mse_grad(part, grad_out, row, begin, end, sums ? &(*sums)[2 * task] : nullptr);
  });
}

void add_up(const MeanSquared& part, ParallelFor pf, std::vector<double>& sums) {
  over_stretches(pf, part, [&](int64_t task, int64_t row, int64_t begin, int64_t end) {
    cpu_kernels(part.dtype).mse_sums(part, row, begin, end, &sums[2 * task]);
  });
}

// The part whose objective is the score: what the weights are made of.
MeanSquared score_of(const MeanSquared& part) {
  MeanSquared score = part;
  if (part.score_target) score.target = part.score_target, score.target_stride = part.score_stride;
  score.score_target = nullptr;
  return score;
}

}  // namespace

double cpu_forward(const CrossEntropy& part, ParallelFor pf) {
  const CpuKernels& kernels = cpu_kernels(part.dtype);
  over_rows(pf, part, [&](int64_t begin, int64_t end) { kernels.ce_rows(part, begin, end); });
  kernels.combine(part.table, part.rows, part.weighting.normalize, count_of(part), part.batch);
  if (part.grad && part.weighting.rule != Rule::given) cpu_backward(part, 1.0, pf);
  return part.scale * part.batch[kMean];
}

void cpu_backward(const CrossEntropy& part, double grad_out, ParallelFor pf) {
  const CpuKernels& kernels = cpu_kernels(part.dtype);
  const auto kernel = part.kept ? kernels.ce_scale : kernels.ce_grad;
  over_rows(pf, part, [&](int64_t begin, int64_t end) { kernel(part, grad_out, begin, end); });
}

// A gradient whose weights are numbers needs no objective: the weights come first, from the score target alone, and the
// pass that writes the gradient sums the objective, so that each target is read once.
double cpu_forward(const MeanSquared& part, ParallelFor pf) {
  std::vector<double> sums(2 * Stretches(part).total);
  const bool weights_first = part.grad && part.weighting.detach, given = part.weighting.score_loss;
  if (!(weights_first && given)) add_up(weights_first ? score_of(part) : part, pf, sums);
  settle(part, sums);
  if (!part.grad) return part.scale * part.batch[kMean];
  const bool unknown = weights_first && (given || part.score_target);
  fill(part, 1.0, pf, unknown ? &sums : nullptr);
  if (unknown) settle(part, sums);
  return part.scale * part.batch[kMean];
}

template <typename Acc>
void weigh(const Weighing& w) {
  const Acc *table = static_cast<const Acc*>(w.table), *weights = static_cast<const Acc*>(w.weights);
  Acc* to = static_cast<Acc*>(w.normalised);
  double sum = 0, weighted = 0;
  for (int64_t i = 0; i < w.rows; i++) {
    const double weight = row_weight<double>(weights[i], table[kLogWeight * w.rows + i]);
    to[i] = Acc(weight), sum += weight, weighted += weight * double(table[kObjective * w.rows + i]);
  }
  const double divisor = divisor_of(w, sum);
  for (int64_t i = 0; i < w.rows; i++) to[i] = Acc(double(to[i]) / divisor);
  *static_cast<Acc*>(w.loss) = Acc(w.scale * weighted / divisor);
}

void cpu_weigh(const Weighing& w) { w.dtype == DType::f64 ? weigh<double>(w) : weigh<float>(w); }

void cpu_backward(const MeanSquared& part, double grad_out, ParallelFor pf) { fill(part, grad_out, pf); }

}  // namespace loreun
