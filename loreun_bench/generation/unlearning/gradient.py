"""The gradient method and its loop: eq. 6 for denoisers, through the one step loop and the one operator.

torch is imported when something runs, so that methods can be listed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from loreun_bench.errors import UserError
from loreun_bench.generation.unlearning.method import Count, Method
from loreun_bench.weightings import Batch, Phase, Rule

if TYPE_CHECKING:
    from torch import Tensor, nn

    from loreun_bench.generation.data.latents import LatentSet
    from loreun_bench.generation.pipeline.pipelines import Pipeline
    from loreun_bench.generation.unlearning.method import Asked, Context, Data, Parameters
    from loreun_bench.training.loop import Constraint

Step = dict[str, "Tensor"]  # positions of each phase's batch
CHECKPOINT_FROM = 100_000_000  # parameters, above which activations are computed again in the backward pass to save memory


@dataclass(frozen=True)
class GradientMethod(Method):
    """Steps of a forget batch and a retain batch together (Algorithm 1); an epoch is one pass over the forget set.

    A subclass says what the forget batch's prediction is to become (`forget_target`), and, if it wants, any of the functions
    below. Weightings, masks, guards and cost come for free. alpha: the retain loss's factor, β of eq. 3.
    """

    spreads: ClassVar[bool] = True

    epochs: Count = 5
    alpha: Annotated[float, Ge(0)] = 1.0

    @property
    def backward_passes(self) -> int:
        """How often a step goes backward through a prediction."""
        return 1

    def active(self) -> tuple[str, ...]:
        """Both phases, or the first where alpha is 0."""
        return ("forget", "retain") if self.alpha else ("forget",)

    def samples(self, sizes: Mapping[str, int]) -> int:
        """Two predictions a forget picture, one a retain picture."""
        return self.epochs * sizes["forget"] * 3

    def check(self, asked: Asked) -> None:
        """A subclass with the loop's `unlearn` must say what the prediction is to become."""
        own = type(self)
        if own.forget_target is GradientMethod.forget_target and own.unlearn is GradientMethod.unlearn:
            raise UserError(f"method '{self.name}' lacks `forget_target`: define it, or an `unlearn` of its own")

    def forget_target(
        self, pipeline: Pipeline, noisy: Callable[[], Tensor], t: Tensor, concepts: Tensor, data: Data, context: Context
    ) -> Tensor | None:
        """What the prediction of a forget batch is to become, detached; `noisy()` is its noisy latent. None: the noise that
        was added, as in the retain phase."""
        raise NotImplementedError

    def pictures(self, phase: str, data: Data) -> LatentSet:
        """The pictures that a phase passes over."""
        found: LatentSet = getattr(data, phase)
        return found

    def prompts(self, phase: str, concepts: Tensor, data: Data) -> Tensor:
        """The concepts [n] whose prompts the predictions are asked with, given those that the pictures show."""
        return concepts

    def prepare(
        self, pipeline: Pipeline, parameters: Mapping[str, nn.Parameter], data: Data, context: Context
    ) -> Any:
        """What is made once of the denoiser as it is; the functions below find it in `context.prepared`."""
        return None

    def combined(
        self, forget: Tensor, retain: Tensor | None, parameters: Mapping[str, nn.Parameter], context: Context
    ) -> Tensor:
        """The loss of a step, of those of its phases."""
        return forget if retain is None else forget + self.alpha * retain

    def constraint(
        self, pipeline: Pipeline, parameters: Mapping[str, nn.Parameter], data: Data, context: Context
    ) -> Constraint | None:
        """What must hold of the parameters throughout, such as a saliency mask."""
        return None

    def unlearn(self, pipeline: Pipeline, data: Data, context: Context) -> None:
        """Descend on eq. 6 in place."""
        descend(self, pipeline, data, context)


@dataclass
class Noised:
    """A batch at its timesteps: latents, noise, t [n], the noisy latents, and the numbers of the concepts [n]."""

    latents: Tensor
    noise: Tensor
    t: Tensor
    noisy: Tensor
    concepts: Tensor


def descend(method: GradientMethod, pipeline: Pipeline, data: Data, context: Context) -> None:
    """Run `method` on the pipeline's denoiser in place. Raises Diverged if a loss or parameter stops being finite."""
    from loreun_bench.training.loop import run_steps
    from loreun_bench.training.optimiser import make_optimiser
    from loreun_bench.training.snapshots import Snapshots

    chosen = open_parameters(pipeline, trainable(pipeline.unet, method.parameters))
    context.prepared = method.prepare(pipeline, chosen, data, context)
    losses = {phase: PhaseLoss(method, phase, pipeline, data, context) for phase in method.active()}
    constraint = method.constraint(pipeline, chosen, data, context)
    optimiser = make_optimiser(chosen.values(), "adam", method.lr, 0.0, 0.0)

    def objective(step: Step) -> Tensor:
        forget = losses["forget"](step["forget"])
        retain = losses["retain"](step["retain"]) if "retain" in losses else None
        return method.combined(forget, retain, chosen, context)

    total = method.epochs * -(-len(losses["forget"].samples) // method.batch_size)
    total = min(total, context.limit_steps or total)
    steps = _steps(method, {phase: loss.samples for phase, loss in losses.items()}, context, total)
    snapshots = Snapshots(context, **losses)
    run_steps(pipeline.unet, steps, objective, optimiser, constraint=constraint, total=total, snapshots=snapshots)
    context.weights = {phase: loss.tally for phase, loss in losses.items()}
    pipeline.unet.requires_grad_(False)


def trainable(unet: nn.Module, which: Parameters) -> dict[str, nn.Parameter]:
    """The parameters a method may move, by name: all; those of cross-attention; its keys and values; all but
    cross-attention's and the time embedding.

    ESD's x is the second and its u the last: that leaves out `attn2`, the time embedding and the output layers.
    """
    found = {}
    for name, parameter in unet.named_parameters():
        cross = ".attn2." in name
        outer = name.startswith(("time_embedding.", "conv_out.", "conv_norm_out."))
        if (
            which == "full"
            or (which == "cross-attention" and cross)
            or (which == "keys-and-values" and cross and name.split(".")[-2] in ("to_k", "to_v"))
            or (which == "no-cross-attention" and not cross and not outer)
        ):
            found[name] = parameter
    if not found:
        raise UserError(f"the denoiser has no parameters of the set '{which}'")
    return found


def open_parameters(pipeline: Pipeline, chosen: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Let gradients flow into the chosen parameters of the denoiser, and into no other; returns them."""
    pipeline.unet.requires_grad_(False)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    if sum(p.numel() for p in pipeline.unet.parameters()) > CHECKPOINT_FROM:
        pipeline.unet.enable_gradient_checkpointing()  # type: ignore[operator]
        pipeline.unet.train()  # where diffusers looks whether to do so; its denoisers have no dropout
    return chosen


def noised(pipeline: Pipeline, samples: LatentSet, positions: Tensor, context: Context, *stream: str) -> Noised:
    """A batch of pictures with noise of random timesteps."""
    import torch

    latents = samples.draw(positions, context.stream("posterior", *stream))
    generator = context.stream("noise", *stream)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    t = torch.randint(pipeline.timesteps, (len(latents),), generator=generator, device=latents.device)
    concepts = samples.concepts[positions.to(samples.concepts.device)]
    return Noised(latents, noise, t, pipeline.noised(latents, noise, t), concepts)


def predict(pipeline: Pipeline, noisy: Tensor, t: Tensor, text: Tensor, context: Context) -> Tensor:
    """The denoiser's prediction in float32; samples forward are counted."""
    from loreun_bench.training.loop import autocast

    context.meter.forward_samples += len(noisy)
    with autocast(context.device, context.precision):
        found = pipeline.predict(noisy, t, text)
    return found.float()


def denoising_loss(pipeline: Pipeline, batch: Noised, text: Tensor, context: Context) -> Tensor:
    """The mean squared error of the prediction for `text` [n, length, width]."""
    target = pipeline.denoising_target(batch.latents, batch.noise, batch.t)
    return (predict(pipeline, batch.noisy, batch.t, text, context) - target).square().mean()


class PhaseLoss:
    """One phase's weighted loss of the pictures at given positions. Uniform weights are the same call with eta = 0."""

    def __init__(self, method: GradientMethod, phase: str, pipeline: Pipeline, data: Data, context: Context) -> None:
        from loreun_bench.training.tally import WeightTally

        self.method, self.phase, self.pipeline, self.data, self.context = method, phase, pipeline, data, context
        self.samples = method.pictures(phase, data)
        self.weight = context.phases.get(phase)
        self.static, self.step, self.tally = None, 0, WeightTally()
        if isinstance(self.weight, Phase) and self.weight.score == "original":
            from loreun_bench.generation.unlearning.curve import static_scores

            self.static = static_scores(pipeline, self.samples, data.texts, context.curve[phase], context)

    def __call__(self, positions: Tensor) -> Tensor:
        from loreun_bench.ops import loreun_mse_loss

        pipeline, context, weight = self.pipeline, self.context, self.weight
        batch = noised(pipeline, self.samples, positions, context, self.phase)
        clean = pipeline.denoising_target(batch.latents, batch.noise, batch.t)
        given = None if self.phase == "retain" else self._forget_target(batch, positions)
        target = clean if given is None else given
        asked = self.method.prompts(self.phase, batch.concepts, self.data)
        prediction = predict(pipeline, batch.noisy, batch.t, self.data.texts[asked], context)
        context.meter.backward_samples += self.method.backward_passes * len(positions)
        if weight is None:
            loss: Tensor = loreun_mse_loss(prediction, target, eta=0.0, direction="forget", ref_loss=1.0)
        elif isinstance(weight, Rule):
            loss = self._by_rule(weight, prediction, target, clean, batch)
        else:
            if self.static is not None:
                score: dict[str, Any] = {"score_loss": self.static[positions.to(self.static.device)], "ref_loss": 1.0}
            else:
                score = {"score_target": None if target is clean else clean, "ref_loss": context.curve[self.phase][batch.t]}
            loss, told = loreun_mse_loss(
                prediction, target, eta=weight.eta, direction=weight.direction, return_stats=True, **score
            )
            self.tally.add(self._epoch(), told.weights)
            self.step += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What steps change, latents that they encoded among it."""
        return {"step": self.step, "tally": self.tally.state_dict(), "samples": self.samples.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self.step = state_dict["step"]
        self.tally.load_state_dict(state_dict["tally"])
        self.samples.load_state_dict(state_dict["samples"])

    def _by_rule(self, rule: Rule, prediction: Tensor, target: Tensor, clean: Tensor, batch: Noised) -> Tensor:
        from loreun_bench.ops import loreun_square_losses

        losses = loreun_square_losses(prediction, target, None if target is clean else clean)
        seen = (losses.score.detach(), losses.objective.detach(), batch.concepts, prediction.detach())
        epoch, original = self._epoch(), self.context.curve[self.phase][batch.t]
        self.step += 1
        generator = self.context.stream("weighting", self.phase)
        weights = rule.of(Batch(*seen, self.phase, epoch, self.step - 1, original, batch.t, generator))
        self.tally.add(epoch, weights)
        return (weights * losses.objective).sum()

    def _epoch(self) -> int:
        return self.step // -(-len(self.samples) // self.method.batch_size)  # a pass ends with a smaller batch

    def _forget_target(self, batch: Noised, positions: Tensor) -> Tensor | None:
        def noisy() -> Tensor:
            if self.context.protocol.one_latent:
                return batch.noisy
            again = self.samples.draw(positions, self.context.stream("posterior", "again"))
            return self.pipeline.noised(again, batch.noise, batch.t)

        return self.method.forget_target(self.pipeline, noisy, batch.t, batch.concepts, self.data, self.context)


def _steps(method: GradientMethod, sets: Mapping[str, LatentSet], context: Context, total: int) -> Iterator[Step]:
    """`total` batches, pass after pass over the forget set, a retain batch of the same size beside each."""
    passes = {
        phase: pictures.passes(method.batch_size, context.stream("order", phase, device="cpu"))
        for phase, pictures in sets.items()
    }
    forget, retain = passes["forget"], passes.get("retain")
    first = next(forget)
    for number in range(total):
        step = {"forget": first if number == 0 or not context.protocol.whole_set else next(forget)}
        if retain is not None:
            step["retain"] = next(retain)
        yield step
