"""Imagenette: ten classes of ImageNet that are easily told apart, as fast.ai and torchvision lay it out."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.decorators import dataset
from loreun_bench.errors import UserError, did_you_mean
from loreun_bench.generation.data.names import IMAGENETTE
from loreun_bench.generation.datasets.folder import checked_split, of_files
from loreun_bench.generation.scoring.pictures import Pictures
from loreun_bench.pictures import part_of, pictures_in

ARCHIVES = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}
SIZES = tuple(ARCHIVES)
TRAINING, TEST = 9469, 3925  # photographs


@dataset("imagenette", classes=10, paper="Howard and Gugger, Information 2020", track="generation")
def imagenette(root: Path, split: str) -> Pictures:
    """9469 training and 3925 test photographs of ten classes; the largest copy in the data folder is read.

    root: the folder that has train/n01440764/… and val/…, or one above it that holds imagenette2, imagenette2-320 or
    imagenette2-160. Nothing is downloaded: UserError says how to bring it.
    """
    for name in (".", "imagenette", *ARCHIVES.values()):
        if (root / name / "train").is_dir() and any((root / name / "train" / wnid).is_dir() for wnid in IMAGENETTE):
            return _read(root / name, split)
    raise UserError(
        f"Imagenette is not in {root}: run `loreun-bench data prepare imagenette`, which downloads it, or put the "
        f"unpacked imagenette2-320 there (train/n01440764/*.JPEG, val/n01440764/*.JPEG, …)"
    )


def fetch(root: Path, size: str = "320px") -> Path:
    """Download Imagenette (320px: 326 MB) through torchvision, unless it is there, and return its folder.

    UserError if the download fails, or for a size that is not one of SIZES.
    """
    from torchvision.datasets import Imagenette

    if size not in ARCHIVES:
        raise UserError(f"unknown size '{size}' of Imagenette; {did_you_mean(size, SIZES)}")
    where = root / ARCHIVES[size]
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not where.is_dir():
            Imagenette(root, size=size, download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise UserError(
            f"Imagenette could not be downloaded ({error}): unpack a copy as {where}, with train/ and val/ in it"
        ) from error
    _read(where, "test")  # a download that was cut short lacks classes
    return where


def _read(where: Path, split: str) -> Pictures:
    checked_split(split)
    own = part_of(where, split) or where / {"train": "train", "test": "val"}[split]
    missing = [f"{wnid} ({name})" for wnid, name in IMAGENETTE.items() if not (own / wnid).is_dir()]
    if missing:
        raise UserError(f"Imagenette in {own} lacks {', '.join(missing)}: take the folder away and prepare it again")
    return of_files({name: pictures_in(own / wnid) for wnid, name in IMAGENETTE.items()})
