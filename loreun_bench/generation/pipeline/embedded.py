"""The embedded pipelines: Stable Diffusion's classes, small enough to ship, trained on small pictures.

Their files lie in `assets/NAME`; `python -m loreun_bench data prepare NAME-pipeline` trains them anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loreun_bench.generation.data.concepts import dataset
from loreun_bench.generation.datasets.digits import WORDS

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Listener = Callable[[str, float], None]  # told what is under way, and the share of all the work that is done
PROMPT = "an image of {}"
TEXT_LENGTH = 12
PART = 1000  # pictures that are encoded at once
FIRST = 0.4  # of the time, about, is the autoencoder's
_START, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """What a pipeline is trained on, and how large it is.

    data: a data set of this track; size: its pictures' sides in pixels; encoder, denoiser: channels, after the first of
    which each halves the sides; steps: of the denoiser, half as many of the autoencoder.
    """

    data: str
    size: int
    encoder: tuple[int, ...]
    denoiser: tuple[int, ...]
    steps: int = 3000

    @property
    def latent(self) -> int:
        """The sides of a latent."""
        return self.size >> len(self.encoder) - 1


RECIPES = {
    "digits": Recipe("digits", 16, (16, 32), (32, 64)),
    "fashion-mnist": Recipe("fashion-mnist", 32, (16, 32, 32), (32, 64)),
}


def build(folder: Path, recipe: Recipe, listen: Listener = lambda what, share: None, seed: int = 0) -> None:
    """Train a pipeline and save it, in half precision, in diffusers' format under `folder`."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(seed)
    data = dataset(recipe.data, "train")
    images = data.load(torch.arange(len(data)), recipe.size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder / "tokenizer", data.classes)
    vae, latents = _train_autoencoder(recipe, images, lambda share: listen("autoencoder", FIRST * share))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    text_encoder = _make_text_encoder(tokenizer)
    unet = _make_unet(recipe)
    prompts = tokenizer(
        [PROMPT.format(name) for name in data.classes] + [""], padding="max_length", max_length=TEXT_LENGTH,
        return_tensors="pt",
    ).input_ids  # fmt: skip
    denoiser = _Denoiser(unet, text_encoder, prompts, scheduler)
    _train_denoiser(denoiser, latents, data.labels, recipe.steps, lambda s: listen("denoiser", FIRST + (1 - FIRST) * s))
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


def make_tokenizer(folder: Path, classes: Sequence[str] = WORDS) -> Any:
    """A byte-pair tokenizer of CLIP's kind that knows the words of the prompts whole, and any other letter by letter."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[str] = []
    for word in re.findall("[a-z]+", " ".join((PROMPT.replace("{}", ""), *classes)).lower()):
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merge = f"{parts[0]} {parts[1]}"
            parts[:2] = [parts[0] + parts[1]]
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(parts[0])
    vocabulary = [*dict.fromkeys(vocabulary), _START, _END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TEXT_LENGTH)


def _make_text_encoder(tokenizer: Any) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model: nn.Module = CLIPTextModel(config)
    return model


def _make_unet(recipe: Recipe) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=recipe.latent, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=recipe.denoiser,
        down_block_types=("CrossAttnDownBlock2D",) * len(recipe.denoiser),
        up_block_types=("CrossAttnUpBlock2D",) * len(recipe.denoiser),
        cross_attention_dim=64, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip


def _train_autoencoder(recipe: Recipe, images: Tensor, listen: Callable[[float], None]) -> tuple[AutoencoderKL, Latents]:
    """Pixels in [-1, 1] to smaller latents and back, and what the images come to: the latents' scale is set so that their
    variance is 1."""
    from diffusers import AutoencoderKL

    blocks, steps = len(recipe.encoder), recipe.steps // 2
    vae = AutoencoderKL(
        block_out_channels=recipe.encoder, down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks, layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=recipe.size,
    )  # fmt: skip
    optimiser = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x = images[torch.randint(len(images), (64,))]
        latent = vae.encode(x).latent_dist
        loss = F.mse_loss(vae.decode(latent.sample()).sample, x) + 1e-4 * latent.kl().mean() / latent.mean[0].numel()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        listen((step + 1) / steps)
    vae.eval().requires_grad_(False)
    found = [vae.encode(part).latent_dist for part in images.split(PART)]
    latents = Latents(torch.cat([each.mean for each in found]), torch.cat([each.std for each in found]))
    vae.register_to_config(scaling_factor=round(float(1 / latents.drawn().std()), 4))
    return vae, Latents(latents.mean * vae.config.scaling_factor, latents.std * vae.config.scaling_factor)


@dataclass(frozen=True)
class Latents:
    """What an autoencoder makes of images: the mean and deviation [N, 4, side, side] of the latents of each."""

    mean: Tensor
    std: Tensor

    def drawn(self, index: Tensor | slice = slice(None)) -> Tensor:
        """One latent each."""
        mean, std = self.mean[index], self.std[index]
        return mean + std * torch.randn_like(mean)


class _Denoiser(nn.Module):
    """The loss of denoiser and text encoder; prompts: [classes + 1, length], the last one empty."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, prompts: Tensor, scheduler: Any) -> None:
        super().__init__()
        self.unet, self.text_encoder, self._prompts, self._scheduler = unet, text_encoder, prompts, scheduler

    def forward(self, z: Tensor, said: Tensor) -> Tensor:
        """z [B, 4, side, side], said [B]: the row of `prompts` → the mean squared error of the noise that is seen."""
        noise, t = torch.randn_like(z), torch.randint(1000, (len(z),))
        text = self.text_encoder(self._prompts)[0][said]
        return F.mse_loss(self.unet(self._scheduler.add_noise(z, noise, t), t, text).sample, noise)


def _train_denoiser(both: _Denoiser, latents: Latents, labels: Tensor, steps: int, listen: Callable[[float], None]) -> None:
    """Text encoder and denoiser together; every tenth prompt is empty, for guidance. The mean of late weights is kept."""
    mean = torch.optim.swa_utils.AveragedModel(both, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(both.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    empty = int(labels.max()) + 1
    for step in range(steps):
        index = torch.randint(len(labels), (128,))
        loss = both(latents.drawn(index), torch.where(torch.rand(len(index)) < 0.1, empty, labels[index]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(both)
        listen((step + 1) / steps)
    both.load_state_dict(mean.module.state_dict())
    both.eval()
