"""The page as text: whole, the same every time, safe whatever names hold, and no larger than it may be."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pages
import pytest
from helpers import refused
from PIL import Image

from loreun_bench.harness.records import append
from loreun_bench.report import leaderboard, table, verdict
from loreun_bench.report.page import about, page, view
from loreun_bench.report.page import pictures as strips

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
VOID = {"meta", "input", "img", "br", "line", "rect", "circle", "path", "use", "polyline", "polygon"}


class Read(HTMLParser):
    """A page's elements, checked for nesting; text: what is shown of it, by element where it is of a script or style."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text, self.raw = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"<{tag}> has an attribute twice"
        if tag not in VOID:
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> ends nothing"
        assert self.open[-1][0] == tag, f"</{tag}> ends <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] in ("script", "style"):
            tag, attributes = self.open[-1]
            key = attributes.get("type", tag)
            self.raw[key] = self.raw.get(key, "") + data
        else:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def shown(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def usual():
    return pages.html(pages.usual())


@pytest.fixture(scope="module")
def attacked():
    config = "\n".join(pages.ATTACKS)
    return pages.html(pages.hostile(), name="</title><script>window.pwned=1</script>", config=config)


@pytest.fixture(params=["usual", "attacked"])
def read(request):
    return Read(request.getfixturevalue(request.param))


def test_elements_are_nested_and_ids_unique(read):
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 4
    assert all(re.fullmatch(r"[a-z0-9-]+", each) for each in ids), ids
    wanted = {attributes["href"][1:] for attributes in read.all("a")}
    named = {each for _, attributes in read.elements for each in attributes.get("aria-labelledby", "").split()}
    assert wanted | named <= set(ids)


def test_the_policy_lets_run_what_is_in_the_page_and_nothing_else(read):
    (policy,) = [m["content"] for m in read.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    found = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for directive, tag in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(read.raw[tag].encode()).digest()).decode()
        assert found.pop(directive) == f"'sha256-{digest}'"
    assert found == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert len(read.all("script")) == 2
    assert len(read.all("style")) == 1


def test_nothing_has_a_style_an_event_or_an_address_elsewhere(read):
    for tag, attributes in read.elements:
        for name, value in attributes.items():
            assert not re.match("style$|on", name), (tag, name)
            if name in ("href", "src", "action", "data", "xlink:href"):
                assert value.startswith(("#", "data:image/")), (tag, value)
    assert {tag for tag, _ in read.elements}.isdisjoint({"iframe", "object", "embed", "form", "base", "link"})


@pytest.mark.parametrize("attack", pages.ATTACKS)
def test_a_hostile_name_is_shown_as_text(attacked, attack):
    shown = Read(attacked).shown
    assert " ".join(view.plain(attack).split()) in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", attacked)


def test_a_very_long_name_is_cut_and_says_so(attacked):
    assert "(800 characters)" in Read(attacked).shown
    cells = re.findall("<t[hd].*?</t[hd]>", attacked)
    assert max(map(len, cells)) < 1000


def test_a_sentence_of_very_long_names_is_cut():
    names = [f"{letter}{pages.LONG}" for letter in "abcdef"]
    records = [pages.record(name, seed) for seed in range(3) for name in ("Retrain", *names)]
    read = Read(pages.html(records))
    assert max(len(text) for text in read.text) < 1100
    assert "characters)" in read.shown


@pytest.mark.parametrize("records", [pages.usual, pages.hostile])
def test_the_records_read_back_as_the_leaderboards_rows(records):
    text = pages.html(records())
    wanted = leaderboard.flat(table.build([("run", records())]))
    found = json.loads(Read(text).raw["application/json"])
    assert [list(row) for row in found] == [list(row) for row in wanted]
    for row, same in zip(found, wanted, strict=True):
        assert {k: pytest.approx(v, rel=1e-8) if isinstance(v, float) else v for k, v in same.items()} == row


def test_the_same_records_make_the_same_bytes(usual):
    assert pages.html(pages.usual()) == usual


def test_verdict_numbers_failures_and_settings_are_there(usual):
    read = Read(usual)
    groups = table.build([("run", pages.usual())])
    for group in groups:
        for said in verdict.verdicts(group):
            assert all(sentence in read.shown for sentence in said)
        for row in group.rows:
            for column in group.choose():
                digits = leaderboard.decimals(column, group.rows, group.track)
                said = leaderboard.words(column, row, "loreun", digits, group.track)
                for part in (said.value.replace("-", "–"), said.spread.strip(), said.gap):
                    assert part in read.shown
    assert read.shown.index(verdict.verdicts(groups[0])[0][0]) < read.shown.index("Seed by seed")
    assert "NaNs , seed 1: diverged, the loss is NaN" in read.shown
    assert "UA, RA, TA: accuracy in percent" in read.shown
    assert "name: tiny" in read.shown
    assert "2 tables, 20 rows, 60 cells, 2 of them failed." in read.shown


def test_headings_are_in_order_and_landmarks_there(read):
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert (levels[0], levels.count(1)) == (1, 1)
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert {"header", "main", "footer"} <= {tag for tag, _ in read.elements}
    assert read.all("html")[0]["lang"] == "en"
    assert all(attributes.get("scope") for attributes in read.all("th"))


def test_contents_are_listed_where_there_are_several_tables(usual):
    links = [a["href"] for a in Read(usual).all("a")]
    assert {"#table-1", "#table-2"} <= set(links)
    assert not Read(pages.html([r for r in pages.usual() if r.scenario == "class-3"])).all("nav")


def test_ua_as_salun_prints_it_is_turned_in_cells_and_in_what_they_are_sorted_by():
    records = [pages.record("RL", seed, metrics={"forget_acc": 30.0, "retain_acc": 90.0}) for seed in range(3)]
    assert '<td data-value="30">30.00' in pages.html(records)
    assert '<td data-value="70">70.00' in pages.html(records, ua="salun")


def test_what_differs_between_rows_is_said(usual):
    found = about.facts(table.build([("run", pages.usual())]))
    assert about.differing(found) == ["device"]
    assert "Not the same for all cells: device." in Read(usual).shown
    (device,) = [fact for fact in found if fact.name == "device"]
    assert ("cuda", "GA") in device.values
    other = [pages.record("RL", seed, environment={"curve": str(seed)}) for seed in range(3)]
    assert about.facts(table.build([("run", other)]))[0] == about.Fact("curve", [("0", ""), ("1", ""), ("2", "")])


def test_a_page_that_would_be_too_large_leaves_parts_out_and_says_so(monkeypatch, usual):
    size = len(usual.encode())
    groups, sources = table.build([("run", pages.usual())]), page.Sources([about.Run("run", "name: tiny\n")])
    monkeypatch.setattr(page, "LIMIT", size)
    text, left_out = page.render(groups, sources)
    assert left_out == ["the rows as JSON"]
    assert len(text.encode()) < size
    assert "Left out, so that this page stays under 2 MB: the rows as JSON." in Read(text).shown
    assert "application/json" not in text
    assert "leaderboard --format json" in text
    size = len(text.encode())
    monkeypatch.setattr(page, "LIMIT", size)
    text, left_out = page.render(groups, sources)
    assert left_out == ["all but the first chart of each table", "the rows as JSON"]
    assert text.count("<svg") == 2
    assert len(text.encode()) < size
    monkeypatch.setattr(page, "LIMIT", 10)
    text, left_out = page.render(groups, sources)
    assert left_out == ["the pictures", "the charts", "the values seed by seed", "the rows as JSON"]
    assert "Seed by seed" not in text
    assert "<svg" not in text


def folder(where, *, label=0, colour=(200, 30, 30), size=256):
    where.mkdir()
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:, : size // 2] = colour
    Image.fromarray(pixels).save(where / "p0.png")
    entry = {"prompt": "an image of <b>", "seed": 0, "guidance": 7.5, "label": label, "concept": ""}
    (where / "index.json").write_text(json.dumps({"p0": entry}))
    return where


def generated(find, boxes=lambda: None):
    records = [
        pages.record(method, seed, track="generation", metrics={"forget_ua": 5.0, "kept_acc": 90.0})
        for method in ("Original", "RL") for seed in range(3)
    ]  # fmt: skip
    return pages.html(records, find=find, boxes=boxes)


def decoded(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")).astype(int)


def test_pictures_are_small_named_and_within_the_page(tmp_path):
    places = {name: folder(tmp_path / name) for name in ("Original", "RL")}
    read = Read(generated(lambda record: places[record.method]))
    images = read.all("img")
    assert [image["alt"].partition(",")[0] for image in images] == ["Original", "RL"]
    for image in images:
        assert "an image of <b>" in image["alt"]
        pixels = decoded(image["src"])
        assert pixels.shape == (96, 96, 3)
        assert abs(pixels[:, :40] - (200, 30, 30)).max() < 8
        assert pixels[:, 60:].max() < 8
    assert (read.shown.count("an image of <b>"), "blurred" in read.shown) == (1, False)


def test_what_may_be_explicit_is_blurred(tmp_path):
    places = {name: folder(tmp_path / name, label=None) for name in ("Original", "RL")}
    read = Read(generated(lambda record: places[record.method]))
    pixels = decoded(read.all("img")[0]["src"])
    assert abs(np.diff(pixels[48, :, 0])).max() < 60  # the edge is gone
    assert "pictures blurred: no detector" in read.shown
    asked = []
    read = Read(generated(lambda record: places[record.method], lambda: lambda pixels: asked.append(pixels.shape) or []))
    assert asked == [(256, 256, 3)] * 2
    assert "faces and nudity blurred" in read.shown


def test_pictures_that_are_gone_are_said_to_be(tmp_path):
    assert "holds no pictures of these rows" in Read(generated(lambda record: None)).shown
    place = folder(tmp_path / "RL")
    assert "holds no pictures of Original." in Read(generated(lambda r: place if r.method == "RL" else None)).shown
    (place / "p0.png").write_bytes(b"no picture")
    text = Read(generated(lambda r: place)).shown
    assert "No pictures are shown: those in the store are damaged" in text
    assert str(tmp_path) not in text


def test_pictures_shrink_to_their_budget(tmp_path):
    rng = np.random.default_rng(0)
    place = folder(tmp_path / "RL")
    Image.fromarray(rng.integers(0, 255, (256, 256, 3)).astype(np.uint8)).save(place / "p0.png")
    group = table.build([("run", [pages.record("RL", 0, track="generation", metrics={"forget_ua": 5.0})])])[0]
    full, _ = strips.strips(group, lambda record: place, lambda: None, 10**6)
    less, _ = strips.strips(group, lambda record: place, lambda: None, full.size - 1)
    none, why = strips.strips(group, lambda record: place, lambda: None, 100)
    assert (full.rows[0].width, less.rows[0].width, none) == (96, 64, None)
    assert "too large" in why


def test_the_command_finds_pictures_in_the_store(command, tmp_path):
    from loreun_bench.harness.stage import Output
    from loreun_bench.harness.store import Store, default_root

    root = default_root()
    Store(root).put("a" * 64, Output(values={"pictures": "some"}), {})
    (root / "pictures").mkdir()
    folder(root / "pictures" / "some", label=None)
    about_it = {"track": "generation", "metrics": {"forget_ua": 5.0}, "evaluation": "a" * 64}
    append(tmp_path / "run" / "records.jsonl", [pages.record("RL", 0, **about_it)])
    assert command("report", tmp_path / "run" / "records.jsonl")[0] == 0
    read = Read((tmp_path / "run" / "report.html").read_text())
    assert len(read.all("img")) == 1
    assert "blurred" in read.shown
    (root / "pictures" / "some" / "p0.png").unlink()
    assert command("report", tmp_path / "run")[0] == 0
    assert "holds no pictures" in Read((tmp_path / "run" / "report.html").read_text()).shown


def test_a_page_of_tables_too_large_is_written_and_noted(command, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LIMIT", 10)
    append(tmp_path / "records.jsonl", pages.usual())
    code, _, err = command("report", tmp_path)
    assert (code, "give fewer runs at a time" in err) == (0, True)


@pytest.mark.parametrize("name", ["digits", "digits-baselines", "baselines", "cifar10-narrow", "digits-diffusion"])
def test_a_run_becomes_a_page_by_the_command(command, tmp_path, name):
    out = tmp_path / "page.html"
    code, said, err = command("report", RESULTS / name, "--out", out)
    assert (code, said.strip()) == (0, str(out)), err
    assert len(out.read_bytes()) < page.LIMIT
    read = Read(out.read_text())
    assert f"loreun_bench sweep {name}/config.yaml --out {name}-again" in read.shown
    assert (RESULTS / name / "config.yaml").read_text().split()[3] in read.shown


def test_the_command_that_runs_it_again_is_one(command, tmp_path, monkeypatch):
    run = tmp_path / "a run"
    run.mkdir()
    (run / "config.yaml").write_text((RESULTS / "digits" / "config.yaml").read_text())
    append(run / "records.jsonl", pages.usual())
    assert command("report", run)[0] == 0
    read = Read((run / "report.html").read_text())
    line = about.Run("a run", "x").again([])
    assert line in read.shown
    monkeypatch.chdir(tmp_path)
    assert command(*shlex.split(line.replace("sweep", "plan"))[3:])[0] == 0


def test_several_runs_are_one_page(command, tmp_path):
    for name, device in (("a", "cpu"), ("b", "cuda")):
        append(tmp_path / name / "records.jsonl", [replace(r, environment={"device": device}) for r in pages.usual()])
    refused(command("report", tmp_path / "a", tmp_path / "b"), "--out: say where the report of several runs goes")
    out = tmp_path / "both.html"
    assert command("report", tmp_path / "a", tmp_path / "b", "--out", out)[0] == 0
    shown = Read(out.read_text()).shown
    assert "Runs: a, b." in shown
    assert shown.count("holds no config.yaml") == 2
    assert "cuda b: Original" in " ".join(shown.split())  # which run was on which device
    page = out.read_text()
    assert all(f'scope="rowgroup" rowspan="3">{run}: RL</th>' in page for run in "ab")
    failed = [r for r in pages.usual() if r.status != "ok"]
    assert page.count("<li><b>a: ") == page.count("<li><b>b: ") == len(failed) > 0


def test_what_cannot_be_done_is_one_line(command, tmp_path):
    refused(command("report", tmp_path), "no records in")
    append(tmp_path / "a" / "records.jsonl", pages.usual())
    refused(command("report", tmp_path / "a", "--ua", "x"), "unknown --ua 'x'")
    refused(command("report", tmp_path / "a", "--out", tmp_path), "cannot be written")
