"""The gradient method and its loop: phases × weighting, through the one step loop and the one operator.

torch is imported when something runs, so that methods can be listed without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Lt

from loreun_bench.classification.unlearning.method import LEAST, Epochs, Method, Rate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.classification.unlearning.method import Context, Data
    from loreun_bench.classification.unlearning.phase import PhaseRun
    from loreun_bench.training.loop import Constraint

    Runs = Mapping[str, PhaseRun]
    Step = list[tuple[PhaseRun, Tensor]]  # the phases of a step, and the positions of their batches


@dataclass(frozen=True)
class GradientMethod(Method):
    """Unlearning by gradient steps on the forget and the retain set; weighting, masks, guards and cost come for free.

    A subclass says how much each phase counts (`forget_scale`, `retain_scale`; 0 leaves it out), which labels the
    forget phase optimises, and, if it wants, any of the functions below. schedule: "sequential", each epoch one pass over
    forget and then one over retain, as SalUn's code; "paired", each step one batch of both, the forget set cycling
    (Algorithm 1). lr_schedule: the learning rate over all steps.
    """

    epochs: Epochs = 10
    lr: Rate = 0.01
    batch_size: Annotated[int, Ge(2)] = 256
    schedule: Literal["sequential", "paired"] = "sequential"
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    lr_schedule: Literal["constant", "cosine", "triangle"] = "constant"
    freeze_batchnorm: bool = False

    spreads: ClassVar[bool] = True
    space: ClassVar[Mapping[str, tuple[float, float]]] = {"lr": (1e-4, 1.0)}
    joined: ClassVar[bool] = False  # whether the pictures of a step's phases pass through the network together

    @property
    def forget_scale(self) -> float:
        """The factor of the forget loss: negative ascends."""
        return 1.0

    @property
    def retain_scale(self) -> float:
        """The factor of the retain loss."""
        return 1.0

    def prepare(self, model: nn.Module, data: Data, context: Context) -> Any:
        """What is made once of the model as it is, such as a teacher; the functions below find it in `context.prepared`."""
        return None

    def forget_targets(self, labels: Tensor, data: Data, context: Context) -> Tensor:
        """The labels [n] optimised in the next pass over the forget set; `labels` are those to be forgotten."""
        return labels

    def losses(self, phase: str, x: Tensor, logits: Tensor, targets: Tensor, context: Context) -> Tensor | None:
        """Each row's loss [n], of pictures `x` and their logits, where it is not the cross entropy with the targets."""
        return None

    def penalty(self, model: nn.Module, epoch: int, context: Context) -> Tensor | None:
        """What is added to the loss of every step of the pass `epoch`, counted from 0."""
        return None

    def parameters(self, model: nn.Module, context: Context) -> Iterable[nn.Parameter]:
        """What the optimiser moves."""
        return model.parameters()

    def settle(self, model: nn.Module, context: Context) -> None:
        """What is not to be in training mode."""
        if self.freeze_batchnorm:
            from loreun_bench.training.frozen import freeze_batchnorm

            freeze_batchnorm(model)

    def constraint(self, model: nn.Module, data: Data, context: Context) -> Constraint | None:
        """What must hold of the parameters throughout, such as a saliency mask."""
        return None

    def size_of(self, phase: str) -> int:
        """Pictures in a batch of the phase."""
        return self.batch_size

    def runs_in(self, phase: str, epoch: int) -> bool:
        """Whether an epoch, counted from 0, has a pass of the phase."""
        return True

    def after_epoch(self, model: nn.Module, context: Context) -> None:
        """Called when the steps of an epoch are done."""

    def steps(self, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
        """The batches of every step, and [] at the end of an epoch."""
        return (_paired if self._pairs(list(runs)) else _sequential)(self, runs, data, context)

    def count(self, sizes: Mapping[str, int]) -> int:
        """How many steps there are, given the size of each phase's set."""
        from loreun_bench.training.loop import cuts

        passes = {name: len(cuts(size, self.size_of(name), LEAST)) for name, size in sizes.items()}
        if self._pairs(list(sizes)):
            return self.epochs * passes["retain"]
        return sum(n * sum(self.runs_in(name, e) for e in range(self.epochs)) for name, n in passes.items())

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Samples passed forward in training, given the size of each set; for the plan's estimate."""
        found = {name: sizes[name] for name in self.active()}
        if self._pairs(list(found)):
            steps = -(-found["retain"] // self.batch_size)
            return self.epochs * (found["retain"] + steps * min(self.batch_size, found["forget"]))
        return sum(n * sum(self.runs_in(name, e) for e in range(self.epochs)) for name, n in found.items())

    def _pairs(self, phases: list[str]) -> bool:
        return self.schedule == "paired" and len(phases) == 2

    def unlearn(self, model: nn.Module, data: Data, context: Context) -> nn.Module:
        """Unlearn in place and return the model."""
        return descend(self, model, data, context)

    def active(self) -> Iterator[str]:
        """The phases that this method runs."""
        for phase, scale in (("forget", self.forget_scale), ("retain", self.retain_scale)):
            if scale and phase in self.uses:
                yield phase


def descend(method: GradientMethod, model: nn.Module, data: Data, context: Context) -> nn.Module:
    """Run `method`'s phases on `model` in place. Raises Diverged if a loss or parameter stops being finite."""
    from loreun_bench.classification.unlearning.phase import begin
    from loreun_bench.training.loop import run_steps
    from loreun_bench.training.optimiser import make_optimiser, make_schedule
    from loreun_bench.training.snapshots import Snapshots

    context.prepared = method.prepare(model, data, context)
    runs = {name: begin(name, method, model, data, context) for name in method.active()}
    constraint = method.constraint(model, data, context)
    model.train()
    method.settle(model, context)
    parameters = method.parameters(model, context)
    optimiser = make_optimiser(parameters, method.optimizer, method.lr, method.momentum, method.weight_decay)
    total = method.count({name: len(run.samples) for name, run in runs.items()})
    total = min(total, context.limit_steps or total)
    schedule = make_schedule(optimiser, method.lr_schedule, total, total)

    def objective(step: Step) -> Tensor:
        loss = _loss(method, model, step, context)
        extra = method.penalty(model, step[-1][0].epoch, context)
        return loss if extra is None else loss + extra

    def told() -> Iterator[Step]:
        for step in method.steps(runs, data, context):
            if step:
                yield step
            elif not context.replaying:
                method.after_epoch(model, context)

    steps = islice(told(), context.limit_steps)
    run_steps(model, steps, objective, optimiser, schedule, constraint, total, Snapshots(context, **runs))
    context.weights = {name: run.tally for name, run in runs.items()}
    return model


def _loss(method: GradientMethod, model: nn.Module, step: Step, context: Context) -> Tensor:
    """The sum of the phases' losses; in a joined step each counts as much as it has pictures."""
    import torch

    from loreun_bench.training.loop import autocast

    if not method.joined:
        losses = []
        for run, positions in step:
            x = run.pictures(positions)
            with autocast(context.device, context.precision):
                logits = model(x)
            losses.append(run.loss(x, logits, positions))
        return losses[0] if len(losses) == 1 else losses[0] + losses[1]
    pictures = [run.pictures(positions) for run, positions in step]
    with autocast(context.device, context.precision):
        logits = model(torch.cat(pictures))
    sizes = [len(x) for x in pictures]
    parts = zip(step, pictures, logits.split(sizes), sizes, strict=True)
    shares = [n / len(logits) * run.loss(x, part, positions) for (run, positions), x, part, n in parts]
    return torch.stack(shares).sum()


def one_pass(run: PhaseRun, data: Data, context: Context) -> Iterator[tuple[PhaseRun, Tensor]]:
    """One pass over a phase's samples, each once, with new labels to optimise if it is the forget phase."""
    from loreun_bench.training.loop import epoch

    run.epoch += 1
    if run.name == "forget" and not context.replaying:
        run.targets = run.method.forget_targets(run.samples.labels, data, context)
    size = run.method.size_of(run.name)
    for positions in epoch(len(run.samples), size, context.stream("order", run.name), LEAST):
        yield run, positions


def cycle(run: PhaseRun, data: Data, context: Context) -> Iterator[tuple[PhaseRun, Tensor]]:
    """Pass after pass over a phase's samples, without end."""
    while True:
        yield from one_pass(run, data, context)


def _sequential(method: GradientMethod, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
    for number in range(method.epochs):
        for run in runs.values():
            if method.runs_in(run.name, number):
                for part in one_pass(run, data, context):
                    yield [part]
        yield []


def _paired(method: GradientMethod, runs: Runs, data: Data, context: Context) -> Iterator[Step]:
    forget = cycle(runs["forget"], data, context)
    for _ in range(method.epochs):
        for part in one_pass(runs["retain"], data, context):
            yield [next(forget), part]
        yield []


def mixture(method: GradientMethod, runs: Runs, share: float, context: Context) -> Iterator[Step]:
    """Batches of the forget set and a share of the retain set, drawn anew in every epoch, mixed; a step has both."""
    import torch

    from loreun_bench.training.loop import epoch

    forget, retain = runs["forget"], runs["retain"]
    size, kept, device = len(forget.samples), len(retain.samples), context.device
    for _ in range(method.epochs):
        forget.epoch, retain.epoch = forget.epoch + 1, retain.epoch + 1
        chosen = torch.randperm(kept, generator=context.stream("order", "share"), device=device)[: round(share * kept)]
        for positions in epoch(size + len(chosen), method.batch_size, context.stream("order", "mixture"), LEAST):
            own = positions < size
            parts = ((forget, positions[own]), (retain, chosen[positions[~own] - size]))
            yield [(run, part) for run, part in parts if len(part)]
        yield []


def mixed(sizes: Mapping[str, int], share: float) -> int:
    """The samples of an epoch of `mixture`."""
    return sizes["forget"] + round(share * sizes["retain"])
