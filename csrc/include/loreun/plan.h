// How a call is laid out on a GPU: plain host code, so that every choice can be tested, and shown, without one.
#pragma once
#include <cstdint>

#include "loreun/params.h"

namespace loreun {

struct Device {
  int sms;
  int64_t smem_per_block;   // the most dynamic shared memory one block may ask for
  bool cooperative = true;  // can a grid wait for itself?
};

// tiny: one block does everything, gradient included. on_chip: as many blocks as fit the GPU at once keep the batch in
// shared memory until its normaliser is known. split: statistics, then one block combines, then the gradient reads the
// batch again.
enum class Regime : int32_t { tiny = 0, on_chip = 1, split = 2 };
constexpr const char* kRegimeNames[] = {"tiny", "on_chip", "split"};

// Threads and bounds. Times are of an H200: 132 SMs, 4.3 TB/s.
constexpr int kFusedThreads = 512;  // 128 registers for each; 4 16-byte loads from each cover the memory's latency
constexpr int fused_threads(int64_t acc) {
  return acc == 8 ? kFusedThreads / 2 : kFusedThreads;
}  // exp(double) is large
constexpr int kSplitThreads = 256;
constexpr int kCombineThreads = 512;
constexpr int kBlocksPerSm = 3;  // 3 * 256 threads with 4 loads each: 48 KB under way, 30 would do; 80 registers each
constexpr int kUnroll = 4;       // 16-byte loads in flight per thread
constexpr int kPairs = kUnroll / 2;  // where two tensors, or three, are read together
constexpr int kGradientVectors = 8;  // of a row per thread: what a thread finds out about its row is worth it
constexpr int64_t kVectorBytes = 16;
constexpr int64_t kTinyElements = 8192;      // exponentials one SM can afford instead of a grid-wide wait (about 1 us)
constexpr int64_t kMinBlockBytes = 8192;     // below it a further block costs more in waiting than it saves in loading
constexpr int64_t kStagedRowBytes = 512;     // shorter rows than a warp's one load are read many at a time
constexpr int64_t kStagedTileBytes = 24576;  // 3 such tiles keep an SM's loads under way
constexpr int64_t kSplitUnitBytes = kSplitThreads * kUnroll * kVectorBytes;  // a row is not cut finer over blocks
constexpr double kWaveUse = 0.9;  // cut rows over blocks until the last wave is this full

struct Shape {
  int64_t rows = 0, size = 0;  // size: elements of a row
  int kept = 1;                // MSE only: differences per element that the gradient needs (1 or 2)
};

// A unit is what a block handles at a time: `tile` rows, or one of `splits` pieces of one.
struct Plan {
  Regime regime = Regime::split;
  int threads = kSplitThreads;
  int64_t blocks = 1;
  int64_t tile = 1, splits = 1, units = 0;
  int group = 32;       // threads that read one piece of a row together
  int chunks = 1;       // such pieces per row and block
  bool staged = false;  // short rows: raw rows go through shared memory, read as one run
  int64_t pitch = 0;    // bytes from row to row in shared memory
  int64_t data_offset = 0, row_offset = 0, moment_offset = 0, scratch_offset = 0;  // in shared memory; the last to reduce a block
  int64_t smem = 0, workspace = 0;                                                 // bytes, of dynamic shared and of global memory
};

enum class Loss { cross_entropy, mean_squared };

// The forward pass, and the gradient with it in the fused regimes.
Plan plan_forward(Loss loss, const Device& device, DType dtype, const Shape& shape, bool with_grad);

// The backward kernel of the split regime.
Plan plan_gradient(Loss loss, DType dtype, const Shape& shape);

// The one block that turns partial results into the batch's, and the kernel that scales a gradient.
Plan plan_combine(int64_t acc);
Plan plan_elementwise(const Device& device, int64_t count);

// Bytes that both sides must agree on, in units of the accumulation type.
constexpr int64_t acc_size(DType dtype) { return dtype == DType::f64 ? 8 : 4; }
constexpr int64_t row_state_size(int64_t acc) { return 6 * acc + 16; }  // see Cell in kernels.cuh
constexpr int64_t sums_size(int64_t acc) { return 4 * acc; }            // Partial; Moments and Squares fit

}  // namespace loreun
