"""Pipelines for tests: the embedded one, and a tiny random one in the shape of Stable Diffusion 1.4."""

from __future__ import annotations

import pytest
import torch

from loreun_bench.generation.pipeline import pipelines
from loreun_bench.generation.pipeline.embedded import make_tokenizer


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_pipeline(tmp_path_factory):
    return made_pipeline(tmp_path_factory.mktemp("pipeline") / "tiny-sd")


def made_pipeline(folder):
    """A folder in diffusers' format: four blocks a side, two layers a block, 77 tokens padded with the end of text."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    made = make_tokenizer(folder / "words")
    tokenizer = CLIPTokenizer(
        str(folder / "words" / "vocab.json"), str(folder / "words" / "merges.txt"), model_max_length=77,
        pad_token=made.eos_token,
    )  # fmt: skip
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, layers_per_block=2, block_out_channels=(8, 16, 16, 16), cross_attention_dim=16,
        attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def tiny(random_pipeline):
    """The random pipeline, loaded anew, so that a test may change its weights."""
    return pipelines.load(pipelines.find(str(random_pipeline)).folder, "cpu")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store and a data folder of the test's own."""
    monkeypatch.setenv("LOREUN_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LOREUN_DATA", str(tmp_path / "data"))
    return tmp_path / "store"


@pytest.fixture(scope="session")
def classifier_file(tmp_path_factory):
    """A small classifier of digits at the random pipeline's 64 pixels, hardly trained."""
    from loreun_bench.generation.data import concepts
    from loreun_bench.generation.scoring import classifiers

    path = tmp_path_factory.mktemp("classifier") / "small.safetensors"
    pictures = concepts.dataset("digits", "train")
    classifiers.save_small(path, pictures.classes, classifiers.train_small(pictures, 64, seed=0, steps=5))
    return path
