"""The two protocols of the generation track, difference by difference."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _choice(corrected: Any, why: str) -> Any:
    return field(default=corrected, metadata={"why": why})


@dataclass(frozen=True)
class Protocol:
    """Every place where the reference implementation and good practice part. The defaults are `corrected`."""

    whole_set: bool = _choice(
        True, "every pass goes over all forget pictures; SalUn's code took the first batch at every step until 2026"
    )
    random_other: bool = _choice(
        True, "the other concept c' is drawn for each sample (LoReUn eq. 3); SalUn's is always the next class"
    )
    one_latent: bool = _choice(
        True, "both branches of the forget loss see one noisy latent; SalUn's code samples the autoencoder twice"
    )
    hard_mask: bool = _choice(
        True, "weights outside the saliency mask do not move; in SalUn's code the optimiser's state may move them"
    )


PROTOCOLS = {"corrected": Protocol(), "paper": Protocol(**{f.name: False for f in fields(Protocol)})}


def differences() -> dict[str, str]:
    """What differs between the protocols: name → explanation."""
    return {f.name: f.metadata["why"] for f in fields(Protocol)}
