"""What a metric of pictures may look at, and features computed once for all metrics that want them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from loreun_bench.errors import UserError
from loreun_bench.generation.scoring.images import NONE, Images, checked

if TYPE_CHECKING:
    from loreun_bench.generation.scoring.classifiers import Classifier
    from loreun_bench.generation.scoring.inception import Inception
    from loreun_bench.generation.scoring.model import Model
    from loreun_bench.generation.scoring.pictures import Pictures

Listener = Callable[[str, float], None]  # told what is under way, and the share of it that is done
Side = Literal["images", "reference", "original"]
BATCH = 32


class Extractor(Protocol):
    """A network that turns pictures into features; `name` says which, with the version of its weights."""

    @property
    def name(self) -> str:
        """Network and weights."""

    def features(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] in [0, 1] → [n, d] fp32 on the CPU."""


@dataclass(frozen=True)
class Planned:
    """What a sweep will give a metric, as far as it is known before anything runs.

    classes: what its pictures are of; () where they show a concept or follow a file of prompts. kept: pictures a row of
    all classes but the forgotten ones; real: the data set's own test pictures of these. settings: as in a Scene.
    """

    classes: tuple[str, ...] = ()
    kept: int = 0
    real: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def need_classes(self, metric: str, least: int = 0) -> None:
        """UserError unless there are classes, and at least `least` pictures of those that are kept, made and real."""
        if not self.classes:
            raise UserError(f"{metric} is about classes: use it with scenarios of kind class and without sampling.prompts")
        if self.kept < least:
            raise UserError(f"{metric} needs at least {least} pictures of kept classes, {self.kept} are sampled a row: "
                            "raise sampling.images")  # fmt: skip
        if self.real < least:
            raise UserError(f"{metric} needs at least {least} pictures of kept classes, the data set's test split has "
                            f"{self.real}: add some, or leave {metric} out")  # fmt: skip

    def need_weights(self) -> None:
        """UserError if a file with FID-Inception's weights is named that is not there."""
        weights = self.settings.get("fid_weights")
        if weights and not Path(weights).is_file():
            raise UserError(f"metric_settings.fid_weights: there is no file {weights}")


@dataclass(frozen=True)
class Scene:
    """Pictures to score and what they are scored with.

    forget: the forgotten classes, indices into `classes`; () for none. reference: real pictures. settings: see each
    metric. details: what a metric has to tell beside its values, by the metric's name; JSON can hold it. known: features
    [N, d] of the whole reference by extractor, where they were computed before.

    Of what a metric `needs`: model, the pipeline itself with its data; original, the original model's pictures of the same
    requests, in the same order.
    """

    images: Images
    classes: tuple[str, ...] = ()
    forget: tuple[int, ...] = ()
    classifier: Classifier | None = None
    reference: Images | Pictures | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    listen: Listener = lambda what, share: None
    known: Mapping[str, Tensor] = field(default_factory=dict)
    model: Model | None = None
    original: Images | None = None
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def copied(self) -> Scene:
        """A copy that may be changed without harm; which pictures are bad is found out for both."""
        bad = [source._bad for source in (self.images, self.reference, self.original) if isinstance(source, Images)]
        shared = (self.listen, getattr(self.reference, "load", None), *bad)
        return copy.deepcopy(self, {id(each): each for each in shared})

    def need_classifier(self, metric: str) -> Classifier:
        """The classifier; UserError that says how to bring one."""
        if self.classifier is None:
            raise UserError(f"{metric} needs a classifier: give --classifier resnet50 or --classifier FILE")
        return self.classifier

    def need_model(self, metric: str) -> Model:
        """The model; UserError where there are only pictures."""
        if self.model is None:
            raise UserError(f"{metric} looks at the model, not at pictures alone: put it into a sweep's metrics")
        return self.model

    def inception(self) -> Inception:
        """FID-Inception, loaded once; settings' "fid_weights" may name its file. UserError if it cannot be had."""
        from loreun_bench.generation.scoring.inception import inception

        if "inception" not in self._cache:
            weights = self.settings.get("fid_weights")
            device = str(self.settings.get("device", "cpu"))
            self._cache["inception"] = inception(Path(weights) if weights else None, device)
        return self._cache["inception"]  # type: ignore[no-any-return]

    def source(self, side: Side) -> Images | Pictures:
        """The pictures of a side; UserError if the reference is asked for and there is none."""
        if side == "images":
            return self.images
        if side == "original":
            if self.original is None:
                raise UserError("the original's pictures are known in a sweep alone: put the metric into a sweep's metrics")
            return self.original
        if self.reference is None:
            raise UserError("a distance needs real pictures to compare with: give --reference DIR")
        return self.reference

    def retained(self, side: Side) -> Tensor:
        """Positions of the pictures that a distance is about: all but those of forgotten classes, where labels tell."""
        source = self.source(side)
        if not self.forget or source.labels is None:
            self._check_alike()
            return torch.arange(len(source))
        return (~torch.isin(source.labels, torch.tensor(self.forget))).nonzero().squeeze(1)

    @property
    def forgotten(self) -> str:
        """The names of the forgotten classes."""
        return ", ".join(self.classes[label] if self.classes else str(label) for label in self.forget)

    def _check_alike(self) -> None:
        """UserError if a class is forgotten and only one side says which pictures are of it."""
        if not self.forget or self.reference is None:
            return
        known = [self.source(side).labels is not None for side in ("images", "reference")]
        if any(known) and not all(known):
            lacking, other = ("reference", "pictures") if known[0] else ("pictures", "reference")
            raise UserError(
                f"'{self.forgotten}' would be left out of the {other} only, as the folders of the {lacking} are "
                "not called like classes: rename them, or leave the class away"
            )

    def stream(self, side: Side, positions: Tensor, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        """(positions [m], pixels [m, 3, H, W] in [0, 1]) in batches; progress is told as `what`."""
        source, n = self.source(side), int(self.settings.get("batch_size", BATCH))
        self.listen(what, 0.0)
        if isinstance(source, Images):
            for found, pixels in source.subset(positions).numbered(n):
                self._note(side, pixels)
                yield positions[found], pixels
                self.listen(what, (int(found[-1]) + 1) / len(positions))
        else:
            size = self.picture_size()
            for start in range(0, len(positions), n):
                part = positions[start : start + n]
                pixels = checked((source.load(part, size) + 1) / 2)
                self._note(side, pixels)
                yield part, pixels
                self.listen(what, min(1.0, (start + n) / len(positions)))
        self.listen(what, 1.0)

    def picture_size(self) -> int:
        """The side to which pictures of a data set are loaded: the scored ones' shorter side, or settings' "size"."""
        if "size" in self.settings:
            return int(self.settings["size"])
        first = next(self.images.batches(1), None)
        if first is None:
            raise UserError("no picture can be read: see the list of bad ones")
        return min(first.shape[-2:])

    def features(self, extractor: Extractor, side: Side) -> Tensor:
        """The retained pictures' features [N, d], without the bad pictures; computed once in this scene."""
        if side == "reference" and extractor.name in self.known:
            self._cache[("sizes", side)] = {(self.picture_size(),) * 2}
            self._cache[("labels", side)] = self._labels(side, self.retained(side))
            return self.known[extractor.name][self.retained(side)]
        key = (extractor.name, side)
        if key not in self._cache:
            what = f"{extractor.name} on {'the reference' if side == 'reference' else 'the pictures'}"
            parts = [(found, extractor.features(pixels)) for found, pixels in self.stream(side, self.retained(side), what)]
            self._cache[key] = torch.cat([features for _, features in parts]) if parts else torch.empty(0, 0)
            found = torch.cat([torch.empty(0, dtype=torch.int64), *(positions for positions, _ in parts)])
            self._cache[("labels", side)] = self._labels(side, found)
        return self._cache[key]  # type: ignore[no-any-return]

    def labels(self, side: Side) -> Tensor | None:
        """The classes [N] of the pictures whose features were asked for last; None where they are not known."""
        return self._cache.get(("labels", side))

    def _labels(self, side: Side, positions: Tensor) -> Tensor | None:
        labels = self.source(side).labels
        return None if labels is None else labels[positions]

    def recognised(self, classifier: Classifier) -> tuple[Tensor, Tensor]:
        """(labels [n], classes that are recognised [n]) of all readable pictures, -1 for none; computed once."""
        key = ("recognised", classifier.name)
        if key not in self._cache:
            labels = torch.full((len(self.images),), NONE) if self.images.labels is None else self.images.labels
            everything = torch.arange(len(labels))
            parts = [
                (labels[positions], classifier.predict(pixels))
                for positions, pixels in self.stream("images", everything, f"{classifier.name} on the pictures")
            ]
            empty = torch.empty(0, dtype=torch.int64)
            self._cache[key] = (torch.cat([empty, *(p[0] for p in parts)]), torch.cat([empty, *(p[1] for p in parts)]))
        return self._cache[key]  # type: ignore[no-any-return]

    def teller(self, what: str) -> Callable[[float], None]:
        """A listener for one piece of work."""
        return lambda share: self.listen(what, share)

    def sizes(self, side: Side) -> list[str]:
        """The sizes, width×height, of the pictures streamed so far, the first few of them."""
        return [f"{w}×{h}" for h, w in sorted(self._cache.get(("sizes", side), ()))][:5]

    def _note(self, side: Side, pixels: Tensor) -> None:
        self._cache.setdefault(("sizes", side), set()).add(tuple(pixels.shape[-2:]))
