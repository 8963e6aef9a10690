"""First lines of a plug-in of the generation track."""

TEMPLATES = {
    "method": '''"""An unlearning method for text-to-image diffusion."""

from dataclasses import dataclass

import torch

from loreun_bench import method
from loreun_bench.generation import GradientMethod, predict


@method("{name}", uses={{"forget", "retain"}}, paper="", track="generation")
@dataclass(frozen=True)
class {cls}Method(GradientMethod):
    """One line that `ls methods` shows: denoise the forgotten concept as if there were no prompt, keep the others."""

    def forget_target(self, pipeline, noisy, t, concepts, data, context):
        with torch.no_grad():
            return predict(pipeline, noisy(), t, pipeline.no_text.expand(len(t), -1, -1), context)
''',
    "scenario": '''"""What is forgotten."""

from dataclasses import dataclass

from loreun_bench import scenario
from loreun_bench.generation import Concepts


@scenario("{name}", track="generation")
@dataclass(frozen=True)
class {cls}Scenario:
    """One line that `ls scenarios` shows: the last classes of the data set."""

    count: int = 1

    @property
    def label(self):
        return f"{name}-{{self.count}}"

    def draw(self, classes, prompt):
        prompts = tuple(prompt.replace("{{}}", name) for name in classes)
        forgotten = tuple(range(len(classes)))[-self.count :]
        names = tuple(classes[number] for number in forgotten)
        return Concepts(prompts, tuple(classes), forgotten, names, tuple(prompts[number] for number in forgotten))
''',
    "metric": '''"""A metric of pictures."""

import torch

from loreun_bench import metric


@metric("{name}", columns={{"{key}": "{name}"}}, unit="", best="high", track="generation")
def {key}_metric(scene):
    """One line that `ls metrics` shows: the mean contrast of the pictures, the deviation of pixels in [0, 1]."""
    everything = torch.arange(len(scene.images))
    found = [pixels.flatten(1).std(1) for _, pixels in scene.stream("images", everything, "{name}")]
    return {{"{key}": float(torch.cat(found).mean())}}
''',
    "dataset": '''"""A data set of pictures."""

import torch

from loreun_bench import dataset
from loreun_bench.generation import Pictures


@dataset("{name}", classes=4, embedded=True, track="generation")
def {key}_data(root, split):
    """One line that `ls datasets` shows: pictures of four greys."""
    labels = torch.arange(200 if split == "train" else 40) % 4

    def load(positions, size):
        grey = labels[positions] / 2 - 0.75
        return grey[:, None, None, None].expand(-1, 3, size, size).clone()

    return Pictures(("black", "dark", "light", "white"), labels, load)
''',
}
