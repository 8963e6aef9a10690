"""The command line: fast where it should be, one line and exit code 2 for what a user can mend."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import refused

from loreun_bench.classification.datasets.digits import digits
from loreun_bench.ops.functional import backend

TINY = """
name: tiny
dataset: digits
seeds: 1
train: {epochs: 1, batch_size: 64}
scenarios: [{kind: random, fraction: 0.2}]
methods: {Retrain: , RL: {epochs: 1}}
weightings: [none, w_f]
"""


@pytest.fixture
def cli(command, monkeypatch, tmp_path):
    """The command line, in a folder with a small sweep."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return command


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, timeout=120)


@pytest.mark.parametrize("words", [["-h"], ["ls", "methods"], ["ls", "presets"], ["show", "methods", "RL"], ["sweep", "-h"]])
def test_help_and_ls_do_not_import_torch_or_numpy(words):
    code = (
        "import sys, runpy; sys.argv = ['loreun-bench', *sys.argv[1:]]\n"
        "try: runpy.run_module('loreun_bench', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'sklearn', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    assert python("-c", code, *words).stderr.strip() == "[]"


def test_importing_the_package_imports_nothing_heavy():
    assert python("-c", "import sys, loreun_bench; print('torch' in sys.modules)").stdout.strip() == "False"


KINDS = ["methods", "weightings", "scenarios", "metrics", "datasets", "models", "presets", "protocols"]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_listed_can_be_shown(cli, kind):
    code, out, _ = cli("ls", kind)
    assert code == 0
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert names
    for name in names:
        code, out, _ = cli("show", kind, name)
        assert code == 0
        assert out.strip()


def test_the_names_of_the_design_are_there(cli):
    for kind, names in {
        "methods": ["Retrain", "RL", "SalUn", "FT", "GA", "NegGrad+"],
        "weightings": ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"],
        "datasets": ["digits", "fashion-mnist", "cifar10", "cifar100", "svhn"],
        "models": ["small-cnn", "resnet18"],
    }.items():
        listed = [line.split()[0] for line in cli("ls", kind)[1].splitlines()]
        assert set(names) <= set(listed)


def test_a_sweep_prints_its_table_and_leaves_its_files(cli, tmp_path):
    code, out, err = cli("sweep", "tiny.yaml", "--workers", 0, "--out", "run")
    assert code == 0, err
    assert "RL" in out
    assert "ToW: the product" in out
    assert "[1/" in err
    assert {p.name for p in (tmp_path / "run").iterdir() if p.name[0] != "."} == {
        "config.yaml",
        "records.jsonl",
        "leaderboard.md",
    }
    lines = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    assert {(line["method"], line["weighting"]) for line in lines} == {
        ("Original", "none"), ("Retrain", "none"), ("Retrain-2", "none"), ("RL", "none"), ("RL", "w_f"),
    }  # fmt: skip
    assert all(line["status"] == "ok" and line["backend"] == backend() and line["artifact"] for line in lines)
    before = (tmp_path / "run" / "records.jsonl").read_bytes()
    code, again, _ = cli("sweep", "tiny.yaml", "--workers", 0, "--out", "run")
    assert (code, again) == (0, out)
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
    code, out, _ = cli("plan", "tiny.yaml")
    assert "0 to run" in out
    for style in ("text", "md", "latex", "csv", "json"):
        code, out, _ = cli("leaderboard", "run", "--format", style)
        assert code == 0
        assert "RL" in out
    refused(cli("sweep", "tiny.yaml", "--workers", 0, "--out", "run", "--set", "train.epochs=2"), "another configuration")


def test_a_plan_runs_nothing(cli, tmp_path):
    code, out, _ = cli("plan", "tiny.yaml")
    assert code == 0
    assert "5 cells" in out
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()


def test_a_plan_fits_the_terminal(cli, monkeypatch):
    asked = "[{kind: sequence, requests: [{kind: class, forget_class: [1, 3, 5, 7]}, {kind: random, fraction: 0.125}]}]"
    words = ("plan", "tiny.yaml", "--set", f"scenarios={asked}", "--set", "normalise=none")
    _, whole, _ = cli(*words)
    assert max(map(len, whole.splitlines())) > 80  # where something else reads it, a line is a line
    monkeypatch.setattr("loreun_bench.cli.tables.terminal", lambda: 80)
    code, out, _ = cli(*words)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    letters = [sorted("".join(text.split()).replace("-", "")) for text in (whole, out)]
    assert letters[0] == letters[1]  # nothing is left out


def test_a_failed_cell_is_a_row_and_the_exit_code_one(cli, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "@method('bad', uses={'retain'})\n@dataclass(frozen=True)\nclass Bad:\n    'It reads what it must not.'\n"
        "    from_scratch = False\n    def unlearn(self, model, data, context):\n        data.forget\n"
    )
    code, out, _ = cli(
        "sweep", "tiny.yaml", "--workers", 0, "--out", "run", "--plugin", "bad.py", "--set", "methods={Retrain: {}, bad: {}}"
    )
    assert code == 1
    assert "failed: bad none, seed 0: failed, the method read the forget set but declares uses=['retain']" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep", "digit"], "did you mean 'digits'"),
        (["sweep", "nowhere.yaml"], "not found"),
        (["sweep", "tiny.yaml", "--set", "methods=[RLL]"], "did you mean 'RL'"),
        (["sweep", "tiny.yaml", "--set", "weightings=[w_ff]"], "did you mean 'w_f'"),
        (["sweep", "tiny.yaml", "--set", "dataset=digit"], "did you mean 'digits'"),
        (["sweep", "tiny.yaml", "--set", "model=small_cnn"], "did you mean 'small-cnn'"),
        (["sweep", "tiny.yaml", "--set", "metrics=[acuracy]"], "did you mean 'accuracy'"),
        (["sweep", "tiny.yaml", "--set", "metrics=[tow]"], "derived"),
        (["sweep", "tiny.yaml", "--set", "weightings.w_f.eta_f=.nan"], "not finite"),
        (["sweep", "tiny.yaml", "--set", "weightings.w_f.eta_f=.inf"], "not finite"),
        (["sweep", "tiny.yaml", "--set", "scenarios=[{kind: random, fraction: 1.5}]"], "fraction"),
        (["sweep", "tiny.yaml", "--set", "scenarios=[{kind: class, forget_class: 10}]"], "there is no '10'"),
        (["sweep", "tiny.yaml", "--set", "scenarios=[{kind: random, fraction: 0.0001}]"], "forget set is empty"),
        (["sweep", "tiny.yaml", "--set", "model_settings={widht: 3}"], "widht"),
        (["sweep", "tiny.yaml", "--set", "checkpoint=nowhere.pt"], "not found"),
        (["sweep", "tiny.yaml", "--set", "dataset=cifar10"], "data prepare cifar10"),
        (["sweep", "tiny.yaml", "--workers", "-1"], "--workers"),
        (["sweep", "tiny.yaml", "--engine", "rey"], "did you mean 'ray'"),
        (["sweep", "tiny.yaml", "--engine", "ray", "--workers", "0"], "--workers"),
        (["sweep", "tiny.yaml", "--engine", "slurm"], "give the number of jobs, as --workers 8"),
        (["sweep", "tiny.yaml", "--engine", "slurm", "--workers", "2", "--shard", "1/2"], "leave out --shard"),
        (["sweep", "tiny.yaml", "--address", "auto"], "are for --engine ray"),
        (["sweep", "tiny.yaml", "--slurm", "partition=gpu"], "is for --engine slurm"),
        (["sweep", "tiny.yaml", "--device", "gpu"], "device"),
        (["sweep", "tiny.yaml", "--plugin", "nowhere.py"], "not found"),
        (["leaderboard", "nowhere"], "no records"),
        (["ls", "method"], "did you mean 'methods'"),
        (["show", "methods", "SalUm"], "did you mean 'SalUn'"),
        (["ls", "models", "--track", "generation"], "the generation track has no models"),
        (["new", "methd", "x"], "did you mean 'method'"),
        (["new", "method", "../x"], "name '../x'"),
        (["check", "nowhere.py"], "not found"),
        (["data", "prepare", "cifar"], "did you mean 'cifar10'"),
        (["data", "prepare", "cifar10", "--from", "nowhere"], "not found"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_exit_code_two(cli, words, says, tmp_path):
    refused(cli(*words), says)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_whose_extra_is_not_installed_says_what_to_install(cli, monkeypatch, tmp_path, name, module):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not there
    monkeypatch.delitem(sys.modules, f"loreun_bench.harness.engines.{name}", raising=False)
    refused(cli("sweep", "tiny.yaml", "--engine", name, "--workers", 2), f"pip install 'loreun-bench[{name}]'")
    assert not (tmp_path / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_says_so(cli):
    refused(cli("sweep", "tiny.yaml", "--device", "cuda"), "no GPU")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("1/0", "plug-in.py:1 raised ZeroDivisionError"),
        ("def f(:", "plug-in.py:1 raised SyntaxError"),
        ("import sys\nsys.exit(3)", "plug-in.py:2 raised SystemExit"),
        (
            "from loreun_bench import method\n@method('x', uses={'forget'})\nclass X:\n    'd'\n    def unlearn(s): ...",
            "dataclass",
        ),
        (
            "from dataclasses import dataclass\nfrom loreun_bench import method\n"
            "@method('x', uses={'forget'})\n@dataclass(frozen=True)\nclass X:\n    'd'\n",
            "lacks `unlearn`",
        ),
        *(
            (
                "from dataclasses import dataclass\nfrom loreun_bench import method\n"
                f"from loreun_bench.{track} import {base}\n"
                f"@method('x', uses={{'forget'}}, track='{track}')\n@dataclass(frozen=True)\nclass X({base}):\n    'd'\n",
                f"lacks `{lacks}`",
            )
            for track, base, lacks in (
                ("classification", "Method", "unlearn"),
                ("generation", "Method", "unlearn"),
            )
        ),
        (
            "from dataclasses import dataclass\nfrom loreun_bench import weighting\n"
            "@weighting('x')\n@dataclass(frozen=True)\nclass X:\n    'd'\n",
            "lacks `phases`",
        ),
        ("from loreun_bench import metric\n@metric('x', columns={})\ndef x(o):\n    'd'", "columns"),
        ("from loreun_bench import model\n@model('x')\ndef x(c, n, s): ...", "docstring"),
        ("from loreun_bench import model\n@model('resnet18')\ndef mine(c, n, s):\n    'd'", "defined twice"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_line(cli, tmp_path, code, says):
    (tmp_path / "plug-in.py").write_text(code)
    refused(cli("ls", "models", "--plugin", "plug-in.py"), says)


@pytest.mark.parametrize(
    ("track", "kind"),
    [
        *(("classification", kind) for kind in ("method", "weighting", "metric", "dataset", "model")),
        *(("generation", kind) for kind in ("method", "weighting", "metric", "dataset")),
    ],
)
def test_a_scaffold_passes_its_check_and_is_not_overwritten(cli, track, kind):
    name = f"own-{kind}"
    assert cli("new", kind, name, "--track", track)[0] == 0
    code, out, _ = cli("check", f"own_{kind}.py")
    assert code == 0
    assert out.startswith(f"ok {kind} {name}")
    refused(cli("new", kind, name, "--track", track), "exists already")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("data.retain\n        return model", "read the retain set but declares uses=['forget']"),
        ("return None", "returned NoneType"),
        ("return model", "no samples were counted"),
        ("import torch\n        return torch.nn.Linear(1, 1)", "another architecture"),
        ("next(model.parameters()).data.fill_(float('nan'))\n        return model", "NaN"),
    ],
)
def test_check_says_what_is_wrong_with_a_method(cli, tmp_path, body, says):
    name = f"odd{abs(hash(body))}"
    (tmp_path / "odd.py").write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        f"@method('{name}', uses={{'forget'}})\n@dataclass(frozen=True)\nclass {name}:\n    'Odd.'\n"
        f"    from_scratch = False\n    def unlearn(self, model, data, context):\n        {body}\n"
    )
    code, out, _ = cli("check", "odd.py")
    assert code == 2
    assert says in out


def arrays(n=60, size=8, classes=10):
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 255, (n, size, size, 1)).astype(np.uint8),
        "train_labels": np.arange(n) % classes,
        "test_images": rng.integers(0, 255, (n, size, size, 1)).astype(np.uint8),
        "test_labels": np.arange(n) % classes,
    }


def test_data_are_prepared_from_npz_and_damage_is_noticed(cli, tmp_path):
    found = digits(tmp_path, False)
    np.savez(tmp_path / "a.npz", **{k: v for k, v in vars(found).items() if isinstance(v, np.ndarray)})
    code, out, _ = cli("data", "prepare", "digits", "--from", "a.npz")
    assert code == 0
    assert "1438 training and 359 test images, 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)" in out
    assert "digits: 1438 training" in cli("data", "ls")[1]
    path = tmp_path / "data" / "digits.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    refused(cli("sweep", "tiny.yaml"), "truncated or changed")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(cli("sweep", "tiny.yaml"), "truncated or changed")
    path.unlink()
    refused(cli("sweep", "tiny.yaml"), "missing")
    (tmp_path / "data" / "digits.json").write_text("{")
    refused(cli("sweep", "tiny.yaml"), "unreadable")


def test_what_is_not_the_data_set_is_refused(cli, tmp_path):
    np.savez(tmp_path / "wrong.npz", **arrays(size=9))
    refused(cli("data", "prepare", "digits", "--from", "wrong.npz"), "are not digits (images 9×9×1, not 8×8×1)")
    np.savez(tmp_path / "few.npz", **arrays())
    refused(cli("data", "prepare", "digits", "--from", "few.npz"), "are not digits (60 training images, not 1438)")
    np.savez(tmp_path / "float.npz", **(arrays() | {"train_images": np.zeros((60, 8, 8, 1))}))
    refused(cli("data", "prepare", "digits", "--from", "float.npz"), "uint8")
    np.savez(tmp_path / "short.npz", **(arrays() | {"train_labels": np.arange(5)}))
    refused(cli("data", "prepare", "digits", "--from", "short.npz"), "labels")
    np.savez(tmp_path / "lacks.npz", train_images=np.zeros(3, np.uint8))
    refused(cli("data", "prepare", "digits", "--from", "lacks.npz"), "missing")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "wrong.npz").read_bytes()[:500])
    refused(cli("data", "prepare", "digits", "--from", "cut.npz"), "truncated")
    np.savez(tmp_path / "pickled.npz", **(arrays() | {"train_labels": np.array([{}] * 60, dtype=object)}))
    refused(cli("data", "prepare", "digits", "--from", "pickled.npz"), "plain arrays")
    (tmp_path / "text.txt").write_text("hello")
    refused(cli("data", "prepare", "digits", "--from", "text.txt"), "expected an .npz")
    assert not list(Path(tmp_path / "data").glob("digits*"))


def test_env_names_the_operator_backend_and_the_precision(cli):
    code, out, _ = cli("env")
    assert re.search("^precision +auto is (bf16|fp32) here$", out, re.MULTILINE)
    assert code == 0
    assert f"operator       {backend()} (" in out


@pytest.mark.skipif(backend() == "reference", reason="the operator is not compiled")
def test_env_says_whose_autograd_it_is(cli, monkeypatch):
    for eager, says in ((object(), "in C++\n"), (None, "in Python, slower to call; what is built")):
        monkeypatch.setattr("loreun_bench.ops.native.eager", lambda eager=eager: eager)
        assert f"\nautograd       {says}" in cli("env")[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["sweep", "tiny.yaml", "--workers", "x"], "--workers"),
        (["sweep", "--foo"], "--foo"),
        (["swep"], "swep"),
        (["show", "methods"], "name"),
        (["sweep", "tiny.yaml", "--set", "train.epochs=true"], "config.train.epochs"),
        (["sweep", "tiny.yaml", "--set", "train.lr='0.1'"], "config.train.lr"),
        (["sweep", "tiny.yaml", "--set", "weightings.w_f.eta_f=true"], "eta_f"),
        (["sweep", "tiny.yaml", "--set", "weightings={}"], "weightings"),
        (["sweep", "tiny.yaml", "--set", "metrics=[]"], "metrics"),
        (["sweep", "tiny.yaml", "--set", "name=../x"], "name"),
        (["sweep", "tiny.yaml", "--set", "track=[a]"], "unknown track"),
        (["sweep", "tiny.yaml", "--set", "seeds=1000000000"], "seeds"),
        (["sweep", "tiny.yaml", "--set", "model_settings={width: -1}"], "small-cnn"),
        (
            ["sweep", "tiny.yaml", "--set", "scenarios=[{kind: random, fraction: 0.2, methods: {RLL: {}}}]"],
            "scenarios.random-20%.methods: there is no 'RLL'; did you mean 'RL'",
        ),
        (
            ["sweep", "tiny.yaml", "--set", "scenarios=[{kind: random, fraction: 0.2, weightings: {w_rr: {}}}]"],
            "there is no 'w_rr'",
        ),
        (["sweep", "tiny.yaml", "--out", "tiny.yaml"], "folders"),
        (["ls", "methods", "--track", "foo"], "unknown track"),
        (["new", "method", "random"], "hide a module"),
        (["new", "model", "if"], "hide a module"),
        (["new", "method", "RL"], "there already"),
        (["check", "tiny.yaml"], "no .py file"),
        (["data", "prepare", "digits", "--from", "."], "expected"),
    ],
)
def test_more_wrong_input_is_one_line_too(cli, words, says):
    refused(cli(*words), says)


def test_without_the_uniform_weighting_retrain_still_runs(cli):
    code, out, _ = cli("plan", "tiny.yaml", "--set", "weightings=[w_f]")
    assert code == 0
    assert "Retrain-2" in out
    assert "RL w_f" in out


def test_a_plug_in_that_takes_a_built_in_name_is_refused_not_ignored(cli, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "from loreun_bench.classification import GradientMethod\n"
        "@method('RL', uses={'forget', 'retain'})\n@dataclass(frozen=True)\n"
        "class RandomLabel(GradientMethod):\n    'Mine.'\n"
    )
    refused(cli("plan", "tiny.yaml", "--plugin", "mine.py"), "defined twice")


def test_a_method_that_exits_is_a_failed_row(cli, tmp_path):
    (tmp_path / "exits.py").write_text(
        "import sys\nfrom dataclasses import dataclass\nfrom loreun_bench import method\n"
        "@method('exits', uses={'retain'})\n@dataclass(frozen=True)\nclass Exits:\n    'It leaves.'\n"
        "    def unlearn(self, model, data, context):\n        sys.exit(0)\n"
    )
    words = ["--workers", 0, "--out", "run", "--plugin", "exits.py", "--set", "methods={Retrain: {}, exits: {}}"]
    code, out, _ = cli("sweep", "tiny.yaml", *words)
    assert code == 1
    assert "failed: exits none, seed 0: failed, SystemExit: 0 (exits.py:9)" in out


def test_runs_of_the_same_name_stay_apart_and_the_same_run_twice_is_refused(cli, tmp_path):
    for folder in ("a/run", "b/run"):
        assert cli("sweep", "tiny.yaml", "--workers", 0, "--out", folder)[0] == 0
    code, out, _ = cli("leaderboard", "a/run", "b/run", "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert {row["run"] for row in rows} == {"a/run", "b/run"}
    assert all(row["n"] == 1 for row in rows)
    refused(cli("leaderboard", "a/run", "a/../a/run"), "given twice")
    refused(cli("leaderboard", "a/run", "--columns", "tww", "--format", "csv"), "did you mean 'tow'")


def test_a_changed_description_of_the_data_is_noticed(cli, tmp_path):
    assert cli("plan", "tiny.yaml")[0] == 0
    path = tmp_path / "data" / "digits.json"
    described = json.loads(path.read_text())
    described["info"]["mean"] = [0.9]
    path.write_text(json.dumps(described))
    refused(cli("plan", "tiny.yaml"), "changed")


def test_an_installed_package_adds_items_by_entry_point_and_a_broken_one_only_warns(tmp_path):
    (tmp_path / "fromafar.py").write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import weighting\n"
        "@weighting('from-afar')\n@dataclass(frozen=True)\nclass FromAfar:\n    'Of another package.'\n"
        "    def phases(self):\n        return {}\n"
    )
    info = tmp_path / "fromafar-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fromafar\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[loreun_bench.weightings]\nafar = fromafar:FromAfar\nbroken = nowhere:Nothing\n")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['loreun-bench', 'ls', 'weightings']"
    run = python("-c", f"{start}\nfrom loreun_bench.cli import main; main()")
    assert "from-afar  Of another package." in run.stdout
    assert "w_f+w_r" in run.stdout
    assert "entry point nowhere:Nothing of weightings failed" in run.stderr


def test_a_folder_named_like_a_data_set_does_not_hide_it(cli, tmp_path):
    (tmp_path / "digits").mkdir()
    assert cli("plan", "tiny.yaml")[0] == 0


def test_metrics_that_overflow_a_record_are_a_failed_row_and_a_broken_derived_metric_is_blamed(cli, tmp_path):
    (tmp_path / "many.py").write_text(
        "from loreun_bench import metric\n"
        "NAMES = {f'column_with_a_long_name_{i}': str(i) for i in range(200)}\n"
        "@metric('many', columns=NAMES)\ndef many(outputs):\n    'Too much.'\n    return {name: 1.0 for name in NAMES}\n"
    )
    words = ["sweep", "tiny.yaml", "--workers", 0, "--plugin", "many.py", "--set", "metrics=[accuracy, many]"]
    code, out, _ = cli(*words, "--out", "run")
    assert code == 1
    assert "over the limit of 4096; choose fewer metrics" in out
    assert cli("sweep", "tiny.yaml", "--workers", 0, "--out", "good")[0] == 0
    (tmp_path / "derived.py").write_text(
        "from loreun_bench import metric\n@metric('odd', columns={'odd': 'odd'})\n"
        "def odd(cell, retrain):\n    'Divides by nought.'\n    return 1 / 0\n"
    )
    refused(cli("leaderboard", "good", "--plugin", "derived.py"), "derived.py:5 raised ZeroDivisionError")
