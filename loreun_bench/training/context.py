"""What an unlearning method is given in either track: the sets that it declared, and how to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from loreun_bench.errors import UserError
from loreun_bench.harness.seeding import derive

if TYPE_CHECKING:
    import torch

    from loreun_bench.training.clock import Meter
    from loreun_bench.training.tally import WeightTally
    from loreun_bench.weightings import Phase, Rule

Set = TypeVar("Set")


class Phases(Mapping[str, "Phase | Rule"]):
    """A weighting's phases by name; it remembers which of them were read."""

    def __init__(self, phases: Mapping[str, Phase | Rule]) -> None:
        self._phases, self._read = dict(phases), set[str]()

    def __getitem__(self, name: str) -> Phase | Rule:
        found = self._phases[name]
        self._read.add(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._phases)

    def __len__(self) -> int:
        return len(self._phases)

    def check_read(self, method: str) -> None:
        """UserError if there is one that the method has not read: it would be a row of a weighting that has not acted."""
        unread = sorted(self._phases.keys() - self._read)
        if unread:
            raise UserError(
                f"{method} did not read the weighting's {' and '.join(unread)} phase (context.phases), which cannot have "
                f"acted: define active() to return the phases that it reads"
            )


class Sets(Generic[Set]):
    """Sets of samples by name. Reading one that the method did not declare in `uses` is an error, not a leak."""

    def __init__(self, sets: Mapping[str, Set], uses: frozenset[str]) -> None:
        self._sets, self._uses = sets, uses

    @property
    def forget(self) -> Set:
        """What is to be forgotten."""
        return self._read("forget")

    @property
    def retain(self) -> Set:
        """What is to be kept."""
        return self._read("retain")

    def _read(self, name: str) -> Set:
        if name not in self._uses:
            raise UserError(f"the method read the {name} set but declares uses={sorted(self._uses)}")
        return self._sets[name]


@dataclass(kw_only=True)
class RunContext:
    """How to run: device, precision, the track's protocol, the weighting's phases, the seed of the run, the meter.

    weights: by phase, what the weighting gave, for the record. kept: what a method's steps change that is neither in the
    model nor moved by the optimiser; a run that goes on after a kill finds it again (tensors, numbers, text, dictionaries,
    lists, tuples). resumable: whether it may do so; replaying: it is drawing batches that were trained on before.
    """

    device: str
    precision: str
    protocol: Any
    phases: Mapping[str, Phase | Rule]
    seed: int  # of the unlearning; where a model is trained from scratch, of the training
    meter: Meter
    limit_steps: int | None = None
    weights: Mapping[str, WeightTally] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    resumable: bool = False
    replaying: bool = False
    _streams: dict[str, torch.Generator] = field(default_factory=dict)

    def uneven(self) -> dict[str, Any]:
        """`weights` as values of the stage: {} where nothing was weighted."""
        found = {phase: summary for phase, tally in self.weights.items() if (summary := tally.summary())}
        return {"weights": found} if found else {}

    def stream(self, *name: str | int, device: str | None = None) -> torch.Generator:
        """The random generator called `name`, on the run's device unless told. Streams do not depend on method or
        weighting, so that all rows of a seed see the same batches, crops, labels and noise."""
        import torch

        key = "/".join(map(str, name))
        if key not in self._streams:
            self._streams[key] = torch.Generator(device or self.device).manual_seed(derive(self.seed, *name))
        return self._streams[key]

    def state_dict(self) -> dict[str, Any]:
        """Of every stream, its device and state; and what is kept."""
        streams = {name: (each.device.type, each.get_state()) for name, each in self._streams.items()}
        return {"streams": streams, "kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Streams go on where they were; tensors that were kept are on the run's device."""
        for name, (device, state) in state_dict["streams"].items():
            self.stream(name, device=device).set_state(state)
        self.kept = _placed(state_dict["kept"], self.device)


def _placed(value: Any, device: str) -> Any:
    if isinstance(value, dict):
        return {name: _placed(each, device) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_placed(each, device) for each in value)
    return value.to(device) if hasattr(value, "to") else value
