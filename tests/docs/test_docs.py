"""The documentation builds without a warning, and what it tells to type works as it stands there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, *pages):
    """What stands between fences of a language, with the page's name."""
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [(page.name, text) for page in pages for text in fence.findall(page.read_text())]


def test_every_example_has_a_language_that_is_looked_at_here():
    found = {language for page in PAGES for language in re.findall(r"^```(\S+)$", page.read_text(), re.MULTILINE)}
    assert found <= {"sh", "python", "yaml", "text", "{toctree}", "{eval-rst}", "{include}"}


def in_a_terminal(command, **how):
    """Run a shell's command line in a terminal of 80 columns: its exit code, and the lines that it shows there."""
    pty = pytest.importorskip("pty", reason="needs a terminal (not Windows)")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(f"stty columns 80; {command}", shell=True, stdin=theirs, stdout=theirs, stderr=theirs, **how)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how Linux says that a terminal is closed
        while part := os.read(ours, 1 << 16):
            shown += part
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return process.wait(), re.split(r"[\r\n]+", plain)


@pytest.mark.slow
def test_the_first_ten_minutes_are_as_they_are_written(tmp_path):
    for _, text in blocks("sh", ROOT / "docs" / "start.md"):
        for line in text.splitlines():
            command = line.replace("python -m", f"{sys.executable} -m", 1)
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            code, shown = in_a_terminal(command, cwd=tmp_path, env=env)
            assert code == 0, (line, shown)
            assert "--wide" in line or max(map(len, shown)) <= 80, (line, shown)
    assert (tmp_path / "runs" / "first" / "report.html").is_file()


def test_only_what_is_run_is_called_a_command():
    assert {name for name, _ in blocks("sh", *PAGES)} == {"start.md"}


@pytest.mark.parametrize(("name", "kinds"), [("mine.py", ["method"]), ("more.py", ["weighting", "weighting", "metric"])])
def test_what_is_shown_of_ones_own_passes_its_check(command, tmp_path, monkeypatch, name, kinds):
    monkeypatch.chdir(tmp_path)
    (text,) = [text for _, text in blocks("python", ROOT / "docs" / "extend.md") if f"# {name}" in text]
    (tmp_path / name).write_text(text)
    code, out, err = command("check", name)
    assert code == 0, out + err
    assert [line.split()[1] for line in out.splitlines() if line.startswith("ok ")] == kinds


@pytest.mark.parametrize(("page", "text"), blocks("yaml", *PAGES), ids=lambda value: value[:20].split("\n")[0])
def test_examples_of_configurations_are_read(page, text):
    found = yaml.safe_load(text)
    assert isinstance(found, dict)
    assert "scenarios" in found


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="sphinx is not installed (extra docs)")
def test_it_builds_without_a_warning(tmp_path):
    words = ["sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", tmp_path / "cache", ROOT / "docs", tmp_path / "html"]
    done = subprocess.run([sys.executable, "-m", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "reference" / "configuration.html").read_text()
    assert "label_smoothing" in page
