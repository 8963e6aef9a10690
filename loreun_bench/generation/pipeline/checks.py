"""Whether a pipeline is of the kind that can be unlearned here: by its files, and by its parts' shapes, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loreun_bench.errors import UserError
from loreun_bench.generation.pipeline import schedules
from loreun_bench.generation.pipeline.files import INDEX, PARTS, WEIGHTS, header, made_of, part_config, read_json

CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
MOST_LAYERS = 1000  # of a part, or a block of it: more would take memory without end to put together
MOST_BLOCKS = 8  # of an autoencoder, each of which halves the picture; Stable Diffusion's has 4
_MORE = {  # what a denoiser may want beside latent, time and text
    "class_embed_type": "a class beside the text", "num_class_embeds": "a class beside the text",
    "time_cond_proj_dim": "the guidance as an input, as distilled ones do",
    "encoder_hid_dim": "another embedding than the text's", "encoder_hid_dim_type": "another embedding than the text's",
}  # fmt: skip


def check(folder: Path) -> None:
    """UserError unless the folder holds a text-to-image pipeline that can be loaded from safetensors and trained here."""
    index = read_json(folder / INDEX, f"{folder} is not a pipeline in diffusers' format")
    for part in PARTS:
        if part not in index or not (folder / part).is_dir():
            raise UserError(f"{folder} has no {part}: a text-to-image pipeline of Stable Diffusion's kind needs one")
    for part, wanted in CLASSES.items():
        if (found := made_of(index, part)) != wanted:
            raise UserError(f"{folder}: its {part} is a {found}, not a {wanted}: only Stable Diffusion 1 and 2 fit")
        header(folder / part, WEIGHTS[part])
    words = {path.name for path in (folder / "tokenizer").iterdir()}
    if not (words >= {"vocab.json", "merges.txt"} or "tokenizer.json" in words):
        raise UserError(f"{folder}/tokenizer has neither vocab.json with merges.txt nor tokenizer.json")
    if "text_encoder_2" in index:
        raise UserError(f"{folder} is of Stable Diffusion XL's kind: only Stable Diffusion 1 and 2 fit")
    _check_layers(folder)
    _check_unet(folder, part_config(folder, "unet"), part_config(folder, "vae"))
    schedules.check(folder)


def _check_layers(folder: Path) -> None:
    """UserError if a part is to have more layers than any has."""
    for part in CLASSES:
        for key, value in part_config(folder, part).items():
            numbers = value if isinstance(value, list) else [value]
            if "layers" in key and any(isinstance(number, int) and number > MOST_LAYERS for number in numbers):
                raise UserError(f"{folder}/{part}: {key} {value!r} in its config.json is more than {MOST_LAYERS}")


def _check_unet(folder: Path, unet: dict[str, Any], vae: dict[str, Any]) -> None:
    """UserError unless the denoiser takes a noisy latent, a timestep and a text, and gives what was predicted."""
    if unet.get("addition_embed_type") is not None:
        raise UserError(f"{folder} is of Stable Diffusion XL's kind: only Stable Diffusion 1 and 2 fit")
    channels, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if type(channels) is not int:
        raise UserError(f"{folder}/unet: in_channels {channels!r} in its config.json is no number")
    if channels != latent:
        kind = {9: ", as for inpainting", 8: ", as for editing or depth", 7: ", as for upscaling"}.get(channels, "")
        raise UserError(f"{folder}: its unet takes {channels} channels{kind}, its vae gives {latent}: no text to image")
    if unet.get("out_channels", 4) != channels:
        raise UserError(f"{folder}: its unet gives {unet['out_channels']} channels for {channels}: more than the noise")
    for key, what in _MORE.items():
        if unet.get(key) is not None:
            raise UserError(f"{folder}: its unet wants {what} ({key} in unet/config.json): no text to image")
    for key in ("shift_factor", "latents_mean", "latents_std"):
        if vae.get(key) is not None:
            raise UserError(f"{folder}: its vae shifts latents ({key}), which Stable Diffusion 1 and 2 do not")
    if not isinstance(widths := vae.get("block_out_channels"), list) or not 0 < len(widths) <= MOST_BLOCKS:
        raise UserError(f"{folder}/vae: block_out_channels {widths!r} in its config.json are not the widths of its blocks")
    size = unet.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"{folder}/unet: sample_size {size!r} in its config.json is neither a side nor [height, width]")


def tried(folder: Path, shape: tuple[int, int, int], length: int) -> str:
    """Pass latents [1, *shape] and a text of `length` tokens through all parts, as shapes without values: what of the
    denoiser must not be trained in bfloat16 on a CPU, "" for nothing.

    UserError if the parts do not fit one another, or the weights do not fit the denoiser: diffusers would fill what is
    missing with random numbers.
    """
    import torch

    from loreun_bench.training.convolutions import Unsafe

    try:
        with torch.device("meta"), torch.no_grad():
            unet, vae, text_encoder = _parts(folder)
            text = text_encoder(torch.zeros(1, length, dtype=torch.int64))[0]
            latent = torch.zeros(1, *shape)
            with Unsafe() as unsafe:
                found = unet(latent, torch.zeros(1, dtype=torch.int64), encoder_hidden_states=text, return_dict=False)[0]
            pixels = vae.decode(latent).sample
            again = vae.encode(pixels).latent_dist.mean
    except UserError:
        raise
    except Exception as error:  # whatever a network says that is given what it was not made for
        raise UserError(f"{folder}: its parts do not fit one another: {' '.join(str(error).split())[:300]}") from error
    if not found.shape == again.shape == latent.shape:
        raise UserError(f"{folder}: latents {list(latent.shape[1:])} come back as {list(found.shape[1:])} from the unet and "
                        f"as {list(again.shape[1:])} from the vae")  # fmt: skip
    there = header(folder / "unet", WEIGHTS["unet"])
    for name, tensor in unet.state_dict().items():
        if there.get(name) != list(tensor.shape):
            held = f"is {there[name]}" if name in there else "is missing"
            raise UserError(f"{folder}/unet: the weight {name} {held}, its config.json asks for {list(tensor.shape)}")
    return str(unsafe.found)


def _parts(folder: Path) -> tuple[Any, Any, Any]:
    """Denoiser, autoencoder and text encoder, on the device of the context."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    unet, vae = (cls.from_config(part_config(folder, name)) for cls, name in
                 ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")))  # fmt: skip
    text_encoder = CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder"))
    return unet, vae, text_encoder.eval()
