"""The two protocols, difference by difference: what is right, and what the reference code does."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _choice(corrected: Any, why: str) -> Any:
    return field(default=corrected, metadata={"why": why})


@dataclass(frozen=True)
class Protocol:
    """Every place where the reference implementation and good practice part. The defaults are `corrected`."""

    one_split: bool = _choice(
        True, "the original model is trained on the very split that is unlearned; SalUn's code draws a second "
        "validation set with another seed, so about a tenth of its forget set was never trained on")  # fmt: skip
    other_label: bool = _choice(True, "a random label is never the true one (LoReUn eq. 1); SalUn's may be")
    hard_mask: bool = _choice(
        True, "weights outside the saliency mask do not move; in SalUn's code until 2026 weight decay and momentum moved "
        "them")  # fmt: skip
    clean_mask: bool = _choice(True, "the mask is computed without augmentation; SalUn's forget loader crops and flips")
    balanced_mia: bool = _choice(
        True, "the attack is fitted on equally many, shuffled members and non-members; SalUn's takes the first retain "
        "samples in file order")  # fmt: skip
    true_m_entropy: bool = _choice(True, "modified entropy as published; SalUn's indexing makes it ignore the label")
    last_epoch: bool = _choice(
        True, "original and retrained model are both taken after the last epoch; SalUn keeps the original of the best "
        "validation epoch")  # fmt: skip
    own_init: bool = _choice(True, "the retrained model starts from its own initial weights; SalUn's from the original's")


PROTOCOLS = {"corrected": Protocol(), "paper": Protocol(**{f.name: False for f in fields(Protocol)})}


def differences() -> dict[str, str]:
    """What differs between the protocols: name → explanation."""
    return {f.name: f.metadata["why"] for f in fields(Protocol)}
