"""The benchmarks: right answers before times, every side in turn, and what cannot run is said in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import usually

from loreun_bench import ops
from loreun_bench.bench import oracle, rte, trace
from loreun_bench.bench.cases import case_of, default_cases, make_inputs
from loreun_bench.bench.comparison import case_table, compare, summary
from loreun_bench.bench.measure import BOTH, FORWARD, NOTHING, Plan, measure
from loreun_bench.bench.providers import providers
from loreun_bench.bench.session import Session
from loreun_bench.bench.timing import Side, interleave
from loreun_bench.errors import UserError

ROOT = Path(__file__).parents[2]
SHAPES = ("9x4", "3x2x5x5", "9x4+6x3")
OURS = ("loreun", "loreun, with stats")


def quiet(title, share):
    pass


@pytest.mark.parametrize(
    ("text", "kind", "shapes"),
    [
        ("256x10", "cross entropy", ((256, 10),)),
        ("8x4×64X64", "mean squared", ((8, 4, 64, 64),)),
        ("256x10+128x10", "step", ((256, 10), (128, 10))),
    ],
)
def test_a_shape_says_which_problem_it_is(text, kind, shapes):
    case = case_of(text, "bf16")
    assert (case.kind, case.shapes) == (kind, shapes)


@pytest.mark.parametrize("text", ["7", "0x3", "ax3", "2x3x4+2x3", "2x3+2x3+2x3", "", "3x-1"])
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(UserError, match="is no shape"):
        case_of(text, "fp32")


def test_an_unknown_dtype_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'fp16'"):
        case_of("2x3", "f16")


def test_the_large_shapes_are_for_a_gpu_only_and_quick_has_none():
    shapes = {device: [case.shape for case in default_cases(device, False, [])] for device in ("cpu", "cuda")}
    assert "8192x32000" in shapes["cuda"]
    assert "8192x32000" not in shapes["cpu"]
    assert [case.shape for case in default_cases("cuda", True, ["bf16"])] == ["256x10", "8x4x64x64", "256x10+256x10"]


@pytest.mark.parametrize("shape", SHAPES)
def test_all_sides_compute_what_the_oracle_says(shape):
    case = case_of(shape, "fp64")
    inputs = make_inputs(case, "cpu")
    answer = oracle.solve(case, inputs)
    sides = [p for p in providers(case, "cpu", compiled=False) if p.role != "floor" and not p.missing]
    assert {p.role for p in sides} == {"ours", "peer"}
    for provider in sides:
        inputs.restore()
        loss = provider.build(case)(*inputs.tensors)
        found = oracle.errors(loss.detach(), torch.autograd.grad(loss, inputs.variables), answer)
        assert max(found) < 1e-12, provider.key


@pytest.mark.parametrize("shape", SHAPES)
def test_the_oracle_is_the_derivative_of_its_own_loss(shape):
    case = case_of(shape, "fp64")
    inputs = make_inputs(case, "cpu")
    _, gradients = oracle.solve(case, inputs)
    direction = [torch.randn_like(g) for g in gradients]
    ends = []
    for sign in (1, -1):
        inputs.restore()
        with torch.no_grad():
            for variable, d in zip(inputs.variables, direction, strict=True):
                variable.add_(d, alpha=sign * 1e-6)
        ends.append(fixed_weights(case, inputs))
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


def fixed_weights(case, inputs):
    """The loss at the inputs with the weights that the unmoved inputs have: weights are numbers in Algorithm 1."""
    moved = [variable.detach().clone() for variable in inputs.variables]
    inputs.restore()
    if case.kind == "mean squared":
        x, target, score, reference = (t.detach() for t in inputs.tensors)
        w = torch.softmax(-0.1 * (x - score).square().flatten(1).mean(1) / reference, 0)
        return float(w @ (moved[0] - target).square().flatten(1).mean(1))
    x, target, clean, *retain = (t.detach() for t in inputs.tensors)
    nll = torch.nn.functional.cross_entropy
    w = torch.softmax(-0.1 * nll(x, clean, reduction="none"), 0)
    loss = float(w @ nll(moved[0], target, reduction="none"))
    if retain:
        w = torch.softmax(0.25 * nll(*retain, reduction="none"), 0)
        loss += float(w @ nll(moved[1], retain[1], reduction="none"))
    return loss


def test_a_wrong_gradient_shows_as_an_error():
    case = case_of("9x4", "fp64")
    loss, gradients = oracle.solve(case, make_inputs(case, "cpu"))
    off = oracle.errors(torch.tensor(1.01 * loss, dtype=torch.float64), (1.02 * gradients[0],), (loss, gradients))
    assert off == pytest.approx((0.01, 0.02))


def test_memory_is_the_most_held_at_a_time_not_the_sum():
    x = torch.zeros(1000, 1000)

    def call():
        y = x + 1
        y = y * 2  # two are held here, and no more later
        return y * 3

    assert 8_000_000 <= trace.peak_bytes(call, "cpu") < 8_100_000


def test_sides_take_turns_and_time_is_bounded():
    order = []
    sides = [Side(lambda name=name: order.append(name)) for name in "abc"]
    interleave(sides, "cpu", rounds=3, seconds=1e9)
    assert "".join(order) == "abcbcacab"
    assert [len(side.samples) for side in sides] == [3, 3, 3]
    interleave(sides, "cpu", rounds=1000, seconds=0)
    assert [len(side.samples) for side in sides] == [5, 5, 5]


def test_what_is_overwritten_in_place_comes_back():
    inputs = make_inputs(case_of("9x4", "fp32"), "cpu")
    before = inputs.tensors[0].detach().clone()
    loss = ops.loreun_cross_entropy(*inputs.tensors, eta=0.1, direction="forget", inplace_backward=True)
    torch.autograd.grad(loss, inputs.variables)
    inputs.restore()
    assert torch.equal(inputs.tensors[0], before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_for_every_side_and_pass(shape):
    case = case_of(shape, "fp32")
    rows = measure(case, Plan("cpu", rounds=2, compiled=False), lambda share: None)
    both = {row["provider"] for row in rows if row["pass"] == BOTH}
    assert both == {p.key for p in providers(case, "cpu", False) if p.role != "floor" and not p.missing}
    copy = next(row["us_min"] for row in rows if row["provider"] == "copy")
    assert {row["provider"] for row in rows if row["pass"] == FORWARD} == (both - {"inplace"}) | {"copy", "read"}
    for row in rows:
        assert row["note"] == ""
        assert 0 < row["us_min"] <= row["us_median"]
        assert row["x_copy"] == pytest.approx(row["us_min"] / copy)
        assert row["launches"] is None  # counted on a GPU
        if row["role"] != "floor":
            assert row["loss_error"] < 1e-5
            assert row["pass"] == FORWARD or row["gradient_error"] < 1e-5


def test_liger_says_that_it_needs_a_gpu_and_takes_no_part_without_one():
    missing = {p.key: p.missing for p in providers(case_of("9x4", "fp32"), "cpu", True) if p.missing}
    assert missing == {"liger": "Liger's kernels run on a GPU only"}
    with pytest.raises(UserError, match="no provider 'liger' here"):
        next(Session("cpu").run_ops(quiet, ["9x4"], only=["liger"]))


def test_a_side_that_fails_is_a_row_in_words_and_the_others_go_on(monkeypatch):
    def broken(*arguments, **settings):
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(ops, "loreun_mse_loss", broken)
    session = Session("cpu")
    text = "".join(session.run_ops(quiet, ["3x2x5x5"], repeats=2, compiled=False))
    failed = [f"{label}, mean squared 3x2x5x5 fp32: RuntimeError: no kernel for this" for label in OURS]
    assert sorted(session.failed) == sorted(2 * failed)
    assert "\nloreun, with stats: RuntimeError: no kernel for this\n" in text
    assert "eager, two mse_loss" in text


def row(key, role, low, mid, note=""):
    shared = {"problem": "cross entropy", "shape": "9x4", "dtype": "fp32", "pass": BOTH, "label": f"label of {key}"}
    figures = {"us_min": low, "us_median": mid, "x_copy": low and low / 2, "peak_bytes": 5 if low else None}
    return NOTHING | shared | figures | {"provider": key, "role": role, "note": note}


def test_ours_is_compared_with_the_best_peer_and_not_with_floors_or_failures():
    rows = [row("us", "ours", 10.0, 20.0), row("slow", "peer", 90.0, 30.0), row("fast", "peer", 40.0, 50.0),
            row("broken", "peer", None, None, "no compiler"), row("copy", "floor", 1.0, 1.0)]  # fmt: skip
    (found,) = compare(rows)
    assert (found["best_peer"], found["ratio_min"], found["ratio_median"]) == ("fast", 4.0, 1.5)
    assert compare(rows[1:]) == []
    text = case_table(rows, "text") + summary(rows, "text")
    assert "\nlabel of broken: no compiler\n" in text
    assert "launches" not in text.split("Sides alternate")[0]


@pytest.mark.parametrize("shape", ["1024x32000", "64x4x128x128", "256x10+256x10"])
def test_tables_fit_80_columns(shape):
    case = case_of(shape, "fp32")
    figures = {"us_min": 212345.6, "us_median": 212345.6, "x_copy": 123.45, "peak_bytes": 262_144_000}
    figures |= {"loss_error": 1e-7, "gradient_error": 1e-7}
    rows = [NOTHING | {"problem": case.kind, "shape": shape, "dtype": "fp32", "provider": p.key, "label": p.label}
            | {"role": p.role, "pass": which} | figures
            for which in (FORWARD, BOTH) for p in providers(case, "cpu", True)]  # fmt: skip
    text = case_table(rows, "text") + summary(rows, "text")
    assert max(map(len, text.splitlines())) <= 80, text
    assert "× copy" in text


def bare(*words, env=None, block=()):
    """benchmarks/bare.py in a process of its own, in which the modules of `block` cannot be imported."""
    script = (
        "import runpy, sys\n"
        f"sys.modules |= dict.fromkeys({block!r})\n"
        f"sys.argv = {['bare.py', *map(str, words)]!r}\n"
        "runpy.run_path(sys.argv[0] if '/' in sys.argv[0] else 'benchmarks/bare.py', run_name='__main__')"
    )
    path = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ | path | (env or {}), capture_output=True, text=True
    )


@pytest.mark.parametrize("verb", usually("ops", of=["ops", "rte"]))
def test_the_bare_script_needs_neither_typer_nor_pydantic(verb, tmp_path):
    absent = ("typer", "pydantic", "annotated_types", "rich", "safetensors", "sklearn")
    found = bare(verb, "--quick", "--no-compile", "--device", "cpu", "--out", tmp_path / "x.json", block=absent)
    assert found.returncode == 0, found.stderr
    result = json.loads((tmp_path / "x.json").read_text())
    assert {"environment", "backend", "threads", "rows"} <= set(result)
    assert result["environment"]["device"] == "cpu"


@pytest.mark.slow
def test_without_a_compiler_the_compiled_sides_say_so(tmp_path):
    nothing = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    script = (
        "from loreun_bench.bench.session import Session\n"
        "print(*Session('cpu').run_ops(lambda *_: None, ['9x4'], only=['ours', 'compile-eager'], repeats=2))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ | nothing, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    lines = [line for line in found.stdout.splitlines() if line.startswith("compiled, two cross entropies: ")]
    assert len(lines) == 2
    assert all("ompiler" in line for line in lines)


def test_a_training_step_is_timed_for_every_loss():
    task = rte.Task("small-cnn", (8, 8, 1), 4, 3)
    shares = []
    result = rte.run([task], "cpu", 1, None, lambda title, share: shares.append(share))
    assert [row["loss"] for row in result["rows"]] == list(rte.LOSSES)
    assert {row["samples"] for row in result["rows"]} == {3}
    base = result["rows"][0]
    assert (base["over_unweighted_min"], base["over_unweighted_median"], base["extra_us_median"]) == (1, 1, 0)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert rte.WEIGHTED in rte.render(result, "md")


def test_the_losses_of_a_step_agree():
    x, target, clean = (t.detach() for t in make_inputs(case_of("9x4", "fp64"), "cpu").tensors)
    value = {name: float(loss(x, target, clean)) for name, loss in rte.LOSSES.items()}
    assert value[rte.UNIFORM] == pytest.approx(value[rte.UNWEIGHTED])
    assert value[rte.WEIGHTED] == pytest.approx(value[rte.LITERAL])
    assert abs(value[rte.WEIGHTED] - value[rte.UNWEIGHTED]) > 1e-3


@pytest.mark.parametrize(("device", "style", "says"), [("gpu", "text", "'gpu'"), ("cpu", "latex", "'latex'")])
def test_wrong_options_are_one_line(device, style, says):
    with pytest.raises(UserError, match=says):
        Session(device, style=style)


def test_an_unknown_provider_is_refused():
    with pytest.raises(UserError, match=r"no provider 'ourz' here: did you mean 'ours'\?"):
        next(Session("cpu").run_ops(quiet, ["9x4"], only=["ourz"]))


def test_the_verbs_print_tables_and_write_json(tmp_path):
    out = tmp_path / "a" / "ops.json"
    words = ["--shape", "9x4", "--dtype", "fp64", "--repeats", "2", "--no-compile", "--format", "md", "--device", "cpu"]
    found = subprocess.run(
        [sys.executable, "-m", "loreun_bench", "bench", "ops", *words, "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "### cross entropy 9x4 fp64" in found.stdout
    assert "cross entropy 9x4 fp64 (time left: ?)" in found.stderr
    result = json.loads(out.read_text())
    assert {row["dtype"] for row in result["rows"]} == {"fp64"}
    assert result["comparison"]
