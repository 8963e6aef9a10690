"""Text-to-image pipelines in diffusers' format: found, checked, loaded, and the three things done with one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.generation.pipeline import checks, schedules
from loreun_bench.generation.pipeline.files import INDEX, PARTS, WEIGHTS, part_config, weight_files
from loreun_bench.harness.files import sha256_file
from loreun_bench.reading import told

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EMBEDDED = {name: Path(__file__).parents[1] / "assets" / name for name in ("digits", "fashion-mnist")}
HUB_NAME = re.compile(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+")


@dataclass(frozen=True)
class PipelineFiles:
    """Where a pipeline lies, under which name, and the files that a result depends on: relative name -> SHA-256.

    source: what finds it again from any folder.
    """

    name: str
    folder: Path
    files: dict[str, str]
    source: str


def find(name: str) -> PipelineFiles:
    """The pipeline called `name`: embedded, a folder, or a name on the hub. UserError if it cannot serve."""
    folder = _locate(name)
    checks.check(folder)
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in (folder / INDEX, *(path for part in PARTS for path in sorted((folder / part).rglob("*"))))
        if path.is_file() and path.suffix in (".json", ".txt", ".safetensors")
    }
    own = name not in EMBEDDED and Path(name).expanduser().is_dir()
    return PipelineFiles(folder.resolve().name if own else name, folder, files, str(folder.resolve()) if own else name)


def tried(files: PipelineFiles, device: str = "cpu", precision: str = "fp32") -> list[str]:
    """Notes on how the pipeline will be used. UserError if it cannot be, found without reading its weights."""
    unsafe = _try(files.folder, frozenset(files.files.items()))
    if unsafe and (device, precision) == ("cpu", "bf16"):
        raise UserError(f"pipeline '{files.name}' has {unsafe}: set precision=fp32")
    name = schedules.named(files.folder)
    own = f"the scheduler of '{files.name}' is a {name}: its pictures are sampled by DDIM on the same noise schedule"
    return [] if name == "DDIMScheduler" else [own]


@lru_cache  # a tuning makes many plans
def _try(folder: Path, _: frozenset[tuple[str, str]]) -> str:
    schedules.ddim(folder)
    return checks.tried(folder, latent_shape(folder), tokenizer(folder).model_max_length)


def load(folder: Path, device: str, precision: str = "fp32") -> Pipeline:
    """The pipeline in `folder`; what is trained in float32, what is not in bfloat16 if `precision` is "bf16"."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar a component, over in milliseconds
    frozen = torch.bfloat16 if precision == "bf16" else torch.float32

    def part(cls: Any, name: str, dtype: torch.dtype) -> Any:
        model, found = cls.from_pretrained(folder / name, output_loading_info=True, **_how(folder, name))
        if found["missing_keys"]:  # which would be random numbers
            raise UserError(f"{folder}/{name}: the weight {sorted(found['missing_keys'])[0]} is missing: copy it here again")
        torch.nn.Module.to(
            model, device, dtype
        )  # diffusers' own warns of layers to be kept in float32, of which there are none
        return model.eval().requires_grad_(False)

    return Pipeline(
        unet=part(UNet2DConditionModel, "unet", torch.float32),
        vae=part(AutoencoderKL, "vae", frozen),
        text_encoder=part(CLIPTextModel, "text_encoder", frozen),
        tokenizer=tokenizer(folder),
        scheduler=schedules.ddim(folder),
        device=device,
    )


@dataclass
class Pipeline:
    """A denoiser (trained, in float32), the frozen autoencoder and text encoder, and the noise schedule."""

    unet: nn.Module
    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    device: str

    @property
    def timesteps(self) -> int:
        """How many timesteps of noise there are, as a rule 1000."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        return _shape(self.unet.config)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of a picture in pixels."""
        _, height, width = self.latent_shape
        scale = _scale(self.vae.config)
        return height * scale, width * scale

    def tokens(self, prompts: Sequence[str]) -> Any:
        """The tokenizer's output for prompts, each padded to the length of the model."""
        return self.tokenizer(
            list(prompts), padding="max_length", max_length=self.tokenizer.model_max_length, truncation=True,
            return_tensors="pt",
        )  # fmt: skip

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text embeddings [n, length, width] in float32."""
        import torch

        tokens = self.tokens(prompts)
        mask = (
            tokens.attention_mask.to(self.device) if getattr(self.text_encoder.config, "use_attention_mask", None) else None
        )
        with torch.no_grad():
            found: Tensor = self.text_encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return found.float()

    @cached_property
    def no_text(self) -> Tensor:
        """The embedding [1, length, width] of the empty prompt, which guidance and ESD compare with."""
        return self.embed([""])

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, H, W] in [-1, 1] to mean and standard deviation of their latents, [n, 2, c, h, w]."""
        import torch

        with torch.no_grad():
            latent = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        moments = torch.stack([latent.mean, latent.std], 1).float()
        return moments * float(self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [n, c, h, w] to pixels [n, H, W, 3], uint8."""
        import torch

        with torch.no_grad():
            pixels: Tensor = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype)).sample
        return ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def noised(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """z_t of eq. 2: latents with noise of timestep t [n]."""
        found: Tensor = self.scheduler.add_noise(latents, noise, t)
        return found

    def denoising_target(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the denoiser is trained to predict: the noise, or the velocity where the pipeline was made so."""
        if self.scheduler.config.prediction_type == "v_prediction":
            found: Tensor = self.scheduler.get_velocity(latents, noise, t)
            return found
        return noise

    def predict(self, noisy: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The denoiser's output ε_θ(z_t | text), like `noisy`."""
        found: Tensor = self.unet(noisy, t, encoder_hidden_states=text, return_dict=False)[0]
        return found


def tokenizer(folder: Path) -> Any:
    """The tokenizer of the pipeline in `folder`, without the rest; its length is what the text encoder reads.

    Of the two lengths the smaller one counts: a tokenizer that was saved without one has 10^30. UserError if it has no
    padding, or words that the text encoder does not know.
    """
    from transformers import CLIPTextConfig, CLIPTokenizer

    with told(f"{folder}: its tokenizer or text_encoder cannot be read", ": copy both here again"):
        found = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        encoder = CLIPTextConfig.from_pretrained(folder / "text_encoder")
        known, length = int(encoder.vocab_size), min(int(found.model_max_length), int(encoder.max_position_embeddings))
    if found.pad_token is None:
        raise UserError(f"{folder}/tokenizer has no pad_token: write one into its tokenizer_config.json")
    if len(found) > known:
        raise UserError(f"{folder}: its tokenizer has {len(found)} tokens, its text encoder knows {known}")
    found.model_max_length = length
    return found


def image_size(folder: Path) -> tuple[int, int]:
    """Height and width in pixels of what the pipeline in `folder` makes, without loading it."""
    _, height, width = latent_shape(folder)
    scale = _scale(part_config(folder, "vae"))
    return height * scale, width * scale


def latent_shape(folder: Path) -> tuple[int, int, int]:
    """Channels, height and width of a latent of the pipeline in `folder`, without loading it."""
    return _shape(part_config(folder, "unet"))


def _shape(unet: Any) -> tuple[int, int, int]:
    size = unet["sample_size"]
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return unet.get("in_channels", 4), height, width


def _scale(vae: Any) -> int:
    """Pixels a latent's side."""
    return int(2 ** (len(vae["block_out_channels"]) - 1))


def read_of(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of prompts, as far as the text encoder reads them."""
    found: list[list[int]] = tokenizer(list(prompts), truncation=True, max_length=tokenizer.model_max_length).input_ids
    return found


def cut_off(tokenizer: Any, prompt: str) -> bool:
    """Whether a prompt has more words than the text encoder reads."""
    return len(tokenizer(prompt, verbose=False).input_ids) > int(tokenizer.model_max_length)


def check_prompt(tokenizer: Any, prompt: str) -> None:
    """UserError if a class's or concept's prompt has no token beyond the start and the end."""
    ids = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
    if not [i for i in ids if i not in tokenizer.all_special_ids]:
        raise UserError(f"the prompt {prompt!r} has no word that the tokenizer knows: give another prompt")


def _locate(name: str) -> Path:
    if name in EMBEDDED:
        return EMBEDDED[name]
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path
    if not HUB_NAME.fullmatch(name):
        raise UserError(f"pipeline '{name}' is no folder; {did_you_mean(name, EMBEDDED)}, or OWNER/NAME of a hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    wanted = [INDEX, *(f"{part}/*.{end}" for part in PARTS for end in ("json", "txt", "safetensors"))]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except RepositoryNotFoundError as error:
        raise UserError(f"pipeline '{name}': the hub has none of that name that may be read without an account") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"pipeline '{name}' is not on this machine and the hub cannot be reached: copy it here as a folder in "
            "diffusers' format and give the folder"
        ) from error


def _how(folder: Path, part: str) -> dict[str, Any]:
    """How from_pretrained is to read a part: safetensors, of the variant that is there."""
    how: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    if part != "text_encoder":
        how["low_cpu_mem_usage"] = False  # True needs the package accelerate
    if not weight_files(folder / part, WEIGHTS[part]):
        how["variant"] = "fp16"
    return how
