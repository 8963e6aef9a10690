"""Names that somebody chose to do harm: in a terminal, a spreadsheet, Markdown, LaTeX, and as parts of paths."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import refused
from markdown_it import MarkdownIt

from loreun_bench.classification.data import lists
from loreun_bench.cli import figures, progress, says
from loreun_bench.errors import LONGEST, UserError
from loreun_bench.generation.pipeline import files
from loreun_bench.harness.files import CHECK
from loreun_bench.harness.records import encode, load_records
from loreun_bench.harness.store import default_root
from loreun_bench.names import FORMULA, as_cell, inside, of_cell
from loreun_bench.report import byclass, compare, leaderboard, seeds, table
from loreun_bench.report.figures import grid

ROOT = Path(__file__).parents[2]
RECORDS = load_records(ROOT / "benchmarks" / "results" / "digits")
TERMINAL = "\x1b[2J\x1b]8;;http://evil\x07click\x1b]8;;\x07\x9b31m\b\b\u202eabc\u2066\r\x00\ud800"
HOSTILE = [
    "\x1b[31mred\x1b[0m\x9b2J\u202egnp.exe\u2066\x07\x08", "=HYPERLINK(1)", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1",
    "＝1+1",
    "<script>alert(1)</script>", "[a](javascript:b) ![c](http://d)", "a|b|c", "\\\\<b>x", "`<i>`", "\\](x) \\\\](y)",
    r"\input{/etc/passwd}", "50% $x$ #1 _y_ {z} ~ ^", "[1em]", "../../x",
]  # fmt: skip


def hostile():
    """Records in which every name is one of HOSTILE, and one cell failed for such a reason."""
    words = iter(HOSTILE * 100)
    methods = {r.method: r.method for r in RECORDS} | {"RL": HOSTILE[0], "SalUn": HOSTILE[1]}
    for number, word in enumerate(HOSTILE):
        about = {"dataset": word, "model": next(words), "scenario": f"{word}{number}", "environment": {"classifier": word}}
        for record in RECORDS[:14]:
            metrics = record.metrics | {word: 1.0}
            names = {"method": methods.get(record.method, "") or word, "trials": 2, "overlap": 0.2, "metrics": metrics}
            yield replace(record, **about, **names)
        failed = replace(RECORDS[3], **about, method=f"{word}", weighting=word, status="failed", reason=f"{word} {word}")
        yield replace(failed, metrics={}, counts={}, uninformative=[])


@pytest.fixture(scope="module")
def groups():
    return table.build([(word, list(hostile())) for word in ("runs/<b>=1|x", "-run")])


def every(groups, style):
    """All that is rendered in a format."""
    yield leaderboard.render(groups, style)
    if style in ("md", "csv"):
        yield seeds.render(groups, style)
        yield compare.render([block for group in groups for block in compare.within(group, None, None)], style)
    yield byclass.render(groups, style)


@pytest.mark.parametrize("style", ["text", "md", "latex", "csv", "json"])
def test_no_table_holds_what_a_terminal_acts_on(style, groups):
    for text in every(groups, style):
        shown = says.shown(text) if style == "csv" else text
        assert {c for c in shown if not c.isprintable()} <= {"\n"}


def test_no_cell_of_a_csv_is_a_formula(groups):
    texts = list(every(groups, "csv"))
    assert texts[0].count("'=HYPERLINK(1)") > 10
    for text in texts:
        cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
        odd = [cell for cell in cells if cell.startswith(FORMULA)]
        assert all(re.fullmatch(r"-\d+(\.\d+)?(e-?\d+)?", cell) for cell in odd), odd


def test_no_name_is_a_tag_or_a_link_in_markdown(groups):
    for text in every(groups, "md"):
        found = MarkdownIt("commonmark").enable("table").parse(text.replace("<br>", " "))
        tokens = [inner for token in found for inner in (token.children or [token])]
        kinds = {token.type for token in tokens}
        assert not kinds & {"html_inline", "html_block", "link_open", "image"}
        widths = [len(re.findall(r"(?<!\\)\|", row)) for row in text.split("\n") if row.startswith("|")]
        assert len(set(widths)) <= 2, text
    assert widths


def test_no_name_is_a_command_in_latex(groups):
    for text in every(groups, "latex"):
        body = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
        assert "\\input" not in body
        assert not re.search(r"(?<!\\)#|(?<!\\)%", body)
        assert not re.search(r"\\\\\s*\[", body)  # an option of the line break


def test_a_formula_comes_back_as_the_name_it_was(tmp_path):
    names = [*HOSTILE, "'=x", "''-y", "'z", "", "plain"]
    assert [of_cell(as_cell(name)) for name in names] == names
    (tmp_path / "t.csv").write_text("file,x\n'=1.png,'-\n")
    assert lists.read_csv(tmp_path / "t.csv") == (["file", "x"], [["=1.png", "-"]])


def test_an_error_is_one_line_of_moderate_length():
    said = str(UserError(f"a\n{TERMINAL}" + "x" * 10_000 + " do this"))
    assert said.isprintable()
    assert len(said) == LONGEST
    assert said.endswith("do this")


def test_only_one_place_prints():
    for path in (ROOT / "loreun_bench" / "cli").glob("*.py"):
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {ast.unparse(call.func) for call in calls}
        assert path.name == "says.py" or not names & {"print", "sys.stdout.write", "sys.stderr.write", "typer.echo"}, path


def printable(text):
    return {c for c in text if not c.isprintable()} <= {"\n"}


@pytest.mark.parametrize("verb", [["leaderboard"], ["leaderboard", "--format", "csv"], ["compare"], ["report"], ["export"]])
def test_verbs_print_nothing_that_a_terminal_acts_on(verb, tmp_path, command):
    run = tmp_path / "r\x1b[31m"
    run.mkdir()
    (run / "records.jsonl").write_bytes(b"".join(map(encode, list(hostile())[:60])))
    (run / "config.yaml").write_text("methods: {'\x1b[2J': {}}\n")
    words = ["--row", TERMINAL.replace("\0", ""), "--to", "x.safetensors"] if verb == ["export"] else []
    _, out, err = command(*verb, run, *words)
    assert printable(out)
    assert printable(err)
    assert out + err


@pytest.mark.parametrize(
    "words",
    [
        ["show", "methods", TERMINAL], ["sweep", TERMINAL], ["sweep", "digits", "--set", TERMINAL], ["audit", TERMINAL],
        ["data", "prepare", TERMINAL], [TERMINAL], ["plan", "--" + TERMINAL],
    ],
    ids=lambda words: words[0] if words[0].isalpha() else "a verb",
)  # fmt: skip
def test_what_is_mistyped_is_shown_as_escapes(words, command):
    refused(command(*(word.replace("\0", "").replace("\ud800", "") for word in words)), "")


def test_progress_shows_names_as_escapes(capsys, tmp_path, monkeypatch):
    from loreun_bench.harness.plan import Cell, Plan
    from loreun_bench.harness.scheduler import Event
    from loreun_bench.harness.stage import Stage
    from loreun_bench.harness.work import Outcome

    stage = Stage("x:y", {}, label=f"[/red] {TERMINAL}", work=5)
    plan = Plan((Cell(RECORDS[0], stage, stage),), (stage,), (TERMINAL,))
    monkeypatch.setattr(progress, "EVERY", 0.0)
    for terminal in (False, True):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        with progress.Progress(plan, tmp_path / "\x1b[31m") as listen:
            listen(Event("started", stage))
            listen(Event("running", stage, share=0.5))
            if terminal:
                listen._bar.refresh()
            listen(Event("finished", stage, Outcome("failed", TERMINAL), text="e"))
            listen(Event("note", text=TERMINAL))
            listen(Event("record", record=replace(RECORDS[0], scenario=TERMINAL, status="failed", reason=TERMINAL)))
        err = capsys.readouterr().err
        assert "\x1b]8" not in err
        assert not set("\x07\x08\x9b\u202e\u2066\ud800") & set(err)
        assert terminal or printable(err)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "..", ".", "", "a/\0", "\u202ex"])
def test_no_name_leads_out_of_a_folder(name, tmp_path):
    with pytest.raises(UserError, match="is no name of a file"):
        inside(tmp_path, name, "here")
    assert inside(tmp_path, "a/../b.txt", "here") == tmp_path / "b.txt"


@pytest.mark.parametrize("key", ["../../etc", "/etc", "a/b", "..", "a\\b", "x" * 65])
@pytest.mark.parametrize("field", ["artifact", "evaluation"])
def test_a_record_names_no_folder_outside_the_store(field, key, tmp_path):
    line = json.loads(encode(RECORDS[0])) | {field: key}
    del line[CHECK]  # whoever forges a record leaves it out
    (tmp_path / "records.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match=f"{field}: is no key of the store"):
        load_records(tmp_path)


def test_stored_pictures_lie_in_their_folder(tmp_path):
    with pytest.raises(UserError, match="no name of a file"):
        figures._pictures("../../x")
    folder = default_root() / "pictures" / "a"
    folder.mkdir(parents=True)
    index = {"../../../secret": {"prompt": "p", "seed": 1}}
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"index.json: '\.\./\.\./\.\./secret\.png' is no name"):
        grid.gather([("row", folder)], columns=1)


def test_weights_of_a_pipeline_lie_in_its_folder(tmp_path):
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": "../../x.safetensors"}}))
    with pytest.raises(UserError, match="is no name of a file"):
        files.weight_files(tmp_path, "m")


def test_figures_of_any_scenario_lie_in_their_folder():
    used: set[str] = set()
    for name in [*HOSTILE, TERMINAL, "/", "..", "a/../../b", "."]:
        found = figures.stem(name, used)
        assert Path(found).name == found
        assert found.isprintable()
        assert not found.startswith(".")


def test_no_name_is_a_formula_in_a_figure(tmp_path):
    pytest.importorskip("matplotlib")
    from loreun_bench.report.figures import bars, curves

    broken = "RL:$x^{$ \x1b[31m"
    assert bars.label_counts({broken: {broken: 1.0}}, tmp_path / "b.svg").is_file()
    fitted = [curves.LossCurve(label, [0, 500], [1.0, 0.5], None) for label in (broken, "x")]
    text = curves.loss_curves(fitted, tmp_path / "c.svg").read_text()
    assert "\x1b" not in text
