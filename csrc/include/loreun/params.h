// What a kernel is told: plain structs, shared by the CPU and the CUDA kernels. No torch type appears below this line.
#pragma once
#include <cstdint>

namespace loreun {

enum class DType : int32_t { f32 = 0, f64 = 1, bf16 = 2, f16 = 3 };

constexpr int64_t kSize[] = {4, 8, 2, 2};  // bytes per element, by DType

// The accumulation type: double for f64, float for everything else. "acc*" below means a pointer to that type.

// How the rows of one batch are weighted (LoReUn, eqs. 4 and 5). eta carries the sign of the direction:
// negative to forget, positive to retain.
struct Weighting {
  const void* score_loss;  // acc*, [rows], losses that set the weights, or null: the kernel computes them
  const void* ref_loss;    // acc*, element i at i * ref_stride; null: 0 for every row (never so in ratio form)
  int64_t ref_stride;      // 0: one reference for the batch
  double eta;
  bool ratio;   // d = loss / ref instead of loss - ref
  bool detach;  // weights are numbers: no gradient flows through them
};

// One batch of logits. Strides are in elements; any stride is allowed, overlapping (expanded) rows included.
struct CrossEntropy {
  DType dtype;
  const void* logits;  // [rows, classes]
  int64_t rows, classes, row_stride, class_stride;
  const int64_t* target;        // the labels that are optimised
  const int64_t* score_target;  // the labels whose loss sets the weights; null: the same
  int64_t target_stride, score_stride;
  int64_t ignore_index;
  double label_smoothing;  // of the objective only
  Weighting weighting;
  double scale;  // the loss and its gradient are multiplied by it
  // Outputs of the forward pass.
  void* table;    // acc*, [5, rows]: see CrossEntropyRow
  double* batch;  // [2]: see Batch
  // Output of the backward pass (and of a forward pass that was asked for it): same dtype and shape as the logits.
  void* grad;  // may be the logits themselves
  int64_t grad_row_stride, grad_class_stride;
};

// Rows of CrossEntropy::table. max and log_sum are kept apart so that logits far from zero lose no precision:
// p = exp((x - max) - log_sum).
enum CrossEntropyRow { kObjective = 0, kScore = 1, kLogWeight = 2, kMax = 3, kLogSum = 4, kCrossEntropyRows = 5 };

// One batch of predictions, each row one sample, dense within a sample. score_target null: the same as target.
struct MeanSquared {
  DType dtype;
  const void *input, *target, *score_target;
  int64_t rows, row_size;
  int64_t input_stride, target_stride, score_stride;  // between rows, in elements
  double divisor;                                     // a row's loss is its sum of squares divided by this
  Weighting weighting;
  double scale;
  void* table;    // acc*, [3, rows]: kObjective, kScore, kLogWeight
  double* batch;  // [2]
  void* grad;     // with respect to input; rows are grad_stride apart
  int64_t grad_stride;
};

constexpr int kMeanSquaredRows = 3;

// Elements of `batch`. The weight of row i is exp(log_weight[i] - log_normaliser); mean is the weighted mean of the
// objective losses, before `scale`. An ignored row has log_weight -inf and does not take part in mean.
enum Batch { kLogNormaliser = 0, kMean = 1, kBatchValues = 2 };

}  // namespace loreun
