"""Pipelines as they are found: what is taken, and what `plan` refuses with the reason, before anything runs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from helpers import refused
from safetensors.torch import load_file, save_file

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.generation.pipeline import pipelines, sampling, schedules
from loreun_bench.generation.pipeline.sampling import Request

SCHEDULER, UNET, TOKENIZER = "scheduler/scheduler_config.json", "unet/config.json", "tokenizer/tokenizer_config.json"
CONCEPT = {
    "kind": "concept", "name": "sevens", "forget_prompt": "an image of seven", "retain_prompt": "an image of two",
    "images": 3,
}  # fmt: skip


@pytest.fixture
def changed(random_pipeline, tmp_path):
    """A copy of the random pipeline with some keys of its JSON files set, or taken away where they are None."""

    def make(changes, scheduler=None):
        folder = shutil.copytree(random_pipeline, tmp_path / "copy")
        index = {"scheduler": ["diffusers", scheduler]} if scheduler else {}
        for name, values in (changes | ({"model_index.json": index} if index else {})).items():
            found = json.loads((folder / name).read_text()) | values
            (folder / name).write_text(json.dumps({k: v for k, v in found.items() if v is not None}))
        return folder

    return make


def tried(folder):
    return pipelines.tried(pipelines.find(str(folder)))


def sweep(folder, **changes):
    return {
        "track": "generation", "name": "t", "pipeline": str(folder), "seeds": 1, "device": "cpu", "limit_steps": 1,
        "scenarios": [{"kind": "class", "forget_class": "seven"}], "metrics": ["ua"],
        "sampling": {"steps": 2, "guidance": 2.0, "images": 1, "batch_size": 8}, "curve": {"points": 4, "samples": 2},
        "methods": {"RL": {"batch_size": 2, "epochs": 1}, "ESD-x": {"ddim_steps": 2}, "FMN": {"steps": 1}},
        "weightings": ["none", "w_f"],
    } | changes  # fmt: skip


FLOW = {"num_train_timesteps": 1000, "shift": 3.0}


@pytest.mark.parametrize(
    ("scheduler", "values", "words"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}, r"FlowMatchEulerDiscreteScheduler\) is of flow matching"),
        ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"}, "is of flow matching"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "is of flow matching"),
        ("EDMEulerScheduler", {}, r"EDMEulerScheduler\) has no betas"),
        ("PNDMScheduler", {"prediction_type": "sample"}, "predicts the sample, not the noise"),
        ("LCMScheduler", {}, "distilled for few steps"),
        ("DDIMScheduler", {"rescale_betas_zero_snr": True}, "must be v_prediction"),
        ("MyScheduler", {}, "is a MyScheduler, which diffusers does not have"),
        ("UNet2DConditionModel", {}, "which diffusers does not have"),
        ("DDIMScheduler", {"beta_schedule": "mine"}, "copy/scheduler: mine"),
    ],
)
def test_a_scheduler_without_noise_or_velocity_is_refused(changed, scheduler, values, words):
    with pytest.raises(UserError, match=words):
        tried(changed({SCHEDULER: values}, scheduler))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({UNET: {"in_channels": [4]}}, r"in_channels \[4\] in its config.json is no number"),
        ({UNET: {"in_channels": 9}}, "takes 9 channels, as for inpainting, its vae gives 4"),
        ({UNET: {"out_channels": 8}}, "gives 8 channels for 4"),
        ({UNET: {"class_embed_type": "timestep"}}, "wants a class beside the text"),
        ({UNET: {"num_class_embeds": 10}}, "wants a class beside the text"),
        ({UNET: {"time_cond_proj_dim": 256}}, "wants the guidance as an input"),
        ({UNET: {"encoder_hid_dim_type": "text_image_proj"}}, "another embedding"),
        ({UNET: {"sample_size": None}}, "sample_size None in its config.json is neither"),
        ({UNET: {"sample_size": [8]}}, r"sample_size \[8\] in its config.json is neither"),
        ({UNET: {"sample_size": 0}}, "sample_size 0"),
        ({UNET: {"cross_attention_dim": 32}}, "its parts do not fit one another"),
        ({UNET: {"layers_per_block": 1}}, r"unet: the weight .* is \[.*\], its config.json asks for|is missing"),
        ({"vae/config.json": {"shift_factor": 0.1}}, "its vae shifts latents"),
        ({UNET: {"layers_per_block": 10**7}}, "layers_per_block 10000000 in its config.json is more than 1000"),
        ({"text_encoder/config.json": {"num_hidden_layers": 10**7}}, "num_hidden_layers 10000000"),
        ({SCHEDULER: {"num_train_timesteps": 10**9}}, "num_train_timesteps 1000000000 in its file is no number up to 10000"),
        ({SCHEDULER: {"num_train_timesteps": "all"}}, "num_train_timesteps 'all'"),
        ({"vae/config.json": {"latent_channels": 16}}, "its vae gives 16"),
        ({"model_index.json": {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}}, "CLIPTextModelWithProjec"),
        ({"text_encoder/config.json": {"vocab_size": 20}}, "tokens, its text encoder knows 20"),
    ],
)
def test_parts_of_another_kind_are_refused_with_the_reason(changed, changes, words):
    with pytest.raises(UserError, match=words):
        tried(changed(changes))


def test_a_weight_that_the_denoiser_lacks_is_named_and_not_drawn_at_random(changed):
    folder = changed({})
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_out.bias"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"the weight conv_out.bias is missing"):
        tried(folder)
    with pytest.raises(UserError, match=r"unet: the weight conv_out.bias is missing"):
        pipelines.load(folder, "cpu")


@pytest.mark.parametrize(("length", "wanted"), [(None, 77), (512, 77), (20, 20)])
def test_the_text_is_as_long_as_tokenizer_and_text_encoder_allow(changed, length, wanted):
    folder = changed({TOKENIZER: {"model_max_length": length}})
    tried(folder)
    pipeline = pipelines.load(folder, "cpu")
    assert pipeline.tokens(["an image of one", "an image of " + "seven " * 200]).input_ids.shape == (2, wanted)
    assert pipeline.embed(["one"]).shape == (1, wanted, 16)


def test_only_weights_in_half_precision_are_enough(changed):
    folder = changed({})
    for part, base in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model")):
        path = folder / part / f"{base}.safetensors"
        half = {name: tensor.half() for name, tensor in load_file(path).items()}
        save_file(half, folder / part / f"{base}.fp16.safetensors", {"format": "pt"})
        path.unlink()
    assert tried(folder) == []
    assert {p.dtype for p in pipelines.load(folder, "cpu").unet.parameters()} == {torch.float32}


def test_another_scheduler_lends_its_betas_and_that_is_said(changed):
    """What its file leaves out is its own class's default: Heun's betas are not DDIM's."""
    folder = changed({SCHEDULER: {"beta_start": None, "beta_end": None, "beta_schedule": None}}, "HeunDiscreteScheduler")
    (note,) = tried(folder)
    assert "HeunDiscreteScheduler: its pictures are sampled by DDIM" in note
    found = pipelines.load(folder, "cpu").scheduler.config
    assert (found.beta_start, found.beta_end, found.beta_schedule) == (0.00085, 0.012, "linear")


def test_another_scheduler_is_another_pipeline(changed, random_pipeline):
    """Of the same files, but for the index, which names the class."""
    folders = random_pipeline, changed({}, "HeunDiscreteScheduler")
    known, other = (pipelines.find(str(folder)).files for folder in folders)
    assert {name for name in known if known[name] != other[name]} == {"model_index.json"}


def test_zero_terminal_snr_and_spacing_of_timesteps_are_kept(changed):
    values = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    folder = changed({SCHEDULER: values})
    assert tried(folder) == []
    pipeline = pipelines.load(folder, "cpu")
    assert float(pipeline.scheduler.alphas_cumprod[-1]) == 0
    pipeline.scheduler.set_timesteps(4)
    assert pipeline.scheduler.timesteps.tolist() == [999, 749, 499, 249]
    found = sampling.pictures(pipeline, [Request("a", "one", 1, 3.0), Request("b", "two", 2, 3.0)], 4)
    assert found.float().std() > 0


def test_sampling_that_begins_after_the_last_timestep_is_refused(random_pipeline):
    schedule = schedules.ddim(random_pipeline)  # its steps_offset is 1
    schedules.check_steps(schedule, 500, "sampling.steps")
    for steps, words in ((1000, "sampling begins at timestep 1000 of 1000"), (1001, "1001 is more than the 1000 timesteps")):
        with pytest.raises(UserError, match=words):
            schedules.check_steps(schedule, steps, "sampling.steps")


def test_a_size_of_height_and_width_is_the_same_as_one_number(changed, random_pipeline):
    folder = changed({UNET: {"sample_size": [8, 8]}})
    requests = [Request("a", "an image of one", 1, 2.0)]
    one, two = (sampling.pictures(pipelines.load(f, "cpu"), requests, 2) for f in (folder, random_pipeline))
    assert torch.equal(one, two)
    assert api.planning.build(api.resolve(sweep(folder))).cells


def test_pictures_that_are_not_square_show_concepts_from_training_to_figures(changed, store, tmp_path, command):
    plugin = tmp_path / "wide.py"
    plugin.write_text(
        "from loreun_bench import metric\n"
        '@metric("wide", columns={"width": "W", "height": "H"}, track="generation")\n'
        'def wide(scene):\n    """Size."""\n    (pixels,) = scene.images.batches(99)\n'
        '    return {"height": pixels.shape[-2], "width": pixels.shape[-1]}\n'
    )
    folder = changed({UNET: {"sample_size": [8, 16]}})
    values = sweep(folder, scenarios=[CONCEPT], metrics=["wide"])
    records = api.sweep(values, tmp_path / "run", workers=0, plugins=[plugin])
    assert [(r.status, r.reason, r.metrics) for r in records] == [("ok", "", {"width": 128, "height": 64})] * 5
    assert command("figures", tmp_path / "run", "--show")[0] == 0


def test_classes_need_square_pictures(changed, store, tmp_path, command):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep(changed({UNET: {"sample_size": [8, 16]}}))))
    refused(command("plan", tmp_path / "sweep.yaml"), "makes pictures of 64×128 pixels, those of classes are square")
