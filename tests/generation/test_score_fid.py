"""FID through torch-fidelity's network, with random weights: no file of the real ones is needed to see what goes in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from loreun_bench.errors import UserError
from loreun_bench.generation.scene import Scene
from loreun_bench.generation.scoring import distances, inception, weights
from loreun_bench.generation.scoring.images import Images
from loreun_bench.registry import registry

pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed (extra fid)")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights of FID-Inception."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save({}, path)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "load_state_dict", lambda self, state: None)
        network = Network("n", ["2048"], feature_extractor_weights_path=str(path))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for side, low in (("a", 0), ("b", 100)):
        (tmp_path / side).mkdir()
        for i in range(12):
            pixels = rng.integers(low, 256, (6, 6, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
            Image.fromarray(pixels).save(tmp_path / side / f"{i:02}.png")
    return tmp_path / "a", tmp_path / "b"


def test_fid_is_torch_fidelitys(file, folders):
    import torch_fidelity

    scene = Scene(*(), images=Images.open(folders[0]), reference=Images.open(folders[1]),
                  settings={"fid_weights": file, "resamples": 3})  # fmt: skip
    value = registry("metrics", "generation").get("fid").item(scene)["fid"]
    wanted = torch_fidelity.calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), fid=True, cuda=False, verbose=False, cache=False,
        feature_extractor_weights_path=str(file), save_cpu_ram=True, batch_size=12,
    )["frechet_inception_distance"]  # fmt: skip
    assert value == pytest.approx(wanted, rel=1e-4)
    assert value > 0
    x, y = (scene.features(scene.inception(), side) for side in ("images", "reference"))
    assert distances.frechet(x, y) == pytest.approx(value, rel=1e-3)
    about = scene.details["fid"]
    assert about["extractor"].startswith("FID-Inception sha256")
    assert about["dimension"] == 2048
    assert "has not full rank" in about["notes"][0]


def test_kid_without_a_classifier_is_on_inception(file, folders):
    scene = Scene(Images.open(folders[0]), reference=Images.open(folders[1]), settings={"fid_weights": file, "resamples": 2})
    assert registry("metrics", "generation").get("kid").item(scene)["kid"] != 0
    assert scene.details["kid"]["extractor"].startswith("FID-Inception")
    assert scene.details["kid"]["subset_size"] == 12


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"x": torch.ones(1)}, tmp_path / "other.pth")
    for name in ("evil.pth", "text.pth", "other.pth", "missing.pth"):
        with pytest.raises(UserError, match=name):
            inception.inception(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_the_official_file_is_known_by_its_hash(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"x")
    assert weights.is_official(path, "https://example.org/v2/net-2d711642.pth")
    assert not weights.is_official(path, "https://example.org/v2/net-6726825d.pth")
