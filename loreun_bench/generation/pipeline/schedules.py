"""The noise schedule of a pipeline: whatever scheduler it came with, its betas in a DDIM scheduler."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.generation.pipeline.files import INDEX, made_of, read_json
from loreun_bench.reading import told

PREDICTED = ("epsilon", "v_prediction")
DISTILLED = ("LCMScheduler", "TCDScheduler")
MOST_TIMESTEPS = 10_000  # of which the schedule is computed; Stable Diffusion has 1000


def check(folder: Path) -> None:
    """UserError unless the scheduler's files are of a denoiser that predicts the noise or the velocity."""
    name, config = named(folder), settings(folder)
    predicts = config.get("prediction_type") or "epsilon"
    if "FlowMatch" in name or predicts == "flow_prediction" or config.get("use_flow_sigmas"):
        raise UserError(f"{folder}: its scheduler ({name}) is of flow matching: its denoiser predicts no noise, no velocity")
    if predicts not in PREDICTED:
        raise UserError(f"{folder}: its denoiser predicts the {predicts}, not the noise or the velocity")
    if name in DISTILLED:
        raise UserError(f"{folder}: its scheduler ({name}) is of a model distilled for few steps, which DDIM cannot sample")
    count = config.get("num_train_timesteps", 1000)
    if type(count) is not int or not 0 < count <= MOST_TIMESTEPS:
        raise UserError(f"{folder}/scheduler: num_train_timesteps {count!r} in its file is no number up to {MOST_TIMESTEPS}")
    if config.get("rescale_betas_zero_snr") and predicts == "epsilon":
        raise UserError(f"{folder}: its schedule ends in noise alone (rescale_betas_zero_snr), where the noise gives no "
                        "picture: prediction_type must be v_prediction")  # fmt: skip


def named(folder: Path) -> str:
    """The class of the pipeline's scheduler."""
    index = read_json(folder / INDEX, f"{folder} is not a pipeline in diffusers' format")
    return str(made_of(index, "scheduler"))


def settings(folder: Path) -> dict[str, Any]:
    """The scheduler's file."""
    return read_json(folder / "scheduler" / "scheduler_config.json", f"{folder}/scheduler cannot be read")


def ddim(folder: Path) -> Any:
    """A DDIMScheduler with the betas, timesteps and prediction of the pipeline's own scheduler; latents are not clipped.

    What the file does not give is the default of the scheduler's own class: Heun's betas are not DDIM's. UserError if the
    class is unknown or has no betas.
    """
    import diffusers
    from diffusers import DDIMScheduler

    name, given = named(folder), settings(folder)
    cls = getattr(diffusers, name, None)
    if not (inspect.isclass(cls) and issubclass(cls, diffusers.SchedulerMixin)):
        raise UserError(f"{folder}: its scheduler is a {name}, which diffusers does not have")
    known = {key: p.default for key, p in inspect.signature(cls.__init__).parameters.items() if p.default is not p.empty}
    if "beta_start" not in known:
        raise UserError(f"{folder}: its scheduler ({name}) has no betas, so that nothing says how much noise a timestep has")
    wanted = set(inspect.signature(DDIMScheduler.__init__).parameters) - {"self", "clip_sample"}
    values = {key: value for key, value in (known | given).items() if key in wanted}
    with told(f"{folder}/scheduler"):
        return DDIMScheduler(**values, clip_sample=False)


def check_steps(scheduler: Any, steps: int, what: str) -> None:
    """UserError if the schedule has no `steps` timesteps to sample at. what: the setting that asks for them."""
    most = int(scheduler.config.num_train_timesteps)
    if steps > most:
        raise UserError(f"{what}: {steps} is more than the {most} timesteps of the pipeline")
    scheduler.set_timesteps(steps)
    if int(scheduler.timesteps.max()) >= most:
        raise UserError(f"{what}: with {steps} steps sampling begins at timestep {int(scheduler.timesteps.max())} of {most} "
                        "(steps_offset of its scheduler): take fewer")  # fmt: skip
