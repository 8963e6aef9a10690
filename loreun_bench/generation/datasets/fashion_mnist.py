"""Fashion-MNIST, as it was prepared for the classification track."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.decorators import dataset
from loreun_bench.generation.data.packed import packed
from loreun_bench.generation.scoring.pictures import Pictures


@dataset("fashion-mnist", classes=10, paper="Xiao, Rasul and Vollgraf, 2017", track="generation")
def fashion_mnist(root: Path, split: str) -> Pictures:
    """60000 training and 10000 test pictures of clothes, 28×28 grey; `data prepare fashion-mnist` brings them."""
    return packed(root, "fashion-mnist", split)
