"""Files of weights: read without unpickling anything but tensors, or downloaded once to torch hub's folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from loreun_bench.errors import UserError
from loreun_bench.harness.files import sha256_file, write_atomic
from loreun_bench.reading import check_zip, told

State = dict[str, Tensor]


def read_state(path: Path) -> State:
    """The state dict in a .pth or .safetensors file. UserError if it is missing, broken, or holds more than tensors."""
    if not path.is_file():
        raise UserError(f"weights file {path} is not there")
    if path.suffix == ".safetensors":
        return read_tagged(path, tagged=False)[0]
    check_zip(path, f"weights file {path}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises any, of bytes that are no state dict
        reason = str(error).split(".")[0].split("\n")[0]
        raise UserError(f"weights file {path} cannot be read as a state dict of tensors: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"weights file {path} holds no state dict (names → tensors): save model.state_dict()")
    return dict(state)


def downloaded(name: str, url: str) -> State:
    """The state dict at `url`, from torch hub's folder or the network; its hash, part of its name, is checked."""
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # hub writes a line
            state: State = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"the weights for {name} are neither at {place} nor could they be fetched ({error}): put {url} there, "
            f"or give --weights {name}=FILE"
        ) from error
    return dict(state)


def load(model: nn.Module, state: Mapping[str, Tensor], where: str, what: str) -> None:
    """Put `state` into `model`. UserError if names or shapes are not those of `what`."""
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{where} holds no weights of {what}") from error


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Twelve hex digits that tell one set of weights from another."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}\n".encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def is_official(path: Path, url: str) -> bool:
    """Whether a file is the one at `url`, whose name ends in the first digits of its SHA-256."""
    return sha256_file(path).startswith(Path(urlparse(url).path).stem.rpartition("-")[2])


def write_tagged(path: Path, state: Mapping[str, Tensor], tags: Mapping[str, str]) -> None:
    """A .safetensors file with `tags` in its header; whole or absent."""
    from safetensors.torch import save

    write_atomic(path, save({name: value.contiguous() for name, value in state.items()}, dict(tags)))


def read_tagged(path: Path, tagged: bool = True) -> tuple[State, dict[str, str]]:
    """The tensors and tags of a .safetensors file. UserError if it is broken or, when they are asked for, has no tags."""
    from safetensors import safe_open

    if not path.is_file():
        raise UserError(f"weights file {path} is not there")
    with told(f"weights file {path} cannot be read"), safe_open(path, framework="pt") as file:
        state, tags = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    if tagged and (tags.get("kind") != "small" or "classes" not in tags):
        raise UserError(f"{path} is no small classifier: give a file that `save_small` wrote, or resnet50")
    return state, tags
