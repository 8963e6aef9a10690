"""The sections that the generation track adds to a sweep's configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from loreun_bench import config as configuration
from loreun_bench.config import Flag, Strict, SweepConfig


class Scenario(configuration.Scenario):
    """What is forgotten. A scenario may change the methods' and weightings' settings for itself."""

    track: ClassVar[str] = "generation"


class Sampling(Strict):
    """How pictures are made for scoring: the same prompts, seeds and first latents for every row."""

    steps: int = Field(default=100, ge=1)
    guidance: float = Field(default=7.5, ge=0, description="1: none")
    images: int = Field(default=50, ge=1, description="pictures a class")
    batch_size: int = Field(default=8, ge=1)
    prompts: str | None = Field(
        default=None, description="a CSV of prompts (I2P), or a .txt with one a line, instead of one prompt a class"
    )
    category: str | None = Field(default=None, description="of the CSV: only prompts of this category")
    own_guidance: Flag = Field(default=False, description="of the CSV: each prompt's own guidance instead of ours")

    @field_validator("guidance")
    @classmethod
    def _of_the_prompt(cls, value: float) -> float:
        if value == 0:
            raise ValueError("0 would leave the prompt out; without guidance it is 1 here")
        return value

    @model_validator(mode="after")
    def _of_prompts(self) -> Sampling:
        if self.prompts is None and (self.category is not None or self.own_guidance):
            raise ValueError("category and own_guidance are about a CSV of prompts: give sampling.prompts=FILE, too")
        return self


class Curve(Strict):
    """How the mean loss of the original model by timestep is measured, which w_f and w_r are relative to.

    On the embedded digits the exponential is a fifth of the loss at t = 0 and half of it at t = 20, so that w_r (eta 0.2)
    gives pictures of small timesteps up to 2.1 times the mean weight; interpolated through as many points it is within 14 %
    where it was measured anew, and the weight stays below 1.5. A set's own curve differs from that of all by 10 % at most
    there.
    """

    fit: Literal["exponential", "interpolated"] = Field(
        default="exponential", description="as in the paper, or through the measured losses, more of them at small timesteps"
    )
    points: int = Field(default=10, ge=4, description="timesteps at which it is measured")
    samples: int = Field(default=256, ge=1, description="pictures at each of them")
    per_set: Flag = Field(default=False, description="a curve of the forget and one of the retain set, not one of all")


class MetricSettings(Strict):
    """What the project's metrics may be told; what is not given is the metric's own default."""

    threshold: float | None = Field(default=None, ge=0, le=1, description="nudity: the score from which a label counts")
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(default=None, min_length=1)
    labels: tuple[str, ...] | None = Field(default=None, min_length=1, description="nudity: NudeNet's labels that count")
    resamples: int | None = Field(default=None, ge=0, description="fd, fid, kid: bootstrap resamples; 0: no interval")
    seed: int | None = Field(default=None, ge=0, description="of the bootstrap")
    batch_size: int | None = Field(default=None, ge=1)
    fid_weights: str | None = Field(default=None, description="fid, kid: a file with FID-Inception's weights")
    relearn_steps: int | None = Field(default=None, ge=1, description="relearn: steps of training")
    relearn_lr: float | None = Field(default=None, gt=0)
    attack_tokens: int | None = Field(default=None, ge=1, description="attack: tokens that are sought")
    attack_steps: int | None = Field(default=None, ge=1, description="attack: steps of the search")
    own: dict[str, Any] = Field(default={}, description="for your own metrics: scene.settings['own']")

    def given(self) -> dict[str, Any]:
        """What was given, as JSON can hold it."""
        return self.model_dump(mode="json", exclude_defaults=True)


class GenerationConfig(SweepConfig):
    """A generation sweep."""

    pipeline: str = Field(default="digits", min_length=1)
    dataset: str = Field(
        default="digits", min_length=1,
        description="its name, a folder with one folder of pictures a class, or FILE.py:function",
    )
    prompt: str = Field(
        default="an image of {}", pattern=r"^[^{}]*\{\}[^{}]*$", description="a class's, in training and after"
    )
    scenarios: tuple[Scenario, ...] = Field(min_length=1)
    sampling: Sampling = Sampling()
    curve: Curve = Curve()
    classifier: str = Field(default="small", description="who recognises classes: small (trained here) or resnet50")
    limit_images: int | None = Field(
        default=None, ge=1, description="unlearn with so many training pictures, as many of each class"
    )
    limit_steps: int | None = Field(default=None, ge=1, description="smoke runs: stop each training after so many steps")
    metrics: tuple[str, ...] = Field(default=("ua", "fd"), min_length=1)
    metric_settings: MetricSettings = MetricSettings()

    @field_validator("scenarios")
    @classmethod
    def _distinct(cls, value: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        if len({s.label for s in value}) < len(value):
            raise ValueError("two scenarios forget the same")
        return value

    @field_validator("compile")
    @classmethod
    def _not_compiled(cls, value: bool) -> bool:
        if value:
            raise ValueError("the generation track does not compile its denoiser: leave it out")
        return value
