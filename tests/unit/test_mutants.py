"""The known bugs of tests/mutants.py can still be put back."""

from __future__ import annotations

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("name", MUTANTS)
def test_the_code_that_a_mutant_changes_is_there_once(name):
    _, file, right, wrong, tests = MUTANTS[name]
    assert (ROOT / "loreun_bench" / file).read_text().count(right) == 1
    assert wrong != right
    assert (ROOT / "tests" / tests).exists()
