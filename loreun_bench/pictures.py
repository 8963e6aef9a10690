"""Pictures in files, as both tracks read them: found in folders, decoded upright to 8-bit RGB, made square."""

from __future__ import annotations

import logging
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from loreun_bench.errors import UserError, plain
from loreun_bench.reading import PIXELS

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

ENDINGS = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff",
        ".ppm", ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip
BAD = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what PIL raises for broken files
PARTS = {  # the folders that may hold a part of a data set, the likelier name first; capitals do not count
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation"),
}
TEST_SHARE = 5  # where nothing is kept for the test, every fifth picture of a class is
LEFT_BEHIND = frozenset(  # folders that other systems leave among one's own; what begins with a dot is hidden anyway
    {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
)

BROKEN_SHOWN = 3
SILENT = 10.0  # seconds of reading before it is said how far it is

T = TypeVar("T")
_log = logging.getLogger(__name__)


def pictures_in(folder: Path) -> list[Path]:
    """Every picture under `folder`, by name; links are followed, what is hidden or other systems left is passed over.

    A link that leads nowhere is a picture, too: whoever reads it is told. UserError if there is none.
    """
    found = sorted(_walk(folder, frozenset()))
    if not found:
        raise UserError(f"folder {folder} holds no picture ({', '.join(sorted(ENDINGS))}): fill it or take it away")
    return found


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in `folder`, by name, without those that are hidden or that other systems left."""
    return sorted(Path(entry.path) for entry in _entries(folder) if _is(entry, "dir"))


def part_of(folder: Path, part: str) -> Path | None:
    """The folder inside `folder` that holds its "train" or "test" part, whichever of PARTS it is called by."""
    inside = {path.name.casefold(): path for path in reversed(folders_in(folder))}
    return next((inside[name] for name in PARTS[part] if name in inside), None)


def upright(path: Path, small: bool = False) -> Image:
    """The picture in a file as RGB: the first of several, turned as its EXIF says. Raises one of BAD for a broken one.

    small: at an eighth of its size, where its format can be decoded so for less, to see whether it is whole.
    """
    from PIL import ImageFile, ImageOps

    if ImageFile.LOAD_TRUNCATED_IMAGES:  # someone in this process asked for grey halves instead of errors
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with opened(path) as file:
            if small:
                file.draft(None, (1, 1))
            turned = ImageOps.exif_transpose(file)
            turned.format = file.format
            return rgb(turned)
    except BAD:
        raise
    except Exception as error:  # a decoder stumbled over broken bytes, or the picture is larger than PIL allows
        raise ValueError(f"{type(error).__name__}: {error}") from error


def opened(path: Path) -> Any:
    """The picture in a file, not yet decoded. Raises one of BAD for what is none, or has more than PIXELS."""
    from PIL import Image as images

    try:
        found = images.open(path)
    except images.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if found.width * found.height > PIXELS:
        found.close()
        raise ValueError(f"it has {found.width}×{found.height} pixels, of which {PIXELS / 1e6:.0f} million are read at most")
    return found


def each_of(paths: Sequence[Path], function: Callable[[Path], T], what: str) -> Iterator[T]:
    """`function` of every picture, in order, by several threads. UserError in the end if some of them are broken."""
    broken: list[str] = []

    def tried(path: Path) -> Any:
        try:
            return function(path)
        except BAD as error:
            broken.append(f"{path} ({why(path, error)})")

    with ThreadPoolExecutor() as pool:
        for result in counted(pool.map(tried, paths), len(paths), what):
            if not broken:
                yield result
    if broken:
        more = f" and {len(broken) - BROKEN_SHOWN} more" if len(broken) > BROKEN_SHOWN else ""
        shown = ", ".join(sorted(broken)[:BROKEN_SHOWN])
        raise UserError(f"picture {shown}{more} cannot be read: replace or take away")


def decode(path: Path) -> np.ndarray:
    """A file's pixels [H, W, 3] uint8, RGB; see `upright`."""
    import numpy as np

    return np.array(upright(path))


def rgb(image: Any) -> Image:
    """A PIL image of any mode as 8-bit RGB; ValueError where its values have no known range.

    16 bits are scaled to 8. What is transparent shows white, as in a viewer; of a picture that is transparent all
    over, the colours beneath are kept, as nothing else is in it.
    """
    import numpy as np
    from PIL import Image as images

    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # 32 bits; of these two it is how PIL reads 16
        raise ValueError("32-bit pixels have no known range")
    if image.mode.startswith("I"):  # PIL's own conversion cuts everything above 255 off
        image = images.fromarray((np.asarray(image) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        low, high = layer.getchannel("A").getextrema()
        if low < 255 and high > 0:
            image = images.alpha_composite(images.new("RGBA", layer.size, "white"), layer)
    found: Image = image.convert("RGB")
    return found


def square(image: Image, size: int) -> Image:
    """The middle of the picture at size × size pixels: its shorter side is resized to `size`, the longer one cut."""
    from PIL import Image as images

    width, height = image.size
    scale = size / min(width, height)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    if (wide, high) != (width, height):
        image = image.resize((wide, high), images.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return image.crop((left, top, left + size, top + size))


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """`items`, with a line in the log every ten seconds, as reading many pictures takes minutes."""
    said = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - said > SILENT:
            said = time.monotonic()
            _log.warning("note: read %d of %d %s", number, total, plain(what))
        yield item


def why(path: Path, error: BaseException) -> str:
    """What keeps a picture from being read, in one line without its path."""
    return " ".join(f"{type(error).__name__}: {error}".replace(str(path), path.name).split())


def _walk(folder: Path, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """`above`: the folders on the way, so that a link to one of them ends the way and does not go round."""
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if _is(entry, "dir"):
            yield from _walk(Path(entry.path), above | {here})
        elif os.path.splitext(entry.name)[1].lower() in ENDINGS and _is_picture(entry):
            yield Path(entry.path)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link that leads to one or nowhere: what a pipe or a device holds has no end."""
    return _is(entry, "file") or (entry.is_symlink() and not os.path.exists(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.casefold() not in LEFT_BEHIND]
    except OSError as error:
        raise UserError(f"folder {folder} cannot be read: {error.strerror}") from error


def _is(entry: os.DirEntry[str], kind: str) -> bool:
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:  # a link that leads to itself
        return False
