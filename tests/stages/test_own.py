"""The user's own data, model, checkpoint, metric and method, through a whole sweep in this process."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import loreun_bench
from loreun_bench.classification.stages import build_model
from loreun_bench.errors import UserError

BASE = {
    "name": "own", "seeds": 1, "train": {"epochs": 1, "batch_size": 32}, "noise_floor": False,
    "scenarios": [{"kind": "class", "forget_class": 1}], "methods": {"Retrain": {}, "RL": {"epochs": 1}},
    "weightings": ["none", "w_f+w_r"], "metrics": ["accuracy", "mia"],
}  # fmt: skip


def sweep(tmp_path, plugins=(), **change):
    records = loreun_bench.sweep(BASE | change, tmp_path / "run", workers=0, plugins=plugins)
    assert [record.reason for record in records if record.status != "ok"] == []
    return records


def test_data_from_a_function_and_a_model_from_another(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\nfrom torch import nn\n"
        "def data():\n"
        "    labels = np.arange(200) % 4\n"
        "    images = np.random.default_rng(0).integers(0, 50, (200, 6, 7)) + 50 * labels[:, None, None]\n"
        "    images = images.astype(np.uint8)\n"
        "    return images[:150], labels[:150], images[150:], labels[150:]\n"
        "def model(channels, classes, size, width=8):\n"
        "    inputs = channels * size[0] * size[1]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))\n"
    )
    records = sweep(tmp_path, dataset=f"{file}:data", model=f"{file}:model", model_settings={"width": 5})
    assert {r.dataset for r in records} == {"data"}
    assert {r.model for r in records} == {"mine.py:model"}


def test_an_image_folder(tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        for label in range(3):
            folder = tmp_path / "pictures" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (12, 9, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    scenarios = [{"kind": "class", "forget_class": "class1"}]
    records = sweep(tmp_path, dataset=str(tmp_path / "pictures"), image_size=8, scenarios=scenarios)
    assert {(r.dataset, r.scenario) for r in records} == {("pictures", "class-class1")}
    with pytest.raises(UserError, match="set image_size"):
        sweep(tmp_path, dataset=str(tmp_path / "pictures"))
    (tmp_path / "pictures" / "train" / "class0" / "0.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="train"):
        sweep(tmp_path, dataset=str(tmp_path / "pictures"), image_size=8)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_a_checkpoint_stands_in_for_the_original(tmp_path, kind):
    torch.manual_seed(5)
    weights = build_model("small-cnn", {}, 1, 10, (8, 8)).state_dict()
    path = tmp_path / f"weights.{kind}"
    save_file(weights, path) if kind == "safetensors" else torch.save({"state_dict": weights}, path)
    original = next(r for r in sweep(tmp_path, checkpoint=str(path)) if r.method == "Original")
    assert original.cost["rte_s"] == 0
    model = build_model("small-cnn", {}, 1, 10, (8, 8))
    model.load_state_dict(weights)
    again = loreun_bench.evaluate(model, "digits", {"kind": "class", "forget_class": 1}, metrics=["accuracy"])
    assert again == pytest.approx({k: original.metrics[k] for k in again}, abs=1e-4)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_checkpoint_that_does_not_fit_or_holds_code_is_refused(tmp_path, capsys):
    other = tmp_path / "other.pt"
    torch.save(build_model("small-cnn", {"width": 3}, 1, 10, (8, 8)).state_dict(), other)
    with pytest.raises(UserError, match=r"does not fit the model: 0[.]weight has shape"):
        sweep(tmp_path, checkpoint=str(other))
    torch.save({"a": torch.ones(1)}, other)
    with pytest.raises(UserError, match="weights missing"):
        sweep(tmp_path, checkpoint=str(other))
    torch.save({"a": Evil()}, other)
    with pytest.raises(UserError, match="more than tensors"):
        sweep(tmp_path, checkpoint=str(other))
    assert "code ran" not in capsys.readouterr().out
    cut = tmp_path / "cut.safetensors"
    save_file({"a": torch.ones(100)}, cut)
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        sweep(tmp_path, checkpoint=str(cut))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("def f(): raise RuntimeError('no disk')", "no disk"),
        ("def f(): return 3", "data set"),
        (
            "def f():\n import numpy as np\n return np.zeros((9, 4, 4)), np.zeros(9), np.zeros((9, 4, 4)), np.zeros(9)",
            "uint8",
        ),
        ("g = 1", "no function 'f'"),
    ],
)
def test_a_data_function_that_fails_is_named(tmp_path, function, says):
    file = tmp_path / "mine.py"
    file.write_text(function)
    with pytest.raises(UserError, match=says):
        sweep(tmp_path, dataset=f"{file}:f")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("def f(channels, classes, size): raise RuntimeError('no idea')", "no idea"),
        ("def f(channels, classes, size): return 3", "not a torch.nn.Module"),
        ("def f(): return 3", "positional arguments"),
    ],
)
def test_a_model_function_that_fails_is_named(tmp_path, function, says):
    file = tmp_path / "mine.py"
    file.write_text(function)
    with pytest.raises(UserError, match=says):
        sweep(tmp_path, model=f"{file}:f")


def test_a_plug_in_metric_and_method_run_in_the_sweep(tmp_path):
    file = tmp_path / "plug.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method, metric\n"
        "from loreun_bench.classification import GradientMethod\n"
        "@metric('worst', columns={'worst': 'worst'})\n"
        "def worst(outputs):\n    'Largest loss.'\n    return {'worst': float(outputs.sets['test'].losses.max())}\n"
        "@method('shift', uses={'forget', 'retain'})\n@dataclass(frozen=True)\n"
        "class Shift(GradientMethod):\n    'Next label.'\n"
        "    def forget_targets(self, labels, data, context):\n        return (labels + 1) % data.classes\n"
    )
    change = {"methods": {"Retrain": {}, "shift": {"epochs": 1}}, "metrics": ["accuracy", "mia", "worst"]}
    records = sweep(tmp_path, plugins=[file], **change)
    row = next(r for r in records if r.method == "shift")
    assert row.metrics["worst"] > 0
    assert row.weighting == "none"


def test_bf16_and_smoke_limits_go_through(tmp_path):
    records = sweep(tmp_path, precision="bf16", limit_steps=2, limit_images=300)
    assert all(r.limits == {"steps": 2, "images": 300} for r in records)
    row = next(r for r in records if r.method == "RL")
    assert row.cost["backward_samples"] <= 2 * 256


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_both_protocols_run_every_method_and_weighting(tmp_path, protocol):
    methods = {name: {"epochs": 1, "lr": 1e-3} for name in ("RL", "SalUn", "FT", "GA", "NegGrad+")} | {"Retrain": {}}
    weightings = ["none", "w_f", "w_r", "w_f+w_r", "loreun-s", "loreun-d"]
    records = sweep(
        tmp_path,
        protocol=protocol,
        methods=methods,
        weightings=weightings,
        metrics=["accuracy", "mia", "loss", "batchnorm-shift"],
    )
    assert len(records) == 2 + 6 + 6 + 2 + 4 + 6
    assert {r.protocol for r in records} == {protocol}
    assert loreun_bench.load_records(tmp_path / "run") == records


def test_dropout_does_not_make_results_depend_on_the_order_of_rows_or_on_what_ran_before(tmp_path, monkeypatch):
    file = tmp_path / "drop.py"
    file.write_text(
        "from torch import nn\n"
        "def net(channels, classes, size):\n"
        "    inputs = channels * size[0] * size[1]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(inputs, classes))\n"
    )
    found = []
    for name, methods in (("a", ["Retrain", "RL", "FT"]), ("b", ["FT", "RL", "Retrain"])):
        monkeypatch.setenv("LOREUN_STORE", str(tmp_path / f"store-{name}"))
        config = BASE | {"model": f"{file}:net", "methods": {m: {} if m == "Retrain" else {"epochs": 1} for m in methods}}
        torch.manual_seed(len(found))
        records = loreun_bench.sweep(config, tmp_path / name, workers=0)
        found.append({(r.method, r.weighting): r.metrics for r in records})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes + 1)", "expected"),
        ("nn.Linear(3, classes)", "raised RuntimeError"),
        ("nn.Flatten(), nn.Identity()", "expected"),
    ],
)
def test_a_model_of_the_wrong_shape_is_found_before_anything_runs(tmp_path, body, says):
    file = tmp_path / "mine.py"
    file.write_text(f"from torch import nn\ndef net(channels, classes, size):\n    return nn.Sequential({body})\n")
    with pytest.raises(UserError, match=says):
        sweep(tmp_path, model=f"{file}:net")


def test_salun_works_with_weights_that_the_loss_does_not_reach(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, inputs, classes):\n"
        "        super().__init__()\n"
        "        self.used, self.unused = nn.Linear(inputs, classes), nn.Linear(3, 3)\n"
        "        self.used.bias.requires_grad_(False)\n"
        "    def forward(self, x):\n"
        "        return self.used(x.flatten(1))\n"
        "def net(channels, classes, size):\n"
        "    return Net(channels * size[0] * size[1], classes)\n"
    )
    sweep(tmp_path, model=f"{file}:net", methods={"Retrain": {}, "SalUn": {"epochs": 1}})


def test_a_plain_method_without_the_gradient_loop_runs(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "@method('plain', uses={'forget'})\n@dataclass(frozen=True)\nclass Plain:\n    'Leaves the model as it is.'\n"
        "    def unlearn(self, model, data, context):\n        context.meter.forward_samples += 1\n        return model\n"
    )
    records = sweep(tmp_path, plugins=[file], methods={"Retrain": {}, "plain": {}})
    rows = {r.method: r.metrics for r in records if r.weighting == "none"}
    assert rows["plain"]["forget_acc"] == rows["Original"]["forget_acc"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_keeps_the_names_of_its_weights(tmp_path):
    config = {"compile": True, "methods": {"RL": {"epochs": 1}}, "weightings": ["none"], "metrics": ["accuracy"]}
    records = sweep(tmp_path, limit_images=200, **config)
    assert {r.method for r in records} == {"Original", "RL"}


def test_a_checkpoint_cannot_have_seen_wrong_labels_and_must_be_finite(tmp_path):
    weights = build_model("small-cnn", {}, 1, 10, (8, 8)).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    with pytest.raises(UserError, match="never saw the wrong labels"):
        sweep(tmp_path, checkpoint=str(path), scenarios=[{"kind": "mislabelled", "fraction": 0.1}])
    weights["0.weight"][0] = float("nan")
    save_file(weights, path)
    with pytest.raises(UserError, match=r"0[.]weight holds values that are not finite"):
        sweep(tmp_path, checkpoint=str(path))


def test_a_batch_larger_than_the_data_is_all_of_the_data(tmp_path):
    big = 10**9  # as a block of this many images it would not fit
    records = sweep(
        tmp_path, train={"epochs": 1, "batch_size": big}, methods={"Retrain": {}, "RL": {"epochs": 1, "batch_size": big}}
    )
    assert len(records) == 4


@pytest.mark.parametrize(
    ("phases", "says"),
    [
        ("{'forget': Phase('forget', float('inf'))}", "not finite"),
        ("{'forget': Phase('sideways', 0.1)}", "sideways"),
        ("{'forgot': Phase('forget', 0.1)}", "forgot"),
        ("1 / 0", "ZeroDivisionError"),
        ("['forget', 3]", r"returned \['forget', 3\], not a Phase"),
        ("{'forget': 0.1}", "not a Phase"),
        ("None", "returned None"),
    ],
)
def test_a_weighting_with_wrong_phases_is_refused_before_anything_runs(tmp_path, phases, says):
    file = tmp_path / "odd.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import weighting\nfrom loreun_bench.weightings import Phase\n"
        "@weighting('odd')\n@dataclass(frozen=True)\nclass Odd:\n    'Odd.'\n"
        f"    def phases(self):\n        return {phases}\n"
    )
    with pytest.raises(UserError, match=says):
        sweep(tmp_path, plugins=[file], weightings=["none", "odd"])
