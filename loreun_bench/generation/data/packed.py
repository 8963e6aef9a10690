"""Pictures of the one file that `data prepare` keeps a data set in, for both tracks."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from loreun_bench.errors import UserError
from loreun_bench.generation.datasets.folder import checked_split
from loreun_bench.generation.scoring.pictures import Pictures


def packed(root: Path, name: str, split: str) -> Pictures:
    """The split, "train" or "test", of the data set that was prepared as `name` in `root`; enlarged to what is asked for,
    grey on three channels. UserError if it is not there, or is no such file."""
    from safetensors import SafetensorError, safe_open

    checked_split(split)
    path = root / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"data set '{name}' is not prepared: run `loreun-bench data prepare {name}`")
    try:
        with safe_open(path, framework="pt") as file:
            classes = json.loads(file.metadata()["classes"])["names"]
            images, labels = file.get_tensor(f"{split}_images"), file.get_tensor(f"{split}_labels")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: run `loreun-bench data prepare {name}` again") from error

    def load(positions: Tensor, size: int) -> Tensor:
        x = images[positions].movedim(3, 1).float() / 127.5 - 1
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False).expand(-1, 3, -1, -1)

    return Pictures(tuple(classes), labels.to(torch.int64), load, packed=path)
