# ruff: noqa: E501
"""Puts bugs into a copy of the CUDA source, one at a time, and checks that the battery of cases.py fails for each.

python tests/ops/cuda_mutants.py [NUMBER …]    builds and runs them (all, if none is named)
python tests/ops/cuda_mutants.py --check       only looks whether each still matches the source
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from emulation import CSRC, build

CE, MSE, ANY, PLAN, ALL = "cross_entropy*", "mean_squared*", "*.cuh", "plan.cpp", "kernels.cuh"
SYNC = "__syncthreads();"

# number: (what the bug is, files, the right code, found once in them, the bug)
MUTANTS = {
    # Barriers
    1: ("grid: nobody waits for the other blocks' shares", ALL, "= sums;\n  cooperative_groups::this_grid().sync();", "= sums;"),
    2: ("fused: rows are read before they are staged", ALL, f"tile.stage();\n  {SYNC}", "tile.stage();"),
    3: ("fused: losses before the sums are there", ALL, f"tile.sums);\n  {SYNC}", "tile.sums);"),
    4: ("fused: gradients before they are prepared", ALL, f"prepare_gradients(tile, batch);\n  {SYNC}", "prepare_gradients(tile, batch);"),
    5: ("a tile is copied out before it is finished", CE, f"if (!in_place()) return;\n    {SYNC}", "if (!in_place()) return;"),
    6: ("split: rows are read before they are staged", ALL, f"tile.stage();\n      {SYNC}\n    }}", "tile.stage();\n    }"),
    7: ("split: losses before the sums are there", ALL, f"sum_rows<false>(tile, sums);\n    {SYNC}", "sum_rows<false>(tile, sums);"),
    8: ("split: next rows overwrite those being read", ALL, f"if (plan.staged) {SYNC}", ""),
    9: ("split: next sums overwrite those being read", ALL, "turn ^= 1;", ""),
    10: ("gradient: rows are read before they are staged", ALL, f"tile.stage();\n    {SYNC}\n    return", "tile.stage();\n    return"),
    11: ("a block's sum is added up before it is there", ANY, f"scratch);\n  {SYNC}\n  return sum_of_warps", "scratch);\n  return sum_of_warps"),
    12: ("grid: nobody waits for the other blocks' pieces", ALL, "{\n    cooperative_groups::this_grid().sync();", "{"),
    14: ("fused: a block's sum is added up before it is there", ALL, f"leave_sums(tile, a, scratch);\n  {SYNC}", "leave_sums(tile, a, scratch);"),
    # Reductions
    20: ("shuffles start too low", ANY, "int lanes = group / 2; lanes", "int lanes = group / 4; lanes"),
    21: ("shuffles stop too early", ANY, "lanes > 0; lanes /= 2", "lanes > 1; lanes /= 2"),
    22: ("row sums merge without rescaling", ANY, "a.sum * exp_of(a.max - shift) +", "a.sum +"),
    23: ("batch sums merge without rescaling", ANY, "a.weight * of_a + b.weight * of_b", "a.weight + b.weight"),
    24: ("the old sum is not rescaled", CE, "  m.sum *= exp_of(m.max - shift);\n#pragma unroll\n  for", "#pragma unroll\n  for"),
    25: ("elements past a row's end count", CE, "inside(k) ? One<T>{row[column * stride]} : filled<One<T>>(Acc<T>(-INFINITY))", "One<T>{row[min(column, n - 1) * stride]}"),
    26: ("loose elements are not summed", CE, "i < loose; i += step * kUnroll", "i < loose && span.vectors == 0; i += step * kUnroll"),
    27: ("a maximum of -inf makes NaN", ANY, "max == A(-INFINITY) ? A(0) : max", "max"),
    28: ("the last block's sum is forgotten", ANY, "i < count; i += blockDim.x", "i < count - 1; i += blockDim.x"),
    # Rows and columns
    30: ("loose elements are taken from the start", ANY, "i < span.head ? i : i + span.vectors * kLanes<T>", "i"),
    31: ("rows that start off a vector are not noticed", ANY, "past ? kLanes<T> - past : 0", "0"),
    32: ("pieces of a row overlap", ANY, "first = min(n, chunk * each)", "first = min(n, chunk * (each - 1))"),
    33: ("a row keeps no alignment on chip", CE, "(global_row(first_row + r)) % kVectorBytes : 0", "(global_row(first_row + r)) * 0 : 0"),
    34: ("gradient vectors wherever it starts", CE, "offset % kVectorBytes == 0", "true"),
    35: ("gradient vectors whatever its rows' distance", CE, "(part.grad_row_stride - part.row_stride) * size % kVectorBytes == 0", "true"),
    36: ("short rows may start off a vector", CE, "row_stride == part.classes && aligned(start)", "row_stride == part.classes"),
    37: ("rows with gaps are read as one run", CE, "class_stride == 1 && row_stride == part.classes", "class_stride == 1"),
    38: ("gradient: the first row is left out", ALL, "a.part.rows - 1 - index", "a.part.rows - 1 - index + (index == a.part.rows - 1)"),
    39: ("a block's share is left in another's place", ALL, "workspace_of<Partial<A>>(a)[blockIdx.x] = sum;", "workspace_of<Partial<A>>(a)[0] = sum;"),
    40: ("tiles of short rows start off a vector", PLAN, "plan.tile = round_up(plan.tile, element.lanes);", "{}"),
    41: ("rows touch on chip", PLAN, "round_up(row_bytes, kVectorBytes) + kVectorBytes;", "round_up(row_bytes, kVectorBytes);"),
    43: ("mse: rows that are no whole vectors", MSE, "part.row_size % lanes == 0 &&", ""),
    44: ("mse: gradient vectors wherever it starts", MSE, "whole(part.grad, part.grad_stride);", "true;"),
    45: ("mse: a target off the vectors", MSE, "whole(part.target, part.target_stride) &&", ""),
    46: ("the state of a row that blocks share is not kept", ALL, "if (mine && mine->rows && row == mine->first_row) mine->cells->state = state;", ""),
    # Losses, labels, weights
    50: ("an ignored row takes part", CE, "ignored ? A(-INFINITY) : weight.value", "weight.value"),
    51: ("an ignored row's loss is not 0", CE, "const bool ignored = r.target == kIgnored", "const bool ignored = false"),
    52: ("an ignored row has a gradient", CE, "if (g.target == kIgnored) return filled<Unit>(A(0));", ""),
    53: ("labels are looked for in the first unit only", CE, "static_cast<int>(g.target) - column,", "static_cast<int>(g.target),"),
    54: ("the class after the last is a label", CE, "label < classes", "label <= classes"),
    55: ("a wrong label has a gradient", CE, "if (row.target == kWrong && !part.given.objective) g.both = A(NAN);", ""),
    56: ("smoothing keeps the whole label", CE, "r.log_sum - (1 - smoothing) * of_target", "r.log_sum - of_target"),
    57: ("smoothing forgets what the mean is relative to", CE, "+ (base - r.max)", "- r.max"),
    58: ("the gradient forgets smoothing", CE, "c.objective * (1 - smoothing), c.score,", "c.objective, c.score,"),
    59: ("given scores have a gradient", CE, "|| part.weighting.score_loss ?", "?"),
    60: ("the incoming gradient is forgotten", ALL, "* (a.grad_out ? *static_cast<const A*>(a.grad_out) : A(1))", ""),
    61: ("scale is forgotten in the fused gradient", ALL, "upstream = static_cast<A>(tile.part.scale)", "upstream = A(1)"),
    62: ("an infinite loss of weight 0 is forgotten", ANY, "{log_weight, one, one * objective, count}", "{log_weight, one, one == 0 ? A(0) : one * objective, count}"),
    63: ("a NaN logit is dropped", CE, "sums[i] = exp_of(element(x[i], 0) - shift);", "sums[i] = element(x[i], 0) == element(x[i], 0) ? exp_of(element(x[i], 0) - shift) : A(0);"),
    64: ("the score label's share goes to the target", CE, "if (e == score) dx[e] -= g.on_score", "if (e == target) dx[e] -= g.on_score"),
    65: ("mse: given scores have a gradient", MSE, "w.detach || w.score_loss ?", "w.detach ?"),
    66: ("mse: half the gradient", MSE, "2 / static_cast<A>(part.divisor)", "1 / static_cast<A>(part.divisor)"),
    67: ("mse: the score differences have no gradient", MSE, "return {both * c.objective, both * c.score};", "return {both * c.objective, A(0)};"),
    68: ("scale: blocks overlap", "rows.cu", "int64_t(blockIdx.x) * blockDim.x + threadIdx.x", "int64_t(blockIdx.x) + threadIdx.x"),
    # The middle
    70: ("eta's factor is not read", ANY, "weighting.eta_factor ? eta * *static_cast<const A*>(weighting.eta_factor) : eta", "eta"),
    71: ("a class's weight is not counted", CE, "add_row(batch, row.log_weight, row.objective, class_weight<A>(part, row.target))", "add_row(batch, row.log_weight, row.objective, A(1))"),
    72: ("a class's weight does not weigh", CE, "r.log_weight += log_by(class_weight<A>(part, r.target));", "{}"),
    73: ("weights that are not divided are", ANY, "if (by == Normalize::batch) return batch;", "return batch;"),
    74: ("what is not divided by the sum has a baseline", ANY, "by == Normalize::batch ? batch.weighted / batch.weight : A(0)", "batch.weighted / batch.weight"),
    75: ("given coefficients are not taken", ANY, "if (part.given.objective) return coefficients(part.given, row, upstream);", ""),
    76: ("weigh: divided by their sum", "rows.cu", "divisor_of(w, sums.weight)", "sums.weight"),
    77: ("weigh: only the first rows", "rows.cu", "i < w.rows; i += thread_count())\n    static_cast", "i < min(w.rows, int64_t(thread_count())); i += thread_count())\n    static_cast"),
    78: ("a slope of the whole where there is a reference", CE, "ignored || part.weighting.detach", "!ignored || part.weighting.detach"),
}  # fmt: skip

USUAL = (20,)  # the shuffles


def holders(number: int) -> list[Path]:
    """The files that hold a mutant's right code, once for each time."""
    _, files, right, _ = MUTANTS[number]
    return [path for path in sorted((CSRC / "cuda").glob(files)) for _ in range(path.read_text().count(right))]


def mismatches() -> list[str]:
    """Mutants whose right code is not in the source exactly once."""
    found = {number: [path.name for path in holders(number)] for number in MUTANTS}
    return [f"{number}: {names or 'no file'}: {MUTANTS[number][2]!r}" for number, names in found.items() if len(names) != 1]


def sources(cuda: Path) -> list[Path]:
    return sorted([*cuda.glob("*.cu"), *cuda.glob("*.cpp"), CSRC / "sim/entry.cu"])


def changes(object_file: str, source: str, cuda: Path) -> bool:
    """Whether the object depends on the source. Headers are taken to change every kernel."""
    if source.endswith((".cu", ".cpp")):
        return object_file == Path(source).stem
    return (cuda / f"{object_file}.cu").exists()


def caught(number: int, objects: Path) -> str | None:
    """What noticed the mutant, or None. objects: a folder with a build of the right source; what is the same is taken."""
    _, _, right, wrong = MUTANTS[number]
    (file,) = (path.name for path in holders(number))
    with tempfile.TemporaryDirectory() as name:
        cuda = Path(name) / "cuda"
        shutil.copytree(CSRC / "cuda", cuda)
        (cuda / file).write_text((cuda / file).read_text().replace(right, wrong))
        for each in objects.glob("*.o"):
            if not changes(each.stem, file, cuda):
                shutil.copy(each, name)
        library = build(sources(cuda), Path(name), "mutant.so", cuda=cuda)
        command = [sys.executable, str(Path(__file__).with_name("cases.py")), str(library)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            return "no end"
    lines = run.stderr.strip().splitlines()
    return f"exit {run.returncode}: {lines[-1] if lines else ''}" if run.returncode else None


def main(numbers: list[int]) -> int:
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        build(sources(CSRC / "cuda"), Path(folder), "right.so")
        for number in numbers:
            found = caught(number, Path(folder))
            survivors += found is None
            verdict = f"caught {number}" if found else f"SURVIVED {number}"
            print(f"{verdict} {MUTANTS[number][0]}: {(found or '')[:150]}", flush=True)
    return survivors


if __name__ == "__main__":
    unknown = mismatches()
    print("\n".join(unknown), file=sys.stderr)
    if unknown or sys.argv[1:] == ["--check"]:
        sys.exit(bool(unknown))
    sys.exit(bool(main([int(each) for each in sys.argv[1:]] or list(MUTANTS))))
