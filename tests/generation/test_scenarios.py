"""What is forgotten: classes and concepts by any name, one or several at once, from the configuration to the table."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from helpers import refused
from PIL import Image

from loreun_bench import api
from loreun_bench.errors import UserError
from loreun_bench.generation.data import concepts
from loreun_bench.generation.data.latents import LatentSet
from loreun_bench.generation.datasets.digits import WORDS, digits
from loreun_bench.generation.methods.fmn import concept_positions
from loreun_bench.generation.pipeline.attention import watched
from loreun_bench.generation.scenarios import Concepts, check
from loreun_bench.generation.scene import Scene
from loreun_bench.generation.scoring import classifiers
from loreun_bench.generation.scoring.images import Images
from loreun_bench.generation.unlearning import gradient as unlearning
from loreun_bench.generation.unlearning.method import Context, Data
from loreun_bench.generation.unlearning.protocols import PROTOCOLS
from loreun_bench.registry import load_plugin, registry
from loreun_bench.training.clock import Meter

PROMPTS = tuple(f"an image of {word}" for word in WORDS)
TWO = (7, 2)
STYLES = {
    "kind": "concept", "name": ["Van Gogh", "Picasso"], "forget_prompt": "one two {}", "retain_prompt": "nine", "images": 2,
}  # fmt: skip


def sweep(folder, **changes):
    return {
        "track": "generation", "name": "t", "pipeline": str(folder), "seeds": 1, "device": "cpu", "limit_steps": 1,
        "scenarios": [{"kind": "class", "forget_class": ["two", "Seven"]}], "metrics": ["ua"],
        "sampling": {"steps": 1, "guidance": 2.0, "images": 2, "batch_size": 32}, "curve": {"points": 4, "samples": 2},
        "methods": {"RL": {"batch_size": 2, "epochs": 1}, "ESD-x": {"ddim_steps": 2}, "FMN": {"steps": 1}},
        "weightings": ["none", "w_f"],
    } | changes  # fmt: skip


def planned(values, plugins=()):
    for path in plugins:
        load_plugin(path)
    return api.planning.build(api.resolve(values))


def stage(plan, run):
    return next(s for s in plan.stages if s.run.endswith(f":{run}"))


def data(pipeline, forgotten=TWO, **more):
    pictures = digits(Path(), "train")
    gone = torch.isin(pictures.labels, torch.tensor(forgotten))
    parts = {"forget": gone.nonzero().squeeze(1)[:12], "retain": (~gone).nonzero().squeeze(1)[:12]}
    sets = {name: LatentSet(pipeline, pictures, index, pictures.labels[index]) for name, index in parts.items()}
    names = tuple(WORDS[number] for number in forgotten)
    return Data(sets, frozenset(sets), PROMPTS, pipeline.embed(PROMPTS), forgotten, names, **more)


def context(protocol="corrected"):
    return Context(
        device="cpu", precision="fp32", protocol=PROTOCOLS[protocol], phases={}, curve={}, seed=0, meter=Meter("cpu")
    )  # fmt: skip


def method(name, **settings):
    return registry("methods", "generation").get(name).item(**settings)


# ---- from the configuration to the table


def test_two_classes_are_forgotten_at_once_and_ua_is_over_both(random_pipeline, classifier_file, store, tmp_path, command):
    records = api.sweep(sweep(random_pipeline, classifier=str(classifier_file)), tmp_path / "run", workers=0)
    assert [(r.status, r.reason, r.scenario) for r in records] == [("ok", "", "class-two+Seven")] * 5
    assert {tuple(r.counts["forget_ua"])[1] for r in records} == {4}  # two pictures of each
    assert {tuple(r.counts["kept_acc"])[1] for r in records} == {16}
    code, out, _ = command("leaderboard", tmp_path / "run", "--by-class")
    assert code == 0
    assert "two+Seven" in out
    assert command("figures", tmp_path / "run")[0] == 0


def test_one_class_in_a_list_is_the_class_alone(random_pipeline):
    scenarios = [{"kind": "class", "forget_class": name} for name in ("two", ["two"])]
    one, listed = (planned(sweep(random_pipeline, scenarios=[each])) for each in scenarios)
    assert [c.evaluation.recipe for c in one.cells] == [c.evaluation.recipe for c in listed.cells]
    assert stage(one, "unlearn").config["forgotten"] == [2]


def test_concepts_by_any_name_one_or_several(random_pipeline, store, tmp_path):
    plan = planned(sweep(random_pipeline, scenarios=[STYLES], metrics=["mine"]), [_metric(tmp_path)])
    assert {cell.record.scenario for cell in plan.cells} == {"Van Gogh+Picasso"}
    config = stage(plan, "unlearn").config
    assert config["prompts"] == ["one two Van Gogh", "one two Picasso", "nine"]
    assert (config["forgotten"], config["names"], config["concept_texts"]) == ([0, 1], *[["Van Gogh", "Picasso"]] * 2)
    values = sweep(random_pipeline, scenarios=[STYLES], metrics=["mine"])
    records = api.sweep(values, tmp_path / "run", workers=0, plugins=[tmp_path / "mine.py"])
    assert [(r.status, r.reason, r.metrics) for r in records] == [("ok", "", {"pictures": 6})] * 5
    made = [json.loads((f / "index.json").read_text()) for f in (store / "pictures").iterdir()]
    assert {about["concept"] for index in made for about in index.values()} >= {"Van Gogh", "Picasso", "other"}


def _metric(folder):
    path = folder / "mine.py"
    path.write_text(
        "from loreun_bench import metric\n"
        '@metric("mine", columns={"pictures": "N"}, track="generation")\n'
        'def mine(scene):\n    """Pictures."""\n    return {"pictures": len(scene.images)}\n'
    )
    return path


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ({"kind": "class", "forget_class": True}, "is no name; write it in quotes"),
        ({"kind": "class", "forget_class": ["two", "TWO"]}, "a class is named twice"),
        ({"kind": "class", "forget_class": list(WORDS)}, "nothing would be kept"),
        ({"kind": "class", "forget_class": "sevn"}, "there is no 'sevn'; did you mean 'seven'"),
        ({"kind": "class", "forget_class": "two", "concept_text": ["a", "b"]}, "concept_text: 2 for 1 names"),
        ({"kind": "class", "forget_clas": "two"}, "unknown setting 'forget_clas'; did you mean 'forget_class'"),
        ({"kind": "clas", "forget_class": "two"}, "unknown scenario 'clas'; did you mean 'class'"),
        (STYLES | {"forget_prompt": "one"}, "two of forget_prompt and retain_prompt are the same"),
        (STYLES | {"forget_prompt": ["one", "two", "three"]}, "forget_prompt: 3 for 2 names"),
        (STYLES | {"retain_prompt": ["nine", "Nine"]}, "two of forget_prompt and retain_prompt are the same"),
        (STYLES | {"retain_prompt": ["nine", "nine "]}, "two of forget_prompt and retain_prompt are the same"),
        (STYLES | {"images": 1}, "greater than or equal to 2"),
        (STYLES | {"retain_prompt": "a {}"}, "retain_prompt: 'a {}' has a {}, which stands for no name of what is kept"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_in_one_line(scenario, words, random_pipeline, store, tmp_path, command):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep(random_pipeline, scenarios=[scenario])))
    refused(command("plan", tmp_path / "sweep.yaml"), words)


@pytest.mark.parametrize("forgotten", [(0, 0), (0, 3), (-1, 0)])
def test_a_scenario_forgets_each_concept_once(forgotten):
    found = Concepts(("a", "b", "c"), ("a", "b", "c"), forgotten, ("a", "b"), ("a", "b"))
    with pytest.raises(UserError, match="each once, counted from 0"):
        check(found)


def pictures_of(folder, names):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for n in range(6):
            Image.new("RGB", (8, 8), (40 * number, 40 * n, 0)).save(folder / name / f"{n}.png")
    return folder


@pytest.mark.slow
def test_names_that_yaml_or_python_would_read_otherwise_are_names(random_pipeline, store, tmp_path, command):
    names = ["7", "no", "100% pure {x}", "2024-01-01", "$x$ {} %s"]
    where = pictures_of(tmp_path / "data", names)
    pictures, classifier = concepts.dataset(str(where), "train"), tmp_path / "small.safetensors"
    classifiers.save_small(classifier, pictures.classes, classifiers.train_small(pictures, 64, seed=0, steps=5))
    values = sweep(random_pipeline, dataset=str(where), methods={"RL": {"batch_size": 2}, "ESD-x": {"ddim_steps": 2}},
                   weightings=["none"], classifier=str(classifier))  # fmt: skip
    text = yaml.safe_dump(values | {"scenarios": "HERE"})
    for written, forgotten in (("7", "7"), ("no", "no"), ("2024-01-01", "2024-01-01"), ("'100% pure {x}'", "100% pure {x}")):
        config = tmp_path / "sweep.yaml"
        config.write_text(text.replace("scenarios: HERE", f"scenarios:\n- kind: class\n  forget_class: {written}"))
        plan = planned(config)
        assert {cell.record.scenario for cell in plan.cells} == {f"class-{forgotten}"}
        assert stage(plan, "unlearn").config["names"] == [forgotten]
        assert f"an image of {forgotten}" in stage(plan, "unlearn").config["prompts"]
    records = api.sweep(config, tmp_path / "run", workers=0)
    assert [r.reason for r in records] == [""] * 3
    assert command("figures", tmp_path / "run")[0] == 0
    assert len(list((tmp_path / "run" / "figures").glob("class-*-pictures.png"))) == 1


def test_classes_that_are_one_to_the_tokenizer_or_to_a_folder_of_pictures_are_refused(random_pipeline, tmp_path):
    long = "seven " * 39
    for number, names in enumerate((["Cat", "cat", "dog"], ["a b", "a-b", "c"], [f"{long}one", f"{long}two", "three"])):
        where = pictures_of(tmp_path / str(number), names)
        scenarios = [{"kind": "class", "forget_class": names[-1]}]
        prompt = "{}" if number < 2 else "seven seven seven seven seven seven seven seven seven seven " * 5 + "{}"
        with pytest.raises(UserError, match="are one and the same where prompts are read"):
            planned(sweep(random_pipeline, dataset=str(where), scenarios=scenarios, prompt=prompt))


def test_words_that_are_not_read_are_told(random_pipeline, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\n" + "two " * 90 + "\n")
    sampling = {"steps": 1, "prompts": str(prompts)}
    plan = planned(sweep(random_pipeline, scenarios=[STYLES], metrics=["mine"], sampling=sampling), [_metric(tmp_path)])
    (cut,) = (note for note in plan.notes if "cut off" in note)
    assert "reads 77 tokens: the last words of the prompt 'two two" in cut
    assert any("one prompt a line" in note for note in plan.notes)
    seeds = [r["seed"] for r in stage(plan, "sample").config["requests"]]
    assert len(set(seeds)) == 2
    plan = planned(sweep(random_pipeline, scenarios=[STYLES], metrics=["mine"]))
    assert not [note for note in plan.notes if "cut off" in note]


# ---- what methods make of several concepts


@pytest.mark.parametrize("protocol", ["corrected", "paper"])
def test_the_other_concept_is_one_that_is_kept(tiny, monkeypatch, protocol):
    seen = []
    monkeypatch.setattr(unlearning, "predict", lambda p, noisy, t, text, c: seen.append(text) or noisy)
    known = data(tiny, (7, 8))
    concepts = torch.tensor([7, 8] * 40)
    method("RL").forget_target(tiny, lambda: torch.zeros(80, 4, 8, 8), concepts, concepts, known, context(protocol))
    found = [next(k for k in range(10) if torch.equal(row, known.texts[k])) for row in seen[0]]
    assert set(found) == ({9} if protocol == "paper" else set(range(10)) - {7, 8})


def test_esd_erases_each_of_several_concepts_in_turn_by_their_bare_texts(tiny, monkeypatch):
    known, seen = data(tiny, bare=("seven", PROMPTS[2])), []
    chosen = method("ESD-x", iterations=20, ddim_steps=2)
    monkeypatch.setattr(type(chosen), "_loss", lambda self, p, o, text, *rest: seen.append(text) or p.unet(
        torch.zeros(1, 4, 8, 8), 0, encoder_hidden_states=text).sample.mean())  # fmt: skip
    chosen.unlearn(tiny, known, context())
    bare = [tiny.embed(["seven"]), known.texts[2:3]]
    found = [next(k for k, text in enumerate(bare) if torch.equal(text, row)) for row in seen]
    assert len(found) == 20
    assert set(found) == {0, 1}


def test_fmn_takes_attention_away_from_each_concepts_own_words(tiny):
    known = data(tiny)
    noisy, t = torch.randn(4, 4, 8, 8), torch.full((4,), 500)

    def paid(number):
        with torch.no_grad(), watched(tiny.unet) as seen:
            tiny.predict(noisy, t, known.texts[number].expand(4, -1, -1))
        return float(torch.cat([layer[:, :, [4, 5]].flatten() for layer in seen]).norm())

    before = [paid(number) for number in TWO]
    method("FMN", steps=10, lr=1e-2, batch_size=6).unlearn(tiny, known, context())
    assert all(paid(number) < 0.9 * old for number, old in zip(TWO, before, strict=True))


@pytest.mark.parametrize(
    ("prompt", "kept", "name", "words", "wanted"),
    [
        ("an image of one two", ("an image of two", "an image of one"), "one two", "all", [4, 5]),
        ("an image of one two", ("an image of two", "an image of one"), "one two", "own", [4, 5]),  # none is its own
        ("an image of one two", ("an image of two", "an image of three"), "one two", "all", [4, 5]),
        ("an image of one two", ("an image of two", "an image of three"), "one two", "own", [4]),
        ("an image of one", ("an image of one two",), "one", "all", [4]),
        ("an image of image", ("an image of two",), "image", "all", [4]),
        ("an image of seven", ("an image of two",), "nudity", "all", [4]),  # its prompt has other words for it
        ("one " * 74 + "two three", ("an image",), "two three", "all", [75]),  # the last word is beyond the 77 tokens
    ],
)
def test_the_words_of_a_concept(tiny, prompt, kept, name, words, wanted):
    assert concept_positions(tiny.tokenizer, prompt, kept, name, words, False) == wanted
    assert concept_positions(tiny.tokenizer, prompt, kept, name, words, True)[:-1] == wanted


def test_a_concept_of_which_no_word_is_read_is_refused_when_planned(random_pipeline, tmp_path):
    scenario = {"kind": "concept", "name": "seven", "forget_prompt": "one " * 80 + "seven", "retain_prompt": "one"}
    values = sweep(random_pipeline, scenarios=[scenario], metrics=["mine"])
    with pytest.raises(UserError, match=r"FMN: the prompt .* has no word that tells 'seven' from what is kept"):
        planned(values, [_metric(tmp_path)])


def test_ua_is_over_all_forgotten_classes_and_needs_to_know_which_picture_is_of_which(tmp_path):
    from loreun_bench.generation.metrics.ua import recognised

    class Always:
        name, classes = "always", ("a", "b", "c")

        def predict(self, pixels):
            return torch.ones(len(pixels), dtype=torch.int64)

    pictures_of(tmp_path, ["a", "b", "c"])
    about = recognised(Scene(Images.open(tmp_path, Always.classes), Always.classes, (0, 1), Always()))
    assert (about["forget_ua"]["hits"], about["forget_ua"]["n"]) == (6, 12)
    assert (about["kept_acc"]["hits"], about["kept_acc"]["n"]) == (0, 6)
    assert about["class"] == "a, b"
    with pytest.raises(UserError, match="which forgotten class does each show"):
        recognised(Scene(Images.open(tmp_path / "a"), Always.classes, (0, 1), Always()))


def test_the_presets_of_stable_diffusion_give_esd_the_bare_name():
    from loreun_bench.generation.data.names import IMAGENETTE

    for preset, names in (("imagenette-sd", ("tench",)), ("i2p-nudity", ("nudity",))):
        config = api.configuration.load(preset)
        for scenario in config.scenarios:
            found = scenario.item.draw(tuple(IMAGENETTE.values()), config.prompt)
            assert found.bare == names
            assert found.prompts[found.forgotten[0]] != names[0]  # RL and the pictures go by the whole prompt


def test_the_documented_way_to_forget_several_concepts_can_be_planned(random_pipeline):
    text = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text()
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "kind: concept" in each)
    values = sweep(random_pipeline, metrics=["nudity"]) | yaml.safe_load(block)
    pytest.importorskip("nudenet", reason="NudeNet is not installed (extra nudity)")
    plan = api.planning.build(api.resolve(values))
    assert plan.cells[0].record.scenario == "Van Gogh+Picasso"
    made = next(stage for stage in plan.stages if stage.label.endswith("training pictures")).config["requests"]
    assert len(made) == 4 * 100
    assert {each["prompt"] for each in made} >= {"a painting in the style of Van Gogh", "a photo of a house"}
