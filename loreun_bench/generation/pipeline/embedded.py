"""The embedded pipeline: Stable Diffusion's classes, small enough to ship, trained on scikit-learn's digits.

Its files lie in `assets/digits`; `python -m loreun_bench data prepare digits-pipeline` trains them anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from loreun_bench.generation.datasets.digits import WORDS, digits

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Listener = Callable[[str, float], None]  # told what is under way, and the share of it that is done
PROMPT = "an image of {}"
SIZE = 16  # pixels
TEXT_LENGTH = 12
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build(folder: Path, listen: Listener = lambda what, share: None, steps: int = 3000, seed: int = 0) -> None:
    """Train the pipeline and save it, in half precision, in diffusers' format under `folder`."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(seed)
    data = digits(folder, "train")
    images, labels = data.load(torch.arange(len(data)), SIZE), data.labels
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder / "tokenizer")
    vae = _train_autoencoder(images, steps // 2, lambda share: listen("autoencoder", share))
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    text_encoder = _make_text_encoder(tokenizer)
    unet = _make_unet()
    _train_denoiser(unet, text_encoder, tokenizer, vae, scheduler, images, labels, steps, lambda s: listen("denoiser", s))
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)


def make_tokenizer(folder: Path) -> Any:
    """A byte-pair tokenizer of CLIP's kind that knows the words of the prompts whole, and any other letter by letter."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[str] = []
    for word in (*PROMPT.replace("{}", "").split(), *WORDS):
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


def _make_unet() -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIZE // 2, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64, attention_head_dim=4, norm_num_groups=8,
    )  # fmt: skip


def _train_autoencoder(images: Tensor, steps: int, listen: Callable[[float], None]) -> AutoencoderKL:
    """Pixels in [-1, 1] to latents of half the size and back; the latents' scale is set so that their variance is 1."""
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=8,
        sample_size=SIZE,
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
    with torch.no_grad():
        spread = vae.encode(images).latent_dist.sample().std()
    vae.register_to_config(scaling_factor=round(float(1 / spread), 4))
    return vae.eval().requires_grad_(False)


def _train_denoiser(
    unet: nn.Module, text_encoder: nn.Module, tokenizer: Any, vae: AutoencoderKL, scheduler: Any, images: Tensor,
    labels: Tensor, steps: int, listen: Callable[[float], None],
) -> None:  # fmt: skip
    """Text encoder and denoiser together; every tenth prompt is empty, for guidance. The mean of late weights is kept."""
    prompts = [PROMPT.format(word) for word in WORDS] + [""]
    tokens = tokenizer(prompts, padding="max_length", max_length=TEXT_LENGTH, return_tensors="pt").input_ids
    with torch.no_grad():
        latent = vae.encode(images).latent_dist
    both = nn.ModuleDict({"unet": unet, "text": text_encoder})
    mean = torch.optim.swa_utils.AveragedModel(both, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998))
    optimiser = torch.optim.AdamW(both.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        index = torch.randint(len(images), (128,))
        z = (latent.mean + latent.std * torch.randn_like(latent.mean))[index] * vae.config.scaling_factor
        noise, t = torch.randn_like(z), torch.randint(1000, (len(z),))
        said = torch.where(torch.rand(len(z)) < 0.1, len(WORDS), labels[index])
        text = text_encoder(tokens)[0][said]
        loss = F.mse_loss(unet(scheduler.add_noise(z, noise, t), t, text).sample, noise)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean.update_parameters(both)
        listen((step + 1) / steps)
    both.load_state_dict(mean.module.state_dict())
    both.eval()
