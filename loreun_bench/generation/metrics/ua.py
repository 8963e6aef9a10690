"""UA and what is kept: which pictures a classifier still recognises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loreun_bench.decorators import metric
from loreun_bench.errors import UserError
from loreun_bench.harness.measuring import Measured

if TYPE_CHECKING:
    from loreun_bench.generation.scene import Scene


@metric(
    "ua",
    columns={"forget_ua": "UA", "kept_acc": "kept"},
    best={"forget_ua": "low", "kept_acc": "high"},
    paper="LoReUn, section 5; SalUn (ICLR 2024) prints 100 minus it",
    track="generation",
    about_classes=True,
)
def ua(scene: Scene) -> Measured:
    """UA: percent of the forgotten classes' pictures that the classifier still recognises as what they were asked to be; low
    is better. kept: percent of the other classes' pictures that it recognises as what they are; high is better."""
    about = recognised(scene)
    if about["forget_ua"]["n"] == 0:
        raise UserError(f"ua: no readable picture is labelled '{about['class']}', the class that is forgotten")
    scene.details["ua"] = about
    shares = {key: about[key] for key in ("forget_ua", "kept_acc") if about[key]["n"]}
    values = {key: share["value"] for key, share in shares.items()}
    return Measured(values, {key: [share["hits"], share["n"]] for key, share in shares.items()})


def recognised(scene: Scene) -> dict[str, Any]:
    """Shares in percent with exact 95 % intervals. Pictures without any label count as the one forgotten class's."""
    import torch

    from loreun_bench.harness.shares import clopper_pearson

    classifier, labels = scene.need_classifier("ua"), scene.images.labels
    if not scene.forget:
        raise UserError("ua: which class is forgotten? give --class NAME")
    of, found = scene.recognised(classifier)
    if len(of) == 0:
        raise UserError(f"ua: none of the {len(scene.images)} pictures can be read")
    if labels is None and len(scene.forget) > 1:
        raise UserError("ua: the pictures have no labels, so which forgotten class does each show? put each class's into a "
                        "folder with its name")  # fmt: skip
    if labels is None:
        of = torch.full_like(of, scene.forget[0])
    hit, gone = found == of, torch.isin(of, torch.tensor(scene.forget))
    about: dict[str, Any] = {"classifier": classifier.name, "class": scene.forgotten, "notes": []}
    for key, chosen in (("forget_ua", gone), ("kept_acc", ~gone & (of >= 0))):
        hits, n = int(hit[chosen].sum()), int(chosen.sum())
        about[key] = {"value": 100 * hits / n if n else None, "hits": hits, "n": n, "interval": clopper_pearson(hits, n)}
    if labels is None:
        about["notes"].append(f"the pictures have no labels: all are taken for '{about['class']}'")
    elif bool((of < 0).any()):
        about["notes"].append(f"{int((of < 0).sum())} pictures have no label and are left out")
    return about

