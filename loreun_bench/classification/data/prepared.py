"""Data sets as files: read from wherever they come, checked, kept as one safetensors file of uint8 images each."""

from __future__ import annotations

import glob
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loreun_bench import pictures
from loreun_bench.classification.data import arrays as contents
from loreun_bench.classification.data import folders, plain
from loreun_bench.classification.data.arrays import Arrays, checked
from loreun_bench.classification.data.returned import as_arrays
from loreun_bench.classification.data.sources import is_idx, read_any, read_idx, read_npz
from loreun_bench.errors import UserError
from loreun_bench.harness.files import locked, sha256_file, write_atomic
from loreun_bench.harness.seeding import seeded
from loreun_bench.harness.stage import code_digest, digest
from loreun_bench.harness.store import data_root
from loreun_bench.names import inside
from loreun_bench.registry import Entry, blamed, call_reference, registry

if TYPE_CHECKING:
    import numpy as np

READERS = tuple(Path(str(module.__file__)) for module in (pictures, folders, contents, plain))
MEAN_SLACK = 0.005  # how far the mean pixel, of [0, 1], may be from the published one
DARK = 64  # 16-bit pictures that use a part of their range come out below this


@dataclass(frozen=True)
class DataInfo:
    """What is known of a prepared data set without opening it.

    mean, std: per channel, of the training images in [0, 1]; names: of the classes, by label; subclasses: names of the
    finer classes, if there are any; note: what was decided when the data were read.
    """

    name: str
    file: str
    sha256: str
    shape: tuple[int, int, int]
    classes: int
    train: tuple[int, ...]  # training images in each class
    test: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] = ()
    subclasses: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if not self.names:  # as in descriptions written before classes had names
            object.__setattr__(self, "names", tuple(map(str, range(self.classes))))

    @property
    def path(self) -> Path:
        """The data file."""
        return data_root() / self.file

    def identity(self) -> dict[str, Any]:
        """All that a stage needs to find and normalise the data, and its key to depend on; lists, as in JSON."""
        return {key: value for key, value in self.described().items() if key != "note"}

    def described(self) -> dict[str, Any]:
        """All fields as JSON holds them."""
        return dict(json.loads(json.dumps(asdict(self))))


def resolve(dataset: str, image_size: int | None = None) -> DataInfo:
    """The prepared data set of a name, a `FILE.py:function`, an .npz, or a folder of pictures or idx files.

    Embedded and user data are prepared on the spot. image_size: what pictures are resized to. UserError if data are
    missing, truncated or not what they should be, or have another size.
    """
    info = _resolved(dataset, image_size)
    if image_size not in (None, *info.shape[:2]) or (image_size is not None and info.shape[0] != info.shape[1]):
        height, width = info.shape[:2]
        raise UserError(f"image_size: the pictures of '{dataset}' are {height}×{width} and stay so; take image_size out")
    return info


def _resolved(dataset: str, image_size: int | None) -> DataInfo:
    if ".py:" in dataset:
        what = f"data set '{dataset}'"
        with seeded(0):  # pictures that are shuffled or augmented are the same when a sweep goes on
            arrays = as_arrays(what, call_reference(dataset, "data set"), image_size)
        return _own(dataset.rpartition(":")[2], arrays)
    path = Path(dataset).expanduser()
    if dataset not in {entry.name for entry in registry("datasets").entries()} and path.exists():
        return _of_path(path, image_size)
    if path.suffix.lower() == ".npz" or len(path.parts) > 1:
        raise UserError(f"dataset: {dataset} is not there: give an .npz, or a folder of pictures or idx files")
    entry = registry("datasets").get(dataset)
    if entry.info["embedded"] and entry.plugged:
        return _own(dataset, _made(entry, None))  # again each time: its code may have changed
    if not (data_root() / f"{dataset}.json").is_file():
        if not entry.info["embedded"]:
            raise UserError(
                f"data set '{dataset}' is not prepared: run `loreun-bench data prepare {dataset}` (downloads it), "
                f"or with --from PATH for a copy you have"
            )
        return prepare(dataset)
    info = verify(dataset)
    if other := difference(info, entry):
        raise UserError(f"the prepared data are not {dataset} ({other}); {_remedy(dataset)}")
    return info


def _of_path(path: Path, image_size: int | None) -> DataInfo:
    name = path.resolve().name
    if path.is_file():
        if path.suffix.lower() != ".npz":
            raise UserError(f"dataset: {path} is no .npz: give one, a folder of pictures or idx files, or FILE.py:function")
        return _own(name.removesuffix(path.suffix), read_npz(path))
    if is_idx(path):
        return _own(name, read_idx(path))
    found = folders.find(path)
    if image_size is None:
        raise UserError(f"picture folder {path}: set image_size, to which its pictures are resized, such as "
                        f"{folders.suggestion(found)}")  # fmt: skip
    hashes = folders.hashes(found)
    source = digest([
        hashes, {part: found.files(part) for part in found.parts}, found.note, image_size,
        [code_digest(file) for file in (*READERS, Path(__file__))],
    ])  # fmt: skip
    return _read_before(name, source) or _own(name, folders.read(found, image_size), source)


def _own(name: str, arrays: Arrays, source: str = "") -> DataInfo:
    return _write(name, _looked_at(checked(name, arrays)), own=True, source=source)


def _looked_at(arrays: Arrays) -> Arrays:
    """The user's arrays, with what may surprise about them in the note."""
    notes = [arrays.note] if arrays.note else []
    trained = {hashlib.sha256(picture.tobytes()).digest() for picture in arrays.train_images}
    again = sum(hashlib.sha256(picture.tobytes()).digest() in trained for picture in arrays.test_images)
    if again:
        notes.append(f"{again} of {len(arrays.test_images)} test pictures are training pictures, too")
    brightest = int(arrays.train_images.max())
    if brightest < DARK:
        notes.append(f"the brightest pixel is {brightest} of 255, as of 16-bit pictures that use a part of their range")
    return replace(arrays, note="; ".join(notes))


def _read_before(name: str, source: str) -> DataInfo | None:
    """The data that were made of the same pictures earlier, if they are whole."""
    for path in data_root().glob(f"{glob.escape(name)}-*.json"):
        try:
            if _description(path.stem).get("source") == source:
                return verify(path.stem)
        except UserError:  # they are made again
            continue
    return None


@cache
def verified(file: str, sha256: str) -> Path:
    """The path of a data file whose bytes have this hash; looked at once a process."""
    path = data_root() / file
    if not path.is_file():
        raise UserError(f"data file {path} is missing on this machine; {_remedy(path.stem)}, or share $LOREUN_DATA")
    if sha256_file(path) != sha256:
        raise UserError(f"data file {path} is truncated or changed; {_remedy(path.stem)}")
    return path


def prepare(name: str, source: Path | None = None) -> DataInfo:
    """Bring data set `name` into the data folder: from `source` (.npz, idx folder, torchvision folder), or by download.

    UserError if it cannot be had, or is not what is published under that name.
    """
    entry = registry("datasets").get(name)
    return _write(name, _made(entry, source), code=code_digest(entry.file) if entry.plugged else "")


def _made(entry: Entry, source: Path | None) -> Arrays:
    """The registered data set, checked to be what its decorator says."""
    if source is not None:
        found = read_any(entry.name, source)
    elif entry.info["embedded"] and entry.plugged:
        with blamed(entry.file, f"data set '{entry.name}'"), seeded(0):
            found = as_arrays(f"data set '{entry.name}'", entry.item(data_root() / "download", True))
    else:
        try:
            found = as_arrays(f"data set '{entry.name}'", entry.item(data_root() / "download", True))
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"data set '{entry.name}' could not be downloaded ({error}); with a local copy: "
                f"`loreun-bench data prepare {entry.name} --from PATH`"
            ) from error
    adapt = entry.info["adapt"]
    arrays = checked(entry.name, found if adapt is None else adapt(found), entry.info["names"])
    if other := difference(info_of(entry.name, arrays), entry):
        instead = f": give it as dataset: {source}" if source is not None else ""
        raise UserError(f"{source or entry.name}: these are not {entry.name} ({other}){instead}")
    return arrays


def difference(info: DataInfo, entry: Entry) -> str:
    """How these data differ from what is published under the entry's name, "" if they do not."""
    about = entry.info
    if about["shape"] and info.shape != tuple(about["shape"]):
        return f"images {'×'.join(map(str, info.shape))}, not {'×'.join(map(str, about['shape']))}"
    if about["classes"] and info.classes != about["classes"]:
        return f"{info.classes} classes, not {about['classes']}"
    if entry.plugged and about["names"] and info.names != tuple(about["names"]):
        return f"classes are called {', '.join(info.names[:5])}, not {', '.join(about['names'][:5])}"
    for part, word, counts in zip(pictures.PARTS, ("training", "test"), about["counts"] or (), strict=False):
        found = getattr(info, part)
        if sum(found) != sum(counts):
            return f"{sum(found)} {word} images, not {sum(counts)}"
        odd = next((i for i, (one, other) in enumerate(zip(found, counts, strict=True)) if one != other), None)
        if odd is not None:
            return f"{found[odd]} {word} images of class '{info.names[odd]}', not {counts[odd]}"
    for found, published in zip(info.mean, about["mean"] or (), strict=False):
        if abs(found - published) > MEAN_SLACK:
            return f"training pixels of mean {found:.3f}, not {published:.3f}"
    return ""


def verify(name: str) -> DataInfo:
    """The prepared data set, its description and its bytes checked against the hashes taken when it was prepared."""
    try:
        values = _description(name)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values["info"].items()}
        names = {entry.name: entry.info["names"] for entry in registry("datasets").entries()}.get(name, ())
        info = DataInfo(**({"names": names} | fields))
        inside(data_root(), info.file, f"the description of data set '{name}'")
    except (TypeError, AttributeError) as error:
        raise UserError(f"the description of data set '{name}' is unreadable or changed; {_remedy(name)}") from error
    code = values.get("code")
    if code and code != code_digest(registry("datasets").get(name).file):
        raise UserError(f"data set '{name}' was prepared by other code than it has now; {_remedy(name)}")
    verified.cache_clear()
    verified(info.file, info.sha256)
    return info


def table(info: DataInfo, part: str) -> dict[str, np.ndarray]:
    """Columns of text about the pictures of a part, "train" or "test", in the file's order.

    "file": the name in the folder they came from; "subclass": the finer class; either only where it is known.
    """
    import numpy as np
    from safetensors import safe_open

    found: dict[str, np.ndarray] = {}
    with safe_open(verified(info.file, info.sha256), framework="np") as file:
        held = set(file.keys())
        if f"{part}_files" in held:
            names = file.get_tensor(f"{part}_files").tobytes().decode(errors="surrogateescape").split("\n")
            found["file"] = np.array(names, object)
        if f"{part}_subclasses" in held:
            found["subclass"] = np.array(info.subclasses, object)[file.get_tensor(f"{part}_subclasses")]
    return found


def _description(stem: str) -> dict[str, Any]:
    """What is written beside a data file. UserError if it is unreadable, or not as it was written."""
    try:
        values = json.loads((data_root() / f"{stem}.json").read_text())
        if digest(values["info"]) != values["digest"]:
            raise ValueError("its hash does not match")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"the description of data set '{stem}' is unreadable or changed; {_remedy(stem)}") from error
    return dict(values)


def _remedy(stem: str) -> str:
    if stem in {entry.name for entry in registry("datasets").entries()}:
        return f"prepare it again: `loreun-bench data prepare {stem}`"
    return "plan again where its pictures are, which reads it anew"


def info_of(name: str, arrays: Arrays, stem: str = "", sha256: str = "") -> DataInfo:
    """The description of checked arrays."""
    import numpy as np

    x, classes = arrays.train_images, len(arrays.names)
    mean, std = _statistics(x)
    train, test = (np.bincount(y, minlength=classes) for y in (arrays.train_labels, arrays.test_labels))
    untested = [name for name, count in zip(arrays.names, test, strict=True) if not count]
    notes = [arrays.note] if arrays.note else []
    notes += [f"no test pictures of: {', '.join(untested)}"] if untested else []
    return DataInfo(
        name=name,
        file=f"{stem}.safetensors",
        sha256=sha256,
        shape=x.shape[1:],
        classes=classes,
        train=tuple(train.tolist()),
        test=tuple(test.tolist()),
        mean=tuple(round(v, 6) for v in mean),
        std=tuple(round(max(v, 1e-3), 6) for v in std),
        names=arrays.names,
        subclasses=arrays.subclass_names,
        note="; ".join(notes),
    )


def _statistics(x: np.ndarray) -> tuple[list[float], list[float]]:
    """(means, deviations) of each channel in [0, 1], from how often each byte occurs: eight bytes a pixel are not needed."""
    import numpy as np

    level, means, deviations = np.arange(256) / 255, [], []
    for channel in range(x.shape[-1]):
        share = np.bincount(x[..., channel].ravel(), minlength=256) / x[..., channel].size
        means.append(float(share @ level))
        deviations.append(float(np.sqrt(share @ (level - means[-1]) ** 2)))
    return means, deviations


def _write(name: str, arrays: Arrays, own: bool = False, source: str = "", code: str = "") -> DataInfo:
    """Keep checked arrays as a file; own: the user's, called by its content. source, code: what it was made of and by."""
    import numpy as np
    from safetensors.numpy import save

    names = [f"{part}_{kind}" for part in pictures.PARTS for kind in ("images", "labels")]
    tensors = {name: getattr(arrays, name) for name in names}
    for part in pictures.PARTS:
        if getattr(arrays, f"{part}_files"):
            text = "\n".join(getattr(arrays, f"{part}_files")).encode(errors="surrogateescape")
            tensors[f"{part}_files"] = np.frombuffer(text, np.uint8)
        if arrays.subclass_names:
            tensors[f"{part}_subclasses"] = getattr(arrays, f"{part}_subclasses")
    called = json.dumps({"names": arrays.names, "subclasses": arrays.subclass_names})  # so that the hash covers them
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, {"classes": called})
    sha256 = hashlib.sha256(content).hexdigest()
    stem = f"{name}-{sha256[:12]}" if own else name
    info = info_of(name, arrays, stem, sha256)
    about = {"info": info.described(), "digest": digest(info.described()), "source": source, "code": code}
    data_root().mkdir(parents=True, exist_ok=True)
    with locked(data_root() / ".lock"):
        write_atomic(info.path, content)
        write_atomic(data_root() / f"{stem}.json", json.dumps(about, indent=1))
    return info
