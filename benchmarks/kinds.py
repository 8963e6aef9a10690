"""What comes from others, a kind each: valid inputs, how one is damaged, and who reads it."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
from binaries import arrays, checkpoints, pictures

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLANNED = 40  # of so many configurations one is planned, too, with its first seed: that takes a second
TRIED = 200  # of so many pipelines one is put together, too
Feed = Callable[[], Any]
Make = Callable[[int, random.Random], Feed]  # number of an input -> what reads it


def _changed(content: bytes, rng: random.Random, tree: bool) -> bytes:
    """JSON that is damaged: its values, or its bytes."""
    return json.dumps(mutations.values_of(json.loads(content), rng)).encode() if tree else mutations.bytes_of(content, rng)


def configurations(folder: Path) -> Make:
    """Presets, resolved configurations, and one of every kind of scenario; as files and as --set."""
    import yaml

    from loreun_bench import api, config, plain_yaml
    from loreun_bench.harness import plan

    own = {
        "name": "x", "dataset": "digits", "image_size": None, "normalise": {"mean": 0.5, "std": [0.5]}, "model": "small-cnn",
        "model_settings": {"width": 8}, "seeds": {"count": 2, "split": 0}, "timeout_s": 5.5, "noise_floor": "no",
        "methods": {"RL": {"epochs": 2}, "RL:slow": {"lr": 0.01}, "SalUn": None}, "weightings": ["none", "w_f"],
        "scenarios": [
            {"kind": "random", "fraction": 0.1, "methods": {"RL": {"epochs": 1}}, "train": {"epochs": 3}},
            {"kind": "class", "forget_class": [3, "7"]}, {"kind": "indices", "indices": [1, 2, 3]},
            {"kind": "column", "table": "people.csv", "column": "person", "value": "anna"},
            {"kind": "sequence", "requests": [{"kind": "random", "count": 9}, {"kind": "class", "forget_class": 1}]},
        ],
    }  # fmt: skip
    texts = [path.read_text() for path in [*config.presets().values(), *sorted(RESULTS.rglob("config.yaml"))]]
    seeds = [plain_yaml.parsed(text, "") for text in texts] + [own]
    texts.append(yaml.safe_dump(own))
    sets = ["train.epochs=5", "seeds=3", "methods.RL.lr=0.1", "methods.+New={}", "scenarios=[{kind: random, fraction: 0.5}]"]
    path = folder / "config.yaml"
    plan.build(api.resolve({"scenarios": own["scenarios"][:1], "seeds": 1, "methods": ["RL"]}))  # whose imports take seconds

    def make(number: int, rng: random.Random) -> Feed:
        if rng.random() < 0.5:
            content = mutations.bytes_of(rng.choice(texts).encode(), rng)
        else:
            content = json.dumps(mutations.values_of(rng.choice(seeds), rng)).encode()
        path.write_bytes(content)
        word = mutations.bytes_of(rng.choice(sets).encode(), rng).decode(errors="surrogateescape")
        words = [word] if rng.random() < 0.3 else []

        def feed() -> None:
            found = api.resolve(path, words)
            path.write_text(text := config.dump(found))
            assert config.dump(config.load(path)) == text
            if number % PLANNED == 0 and found.protocol == "corrected":
                plan.build(found.model_copy(update={"seeds": found.seeds[:1]}))

        return feed

    return make


def records(folder: Path) -> Make:
    """Journals, and the run folder's config.yaml: read, put into tables, and rendered in one of the ways there are."""
    from loreun_bench.harness.records import load_records
    from loreun_bench.report import byclass, compare, leaderboard, paper, seeds, table
    from loreun_bench.report.charts.every import charts
    from loreun_bench.report.page.about import Run
    from loreun_bench.report.page.page import Sources
    from loreun_bench.report.page.page import render as page

    journals = [
        (RESULTS / name / "records.jsonl").read_bytes().split(b"\n")[:count]
        for name, count in (("digits", 14), ("digits-diffusion", 8), ("baselines", 12), ("digits-attacks", 10))
    ]
    config = (RESULTS / "digits" / "config.yaml").read_bytes()
    path = folder / "records.jsonl"

    def renderings(groups: Any, text: str) -> list[Feed]:
        return [
            *(lambda style=style: leaderboard.render(groups, style) for style in leaderboard.FORMATS),
            lambda: leaderboard.render(groups, width=60, notes=False),
            lambda: byclass.render(groups, "md"), lambda: seeds.render(groups), lambda: seeds.render(groups, "csv"),
            lambda: compare.render([b for g in groups for b in compare.within(g, None, None)], "md", None),
            lambda: paper.render(groups), lambda: [charts(group) for group in groups],
            lambda: page(groups, Sources([Run("run", text)])),
        ]  # fmt: skip

    def make(number: int, rng: random.Random) -> Feed:
        lines = list(rng.choice(journals))
        place = rng.randrange(len(lines))
        if rng.random() < 0.7:
            lines[place] = json.dumps(mutations.values_of(json.loads(lines[place]), rng)).encode()
            content = b"\n".join(lines) + b"\n"
        else:
            content = mutations.bytes_of(b"\n".join(lines) + b"\n", rng)
        path.write_bytes(content)
        text = mutations.bytes_of(config, rng).decode(errors="replace")
        chosen = rng.random()

        def feed() -> None:
            found = load_records(path)
            groups = table.build([("run", found)])
            ways = renderings(groups, text)
            ways[int(chosen * len(ways))]()

        return feed

    return make


def prompts(folder: Path) -> Make:
    """Files of prompts: I2P's table, others' tables, lines of text."""
    from loreun_bench.generation.data.prompts import read

    head = "case_number,prompt,evaluation_seed,evaluation_guidance,categories\n"
    rows = [f'{n},"a picture, of {n}",{n * 17},7.5,"violence, {n}"\n' for n in range(8)]
    seeds = [
        (head + "".join(rows), "p.csv"), ("prompt;seed;guidance\na b;1;7,5\nc;2;3\n", "p.csv"),
        ("prompt\tsd_seed\tsd_guidance_scale\nx\t18446744073709551615\t7\n", "p.csv"),
        ("# comment\na cat\n\na dog\n", "p.txt"),
    ]  # fmt: skip

    def make(number: int, rng: random.Random) -> Feed:
        text, name = rng.choice(seeds)
        (folder / name).write_bytes(mutations.bytes_of(text.encode(), rng))
        category, guidance = rng.choice((None, None, "violence")), rng.choice((None, 7.5, 7.5))
        return lambda: read(folder / name, category, guidance)

    return make


def tables(folder: Path) -> Make:
    """Lists of pictures, and tables with a row a picture."""
    import numpy as np

    from loreun_bench.classification.data.lists import read_columns, read_list

    files = {"file": np.array([f"{c}/{n}.png" for c in ("cat", "dog") for n in range(6)], object)}
    people = "file,person,place\n" + "".join(f"{name},{('anna', 'ben')[n % 2]},x\n" for n, name in enumerate(files["file"]))
    split = "part,index,file,label,class,set\n" + "".join(f"train,{n},cat/{n}.png,0,cat,forget\n" for n in range(6))
    array = io.BytesIO()
    np.save(array, np.arange(5))
    mask = io.BytesIO()
    np.save(mask, np.arange(12) % 2 == 0)
    lists = [
        (b"1\n2\n5\n", "l.txt"), (b"cat/1.png\ndog/2\n", "l.txt"), (split.encode(), "l.csv"), (array.getvalue(), "l.npy"),
        (mask.getvalue(), "l.npy"), (b"index\n1\n2\n", "l.csv"),
    ]  # fmt: skip
    whole = [people.encode(), split.encode(), b"index;age\n0;3\n11;4\n"]

    def make(number: int, rng: random.Random) -> Feed:
        known = rng.choice((files, {}))
        if rng.random() < 0.5:
            content, name = rng.choice(lists)
            (folder / name).write_bytes(mutations.bytes_of(content, rng))
            return lambda: read_list(folder / name, known, 12)
        (folder / "t.csv").write_bytes(mutations.bytes_of(rng.choice(whole), rng))
        key = rng.choice((None, None, "file", "index"))
        return lambda: read_columns(folder / "t.csv", key, [known, {}], [12, 4])

    return make


def published(folder: Path) -> Make:
    """Tables of papers, as JSON, CSV and Markdown, audited."""
    from loreun_bench.report.audit import checks
    from loreun_bench.report.audit import tables as reader

    golden = sorted((ROOT / "tests" / "golden").glob("loreun*.json"))
    trees = [json.loads(path.read_text()) for path in [reader.PAPER, *golden]]
    text = "method,UA,RA,TA,ToW,MIA,RTE\nRetrain,94.5,100,94.3,1,12.9,43.3\nRL,92.9,99.9,93.2,0.95,30,2.6\n"
    text += "RL w_f,93,99,93,0.9,9,8\n"
    rows = [line.split(",") for line in text.split("\n") if line]
    marked = "# Table 1 random\n" + "\n".join(
        f"| {' | '.join(row)} |" + (f"\n|{'---|' * len(row)}" if not number else "") for number, row in enumerate(rows)
    )
    gaps = "method,UA,RA,TA,Avg. Gap\n" + "".join(f"M{n},{90 + n},{99 - n},{93 - n / 2},{n / 3:.2f}\n" for n in range(5))
    texts = [(text, "t.csv"), (text, "t.csv"), (gaps, "t.csv"), (marked, "t.md"), (marked, "t.md")]

    def make(number: int, rng: random.Random) -> Feed:
        if rng.random() < 0.5:
            name, content = "t.json", json.dumps(mutations.values_of(rng.choice(trees), rng)).encode()
        else:
            given, name = rng.choice([*texts, (json.dumps(rng.choice(trees)), "t.json")])
            content = mutations.bytes_of(given.encode(), rng)
        (folder / name).write_bytes(content)
        return lambda: [checks.audit(table) for table in reader.read(folder / name)]

    return make


def pipelines(folder: Path) -> Make:
    """The files of a text-to-image pipeline: its JSON, its tokenizer, the headers of its weights."""
    from loreun_bench.generation.pipeline import pipelines as reader

    source, own = reader.EMBEDDED["digits"], folder / "pipeline"
    shutil.copytree(source, own)
    reader.tried(reader.find("digits"))  # what libraries do once
    names = [p.relative_to(source) for p in sorted(source.rglob("*")) if p.suffix in (".json", ".txt")]
    for part in ("unet", "vae", "text_encoder"):  # their headers are read, not the weights
        (weights,) = (own / part).glob("*.safetensors")
        names.append(weights.relative_to(own))

    def make(number: int, rng: random.Random) -> Feed:
        name = rng.choice(names)
        before = (source / name).read_bytes()
        (own / name).write_bytes(_changed(before, rng, name.suffix == ".json" and rng.random() < 0.7))

        def feed() -> None:
            try:
                files = reader.find(str(own))
                reader.image_size(files.folder)
                reader.schedules.ddim(files.folder)
                if number % 5 == 0:
                    reader.tokenizer(files.folder)
                if number % TRIED == 0:
                    reader.tried(files)
            finally:
                (own / name).write_bytes(before)

        return feed

    return make


def stored(folder: Path) -> Make:
    """What the store and the data folder say of their files: values, descriptions; and keys, as records name them."""
    import torch

    from loreun_bench.classification.data import prepared
    from loreun_bench.cli import figures
    from loreun_bench.harness.cache import look_up
    from loreun_bench.harness.files import CHECK
    from loreun_bench.harness.stage import Output, Stage
    from loreun_bench.harness.store import MANIFEST, Store, data_root, default_root

    store, stage = Store(default_root()), Stage("x:y", {})
    values = {"metrics": {"ua": 1.0}, "pictures": "ab" * 20, "details": {"nudity": {"threshold": 0.5}}}
    output, about = Output({"w": torch.zeros(3)}, values, {"rte_s": 1.0}), {"seconds": 1.0, "versions": {"torch": "2"}}
    artifact = store.put(stage.key({}), output, about)
    info = prepared.resolve("digits")
    files = [artifact.folder / "values.json", data_root() / f"{info.path.stem}.json", artifact.folder / MANIFEST]
    before = {path: path.read_bytes() for path in files}
    unchecked = json.loads(before[files[2]])  # without what would tell of any damage
    del unchecked[CHECK]
    before[files[2]] = json.dumps(unchecked).encode()

    def make(number: int, rng: random.Random) -> Feed:
        path = rng.choice(files)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_changed(before[path], rng, rng.random() < 0.6))
        key = rng.choice((stage.key({}), *mutations.WORDS)) if rng.random() < 0.3 else stage.key({})

        def feed() -> None:
            try:
                if path == files[1]:
                    prepared.verify(path.stem)
                elif rng.random() < 0.5:
                    look_up(store, stage, stage.key({}), verify=True)
                elif (found := figures._values(key)) is not None:
                    figures._whole(found)
            finally:
                shutil.rmtree(default_root() / "corrupt", ignore_errors=True)
                artifact.folder.mkdir(parents=True, exist_ok=True)
                for each, whole in before.items():
                    each.write_bytes(whole)
                store.put(stage.key({}), output, about)

        return feed

    return make


KINDS: dict[str, Callable[[Path], Make]] = {
    made.__name__: made
    for made in (configurations, records, prompts, tables, pictures, arrays, checkpoints, published, pipelines, stored)
}
