# ruff: noqa: E501
"""Puts bugs into a copy of the CPU operator and of its Python layer, one at a time, and checks that a test fails for each.

python tests/ops/native_mutants.py [NAME …]    builds and tests them (all, if none is named)
python tests/ops/native_mutants.py --check     only looks whether each still matches the source
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
TREE = ("csrc", "loreun_bench", "tests", "setup.py", "CMakeLists.txt", "pyproject.toml", "README.md", "LICENSE")
CPU, TORCH, OPS = "csrc/cpu/", "csrc/torch/", "loreun_bench/ops/"
CE, MSE = CPU + "cross_entropy.inc.h", CPU + "mean_squared.inc.h"
PYTHON, CALLS, EAGER = OPS + "autograd.py", OPS + "calls.py", TORCH + "eager.cpp"
CALL_CE, CALL_MSE = TORCH + "cross_entropy.cpp", TORCH + "mean_squared.cpp"
BACKWARD, VALUES, OPERATOR, NATIVE, RANKS = (
    f"test_{name}.py" for name in ("native_backward", "native_values", "operator", "native", "distributed")
)
MIDDLE = "test_middle.py"
NARROW = NATIVE + "::test_narrower_instruction_sets"  # seconds; left out where it is not named

# name: (what the bug is, file, the right code, found once in it, the bug, the tests that must notice)
MUTANTS = {
    # Python, nothing to build
    "p1": ("the direction's sign is wrong", OPS + "rules.py", '"forget": -1.0', '"forget": 1.0', OPERATOR),
    "p2": ("a ready gradient is kept: scaled again in the second pass", PYTHON, "grad, ctx.early = ctx.early, None  #", "grad = ctx.early  #", BACKWARD),
    "p3": ("nobody is told that the logits were written over", PYTHON, "torch.autograd.graph.increment_version(x)", "pass", BACKWARD),
    "p4": ("a second derivative is silently wrong", PYTHON, "if torch.is_grad_enabled():  #", "if False:  #", BACKWARD),
    "p5": ("a leaf is written over", OPS + "checks.py", "if values.is_leaf and not torch.compiler.is_compiling():", "if False:", BACKWARD),
    "p6": ("a step forgets alpha", CALLS, '"retain", alpha * scale)', '"retain", scale)', NATIVE),
    "p7": ("a reference number does not divide eta", CALLS, "return w.eta / w.ref, None, False, 0.0", "return w.eta, None, False, 0.0", NATIVE),
    "p8": ("averaging over ranks shrinks the gradient", OPS + "distributed.py", "whole, scale * ranks", "whole, scale", RANKS),
    "p9": ("a rank without rows spoils the mean", OPS + "distributed.py", 'mean.where(normaliser != float("-inf"), 0.0)', "mean", RANKS),
    "p10": ("a score's gradient is lost", CALLS, " or (flows and differentiable(how.score_loss, w.ref))", "", BACKWARD),
    "p11": ("mse: a target's gradient is lost", OPS + "rows.py", "return not differentiable(self.target)", "return True", BACKWARD),
    "p12": ("a usual call forgets the direction", CALLS, "settings = (0, sign * eta, 0.0, 1.0, False, 0, detach,", "settings = (0, eta, 0.0, 1.0, False, 0, detach,", MIDDLE),
    "p13": ("a sequence's mean does not see what classes weigh", OPS + "rules.py", "share if prior is None else share * prior", "share", MIDDLE),
    "p14": ("rows are counted, not what their classes weigh", OPS + "rules.py", "torch.ones_like(s) if prior is None else prior\n        return", "torch.ones_like(s)\n        return", MIDDLE),
    "p15": ("losses that stand alone: a score's gradient is lost", PYTHON, "each = (objective.contiguous(), score.contiguous())", "each = (objective.contiguous(), None)", MIDDLE),
    "p16": ("micro-batches: an ignored row is weighed", OPS + "accumulation.py", "rules.weigh(score, score, kept, prior, w, 1.0)", "rules.weigh(score, score, None, prior, w, 1.0)", MIDDLE),
    "p17": ("a function's weights are divided whatever is asked for", PYTHON, "made, NORMALIZE[normalize], scale)", "made, 0, scale)", MIDDLE),
    "p18": ("one reference cancels where nothing is divided by the sum", CALLS, '0.0 if w.normalize == "batch" else w.ref', "0.0", MIDDLE),
    "p19": ("a step's forget batch is retained", CALLS, '(forget, eta_f, "forget", scale)', '(forget, eta_f, "retain", scale)', NATIVE),
    # Autograd in C++
    "e1": ("a ready gradient is kept: scaled again in the second pass", EAGER, "scaled(std::move(ready), grads[0])", "scaled(ready, grads[0])", BACKWARD),
    "e2": ("a second derivative is silently wrong", EAGER, "TORCH_CHECK(!c10::GradMode::is_enabled(),", "TORCH_CHECK(true,", BACKWARD),
    "e3": ("a ready gradient is not scaled", EAGER, "grad.mul_(grad_out);", "{}", BACKWARD),
    "e4": ("a ready gradient is scaled by a number", EAGER, "grad.mul_(grad_out);", "grad.mul_(grad_out.item());", f"{BACKWARD} {NATIVE}"),
    "e5": ("modes do not hear of a call", EAGER, "if (at::impl::torch_function_mode_enabled() ||", "if (", BACKWARD),
    "e6": ("a subclass is taken for a tensor", EAGER, "if (!THPVariable_CheckExact(arguments[i])) Py_RETURN_NONE;", "", BACKWARD),
    # torch's operators
    "t1": ("samples with gaps are read as one piece", CALL_MSE, "if (dims[k].first != expected) return false;", "{}", NATIVE),
    "t2": ("a target that lies otherwise is read like the input", CALL_MSE, "alike &= d == 0 || t.size(d) == 1 || t.stride(d) == input.stride(d);", "{}", NATIVE),
    "t4": ("float16 gradients are made before they are scaled", TORCH + "arguments.h", "t.scalar_type() != ScalarType::Half && ", "", BACKWARD),
    # The middle, in C++
    "m1": ("logistic: a slope of 1", "csrc/include/loreun/weighting.h", "return {l.value, slope * l.slope};", "return {l.value, slope};", MIDDLE),
    "m2": ("what is not divided by the sum has a baseline", CPU + "batch.inc.h", "batch[kBaseline] = by_sum ? batch[kMean] : 0.0;", "batch[kBaseline] = batch[kMean];", MIDDLE),
    "m3": ("rows are counted, not what their classes weigh", CPU + "driver.cpp", "else count += static_cast<const float*>(part.class_weight)[target];", "else count += 1;", MIDDLE),
    "m4": ("a class's weight does not weigh", CE, "if (part.class_weight && !out) weight.value +=", "if (false) weight.value +=", MIDDLE),
    "m5": ("given coefficients: only the objective's", CE, "if (part.given.score) score = at(part.given.score) * upstream;", "", MIDDLE),
    "m6": ("a function's weights: an ignored row counts", "csrc/include/loreun/weighting.h", "if (log_class_weight == -Acc(INFINITY)) return Acc(0);", "if (log_class_weight == -Acc(INFINITY)) return weight;", MIDDLE),
    "m7": ("satimp: importance has no slope", "csrc/include/loreun/weighting.h", "eta + importance * exp_by(-score) / rest}", "eta}", MIDDLE),
    # CPU kernels
    "k1": ("the last stretch of a long sample is forgotten", CPU + "driver.cpp", "(part.row_size + kTask - 1) / kTask", "part.row_size / kTask", NATIVE),
    "k2": ("undetached weights come first, too", CPU + "driver.cpp", "weights_first = part.grad && part.weighting.detach,", "weights_first = part.grad,", f"{BACKWARD} {NATIVE}"),
    "k22": ("weights that come first are made of the target", CPU + "driver.cpp", "if (part.score_target) score.target = part.score_target, score.target_stride = part.score_stride;", "", NATIVE),
    "k23": ("the objective of weights that come first is the score", CPU + "driver.cpp", "if (unknown) settle(part, sums);", "", NATIVE),
    "k24": ("past the caches from anywhere", MSE, "(uintptr_t)(grad + begin) % kBytes == 0", "true", NATIVE),
    "k25": ("a late block overflows", CE, "if (max - from > kHarmless) {", "if (false) {", VALUES),
    "k27": ("smoothing: a block counts itself twice", CE, "      move_reference(run, max, before);", "      move_reference(run, max, before + n);", VALUES),
    "k3": ("mse: given scores have a gradient", CPU + "driver.cpp", "w.detach || w.score_loss ?", "w.detach ?", NATIVE),
    "k4": ("blocks merge without rescaling", CE, "run.sum *= __builtin_exp(double(run.max) - double(max));", "", NATIVE),
    "k5": ("smoothing forgets what the sum is relative to", CE, "if (before) run.shifted -= double(before) * (double(max) - double(run.max));", "", NATIVE),
    "k6": ("a block of masked classes makes NaN", CE, "run.max == -kInfinity<A> ? A(0) : run.max;", "run.max;", VALUES),
    "k7": ("the gradient forgets smoothing", CE, "a * A(part.label_smoothing / double(part.classes))", "a * A(0)", NATIVE),
    "k8": ("the score is smoothed", CE, "put(kScore, scores),", "put(kScore, part.score_target ? scores : loss),", NATIVE),
    "k9": ("an ignored row takes part", CE, "= out ? -kInfinity<A> : weight.value", "= weight.value", OPERATOR),
    "k10": ("an ignored row's NaN reaches its gradient", CE, "if (ignored(i)) return clear(i);\n    const A everywhere = s.everywhere[k], max", "if (kept && ignored(i)) return clear(i);\n    const A everywhere = s.everywhere[k], max", VALUES),
    "k19": ("kept exponentials: a row without a largest class has gradient 0", CE, " + (load(s.max) - load(s.max))", "", f"{VALUES} {NATIVE}"),
    "k20": ("kept exponentials: an ignored row is not zeroed", CE, "if (ignored(i)) return clear(i);\n    const A every", "if (!kept && ignored(i)) return clear(i);\n    const A every", f"{NATIVE} {VALUES}"),
    "k21": ("a row's last, partial vector is lost", CPU + "element.h", "if (n >= Lane<Acc<T>>::count) return store_as(p, v);", "if (n >= Lane<Acc<T>>::count) return store_as(p, v);\n  return;", NATIVE),
    "k11": ("labels are read without gaps", CE, "part.target[i * part.target_stride]", "part.target[i]", NATIVE),
    "k12": ("a score label that is the target has no gradient", CE, "score_labels[k] = A(score_target(i));", "score_labels[k] = A(score_target(i) == target(i) ? -1 : score_target(i));", BACKWARD),
    "k28": ("the same in a long row", CE, "if (label == score_label) at_label -= s.score[k];\n    }\n    T copy", "}\n    T copy", f"{BACKWARD} {NATIVE}"),
    "k13": ("ratio form: a row's reference does not divide its slope", "csrc/include/loreun/weighting.h", "w.ratio ? eta / ref : eta", "eta", NATIVE),
    "k14": ("bfloat16 is cut off, not rounded", CPU + "element.h", "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16", "bits >> 16", NATIVE),
    "k29": ("the same, a vector at a time", CPU + "element.h", "(more & (Words)(v == v))", "(more & Words{})", f"{NARROW} {NATIVE}"),
    "k15": ("exp of a very negative number, up to AVX2", CPU + "vector.h", "return x < L::smallest ? Vec<T>{} : result;", "return result;", f"{NARROW} {VALUES}"),
    "k30": ("exp of a very negative number, AVX-512, float", CPU + "vector.h", "_mm512_maskz_fmadd_ps(there, power,", "_mm512_fmadd_ps(power,", f"{VALUES} {NATIVE}"),
    "k31": ("lanes past the end of a row count, AVX-512", CPU + "element.h", "_mm512_mask_loadu_epi32(others, there, p)", "_mm512_loadu_si512(p)", f"{VALUES} {NATIVE}"),
    "k17": ("how a sum is cut depends on the threads", CPU + "driver.cpp", "body(task, row, from, std::min(from + kTask, part.row_size));", "const int64_t more = backwards ? 0 : std::min(end - 1 - k, all.per_row - 1 - task % all.per_row);\n      k += more;\n      body(task, row, from, std::min(from + (more + 1) * kTask, part.row_size));", NATIVE),
}  # fmt: skip

NEEDS = {"k30": "avx512", "k31": "avx512"}  # what the processor must have for the mutant to run at all


def mismatches() -> list[str]:
    """Mutants whose right code is not in the source exactly once."""
    found = {name: (ROOT / file).read_text().count(right) for name, (_, file, right, _, _) in MUTANTS.items()}
    return [
        f"{name}: {count} times in {MUTANTS[name][1]}: {MUTANTS[name][2]!r}" for name, count in found.items() if count != 1
    ]


class Copy:
    """A copy of the tree with a build of its own; only what a mutant changes is compiled again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.built = folder, ""
        self.environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "BUILD_NO_CUDA": "1"}
        left_out = shutil.ignore_patterns("__pycache__", "_*.so", "_build.json", "_source.py")
        for name in TREE:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, folder / name, **({"ignore": left_out} if copy is shutil.copytree else {}))

    def python(self, *arguments: str, timeout: int = 600) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout
        )

    def build(self) -> None:
        """Compiles what has changed since the last build. Raises SystemExit if it does not compile."""
        files = sorted(path for path in (self.folder / "csrc").rglob("*") if path.is_file())
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
        if digest == self.built:
            return
        done = self.python("setup.py", "build_ext", "--inplace")
        report = json.loads((self.folder / OPS / "_build.json").read_text())
        if not report["operator"] or "eager" not in report:
            raise SystemExit(f"it does not compile: {report}\n{done.stderr[-2000:]}")
        self.built = digest

    def check(self) -> str:
        """Asserts that the copy is what is imported, with its own operator; returns the instruction set."""
        self.build()
        done = self.python(
            "-c", "from loreun_bench.ops import native as n; print(n.__file__, *n.state()[0], n.cpu_capability())"
        )
        file, *served = done.stdout.split()
        assert Path(file) == self.folder / OPS / "native.py", file
        assert served[0] == "cpu", done.stdout
        return served[1]

    def failure(self, tests: str) -> str | None:
        """The first test that fails, or None."""
        files = [f"tests/ops/{name}" for name in tests.split()]
        if NARROW not in tests:
            files += ["--deselect", f"tests/ops/{NARROW}"]
        try:
            done = self.python("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *files, timeout=300)
        except subprocess.TimeoutExpired:
            return "no end"
        if done.returncode == 0:
            return None
        lines = done.stdout.splitlines()
        failed = next((line for line in lines if line.startswith("FAILED")), None)
        if done.returncode == 1 and failed:
            return failed.removeprefix("FAILED tests/ops/")
        if done.returncode < 0:  # the bug ran into memory that is not its own
            return f"killed by signal {-done.returncode}"
        raise SystemExit(f"pytest says {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def caught(name: str, copy: Copy) -> bool:
    """Whether the mutant's tests fail."""
    what, file, right, wrong, tests = MUTANTS[name]
    path, start = copy.folder / file, time.monotonic()
    text = path.read_text()
    path.write_text(text.replace(right, wrong))
    try:
        copy.build()
        found = copy.failure(tests)
    finally:
        path.write_text(text)
    seconds = time.monotonic() - start
    print(f"{'caught' if found else 'SURVIVED'} {name} {what}: {(found or '')[:130]} ({seconds:.0f} s)", flush=True)
    return found is not None


def main(names: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder).resolve())
        capability = copy.check()
        every = " ".join(sorted({test for name in names for test in MUTANTS[name][4].split()}))
        if found := copy.failure(every):
            raise SystemExit(f"without a mutant: {found}")
        able = [name for name in names if NEEDS.get(name, capability) == capability]
        for name in set(names) - set(able):
            print(f"left out {name}: this processor has {capability}")
        return sum(not caught(name, copy) for name in able)


if __name__ == "__main__":
    unknown = mismatches()
    print("\n".join(unknown), file=sys.stderr)
    if unknown or sys.argv[1:] == ["--check"]:
        sys.exit(bool(unknown))
    sys.exit(bool(main(sys.argv[1:] or list(MUTANTS))))
