"""Checkpoints as people save them: wrapped, prefixed, in other types; what does not fit is one line."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from loreun_bench.classification.unlearning.checkpoints import read
from loreun_bench.classification.unlearning.networks import build_model
from loreun_bench.errors import UserError


def network(seed=0):
    torch.manual_seed(seed)
    return build_model("small-cnn", {"width": 2}, 1, 3, (8, 8))


def prefixed(weights, *prefixes):
    for prefix in reversed(prefixes):
        weights = {prefix + name: tensor for name, tensor in weights.items()}
    return weights


def loaded(tmp_path, content, name="w.pt"):
    """What `read` says of the content, after it was shown that the model has exactly these weights."""
    torch.save(content, tmp_path / name)
    model, expected = network(1), network(0).state_dict()
    said = read(tmp_path / name, model)
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-3)
    return said


KEYS = "state_dict model_state_dict model net network params ema weights generator ema_state_dict"


@pytest.mark.parametrize("key", KEYS.split())
def test_weights_under_any_key(tmp_path, key):
    weights = network().state_dict()
    assert loaded(tmp_path, {key: weights, "epoch": 3, "best": 0.5}) == f"weights under '{key}'"
    optimiser = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    assert f"weights under 'state.{key}'" in loaded(tmp_path, {"state": {key: weights}, "optimizer": optimiser})


@pytest.mark.parametrize(
    "prefixes",
    [("module.",), ("_orig_mod.",), ("model.",), ("net.",), ("backbone.",), ("module.", "_orig_mod."),
     ("_orig_mod.", "module."), ("model.", "module.", "_orig_mod."), ("anything.at.all.",)],
)  # fmt: skip
def test_any_prefix_on_all_names(tmp_path, prefixes):
    weights = prefixed(network().state_dict(), *prefixes)
    assert loaded(tmp_path, weights) == f"prefix '{''.join(prefixes)}' stripped"
    assert loaded(tmp_path, {"net": weights}, "w.ckpt") == f"weights under 'net'; prefix '{''.join(prefixes)}' stripped"


def test_torch_compile_of_a_part_and_lightnings_own_names(tmp_path):
    weights = network().state_dict()
    inner = {f"0._orig_mod.{name[2:]}" if name.startswith("0.") else name: tensor for name, tensor in weights.items()}
    assert "_orig_mod." in loaded(tmp_path, inner)
    lightning = {
        "epoch": 3, "global_step": 5, "pytorch-lightning_version": "2.5", "hyper_parameters": argparse.Namespace(lr=1),
        "state_dict": prefixed(weights, "model.") | {"criterion.weight": torch.ones(3)}, "optimizer_states": [{"state": {}}],
    }  # fmt: skip
    said = loaded(tmp_path, lightning, "last.ckpt")
    assert said == "weights under 'state_dict'; prefix 'model.' stripped; 1 others left out (first: criterion.weight)"


def test_what_training_scripts_save_beside_weights_does_not_stand_in_the_way(tmp_path):
    args = argparse.Namespace(lr=0.1, out=Path("a"))
    beside = {"args": args, "best_acc": np.float64(0.5), "history": np.ones(3), "rng": np.int64(1), "path": Path("b")}
    assert loaded(tmp_path, {"net": network().state_dict(), **beside}) == "weights under 'net'"


def test_the_trained_weights_are_taken_not_their_average_and_two_equals_are_refused(tmp_path):
    one, other = network(0).state_dict(), network(2).state_dict()
    assert "under 'model'" in loaded(tmp_path, {"ema": other, "model": one})
    assert "prefix 'student.'" in loaded(tmp_path, prefixed(one, "student.") | prefixed(other, "teacher."))
    with pytest.raises(UserError, match=r"several sets of weights fit \(a and b\)"):
        loaded(tmp_path, {"a": one, "b": other})
    with pytest.raises(UserError, match="several sets of weights fit"):
        loaded(tmp_path, prefixed(one, "a.") | prefixed(other, "b."))


def test_batch_counters_may_be_missing_and_that_is_said(tmp_path):
    weights = {k: v for k, v in network().state_dict().items() if not k.endswith("num_batches_tracked")}
    assert loaded(tmp_path, weights) == "no num_batches_tracked in it: counted from 0"
    with pytest.raises(UserError, match=r"1 weights missing \(first: 1.running_mean"):
        loaded(tmp_path, {k: v for k, v in weights.items() if k != "1.running_mean"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_converted_and_said(tmp_path, dtype):
    weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network().state_dict().items()}
    torch.save(weights, tmp_path / "w.bin")
    model = network(1)
    assert read(tmp_path / "w.bin", model) == f"{str(dtype)[6:]} converted to the model's own type"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(UserError, match=r"0.weight is int8, expected floating"):
        loaded(tmp_path, weights | {"0.weight": weights["0.weight"].to(torch.int8)})
    if dtype == torch.float64:
        with pytest.raises(UserError, match="not finite"):
            loaded(tmp_path, weights | {"0.weight": weights["0.weight"] * 1e300})


class Twins(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


def test_tied_weights_are_there_once_in_safetensors(tmp_path):
    saved, model = Twins(), Twins()
    save_model(saved, str(tmp_path / "w.safetensors"))
    read(tmp_path / "w.safetensors", model)
    assert torch.equal(model.b.weight, saved.a.weight)
    assert model.b.weight is model.a.weight


def test_a_safetensors_file_with_a_prefix(tmp_path):
    save_file(prefixed(network().state_dict(), "module."), tmp_path / "w.safetensors")
    assert read(tmp_path / "w.safetensors", network(1)) == "prefix 'module.' stripped"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.ones(3)], "is not a state_dict of tensors: it holds a list"),
        ((torch.ones(3), 1), "it holds a tuple"),
        (torch.ones(3), "it holds a Tensor"),
        ({}, "an empty dict"),
        ({"epoch": 3, "acc": 0.5}, "a dict with keys epoch, acc"),
        ({"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, "not a state_dict"),
    ],
)
def test_what_holds_no_weights_is_one_line(tmp_path, content, says):
    with pytest.raises(UserError, match=says):
        loaded(tmp_path, content)


@pytest.mark.parametrize(
    "changed",
    [lambda t: t.to("meta"), lambda t: t.to_sparse(), lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)],
    ids=["meta", "sparse", "quantised"],
)
@pytest.mark.filterwarnings("ignore")  # torch says that some of these kinds are going
def test_tensors_that_are_no_plain_numbers_are_one_line(tmp_path, changed):
    weights = {name: changed(t) if t.dim() == 2 else t for name, t in network().state_dict().items()}
    with pytest.raises(UserError, match=r"13.weight (is|has)"):
        loaded(tmp_path, weights)


def test_what_does_not_fit_names_its_nearest_match(tmp_path):
    weights = network().state_dict()
    weights["13.wieght"] = weights.pop("13.weight")
    with pytest.raises(UserError, match=r"1 weights missing \(first: 13.weight; did you mean '13.wieght'\?\), 1 unknown"):
        loaded(tmp_path, weights)
    with pytest.raises(UserError, match=r"0 weights missing.*1 unknown \(first: extra"):
        loaded(tmp_path, network().state_dict() | {"extra": torch.ones(1)})
    loaded(tmp_path, network().state_dict() | {"optimizer.exp_avg": torch.ones(1)})
    with pytest.raises(UserError, match=r"0.weight has shape \(3, 1, 3, 3\), expected"):
        loaded(tmp_path, {"net": prefixed(build_model("small-cnn", {"width": 3}, 1, 3, (8, 8)).state_dict(), "module.")})


def test_whole_modules_and_torchscript_are_refused_with_the_cure(tmp_path):
    torch.save(network(), tmp_path / "whole.pt")
    with pytest.raises(UserError, match=r"more than tensors \(torch.nn.modules.container.Sequential\).*state_dict\(\)"):
        read(tmp_path / "whole.pt", network())
    torch.save({"model": network().state_dict(), "config": Twins}, tmp_path / "class.pt")
    with pytest.raises(UserError, match=r"more than tensors .*Twins"):
        read(tmp_path / "class.pt", network())
    torch.jit.trace(network().eval(), torch.zeros(1, 1, 8, 8)).save(tmp_path / "script.pt")
    with pytest.raises(UserError, match="TorchScript"):
        read(tmp_path / "script.pt", network())
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="or is damaged"):
        read(tmp_path / "text.pth", network())
