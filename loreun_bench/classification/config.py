"""The sections that the classification track adds to a sweep's configuration."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from loreun_bench import config as configuration
from loreun_bench.config import Flag, Strict, SweepConfig
from loreun_bench.names import twice


class Recipe(Strict):
    """How the original and the retrained model are trained."""

    epochs: int = Field(default=30, ge=1)
    lr: float = Field(default=0.1, gt=0, description="the highest learning rate")
    batch_size: int = Field(default=256, ge=2)
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: Flag = Field(default=False, description="Nesterov's momentum, of sgd")
    bias_lr: float = Field(default=1.0, gt=0, description="times the learning rate, for biases")
    weight_decay: float = Field(default=5e-4, ge=0)
    schedule: Literal["constant", "multistep", "one-cycle"] = Field(
        default="one-cycle", description="one-cycle: up for a quarter of the steps, then down to nearly 0"
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(), description="of multistep, in epochs")
    gamma: float = Field(default=0.1, gt=0, le=1, description="what multistep multiplies the rate by")
    crop: int = Field(default=0, ge=0, description="random crop after padding by this many pixels; 0: none")
    flip: Flag | Literal["alternating"] = Field(
        default=False, description="horizontal flip: at random, or at random in the first epoch and then by turns"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of each label given to all classes alike")

    @model_validator(mode="after")
    def _milestones_belong(self) -> Recipe:
        if bool(self.milestones) != (self.schedule == "multistep"):
            raise ValueError("milestones go with schedule multistep, and only with it")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError("nesterov goes with optimizer sgd and a momentum above 0")
        return self


class Scenario(configuration.Scenario):
    """What is forgotten. A scenario may change the recipe, and the methods' and weightings' settings, for itself."""

    track: ClassVar[str] = "classification"
    train: dict[str, Any] = {}


class Normalisation(Strict):
    """Pixels in [0, 1] minus `mean`, over `std`; one number for all channels, or one a channel."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _alone(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else (value,)

    @model_validator(mode="after")
    def _of_pixels(self) -> Normalisation:
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if min(self.mean) < 0 or max(self.mean) > 1 or max(self.std) > 1:
            raise ValueError("mean and std are of pixels in [0, 1]; divide those of pixels in [0, 255] by 255")
        return self


class Normalised(Strict):
    """By what images are normalised."""

    normalise: Literal["data", "none"] | Normalisation = Field(
        default="data", description="by the training images' own mean and std, by {mean, std} given, or not at all (none)"
    )

    @field_validator("normalise", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return configuration.check(Normalisation, value, "normalise")
        if value not in ("data", "none") and not isinstance(value, Normalisation):
            raise ValueError(f"give data, none, or {{mean: …, std: …}}, not {value!r}")
        return value


class ClassificationConfig(Normalised, SweepConfig):
    """A classification sweep."""

    dataset: str = Field(default="digits", min_length=1, description="a name, an .npz, a folder or FILE.py:function")
    image_size: int | None = Field(default=None, ge=1, description="for an image folder: its pictures are resized to this")
    model: str = Field(default="small-cnn", description="a name, timm:NAME, torchvision:NAME or FILE.py:function")
    model_settings: dict[str, Any] = Field(default={}, description="arguments of the model's function")
    scenarios: tuple[Scenario, ...] = Field(min_length=1, description="what is forgotten, each a part of the table")
    train: Recipe = Field(default=Recipe(), description="how the original and the retrained model are trained")
    checkpoint: str | None = Field(default=None, description="weights of an original model trained elsewhere")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share of the training images held out; 0: none")
    noise_floor: Flag = Field(default=True, description="retrain once more with another seed: what noise alone costs")
    limit_steps: int | None = Field(default=None, ge=1, description="smoke runs: stop each training after so many steps")
    limit_images: int | None = Field(default=None, ge=20, description="smoke runs: use so many training and test images")
    metrics: tuple[str, ...] = Field(default=("accuracy", "mia", "loss", "strata", "batchnorm-shift"), min_length=1)

    @field_validator("scenarios")
    @classmethod
    def _distinct(cls, value: tuple[Scenario, ...]) -> tuple[Scenario, ...]:
        labels = [s.label for s in value]
        if (label := twice(labels)) is not None:
            raise ValueError(f"two scenarios would be called '{label}' in tables; a sweep takes one of them")
        return value
