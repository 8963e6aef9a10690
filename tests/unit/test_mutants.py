"""The known bugs of tests/mutants.py and tests/ops/native_mutants.py can still be put back."""

from __future__ import annotations

import importlib.util

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("name", MUTANTS)
def test_the_code_that_a_mutant_changes_is_there_once(name):
    _, file, right, wrong, tests = MUTANTS[name]
    assert (ROOT / "loreun_bench" / file).read_text().count(right) == 1
    assert wrong != right
    assert (ROOT / "tests" / tests).exists()


def test_the_operators_bugs_match_its_source():
    spec = importlib.util.spec_from_file_location("native_mutants", ROOT / "tests/ops/native_mutants.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    assert found.mismatches() == []
