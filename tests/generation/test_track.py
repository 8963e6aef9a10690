"""The track as a whole: a sweep of a pipeline from disk, concepts, resuming, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from helpers import CLASS, refused
from helpers import generation_config as config

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.generation import planning
from loreun_bench.generation.data import concepts
from loreun_bench.generation.pipeline import pipelines
from loreun_bench.generation.scoring import classifiers, weights

CONCEPT = {
    "kind": "concept",
    "name": "sevens",
    "forget_prompt": "an image of seven",
    "retain_prompt": "an image of two",
    "images": 3,
}


def run(values, out):
    return api.sweep(values, out, workers=0)


def test_a_pipeline_from_disk_is_swept_scored_and_resumed(random_pipeline, classifier_file, store, tmp_path):
    heard = []
    records = api.sweep(
        config(random_pipeline, classifier_file), tmp_path / "run", workers=0, listen=lambda e: heard.append(e)
    )
    rows = [(r.method, r.weighting) for r in records]
    assert rows == [
        ("Original", "none"),
        *(("RL", w) for w in ("none", "w_f", "loreun-s")),
        ("ESD-x", "none"),
        ("FMN", "none"),
    ]
    assert [r.reason for r in records] == [""] * 6
    assert {r.model for r in records} == {"tiny-sd"}
    assert all({"forget_ua", "kept_acc"} <= r.metrics.keys() for r in records)
    by_row = {(r.method, r.weighting): r for r in records}
    plain, weighted, static = (by_row["RL", w].cost for w in ("none", "w_f", "loreun-s"))
    curve = 4 * 8
    assert weighted["forward_samples"] == plain["forward_samples"] + curve  # RTE counts the curve
    assert static["forward_samples"] > weighted["forward_samples"]  # and the static scores
    assert weighted["rte_s"] > 0
    assert by_row["Original", "none"].cost["rte_s"] == 0
    again = []
    assert (
        api.sweep(
            config(random_pipeline, classifier_file), tmp_path / "run", workers=0, listen=lambda e: again.append(e.kind)
        )
        == records
    )
    assert "started" not in again


def test_every_row_draws_the_same_prompts_and_seeds_and_a_lost_picture_is_made_again(
    random_pipeline, classifier_file, store, tmp_path
):
    values = config(random_pipeline, classifier_file, methods={"ESD-x": {"ddim_steps": 2}}, weightings=["none"])
    records = run(values, tmp_path / "run")
    folders = sorted((store / "pictures").iterdir())
    indexes = {(folder / "index.json").read_text() for folder in folders}
    assert len(folders) == 2
    assert len(indexes) == 1
    about = json.loads(indexes.pop())
    assert len(about) == 20
    assert about["7-0001"]["prompt"] == "an image of seven"
    assert len({each["seed"] for each in about.values()}) == 20  # independent, as intervals take them to be
    lost = folders[0] / "7-0001.png"
    picture = lost.read_bytes()
    lost.write_bytes(b"not a picture")
    shutil.rmtree(store / "artifacts")  # what was scored is scored again; pictures are not drawn again
    assert [r.status for r in run(values, tmp_path / "again")] == ["ok", "ok"] == [r.status for r in records]
    assert lost.read_bytes() == picture
    lost.write_bytes(b"changed behind our back")
    evaluations = [p for p in (store / "artifacts").rglob("values.json") if "metrics" in json.loads(p.read_text())]
    for path in evaluations:
        shutil.rmtree(path.parent)
    assert [r.status for r in run(values, tmp_path / "third")] == ["ok", "ok"]
    assert lost.read_bytes() == picture


@pytest.mark.slow
def test_figures_say_that_pictures_are_gone_and_the_sweep_makes_them_anew(
    random_pipeline, classifier_file, store, tmp_path, command
):
    values = config(random_pipeline, classifier_file, methods={"FMN": {"steps": 1}}, weightings=["none"])
    out = tmp_path / "run"
    run(values, out)
    next((store / "pictures").rglob("*.png")).unlink()
    for _ in range(2):
        assert_noted(command("figures", out), "are gone from the store: run the sweep again")
    assert {r.status for r in run(values, out)} == {"ok"}
    assert command("figures", out)[2] == ""
    for picture in (store / "pictures").rglob("*.png"):
        picture.unlink()
    assert_noted(command("figures", out), "pictures of Original, FMN are gone")
    assert_noted(command("figures", out), "run its sweep (again)")
    assert {r.status for r in run(values, out)} == {"ok"}
    assert command("figures", out)[2] == ""


def assert_noted(result, says):
    """The charts are drawn, which need no picture, and a line on stderr says it."""
    code, printed, err = result
    assert (code, err.count("\n"), says in err) == (0, 1, True), err
    assert err.startswith("note: ")
    assert "class-seven-rank.png" in printed
    assert "pictures.png" not in printed


def test_the_embedded_pipeline_and_its_own_classifier_know_the_digits(store, tmp_path):
    sampling = {"steps": 8, "guidance": 3.0, "images": 2, "batch_size": 20}
    values = config("digits", methods={"FMN": {"steps": 1}}, metrics=["ua", "fd"], sampling=sampling)
    record = run(values, tmp_path / "run")[0]
    assert record.metrics["forget_ua"] == 100
    assert record.metrics["kept_acc"] >= 90
    assert record.environment["classifier"].startswith("small CNN, 16 px")
    stages = [json.loads(p.read_text())["run"] for p in (store / "artifacts").rglob("manifest.json")]
    assert sum(run.endswith(":real_features") for run in stages) == 1  # for both rows


def test_another_file_of_the_same_name_is_another_classifier(random_pipeline, classifier_file, tmp_path):
    def keys():
        plan = api.planning.build(api.resolve(config(random_pipeline, own)))
        return {stage.label: stage.recipe for stage in plan.stages}

    own = tmp_path / "own.safetensors"
    own.write_bytes(classifier_file.read_bytes())
    before = keys()
    assert keys() == before
    own.write_bytes(classifier_file.read_bytes()[:-4] + bytes(4))
    changed = {label for label, recipe in keys().items() if recipe != before[label]}
    assert {"measure" in label for label in changed} == {True}
    assert len(changed) == 6


def test_a_limit_of_pictures_is_refused_where_the_original_makes_them(random_pipeline):
    values = config(random_pipeline, scenarios=[CONCEPT], methods={"RL": {"epochs": 1}}, limit_images=20)
    with pytest.raises(UserError, match=r"limit_images: scenario .* makes its own pictures: set its `images` instead"):
        planning.cells(api.resolve(values))


def test_a_concept_is_forgotten_with_pictures_that_the_original_makes(random_pipeline, store, tmp_path):
    values = config(
        random_pipeline, scenarios=[CONCEPT], metrics=["counted"], methods={"RL": {"batch_size": 2, "epochs": 1}},
        weightings=["none", "w_f+w_r"],
    )  # fmt: skip
    plugin = tmp_path / "counted.py"
    plugin.write_text(
        "from loreun_bench import metric\n"
        '@metric("counted", columns={"pictures": "N"}, track="generation")\n'
        'def counted(scene):\n    """Pictures."""\n    scene.details["counted"] = scene.settings["own"]\n'
        '    scene.details["more"] = 3.0\n    return {"pictures": len(scene.images)}\n'
    )
    records = api.sweep(values, tmp_path / "run", workers=0, plugins=[plugin])
    assert [(r.scenario, r.status, r.metrics) for r in records] == [("sevens", "ok", {"pictures": 4.0})] * 3
    made = [json.loads((f / "index.json").read_text()) for f in (store / "pictures").iterdir()]
    training = next(index for index in made if len(index) == 6)
    assert sorted({about["prompt"] for about in training.values()}) == ["an image of seven", "an image of two"]


def test_prompts_of_a_file_are_drawn_with_their_seeds(random_pipeline, store, tmp_path):
    pytest.importorskip("nudenet", reason="NudeNet is not installed (extra nudity)")
    prompts = tmp_path / "i2p.csv"
    prompts.write_text(
        "case_number,prompt,categories,sd_seed,sd_guidance_scale\n"
        '7,"an image of one, two",sexual,11,7\n8,an image of three,violence,12,7.5\n'
        '9,an image of four,"violence, sexual",13,9\n'
    )
    sampling = {"steps": 1, "guidance": 3.0, "batch_size": 4, "prompts": str(prompts), "category": "sexual"}
    for own, guidance in ((False, [3.0, 3.0]), (True, [7.0, 9.0])):
        values = config(
            random_pipeline, scenarios=[CONCEPT], methods={"ESD-x": {"ddim_steps": 2}}, weightings=["none"],
            metrics=["nudity"], sampling=sampling | {"own_guidance": own},
        )  # fmt: skip
        plan = api.planning.build(api.resolve(values))
        requests = next(stage for stage in plan.stages if stage.run.endswith(":sample")).config["requests"]
        assert any("its guidance is not used, every prompt has 3" in note for note in plan.notes) != own
        assert [(r["name"], r["seed"]) for r in requests] == [("7", 11), ("9", 13)]
        assert [r["guidance"] for r in requests] == guidance


def test_unlearned_weights_change_what_is_drawn(random_pipeline, classifier_file, store, tmp_path):
    values = config(
        random_pipeline,
        classifier_file,
        methods={"RL": {"batch_size": 4, "lr": 0.01}},
        weightings=["none"],
        limit_steps=4,
    )
    run(values, tmp_path / "run")
    one, two = ({p.name: p.read_bytes() for p in f.glob("*.png")} for f in (store / "pictures").iterdir())
    assert one.keys() == two.keys()
    assert sum(one[name] != two[name] for name in one) > 10


def test_a_classifier_numbers_classes_as_the_sweep_does(classifier_file, store, tmp_path):
    """One that was saved with its classes in another order recognises the same pictures."""
    state, tags = weights.read_tagged(classifier_file)
    names = tags["classes"].split("\n")
    order = sorted(range(10), key=names.__getitem__)
    for key in ("head.weight", "head.bias"):
        state[key] = state[key][order]
    own = tmp_path / "own.safetensors"
    classifiers.save_small(own, tuple(sorted(names)), state)
    found = [
        run(config("digits", file, methods={"FMN": {"steps": 1}}, metrics=["ua"]), tmp_path / file.stem)[0].metrics
        for file in (classifier_file, own)
    ]
    assert found[0] == found[1]
    three = tmp_path / "three.safetensors"
    state = classifiers.train_small(concepts.dataset("digits", "train"), 16, seed=0, steps=1)
    classifiers.save_small(three, ("zero", "one", "two", *"abcdefg"), state)
    with pytest.raises(UserError, match="does not know the class 'three'"):
        run(config("digits", three), tmp_path / "three")


@pytest.mark.parametrize(("body", "status"), [("pass", "ok"), ("unet.conv_in.weight.data.fill_(float('nan'))", "diverged")])
def test_a_method_that_moves_nothing_is_a_row_and_one_that_leaves_nan_is_none(
    body, status, random_pipeline, classifier_file, store, tmp_path
):
    plugin = tmp_path / "still.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "from loreun_bench.generation.unlearning.method import Method\n"
        f"@method('still-{status}', uses={{'forget'}}, track='generation')\n@dataclass(frozen=True)\n"
        "class Still(Method):\n    'Still.'\n"
        f"    def unlearn(self, pipeline, data, context):\n        unet = pipeline.unet\n        {body}\n"
    )
    values = config(random_pipeline, classifier_file, methods={f"still-{status}": {}}, weightings=["none"])
    original, own = api.sweep(values, tmp_path / "run", workers=0, plugins=[plugin])
    assert own.status == status
    assert own.metrics == (original.metrics if status == "ok" else {})


def test_whoever_was_asked_otherwise_is_in_another_table(random_pipeline, classifier_file, store, tmp_path):
    def conditions(**changes):
        return (
            api.planning.build(api.resolve(config(random_pipeline, classifier_file, **changes))).cells[0].record.conditions
        )

    def listed(prompt):
        path = tmp_path / f"{len(prompt)}.csv"
        path.write_text(f"case_number,prompt,sd_seed,sd_guidance_scale\n1,{prompt},3,5\n")
        return {"sampling": {"steps": 2, "prompts": str(path)}, "metrics": ["nudity"]}

    pytest.importorskip("nudenet", reason="NudeNet is not installed (extra nudity)")
    before = conditions()
    assert before == conditions(methods={"FMN": {}}, seeds=2)
    assert conditions(prompt="{}")["prompts"] != before["prompts"]
    assert conditions(**listed("one"))["prompts"] != conditions(**listed("three"))["prompts"]
    own = listed("one")
    own["sampling"]["own_guidance"] = True
    assert conditions(**own)["guidance"] == "each prompt's own"
    assert conditions(metric_settings={"threshold": 0.3}) != before == conditions(metric_settings={"batch_size": 2})


def test_a_file_that_somebodys_metric_is_told_of_is_part_of_the_key(random_pipeline, classifier_file, store, tmp_path):
    told = tmp_path / "told.txt"
    values = config(random_pipeline, classifier_file, metric_settings={"own": {"file": str(told)}})
    recipes = []
    for words in ("a", "b"):
        told.write_text(words)
        recipes.append(api.planning.build(api.resolve(values)).cells[0].evaluation.recipe)
    assert recipes[0] != recipes[1]


def test_what_pictures_depend_on_is_in_the_name_of_their_folder_and_nothing_else(random_pipeline, classifier_file, store):
    def folders(**changes):
        plan = api.planning.build(api.resolve(config(random_pipeline, classifier_file, **changes)))
        return [stage.config for stage in plan.stages if stage.run.endswith(":sample")]

    before = folders()
    assert folders(protocol="paper") == folders(limit_steps=2) == before
    assert folders(precision="bf16") != folders(precision="fp32")
    code = before[0]["code"]
    planning.SAMPLING = (*(kept := planning.SAMPLING), Path(__file__))
    try:
        assert folders()[0]["code"] != code
    finally:
        planning.SAMPLING = kept


# ---- refused, in one line


def copied(random_pipeline, tmp_path):
    return shutil.copytree(random_pipeline, tmp_path / "copy")


def without(part):
    def change(folder):
        shutil.rmtree(folder / part)

    return change


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def with_json(name, **changes):
    def change(folder):
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))

    return change


other_unet = with_json("model_index.json", unet=["diffusers", "UNet3DConditionModel"])


def split_up(folder):
    """Weights in two files, of which one is not there."""
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole.rename(folder / "unet" / "first.safetensors")
    index = {"weight_map": {"a": "first.safetensors", "b": "second.safetensors"}}
    (folder / "unet" / f"{whole.name}.index.json").write_text(json.dumps(index))


def cut_short(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "is not a pipeline in diffusers' format"),
        (without("unet"), "has no unet"),
        (pickled, "holds no diffusion_pytorch_model.safetensors"),
        (other_unet, "not a UNet2DConditionModel"),
        (cut_short, "is damaged"),
        (with_json("unet/config.json", addition_embed_type="text_time"), "of Stable Diffusion XL's kind"),
        (with_json("scheduler/scheduler_config.json", prediction_type="sample"), "predicts the sample, not the noise"),
        (with_json("model_index.json", unet=3), "its unet is a 3"),
        (lambda folder: (folder / "unet" / "config.json").write_text("[]"), "config.json holds no mapping"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "no readable scheduler_config.json"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(), "has neither vocab.json with merges.txt"),
        (split_up, "unet/second.safetensors is damaged or missing"),
    ],
    ids=["index", "U-Net", "pickled", "3D", "cut", "XL", "sample", "no name", "list", "scheduler", "words", "split"],
)
def test_a_folder_that_is_no_pipeline_is_refused(change, words, random_pipeline, store, tmp_path, command):
    folder = copied(random_pipeline, tmp_path)
    change(folder)
    refused(command("plan", written(config(folder), tmp_path)), words)


def test_files_that_are_not_loaded_do_not_matter(random_pipeline, store, tmp_path):
    folder = copied(random_pipeline, tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_text("version https://git-lfs")
    (folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_text("cut")
    with_json("scheduler/scheduler_config.json", prediction_type=None)(folder)
    assert pipelines.find(str(folder)).name == "copy"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pipeline": "digts"}, "did you mean 'digits'"),
        ({"pipeline": "nobody/nothing"}, "the hub cannot be reached: copy it here as a folder"),
        ({"scenarios": [CLASS | {"forget_class": "sevn"}]}, "there is no 'sevn'; did you mean 'seven'"),
        ({"prompt": "an image"}, "config.prompt"),
        ({"scenarios": [CONCEPT | {"forget_prompt": "  "}]}, "a name is empty"),
        ({"scenarios": [CONCEPT | {"forget_prompt": "\u200b"}]}, "has no word that the tokenizer knows"),
        ({"scenarios": [{"kind": "concept", "name": "x"}]}, "'forget_prompt' must be given"),
        ({"dataset": "imagenete"}, "unknown dataset 'imagenete'; did you mean 'imagenette'"),
        ({"methods": {"ESD": {}}}, "unknown method 'ESD'"),
        ({"methods": {"RL": {"parameters": "some"}}}, "methods.RL.parameters"),
        ({"metrics": ["nude"]}, "unknown metric 'nude'"),
        ({"pipeline": ""}, "config.pipeline"),
        ({"pipeline": "a b/c"}, "pipeline 'a b/c' is no folder"),
        ({"scenarios": [CONCEPT]}, "ua is about classes"),
        ({"scenarios": [CONCEPT | {"forget_prompt": "an image of two"}]}, "are the same"),
        ({"metrics": ["fd"], "sampling": {"steps": 2, "images": 1}}, "at least 10 pictures of kept classes, 9 are sampled"),
        ({"sampling": {"steps": 1001}}, "1001 is more than the 1000 timesteps"),
        ({"sampling": {"category": "sexual"}}, "are about a CSV of prompts"),
        ({"classifier": "smal"}, "weights file smal is not there"),
        ({"classifier": "resnet50"}, "classifier resnet50 does not know the class 'zero'"),
        ({"metric_settings": {"treshold": 0.5}}, "did you mean 'threshold'"),
        ({"metric_settings": {"threshold": 7}}, "less than or equal to 1"),
        ({"metric_settings": {"resamples": "abc"}}, "config.metric_settings.resamples"),
        ({"compile": True}, "does not compile"),
        ({"metrics": ["nudity"], "metric_settings": {"labels": ["FACE"]}}, "unknown label 'FACE'"),
        (
            {"metrics": ["fid"], "metric_settings": {"fid_weights": "no.pth"}, "sampling": {"steps": 2, "images": 2}},
            "fid_weights: there is no file no.pth",
        ),
        ({"metrics": ["nudity"]}, "pip install 'loreun-bench[nudity]'"),
        ({"metrics": ["ua", "fid"]}, "pip install 'loreun-bench[fid]'"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(changes, words, random_pipeline, store, tmp_path, command, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "nudenet", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    refused(command("plan", written(config(random_pipeline, **changes), tmp_path)), words)


def test_a_classifier_is_looked_at_whichever_scenario_has_the_classes(random_pipeline, store, tmp_path, command):
    pytest.importorskip("nudenet", reason="NudeNet is not installed (extra nudity)")
    values = config(random_pipeline, scenarios=[CONCEPT, CLASS], metrics=["nudity"], classifier="smal")
    refused(command("plan", written(values, tmp_path)), "weights file smal is not there")


def test_a_gradient_method_that_does_not_say_its_target_is_refused(random_pipeline, store, tmp_path, command):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom loreun_bench import method\n"
        "from loreun_bench.generation import GradientMethod\n@method('mine', uses={'forget'}, track='generation')\n"
        "@dataclass(frozen=True)\nclass Mine(GradientMethod):\n    'd'\n"
    )
    file = written(config(random_pipeline, methods={"mine": {}}), tmp_path)
    refused(command("plan", file, "--plugin", plugin), "lacks `forget_target`")


def written(values, folder):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(values))
    return folder / "sweep.yaml"


@pytest.mark.parametrize("name", pipelines.EMBEDDED)
def test_embedded_pipelines_are_small_and_plain_files_only(name):
    files = [p for p in pipelines.EMBEDDED[name].rglob("*") if p.is_file()]
    assert 1_000_000 < sum(p.stat().st_size for p in files) < 4_000_000
    assert {p.suffix for p in files} == {".json", ".txt", ".safetensors"}
