"""FID-Inception: the network that FID is defined by, from torch-fidelity, with its own resizing."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from loreun_bench.errors import UserError
from loreun_bench.generation.scoring.images import to_uint8
from loreun_bench.generation.scoring.optional import fidelity
from loreun_bench.generation.scoring.weights import downloaded, fingerprint, is_official, read_state

NETWORK, LAYER = "inception-v3-compat", "2048"


@dataclass(frozen=True)
class Inception:
    """The network's pooled features, 2048 of a picture."""

    name: str
    network: Any
    device: str

    def features(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] in [0, 1] → [n, 2048] fp32 on the CPU. They enter as 0…255, as the network expects."""
        with torch.inference_mode():
            (found,) = self.network(to_uint8(pixels).to(self.device))
        return found.float().cpu().clone()  # type: ignore[no-any-return]


def inception(weights: Path | None = None, device: str = "cpu") -> Inception:
    """The network with its weights from a file, torch hub's folder or the network. UserError if none of them has any."""
    fidelity()
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3
    from torch_fidelity.utils import create_feature_extractor

    try:
        state = read_state(weights) if weights else downloaded("fid", URL_INCEPTION_V3)
    except UserError as error:
        raise error if weights else UserError(f"{error}; or use scorer fd, which needs no Inception") from error
    mark = "2015-12-05" if weights is None or is_official(weights, URL_INCEPTION_V3) else f"sha256 {fingerprint(state)}"
    with tempfile.TemporaryDirectory() as folder:  # torch-fidelity unpickles its file: it gets one that holds tensors only
        path = os.path.join(folder, "weights.pth")
        torch.save(state, path)
        try:
            network = create_feature_extractor(
                NETWORK, [LAYER], cuda=False, verbose=False, feature_extractor_weights_path=path
            )
        except RuntimeError as error:
            raise UserError(f"{weights or URL_INCEPTION_V3} holds no weights of FID-Inception") from error
    return Inception(f"FID-Inception {mark}", network.to(device), device)
