#include "loreun/plan.h"

#include <algorithm>
#include <bit>

namespace loreun {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t to) { return ceil_div(a, to) * to; }

// The largest of at most `most`, and the smallest of at least `least`; from 1 to 32.
int power_of_two_up_to(int64_t most) { return int(std::bit_floor(uint64_t(std::clamp<int64_t>(most, 1, 32)))); }
int power_of_two_from(int64_t least) { return int(std::bit_ceil(uint64_t(std::clamp<int64_t>(least, 1, 32)))); }

struct Element {
  int64_t size, acc, lanes;
  explicit Element(DType dtype)
      : size(kSize[static_cast<int>(dtype)]), acc(acc_size(dtype)), lanes(kVectorBytes / size) {}
  int64_t vectors(int64_t elements) const { return ceil_div(elements, lanes); }
};

// Hands out shared memory.
struct Arena {
  int64_t used = 0;
  int64_t take(int64_t bytes) {
    const int64_t offset = used;
    used = round_up(used + bytes, kVectorBytes);
    return offset;
  }
};

int64_t scratch_bytes(int threads, int64_t acc) { return threads / 32 * sums_size(acc); }

bool stages(Loss loss, int64_t row_bytes) { return loss == Loss::cross_entropy && row_bytes < kStagedRowBytes; }

void share_row(Plan& plan, int64_t vectors) {  // whole warps for long rows
  plan.group = power_of_two_from(vectors);
  const int64_t groups = plan.threads / plan.group;
  const int64_t most = std::max<int64_t>(1, ceil_div(vectors, 32));
  plan.chunks = static_cast<int>(std::clamp<int64_t>(groups / plan.tile, 1, most));
}

// ---- fused: the batch stays on chip ----

// Of rows that `blocks` blocks share among them.
Plan fused(Loss loss, const Element& element, const Shape& shape, int64_t blocks, int threads) {
  Plan plan;
  plan.threads = threads;
  plan.tile = std::max<int64_t>(1, ceil_div(shape.rows, blocks));
  const int64_t row_bytes = shape.size * element.size;
  plan.staged = stages(loss, row_bytes);
  if (plan.staged) {
    if (blocks > 1) plan.tile = round_up(plan.tile, element.lanes);  // so that each tile begins aligned
    plan.pitch = row_bytes;
    plan.group = std::min(power_of_two_up_to(threads / plan.tile), power_of_two_from(shape.size));
  } else {
    int64_t vectors = element.vectors(shape.size);
    if (loss == Loss::mean_squared && shape.rows > 0 && shape.rows < blocks)
      plan.splits = std::clamp<int64_t>(blocks / shape.rows, 1, std::max<int64_t>(1, vectors / 32));
    vectors = ceil_div(vectors, plan.splits);
    plan.pitch = round_up(row_bytes, kVectorBytes) + kVectorBytes;  // a row keeps its alignment
    if (loss == Loss::mean_squared) plan.pitch = vectors * element.lanes * element.acc * shape.kept;
    share_row(plan, vectors);
  }
  plan.units = ceil_div(shape.rows, plan.tile) * plan.splits;
  plan.blocks = std::max<int64_t>(1, plan.units);
  plan.regime = plan.blocks == 1 ? Regime::tiny : Regime::on_chip;
  plan.workspace = plan.blocks * sums_size(element.acc);
  Arena smem;
  plan.data_offset = smem.take(plan.tile * plan.pitch);
  plan.row_offset = smem.take(plan.tile * row_state_size(element.acc));
  plan.moment_offset = smem.take(plan.tile * plan.chunks * sums_size(element.acc));
  plan.scratch_offset = smem.take(scratch_bytes(threads, element.acc));
  plan.smem = smem.used;
  return plan;
}

// False if it does not fit.
bool plan_fused(Plan& plan, Loss loss, const Device& device, const Element& element, const Shape& shape, bool with_grad) {
  const int64_t elements = shape.rows * shape.size;
  const int most = fused_threads(element.acc);
  if (elements <= kTinyElements) {
    const auto threads = static_cast<int>(std::clamp<int64_t>(round_up(elements / 4, 32), 64, most));
    plan = fused(loss, element, shape, 1, threads);
    if (plan.smem <= device.smem_per_block) return true;
  }
  if (!device.cooperative || !with_grad) return false;  // without a gradient there is nothing to keep
  const int64_t bytes = elements * (loss == Loss::mean_squared ? shape.kept * element.acc : element.size);
  plan = fused(loss, element, shape, std::clamp<int64_t>(bytes / kMinBlockBytes, 1, device.sms), most);
  return plan.smem <= device.smem_per_block;
}

// ---- split ----

// Long rows: several warps to a row, or several blocks if there are too few rows to fill the GPU evenly.
void split_rows(Plan& plan, const Shape& shape, const Element& element, int64_t slots) {
  const int64_t vectors = element.vectors(shape.size);
  plan.group = power_of_two_from(vectors);
  const int64_t groups = kSplitThreads / plan.group;
  plan.chunks = power_of_two_up_to(std::min(groups, vectors / (plan.group * kUnroll)));
  plan.tile = groups / plan.chunks;
  if (plan.tile > 1 || shape.rows == 0 || shape.rows >= 4 * slots) return;
  const int64_t most = std::min(slots, shape.size * element.size / kSplitUnitBytes);
  double best = 0;
  for (int64_t splits = 1; splits <= most && best < kWaveUse; splits++) {
    const int64_t units = shape.rows * splits;
    const double use = static_cast<double>(units) / static_cast<double>(round_up(units, slots));
    if (use > best) best = use, plan.splits = splits;
  }
}

void stage_rows(Plan& plan, const Shape& shape, const Element& element) {
  const int64_t row_bytes = shape.size * element.size;
  const int64_t row_total = row_bytes + row_state_size(element.acc) + sums_size(element.acc);
  plan.staged = true;
  plan.pitch = row_bytes;
  plan.group = power_of_two_from(ceil_div(shape.size, 8));
  const int64_t most = std::min<int64_t>(kStagedTileBytes / row_total, kSplitThreads);  // a thread finishes one row
  plan.tile = std::max(most / element.lanes * element.lanes, element.lanes);            // each tile begins aligned
}

Plan plan_split(Loss loss, const Device& device, const Element& element, const Shape& shape) {
  const int64_t slots = int64_t(device.sms) * kBlocksPerSm;
  Plan plan;
  if (stages(loss, shape.size * element.size))
    stage_rows(plan, shape, element);
  else
    split_rows(plan, shape, element, slots);
  plan.units = ceil_div(shape.rows, plan.tile) * plan.splits;
  const int64_t each = std::max<int64_t>(1, ceil_div(plan.units, slots));
  plan.blocks = std::max<int64_t>(1, ceil_div(plan.units, each));  // no rows: a grid of no blocks is an error
  plan.workspace = (plan.splits > 1 ? plan.units : plan.blocks) * sums_size(element.acc);
  Arena smem;
  plan.data_offset = smem.take(plan.staged ? plan.tile * plan.pitch : 0);
  plan.moment_offset = smem.take(2 * plan.tile * plan.chunks * sums_size(element.acc));  // two tiles in turn
  plan.scratch_offset = smem.take(scratch_bytes(plan.threads, element.acc) + plan.threads * sums_size(element.acc));
  plan.smem = smem.used;
  return plan;
}

}  // namespace

Plan plan_forward(Loss loss, const Device& device, DType dtype, const Shape& shape, bool with_grad) {
  const Element element(dtype);
  Plan plan;
  if (plan_fused(plan, loss, device, element, shape, with_grad)) return plan;
  return plan_split(loss, device, element, shape);
}

Plan plan_gradient(Loss loss, DType dtype, const Shape& shape) {
  const Element element(dtype);
  Plan plan;
  if (stages(loss, shape.size * element.size)) {
    stage_rows(plan, shape, element);
    plan.units = plan.blocks = ceil_div(shape.rows, plan.tile);
    Arena smem;
    plan.data_offset = smem.take(plan.tile * plan.pitch);
    plan.row_offset = smem.take(plan.tile * row_state_size(element.acc));
    plan.smem = smem.used;
  } else {
    const int64_t vectors = element.vectors(shape.size);
    plan.group = power_of_two_from(vectors);
    plan.chunks = static_cast<int>(std::max<int64_t>(1, ceil_div(vectors, plan.group * kGradientVectors)));
    plan.units = shape.rows * plan.chunks;  // one group's work
    plan.blocks = ceil_div(plan.units, plan.threads / plan.group);
  }
  return plan;
}

Plan plan_combine(int64_t acc) {
  Plan plan;
  plan.threads = kCombineThreads;
  plan.smem = scratch_bytes(plan.threads, acc);
  return plan;
}

Plan plan_elementwise(const Device& device, int64_t count) {
  Plan plan;  // kUnroll elements a thread; more only where the GPU is full anyway
  plan.blocks = std::clamp<int64_t>(ceil_div(count, plan.threads * kUnroll), 1, int64_t(device.sms) * 8 * kBlocksPerSm);
  return plan;
}

}  // namespace loreun
