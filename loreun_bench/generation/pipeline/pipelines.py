"""Text-to-image pipelines in diffusers' format: found, checked, loaded, and the three things done with one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.harness.files import sha256_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EMBEDDED = {"digits": Path(__file__).parents[1] / "assets" / "digits"}
HUB_NAME = re.compile(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+")
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


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
    _check(folder)
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for part in PARTS
        for path in sorted((folder / part).rglob("*"))
        if path.is_file() and path.suffix in (".json", ".txt", ".safetensors")
    }
    own = name not in EMBEDDED and Path(name).expanduser().is_dir()
    return PipelineFiles(folder.resolve().name if own else name, folder, files, str(folder.resolve()) if own else name)


def load(folder: Path, device: str, precision: str = "fp32") -> Pipeline:
    """The pipeline in `folder`; what is trained in float32, what is not in bfloat16 if `precision` is "bf16"."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar a component, over in milliseconds
    frozen = torch.bfloat16 if precision == "bf16" else torch.float32

    def part(cls: Any, name: str, dtype: torch.dtype) -> Any:
        model = cls.from_pretrained(folder / name, **_how(folder, name))
        torch.nn.Module.to(
            model, device, dtype
        )  # diffusers' own warns of layers to be kept in float32, of which there are none
        return model.eval().requires_grad_(False)

    return Pipeline(
        unet=part(UNet2DConditionModel, "unet", torch.float32),
        vae=part(AutoencoderKL, "vae", frozen),
        text_encoder=part(CLIPTextModel, "text_encoder", frozen),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False),
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
        config = self.unet.config
        return config.in_channels, config.sample_size, config.sample_size  # type: ignore[union-attr,return-value]

    @property
    def image_size(self) -> int:
        """Pixels on a side."""
        size: int = self.latent_shape[1] * 2 ** (len(self.vae.config.block_out_channels) - 1)
        return size

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
    """The tokenizer of the pipeline in `folder`, without the rest."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def image_size(folder: Path) -> int:
    """Pixels on a side of what the pipeline in `folder` makes, without loading it."""
    unet, vae = (_json(folder / part / "config.json", f"{folder}/{part} cannot be read") for part in ("unet", "vae"))
    size: int = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    return size


def timesteps(folder: Path) -> int:
    """How many timesteps of noise the pipeline in `folder` has, without loading it."""
    return int(_scheduler(folder).get("num_train_timesteps", 1000))


def _scheduler(folder: Path) -> dict[str, Any]:
    return _json(folder / "scheduler" / "scheduler_config.json", f"{folder}/scheduler cannot be read")


def check_prompt(tokenizer: Any, prompt: str) -> None:
    """UserError if a class's or concept's prompt has no token beyond the start and the end."""
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
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

    wanted = ["model_index.json", *(f"{part}/*.{end}" for part in PARTS for end in ("json", "txt", "safetensors"))]
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


def _check(folder: Path) -> None:
    """UserError unless the folder holds a text-to-image pipeline that can be loaded from safetensors and trained here."""
    index = _json(folder / "model_index.json", f"{folder} is not a pipeline in diffusers' format")
    for part in PARTS:
        if part not in index or not (folder / part).is_dir():
            raise UserError(f"{folder} has no {part}: a text-to-image pipeline of Stable Diffusion's kind needs one")
    for part, wanted in (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL"), ("text_encoder", "CLIPTextModel")):
        found = index[part][-1] if isinstance(index[part], list) and index[part] else index[part]
        if found != wanted:
            raise UserError(f"{folder}: its {part} is a {found}, not a {wanted}: only Stable Diffusion 1 and 2 fit")
        _json(folder / part / "config.json", f"{folder}/{part} cannot be read")
        _check_weights(folder / part, _WEIGHTS[part])
    words = {path.name for path in (folder / "tokenizer").iterdir()}
    if not (words >= {"vocab.json", "merges.txt"} or "tokenizer.json" in words):
        raise UserError(f"{folder}/tokenizer has neither vocab.json with merges.txt nor tokenizer.json")
    if "text_encoder_2" in index or _json(folder / "unet" / "config.json", "").get("addition_embed_type") is not None:
        raise UserError(f"{folder} is of Stable Diffusion XL's kind: only Stable Diffusion 1 and 2 fit")
    predicts = _scheduler(folder).get("prediction_type") or "epsilon"
    if predicts not in ("epsilon", "v_prediction"):
        raise UserError(f"{folder}: its denoiser predicts the {predicts}, not the noise or the velocity")


def _check_weights(folder: Path, base: str) -> None:
    """UserError if a part has no safetensors of the name that is loaded, one that is cut short, or lacks some of several."""
    from safetensors import SafetensorError, safe_open

    files = _files(folder, base) or _files(folder, base, "fp16")
    if not files:
        raise UserError(f"{folder} holds no {base}.safetensors: other formats can run code and are not read")
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged or missing ({error}): copy it here again") from error


def _files(folder: Path, base: str, variant: str = "") -> list[Path]:
    """The one file of a part's weights, or those that its index names; empty if there is neither."""
    dot = f".{variant}" if variant else ""
    if (folder / f"{base}{dot}.safetensors").is_file():
        return [folder / f"{base}{dot}.safetensors"]
    index = folder / f"{base}.safetensors.index{dot}.json"
    if not index.is_file():
        return []
    named = _json(index, f"{folder} cannot be read").get("weight_map", {})
    return sorted({folder / str(name) for name in named.values()})


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    """The mapping in a JSON file. UserError that begins with `otherwise`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{otherwise}: it has no readable {path.name}") from None
    if not isinstance(found, dict):
        raise UserError(f"{otherwise}: {path.name} holds no mapping")
    return found


def _how(folder: Path, part: str) -> dict[str, Any]:
    """How from_pretrained is to read a part: safetensors, of the variant that is there."""
    how: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    if part != "text_encoder":
        how["low_cpu_mem_usage"] = False  # True needs the package accelerate
    if not _files(folder / part, _WEIGHTS[part]):
        how["variant"] = "fp16"
    return how
