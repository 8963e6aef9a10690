"""The table of docs/faults.md names every test of a fault, and only tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = (HERE.parents[1] / "docs" / "faults.md").read_text()


def test_the_table_and_the_tests_are_the_same():
    files = [path for path in HERE.glob("test_*.py") if path != Path(__file__)]
    trees = {path.name: ast.parse(path.read_text()).body for path in files}
    tests = {f"{name}::{node.name}" for name, body in trees.items() for node in body
             if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}  # fmt: skip
    assert set(re.findall(r"`(test_\w+\.py::test_\w+)`", TABLE)) == tests


def test_every_row_says_what_is_seen_and_by_which_test():
    rows = [line.strip("|").split("|") for line in TABLE.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert all(cell.strip() for row in rows for cell in row)
