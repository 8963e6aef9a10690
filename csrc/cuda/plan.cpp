#include "loreun/plan.h"

#include <algorithm>

namespace loreun {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t to) { return ceil_div(a, to) * to; }

int power_of_two_up_to(int64_t most) {  // the largest, at least 1 and at most 32
  int p = 1;
  while (p < 32 && p * 2 <= most) p *= 2;
  return p;
}

int power_of_two_from(int64_t least) {  // the smallest, at most 32
  int p = 1;
  while (p < 32 && p < least) p *= 2;
  return p;
}

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

int64_t scratch_bytes(int threads, int count, int64_t acc) { return threads / 32 * count * sums_size(acc); }

bool stages(Loss loss, int64_t row_bytes) { return loss == Loss::cross_entropy && row_bytes < kStagedRowBytes; }

void share_row(PartPlan& part, int threads, int64_t vectors) {  // whole warps for long rows
  part.group = power_of_two_from(vectors);
  const int64_t groups = threads / part.group;
  const int64_t most = std::max<int64_t>(1, ceil_div(vectors, 32));
  part.chunks = static_cast<int>(std::clamp<int64_t>(groups / part.tile, 1, most));
}

// ---- fused: the batch stays on chip ----

void lay_out(PartPlan& part, const Shape& shape, const Element& element, int64_t blocks, int threads, Loss loss) {
  const int64_t row_bytes = shape.size * element.size;
  part.tile = std::max<int64_t>(1, ceil_div(shape.rows, blocks));
  part.staged = stages(loss, row_bytes);
  if (part.staged) {
    if (blocks > 1) part.tile = round_up(part.tile, element.lanes);  // so that each tile begins aligned
    part.pitch = row_bytes;
    part.group = std::min(power_of_two_up_to(threads / part.tile), power_of_two_from(shape.size));
    return;
  }
  int64_t vectors = element.vectors(shape.size);
  if (loss == Loss::mean_squared && shape.rows > 0 && shape.rows < blocks)
    part.splits = std::clamp<int64_t>(blocks / shape.rows, 1, std::max<int64_t>(1, vectors / 32));
  vectors = ceil_div(vectors, part.splits);
  part.pitch = round_up(row_bytes, kVectorBytes) + kVectorBytes;  // a row keeps its alignment
  if (loss == Loss::mean_squared) part.pitch = vectors * element.lanes * element.acc * shape.kept;
  share_row(part, threads, vectors);
}

Plan fused(Loss loss, const Element& element, const Shape* shapes, int count, int64_t blocks, int threads) {
  Plan plan;
  plan.threads = threads;
  Arena smem, workspace;
  for (int p = 0; p < count; p++) {
    PartPlan& part = plan.part[p];
    lay_out(part, shapes[p], element, blocks, threads, loss);
    part.units = part.blocks = ceil_div(shapes[p].rows, part.tile) * part.splits;
    part.data_offset = smem.take(part.tile * part.pitch);
    part.row_offset = smem.take(part.tile * row_state_size(element.acc));
    part.moment_offset = smem.take(part.tile * part.chunks * sums_size(element.acc));
    plan.blocks = std::max(plan.blocks, part.blocks);
  }
  for (int p = 0; p < count; p++) {
    const int64_t values = plan.part[p].splits > 1 ? plan.part[p].units : plan.blocks;
    plan.part[p].workspace_offset = workspace.take(values * sums_size(element.acc));
  }
  plan.scratch_offset = smem.take(scratch_bytes(threads, count, element.acc));
  plan.smem = smem.used;
  plan.workspace = workspace.used;
  plan.regime = plan.blocks == 1 ? Regime::tiny : Regime::on_chip;
  return plan;
}

// False if they do not fit.
bool plan_fused(Plan& plan, Loss loss, const Device& device, const Element& element, const Shape* shapes, int count,
                bool with_grad) {
  int64_t elements = 0, bytes = 0;  // of all parts, as they are kept on chip
  for (int p = 0; p < count; p++) {
    const int64_t size = loss == Loss::mean_squared ? shapes[p].kept * element.acc : element.size;
    elements += shapes[p].rows * shapes[p].size, bytes += shapes[p].rows * shapes[p].size * size;
  }
  const int most = fused_threads(element.acc);
  if (elements <= kTinyElements) {
    const auto threads = static_cast<int>(std::clamp<int64_t>(round_up(elements / 4, 32), 64, most));
    plan = fused(loss, element, shapes, count, 1, threads);
    if (plan.smem <= device.smem_per_block) return true;
  }
  if (!device.cooperative || !with_grad) return false;  // without a gradient there is nothing to keep
  const int64_t blocks = std::clamp<int64_t>(bytes / kMinBlockBytes, 1, device.sms);
  plan = fused(loss, element, shapes, count, blocks, most);
  return plan.smem <= device.smem_per_block;
}

// ---- split ----

// Long rows: several warps to a row, or several blocks if there are too few rows to fill the GPU evenly.
void split_rows(PartPlan& part, const Shape& shape, const Element& element, int64_t slots) {
  const int64_t vectors = element.vectors(shape.size);
  part.group = power_of_two_from(vectors);
  const int64_t groups = kSplitThreads / part.group;
  part.chunks = power_of_two_up_to(std::min(groups, vectors / (part.group * kUnroll)));
  part.tile = groups / part.chunks;
  if (part.tile > 1 || shape.rows == 0 || shape.rows >= 4 * slots) return;
  const int64_t most = std::min(slots, shape.size * element.size / kSplitUnitBytes);
  double best = 0;
  for (int64_t splits = 1; splits <= most && best < kWaveUse; splits++) {
    const int64_t units = shape.rows * splits;
    const double use = static_cast<double>(units) / static_cast<double>(round_up(units, slots));
    if (use > best) best = use, part.splits = splits;
  }
}

void stage_rows(PartPlan& part, const Shape& shape, const Element& element) {
  const int64_t row_bytes = shape.size * element.size;
  const int64_t row_total = row_bytes + row_state_size(element.acc) + sums_size(element.acc);
  part.staged = true;
  part.pitch = row_bytes;
  part.group = power_of_two_from(ceil_div(shape.size, 8));
  const int64_t most = std::min<int64_t>(kStagedTileBytes / row_total, kSplitThreads);  // a thread finishes one row
  part.tile = std::max(most / element.lanes * element.lanes, element.lanes);            // each tile begins aligned
}

Plan plan_split(Loss loss, const Device& device, const Element& element, const Shape* shapes, int count) {
  const int64_t slots = int64_t(device.sms) * kBlocksPerSm;
  Plan plan;
  plan.blocks = 0;
  Arena workspace;
  for (int p = 0; p < count; p++) {
    PartPlan& part = plan.part[p];
    if (stages(loss, shapes[p].size * element.size))
      stage_rows(part, shapes[p], element);
    else
      split_rows(part, shapes[p], element, slots);
    part.units = ceil_div(shapes[p].rows, part.tile) * part.splits;
    const int64_t each = std::max<int64_t>(1, ceil_div(part.units, slots));
    part.blocks = std::max<int64_t>(1, ceil_div(part.units, each));  // no rows: a grid of no blocks is an error
    part.first_block = plan.blocks;
    plan.blocks += part.blocks;
    part.workspace_offset = workspace.take((part.splits > 1 ? part.units : part.blocks) * sums_size(element.acc));
    Arena smem;  // a block works on one part
    part.data_offset = smem.take(part.staged ? part.tile * part.pitch : 0);
    part.moment_offset = smem.take(2 * part.tile * part.chunks * sums_size(element.acc));  // two tiles in turn
    plan.smem = std::max(plan.smem, smem.used);
  }
  plan.scratch_offset = plan.smem;
  plan.smem +=
      round_up(scratch_bytes(plan.threads, 1, element.acc) + plan.threads * sums_size(element.acc), kVectorBytes);
  plan.workspace = workspace.used;
  return plan;
}

}  // namespace

Plan plan_forward(Loss loss, const Device& device, DType dtype, const Shape* shapes, int count, bool with_grad) {
  const Element element(dtype);
  Plan plan;
  if (plan_fused(plan, loss, device, element, shapes, count, with_grad)) return plan;
  return plan_split(loss, device, element, shapes, count);
}

Plan plan_gradient(Loss loss, DType dtype, const Shape& shape) {
  const Element element(dtype);
  Plan plan;
  PartPlan& part = plan.part[0];
  if (stages(loss, shape.size * element.size)) {
    stage_rows(part, shape, element);
    part.units = ceil_div(shape.rows, part.tile);
    plan.blocks = part.units;
    Arena smem;
    part.data_offset = smem.take(part.tile * part.pitch);
    part.row_offset = smem.take(part.tile * row_state_size(element.acc));
    plan.smem = smem.used;
  } else {
    const int64_t vectors = element.vectors(shape.size);
    part.group = power_of_two_from(vectors);
    part.chunks = static_cast<int>(std::max<int64_t>(1, ceil_div(vectors, part.group * kGradientVectors)));
    part.units = shape.rows * part.chunks;  // one group's work
    plan.blocks = ceil_div(part.units, plan.threads / part.group);
  }
  plan.blocks = std::clamp<int64_t>(plan.blocks, 1, INT32_MAX);  // a grid's limit; blocks go on from there
  return plan;
}

Plan plan_combine(int count, int64_t acc) {
  Plan plan;
  plan.threads = kCombineThreads;
  plan.smem = scratch_bytes(plan.threads, count, acc);
  return plan;
}

Plan plan_elementwise(const Device& device, DType dtype, int64_t count) {
  Plan plan;  // one vector a thread; more only where the GPU is full anyway
  const int64_t blocks = ceil_div(Element(dtype).vectors(count), plan.threads);
  plan.blocks = std::clamp<int64_t>(blocks, 1, int64_t(device.sms) * 8 * kBlocksPerSm);
  return plan;
}

}  // namespace loreun
