"""Networks as people have them, through whole sweeps: what they return, their types, formats, layers made late or frozen."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import usually
from torch import nn

import loreun_bench
from loreun_bench.classification import stages
from loreun_bench.classification.data.prepared import resolve
from loreun_bench.classification.unlearning.networks import adapt, build_model, logits, untouched
from loreun_bench.classification.unlearning.trial import try_model
from loreun_bench.errors import UserError
from loreun_bench.harness.store import Store, default_root

NETS = '''
import random
from collections import OrderedDict
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, channels, classes, size, width=8):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)
    def features(self, x):
        return self.bn(self.conv(x)).relu().mean((2, 3))
    def forward(self, x):
        return self.fc(self.features(x))

class View(Base):
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, size)
        self.fc = nn.Linear(8 * size[0] * size[1], classes)
    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().view(len(x), -1))

class Pair(Base):
    def forward(self, x):
        h = self.features(x)
        return h, self.fc(h)

class Keyed(Base):
    def forward(self, x):
        h = self.features(x)
        return {"features": h, "logits": self.fc(h), "other": -self.fc(h)}

@dataclass
class Answer:
    hidden: torch.Tensor
    scores: torch.Tensor

class Data(Base):
    def forward(self, x):
        h = self.features(x)
        return Answer(h, self.fc(h))

class Hugging(Base):
    def forward(self, x):
        from transformers.modeling_outputs import ImageClassifierOutput
        h = self.features(x)
        return ImageClassifierOutput(logits=self.fc(h), hidden_states=(h,))

class Auxiliary(Base):
    """A tuple while it trains, a tensor when it does not."""
    def forward(self, x):
        y = super().forward(x)
        return (y, 2 * y) if self.training else y

class Squeeze(Base):
    def forward(self, x):
        return super().forward(x)[:, :, None, None].squeeze()

class Double(Base):
    def __init__(self, *args):
        super().__init__(*args)
        self.double()

def default_double(*args):
    torch.set_default_dtype(torch.float64)
    return Base(*args)

class Lazy(Base):
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, size)
        self.conv, self.bn, self.fc = nn.LazyConv2d(8, 3, padding=1), nn.LazyBatchNorm2d(), nn.LazyLinear(classes)

class Late(Base):
    """Makes a layer when the first images come."""
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, size)
        self.classes, self.fc = classes, None
    def forward(self, x):
        h = self.features(x)
        if self.fc is None:
            self.fc = nn.Linear(h.shape[1], self.classes)
        return self.fc(h)

class Frozen(Base):
    def __init__(self, *args):
        super().__init__(*args)
        self.conv.requires_grad_(False)

class Tied(Base):
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, size)
        self.twin = nn.Linear(8, classes)
        self.twin.weight = self.fc.weight
    def forward(self, x):
        h = self.features(x)
        return self.fc(h) + self.twin(h.flip(1))

class Caching(Base):
    """Keeps a tensor that it makes when it is first needed."""
    grid = None
    def forward(self, x):
        if self.grid is None or self.grid.shape != x.shape[2:]:
            self.grid = torch.ones(x.shape[2:])
        return super().forward(x * self.grid)

class Numpy(Base):
    """Initial weights from NumPy, layers dropped by Python's own randomness."""
    def __init__(self, channels, classes, size):
        super().__init__(channels, classes, size)
        self.fc.weight.data = torch.from_numpy(np.random.randn(classes, 8)).float()
    def forward(self, x):
        h = self.features(x)
        return self.fc(h if not self.training or random.random() < 0.5 else 2 * h)

class Spectral(Base):
    def __init__(self, *args):
        super().__init__(*args)
        self.fc = nn.utils.parametrizations.spectral_norm(self.fc)

def whole_map(channels, classes, size):
    return nn.Sequential(
        nn.Conv2d(channels, 8, size), nn.BatchNorm2d(8), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, classes)
    )
'''
WORKING = (
    "View Pair Keyed Data Hugging Auxiliary Squeeze Double default_double Lazy Late Frozen Tied Caching Numpy "
    "Spectral whole_map"
)


@pytest.fixture
def nets(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return file


def colour(tmp_path):
    """150 + 51 images of 6×5 pixels in three colours: the last batches of 50 and of 1000 have one image."""
    file = tmp_path / "colours.py"
    if not file.exists():
        file.write_text(
            "import numpy as np\n"
            "def colours():\n"
            "    labels = np.arange(201) % 3\n"
            "    images = np.random.default_rng(0).integers(0, 90, (201, 6, 5, 3)) + 80 * (labels[:, None] == np.arange(3))"
            "[:, None, None]\n"
            "    return images[:150].astype(np.uint8), labels[:150], images[150:].astype(np.uint8), labels[150:]\n"
        )
    return f"{file}:colours"


def config(tmp_path, model, **change):
    return {
        "name": "nets", "seeds": 1, "dataset": colour(tmp_path), "model": model, "noise_floor": False, "device": "cpu",
        "train": {"epochs": 3, "batch_size": 32}, "scenarios": [{"kind": "random", "fraction": 0.24}],
        "methods": {"Retrain": {}, "RL": {"epochs": 1}, "SalUn": {"epochs": 1}, "GA": {"epochs": 1}},
        "weightings": ["none", "loreun-s"], "metrics": ["accuracy", "mia", "loss", "batchnorm-shift"],
    } | change  # fmt: skip


def sweep(tmp_path, model, **change):
    records = loreun_bench.sweep(config(tmp_path, model, **change), tmp_path / "run", workers=0)
    assert [record.reason for record in records if record.status != "ok"] == []
    return records


def notes(tmp_path, model, **change):
    found = loreun_bench.harness.plan.build(loreun_bench.config.load(config(tmp_path, model, **change)))
    return " | ".join(note for note in found.notes if note.startswith("model '"))


USUAL = "Keyed", "Lazy", "Tied"


@pytest.mark.parametrize("name", usually(*USUAL, of=WORKING.split()))
def test_it_runs_with_every_method_and_learns(tmp_path, nets, name):
    records = sweep(tmp_path, f"{nets}:{name}")
    assert len(records) == 8
    original = next(r for r in records if r.method == "Original")
    assert original.metrics["retain_acc"] > 70
    assert torch.get_default_dtype() == torch.float32


def test_a_network_that_views_grey_images_runs(tmp_path, nets):
    """Grey images are contiguous and channels last at once, and a convolution takes them for the latter."""
    sweep(tmp_path, f"{nets}:View", dataset="digits", limit_images=200, methods={"RL": {"epochs": 1}}, weightings=["none"])


@pytest.mark.parametrize("name", usually("default_double", of=["Double", "default_double"]))
def test_a_float64_network_stays_one(tmp_path, nets, name):
    records = sweep(tmp_path, f"{nets}:{name}")
    for record in records:
        stored = Store(default_root()).find(record.artifact).tensors()
        assert stored["conv.weight"].dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "form"), [("Base", "channels_last"), ("View", "contiguous"), ("Double", "channels_last")]
)
def test_the_memory_format_is_chosen_when_the_model_is_tried_and_is_part_of_every_key(tmp_path, nets, name, form):
    found = loreun_bench.harness.plan.build(loreun_bench.config.load(config(tmp_path, f"{nets}:{name}")))
    models = [stage for stage in found.stages if "network" in stage.config]
    assert {stage.config["network"]["memory_format"] for stage in models} == {form}
    assert {stage.run.partition(":")[2] for stage in models} == {"train", "unlearn", "evaluate"}


def test_frozen_weights_stay_and_tied_ones_stay_tied(tmp_path, nets):
    for name, same in (("Frozen", "conv.weight"), ("Tied", None)):
        (tmp_path / name).mkdir()
        records = sweep(tmp_path / name, f"{nets}:{name}")
        store = {(r.method, r.weighting): Store(default_root()).find(r.artifact).tensors() for r in records}
        for row in ("RL", "SalUn", "GA"):
            after, before = store[row, "none"], store["Original", "none"]
            assert not torch.equal(after["fc.weight"], before["fc.weight"])
            if same:
                assert torch.equal(after[same], before[same])
            else:
                assert torch.equal(after["fc.weight"], after["twin.weight"])


def test_results_repeat_where_a_network_draws_from_numpy_and_python(tmp_path, nets, monkeypatch):
    """Whatever the process that runs the sweep has drawn before."""
    found = []
    for name in ("a", "b"):
        monkeypatch.setenv("LOREUN_STORE", str(tmp_path / name))
        (tmp_path / f"run-{name}").mkdir()
        np.random.rand(), random.random()
        records = sweep(tmp_path / f"run-{name}", f"{nets}:Numpy", dataset=colour(tmp_path))
        found.append([(r.method, r.weighting, r.artifact, r.metrics) for r in records])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Pair", r"returns tuple: \[1\] is taken"), ("Data", "returns Answer: .scores is taken"),
        ("Keyed", r"returns dict: \['logits'\] is taken"), ("Hugging", "returns ImageClassifierOutput"),
    ],
)  # fmt: skip
def test_the_plan_says_which_of_several_outputs_is_taken(tmp_path, nets, name, says):
    found = notes(tmp_path, f"{nets}:{name}")
    assert re.search(says, found)


ODD = """
import torch
from torch import nn
def flat(channels, classes, size, *more):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes), *more)
def softmax(*a): return flat(*a, nn.Softmax(1))
class Averaged(nn.Module):
    def __init__(self, channels, classes, size, **options):
        super().__init__()
        layers = nn.Conv2d(channels, 8, 3), nn.BatchNorm2d(8, **options), nn.Flatten(), nn.LazyLinear(classes)
        self.net = nn.Sequential(*layers)
    def forward(self, x): return self.net(x)
def cumulative(*a): return Averaged(*a, momentum=None)
def by_batch(*a): return Averaged(*a, track_running_stats=False)
class Noisy(nn.Module):
    def __init__(self, *a):
        super().__init__()
        self.net = flat(*a)
    def forward(self, x): return self.net(x + torch.randn_like(x))
def seeds_itself(*a):
    torch.manual_seed(0)
    return flat(*a)
class Two(nn.Module):
    def __init__(self, *a):
        super().__init__()
        self.net = flat(*a)
    def forward(self, x): return self.net(x), -self.net(x)
"""


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("softmax", "gives probabilities"), ("cumulative", "momentum None"), ("by_batch", "other images are beside it"),
        ("Noisy", "draws at random in evaluation"), ("seeds_itself", "the same weights whatever the seed"),
        ("Two", "the first of 2 that fit"),
    ],
)  # fmt: skip
def test_the_plan_says_what_a_number_may_mean(tmp_path, name, says):
    file = tmp_path / "odd.py"
    file.write_text(ODD)
    assert says in notes(tmp_path, f"{file}:{name}")
    assert not notes(tmp_path, f"{file}:flat")


REFUSED = {
    "half": ("return flat(channels, classes, size).half()", "is float16; give the model's weights in float32"),
    "bfloat": ("return flat(channels, classes, size).bfloat16()", "is bfloat16; give"),
    "function": ("return lambda x: x", "returned function, not a torch.nn.Module"),
    "class": ("return Net", "returned the class Net itself"),
    "nothing": ("return None", "returned NoneType, not a torch.nn.Module"),
    "too many": ("return flat(channels, classes + 1, size)", r"gives [(]4, 4[)] for 4 images, expected [(]4, 3[)]"),
    "other size": ("return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))", "raised RuntimeError.*90.*784"),
    "no weights": ("return nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())", "has no weights to train"),
    "frozen": ("return flat(channels, classes, size).requires_grad_(False)", "has no weights to train"),
    "no_grad": ("return Net(flat(channels, classes, size), lambda net, x: net(x).detach())", "carry no gradient"),
    "evaluation": ("return Net(flat(channels, classes, size), asserts)", "in training mode raised AssertionError.*mine"),
    "words": ("return Net(flat(channels, classes, size), lambda net, x: ['cat'])", "returns list without `logits`"),
    "classes": ("return Net(flat(channels, classes, size), lambda net, x: net(x).argmax(1))", "expected"),
    "infinite": ("return Net(flat(channels, classes, size), lambda net, x: net(x) / 0)", "no finite numbers"),
    "random": ("return Net(flat(channels, classes, size), Hidden(classes))", "its state_dict does not hold"),
    "exits": ("raise SystemExit(3)", "raised SystemExit"),
    "extra state": ("return Extra(flat(channels, classes, size))", "state_dict holds a str"),
    "script": ("return torch.jit.script(flat(channels, classes, size))", "a TorchScript module"),
    "late shape": ("return nn.Sequential(nn.Conv2d(channels, 4, 9), nn.Flatten(), nn.LazyLinear(classes))", "on images"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_work_is_refused_in_one_line_before_anything_runs(tmp_path, name):
    body, says = REFUSED[name]
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "def flat(c, k, s): return nn.Sequential(nn.Flatten(), nn.Linear(c * s[0] * s[1], k))\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, net, how):\n        super().__init__()\n        self.net, self.how = net, how\n"
        "    def forward(self, x): return self.how(self, x) if isinstance(self.how, type(flat)) and "
        "self.how is asserts else self.how(self.net, x)\n"
        "def asserts(net, x):\n    assert not net.training, 'only evaluation'\n    return net.net(x)\n"
        "class Hidden:\n"
        "    def __init__(self, k): self.mix = torch.randn(k, k)\n    def __call__(self, net, x): return net(x) @ self.mix\n"
        "class Extra(Net):\n"
        "    def __init__(self, net): super().__init__(net, lambda n, x: n(x))\n"
        "    def get_extra_state(self): return 'a word'\n    def set_extra_state(self, s): pass\n"
        f"def net(channels, classes, size):\n    {body}\n"
    )
    with pytest.raises(UserError, match=says) as error:
        loreun_bench.sweep(config(tmp_path, f"{file}:net"), tmp_path / "run", workers=0)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_last_batch_of_one_is_merged_for_every_row_and_everybody_is_counted(tmp_path, nets):
    """33 images to forget in batches of 32, 102 and 101 to retain or to train on in batches of 100."""
    change = {
        "scenarios": [{"kind": "random", "fraction": 33.2 / 134}], "train": {"epochs": 2, "batch_size": 100},
        "methods": {"Retrain": {}, "RL": {"epochs": 2, "batch_size": 32}, "FT": {"epochs": 1, "batch_size": 100},
                    "NegGrad+": {"epochs": 1, "batch_size": 32}},
    }  # fmt: skip
    records = sweep(tmp_path, f"{nets}:whole_map", validation=0.1, **change)
    rows = {(r.method, r.weighting): r for r in records}
    forget, retain = 33, 135 - 33
    assert rows["RL", "none"].cost["backward_samples"] == 2 * (forget + retain)
    assert rows["FT", "none"].cost["backward_samples"] == retain


def test_one_image_to_forget_is_refused_where_the_model_cannot_train_on_it(tmp_path, nets):
    scenario = {"scenarios": [{"kind": "random", "fraction": 0.0075}], "weightings": ["none"], "metrics": ["accuracy"]}
    with pytest.raises(UserError, match=r"the forget set is one image.*set its freeze_batchnorm"):
        sweep(tmp_path, f"{nets}:whole_map", methods={"RL": {}}, **scenario)
    sweep(tmp_path, f"{nets}:whole_map", methods={"RL": {"epochs": 1, "freeze_batchnorm": True}}, **scenario)
    (tmp_path / "other").mkdir()
    sweep(tmp_path / "other", f"{nets}:Base", methods={"RL": {"epochs": 1}}, **scenario)


def test_nan_in_evaluation_is_diverged_with_a_line(tmp_path):
    file = tmp_path / "nan.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, channels, classes, size):\n        super().__init__()\n"
        "        self.net = nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))\n"
        "    def forward(self, x):\n        y = self.net(x)\n"
        "        return y if self.training or len(x) < 20 else y / 0\n"
        "def net(channels, classes, size):\n    return Net(channels, classes, size)\n"
    )
    records = loreun_bench.sweep(config(tmp_path, f"{file}:net"), tmp_path / "run", workers=0)
    assert {r.status for r in records} == {"diverged"}
    assert "images are NaN or infinite" in records[0].reason


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:vit_tiny_patch16_224", "torchvision:shufflenet_v2_x0_5"])
def test_models_of_timm_and_torchvision_by_name(tmp_path, name):
    if name.startswith("timm"):
        pytest.importorskip("timm", reason="timm is not installed")
    settings = {"patch_size": 2, "depth": 1} if "vit" in name else {}
    change = {"model_settings": settings, "methods": {"RL": {"epochs": 1}}, "weightings": ["none"], "metrics": ["accuracy"]}
    records = sweep(tmp_path, name, dataset="digits", limit_images=100, limit_steps=2, precision="fp32", **change)
    assert {r.model for r in records} == {name}


@pytest.mark.parametrize(("stride", "padding", "refused"), [(2, 1, True), (2, 0, False), (1, 1, False)])
def test_what_torch_trains_wrongly_in_bf16_is_refused_on_a_cpu(tmp_path, stride, padding, refused):
    (tmp_path / "net.py").write_text(STRIDED.format(stride=stride, kernel=2 * padding + 1, padding=padding))
    change = {"precision": "bf16", "limit_images": 300, "metrics": ["accuracy"], "weightings": ["none"]}
    made = config(tmp_path, f"{tmp_path / 'net.py'}:net", dataset="digits", **change)
    if refused:
        with pytest.raises(UserError, match=r"stride 2 on 1×1, whose .* wrong in bf16 on a CPU: set precision=fp32"):
            loreun_bench.harness.plan.build(loreun_bench.config.load(made))
        made |= {"precision": "fp32"}
    loreun_bench.harness.plan.build(loreun_bench.config.load(made))


STRIDED = """
from torch import nn
def net(channels, classes, size):
    small = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(small, nn.Conv2d(channels, 8, {kernel}, {stride}, {padding}), nn.Flatten(), nn.Linear(8, classes))
"""


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="no AMX, where it was seen")
def test_torchs_gradient_of_such_a_convolution_is_what_memory_held(tmp_path):
    """Fails when torch has mended it: then nothing has to be refused."""
    script = "import ctypes, torch\nfor p in (-1, -3): ctypes.CDLL(None).mallopt(p, 1 << 30)\n" + WRONG
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["wrong", "right"], done.stderr


WRONG = """
torch.manual_seed(0)
for exact in (False, True):
    torch.set_num_threads(1)
    x, w = torch.randn(16, 16, 1, 1), torch.randn(32, 16, 3, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
        y = torch.nn.functional.conv2d(x, w, None, 2, 1)
    held = [torch.full((n,), 1e4) for n in (64, 256, 1000, 4000, 16000, 64000, 256000, 1000000) for _ in range(4)]
    del held
    y.sum().backward()
    known = torch.zeros_like(w)
    known[:, :, 1, 1] = x.sum(0)[:, 0, 0]
    print("right" if torch.allclose(w.grad, known, rtol=0.05, atol=0.1) else "wrong")
"""


def test_a_model_that_no_library_has_and_a_library_that_is_missing(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        notes(tmp_path, "torchvision:resnet81")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'loreun-bench\[timm\]'"):
        notes(tmp_path, "timm:resnet18")


def test_timm_builds_without_weights_unless_told_and_its_version_is_part_of_the_key(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    asked = []
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **o: asked.append(o) or real(name, **(o | {"pretrained": False})))
    build_model("timm:resnet10t", {}, 1, 4, (32, 32))
    build_model("timm:resnet10t", {"pretrained": True}, 3, 4, (32, 32))
    assert [o["pretrained"] for o in asked] == [False, True]
    found = loreun_bench.harness.plan.build(loreun_bench.config.load(config(tmp_path, "timm:resnet10t")))
    assert found.stages[-1].config["network"]["library"] == f"timm {timm.__version__}"
    with pytest.raises(UserError, match="timm has none of that name; did you mean"):
        build_model("timm:resnet10tt", {}, 1, 4, (32, 32))
    with pytest.raises(UserError, match="raised"):
        build_model("timm:vit_tiny_patch16_224", {}, 1, 4, (8, 8))


def test_trying_a_model_draws_from_nobodys_randomness_and_leaves_ours_as_it_was(nets):
    torch.manual_seed(3)
    before = torch.get_rng_state().clone()
    trial = try_model("small-cnn", {}, resolve("digits"))
    assert torch.equal(torch.get_rng_state(), before)
    assert (trial.memory_format, trial.notes, trial.single) == ("channels_last", (), True)


def test_untouched_means_every_trace():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    model.register_buffer("late", torch.zeros(1), persistent=False)
    model.count, model.seen, model.kept = 0, [], torch.zeros(2)
    model[0].requires_grad_(False)
    model[2].eval()
    before = json.dumps([sorted(map(str, vars(m))) for m in model.modules()])
    values = {k: v.clone() for k, v in model.state_dict().items()}

    def trample():
        model.train().requires_grad_(True)
        model(torch.randn(4, 3)).sum().backward()
        model[0].weight.data += 1
        model.late += 1
        model.kept += 1
        model.count += 1
        model.seen.append(1)
        model.new = nn.Linear(1, 1)
        model.register_forward_hook(lambda *a: None)
        raise KeyError

    with pytest.raises(KeyError), untouched(model):
        trample()
    assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())
    assert (float(model.late), model.count, model.seen, float(model.kept.sum())) == (0, 0, [], 0)
    assert [m.training for m in model] == [True, True, False]
    assert not any(p.requires_grad for p in model[0].parameters())
    assert model[1].weight.grad is None
    assert not model._forward_hooks
    assert json.dumps([sorted(map(str, vars(m))) for m in model.modules()]) == before


def test_the_warm_up_leaves_no_trace(toy):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head, self.calls = nn.BatchNorm2d(1, momentum=None), nn.Linear(100, 3), 0
            self.register_buffer("seen", torch.zeros(1), persistent=False)

        def forward(self, x):
            self.calls += 1
            self.seen += len(x)
            return self.head(self.norm(x).flatten(1))

    model, rng = Counting(), torch.get_rng_state()
    before = [value.clone() for value in (*model.parameters(), *model.buffers())]
    stages._warm_up(model, toy.image_set("retain"), 8)
    assert all(torch.equal(a, b) for a, b in zip((*model.parameters(), *model.buffers()), before, strict=True))
    assert (model.calls, float(model.seen)) == (0, 0)
    assert torch.equal(torch.get_rng_state(), rng)


def test_adapting_changes_no_name_and_no_number(nets):
    for name, channels in (("small-cnn", 1), ("resnet18", 3)):
        torch.manual_seed(0)
        model = build_model(name, {}, channels, 5, (8, 8)).to(memory_format=torch.channels_last).eval()
        x = torch.randn(4, 8, 8, channels).permute(0, 3, 1, 2)
        names, plain = list(model.state_dict()), model(x)
        assert torch.equal(adapt(model, 5, "channels_last")(x), plain)
        assert list(model.state_dict()) == names


def test_logits_are_found_by_one_rule():
    y, h, other = torch.zeros(2, 5), torch.zeros(2, 7), torch.ones(2, 5)
    assert logits(y, 5) is y
    assert logits((h, y, other), 5, 2) is y
    assert logits({"x": other, "logits": y}, 5, 2) is y
    assert logits((h, [{"a": y}]), 5, 2) is y
    assert logits(torch.zeros(5), 5, 1).shape == (1, 5)
    with pytest.raises(UserError, match=r"tuple without `logits` or a tensor \[B, 5\] \(found: \[0\] \[2, 7\]\)"):
        logits((h,), 5, 2)
