"""CIFAR-100, from torchvision."""

from __future__ import annotations

from pathlib import Path

from loreun_bench.classification.data.arrays import Arrays
from loreun_bench.decorators import dataset

SUPERCLASSES = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}  # by name, as both kinds of label are numbered
NAMES = tuple(sorted(name for names in SUPERCLASSES.values() for name in names))
MEAN = (0.5071, 0.4865, 0.4409)


@dataset(
    "cifar100", shape=(32, 32, 3), classes=100, paper="Krizhevsky, 2009", names=NAMES,
    counts=((500,) * 100, (100,) * 100), mean=MEAN,
)  # fmt: skip
def cifar100(root: Path, download: bool) -> Arrays:
    """60000 photographs in 100 classes, 32×32 colour; 10000 are the test set."""
    from loreun_bench.classification.data.sources import torchvision_arrays

    return torchvision_arrays("CIFAR100", root, download)
