"""How the documentation is built: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generate

from loreun_bench.harness.environment import package_version

generate.write()

RESULT = re.compile(r"\]\(\.\./benchmarks/results/([\w/-]+)/leaderboard\.md\)")  # a link of the text as it is


def setup(app: Any) -> None:
    """Tables of results are pages here."""
    app.connect("source-read", _to_pages)


def _to_pages(app: Any, name: str, text: list[str]) -> None:
    text[0] = RESULT.sub(r"](reference/results/\1.md)", text[0])


project, author, release = "loreun_bench", "the authors of loreun_bench", package_version()
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["generate.py"]
html_theme, html_title, html_show_copyright = "furo", "loreun_bench", False
html_static_path, html_css_files = ["static"], ["tables.css"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_typehints, autodoc_member_order = "signature", "bysource"
