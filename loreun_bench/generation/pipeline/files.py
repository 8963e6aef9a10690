"""The files of a pipeline's folder in diffusers' format: its JSON, and the weights of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loreun_bench import reading
from loreun_bench.errors import UserError
from loreun_bench.names import inside

INDEX = "model_index.json"  # names the class of each part, of the scheduler among them
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def part_config(folder: Path, part: str) -> dict[str, Any]:
    """The config.json of a part."""
    return read_json(folder / part / "config.json", f"{folder}/{part} cannot be read")


def made_of(index: dict[str, Any], part: str) -> Any:
    """The class of a part, as model_index.json names it."""
    found = index.get(part)
    return found[-1] if isinstance(found, list) and found else found


def weight_files(folder: Path, base: str, variant: str = "") -> list[Path]:
    """The one file of a part's weights, or those that its index names; empty if there is neither."""
    dot = f".{variant}" if variant else ""
    if (folder / f"{base}{dot}.safetensors").is_file():
        return [folder / f"{base}{dot}.safetensors"]
    index = folder / f"{base}.safetensors.index{dot}.json"
    if not index.is_file():
        return []
    named = read_json(index, f"{folder} cannot be read").get("weight_map")
    if not isinstance(named, dict):
        raise UserError(f"{index} has no weight_map: copy it here again")
    return sorted({inside(folder, str(name), index.name) for name in named.values()})


def read_json(path: Path, otherwise: str) -> dict[str, Any]:
    """The mapping in a JSON file. UserError that begins with `otherwise`."""
    try:
        found = reading.as_json(reading.text(path, ""), "")
    except UserError:
        raise UserError(f"{otherwise}: it has no readable {path.name}") from None
    if not isinstance(found, dict):
        raise UserError(f"{otherwise}: {path.name} holds no mapping")
    return found


def header(folder: Path, base: str) -> dict[str, list[int]]:
    """The names and shapes of a part's weights. UserError if it has no safetensors of the name that is loaded, one that
    is cut short, or lacks some of several."""
    from safetensors import safe_open

    files = weight_files(folder, base) or weight_files(folder, base, "fp16")
    if not files:
        raise UserError(f"{folder} holds no {base}.safetensors: other formats can run code and are not read")
    found: dict[str, list[int]] = {}
    for path in files:
        with reading.told(f"{path} is damaged or missing", ": copy it here again"), safe_open(path, framework="pt") as file:
            found |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return found
