"""Names of classes, and when two of them mean the same class."""

from __future__ import annotations

IMAGENETTE = {  # ImageNet's identifier → the name that prompts use
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player", "n03000684": "chain saw",
    "n03028079": "church", "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas pump",
    "n03445777": "golf ball", "n03888257": "parachute",
}  # fmt: skip


def plain(name: str) -> str:
    """A class's name as it is compared: "Garbage_Truck", "garbage-truck" and "n03417042" are one."""
    name = IMAGENETTE.get(name, name)
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())
