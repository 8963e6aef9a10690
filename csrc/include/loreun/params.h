// What a kernel is told: plain structs, shared by the CPU and the CUDA kernels. No torch type appears below this line.
#pragma once
#include <cstdint>
#include <type_traits>

namespace loreun {

enum class DType : int32_t { f32 = 0, f64 = 1, bf16 = 2, f16 = 3 };

constexpr int64_t kSize[] = {4, 8, 2, 2};  // bytes per element, by DType

// The accumulation type: double for f64, float for everything else. "acc*" below means a pointer to that type.
template <typename T>
using Acc = std::conditional_t<sizeof(T) == 8, double, float>;

// From a row's score loss to its log-weight, with d = score - ref or, in ratio form, score / ref.
enum class Rule : int32_t {
  exp = 0,       // eta d (LoReUn, eqs. 4 and 5; without a reference a power of the probability: WGA)
  power = 1,     // eta log d (SFR-on)
  satimp = 2,    // eta score + importance log(1 - exp(-score)) (SatImp)
  logistic = 3,  // log of 2 sigmoid(eta d) (NPO)
  given = 4,     // 0: the weights come from elsewhere, between the passes
};

// What the weights are divided by: their sum, the number of rows that are not ignored, or nothing.
enum class Normalize : int32_t { batch = 0, mean = 1, none = 2 };

// How the rows of one batch are weighted. eta carries the sign of the direction: negative to forget, positive to retain.
struct Weighting {
  const void* score_loss;  // acc*, [rows], losses that set the weights, or null: the kernel computes them
  const void* ref_loss;    // acc*, element i at i * ref_stride, or null: ref for every row
  int64_t ref_stride;      // 0: one reference for the batch
  const void* eta_factor;  // acc*, one number that multiplies eta, where it lies; null: 1
  double eta, ref, importance;
  Rule rule;
  Normalize normalize;
  bool ratio;
  bool detach;  // weights are numbers: no gradient flows through them, as none flows into a score loss that is given
};

// What the gradient's rows are multiplied by, instead of what table and batch say: acc*, [rows] each, or null. The logits may
// then be some of the classes: a label that is out of range is elsewhere.
struct Given {
  const void *objective, *score;
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
  double label_smoothing;    // of the objective only
  const void* class_weight;  // acc*, [classes]: multiplies a row's weight by that of its target; null: 1
  Weighting weighting;       // of the forward pass; the backward pass finds all in table and batch, or in given
  Given given;
  double scale;  // the loss and its gradient are multiplied by it
  // Outputs of the forward pass.
  void* table;    // acc*, [6, rows]: see CrossEntropyRow
  double* batch;  // [3]: see Batch
  // Output of the backward pass (and of a forward pass that was asked for it): same dtype and shape as the logits.
  void* grad;  // may be the logits themselves
  void* kept;  // acc*, [rows, classes], or null: where the CPU's forward pass leaves exp(x - max) for the gradient
  int64_t grad_row_stride, grad_class_stride;
};

// Rows of CrossEntropy::table. max and log_sum are kept apart so that logits far from zero lose no precision:
// p = exp((x - max) - log_sum).
// kSlope is the log-weight's derivative by the score, 0 where no gradient flows through the weight.
enum CrossEntropyRow { kObjective = 0, kScore = 1, kLogWeight = 2, kSlope = 3, kMax = 4, kLogSum = 5, kCrossEntropyRows = 6 };

// One batch of predictions, each row one sample, dense within a sample. score_target null: the same as target.
struct MeanSquared {
  DType dtype;
  const void *input, *target, *score_target;
  int64_t rows, row_size;
  int64_t input_stride, target_stride, score_stride;  // between rows, in elements
  double divisor;                                     // a row's loss is its sum of squares divided by this
  Weighting weighting;
  Given given;
  double scale;
  void* table;    // acc*, [4, rows]: kObjective, kScore, kLogWeight, kSlope
  double* batch;  // [3]
  void* grad;     // with respect to input; rows are grad_stride apart
  int64_t grad_stride;
};

constexpr int kMeanSquaredRows = 4;

// Weights that were made elsewhere, from a forward pass of Rule::given and Normalize::mean: its table and batch say which rows
// take part, what their classes weigh, and how many they are. A negative weight makes all NaN.
struct Weighing {
  DType dtype;
  int64_t rows;
  const void *table, *weights;  // acc*; weights: [rows]
  const double* batch;
  Normalize normalize;
  double scale;
  void *loss, *normalised;  // acc*: the scaled loss, and [rows] weights divided as `normalize` says
};

// Elements of `batch`. The weight of row i is exp(log_weight[i] - log_normaliser); mean is the sum of weights times
// objective losses, before `scale`; baseline is what d(loss) / d(log_weight) measures a row's objective from: mean where
// the weights are divided by their sum, else 0. An ignored row has log_weight -inf and does not take part.
enum Batch { kLogNormaliser = 0, kMean = 1, kBaseline = 2, kBatchValues = 3 };

}  // namespace loreun
