"""Files of figures lie in their folder, whatever a class is called."""

from __future__ import annotations

import pytest

from loreun_bench.cli.figures import stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("class-van gogh", "class-van-gogh"), ("class-a/b", "class-a-b"), ("../../x", "-..-x"), ("..", "scenario"),
     ("random-10%", "random-10%"), ("class-a\nb\x00", "class-a-b-")],
)  # fmt: skip
def test_a_scenarios_name_is_one_file_in_the_folder(name, expected):
    assert stem(name, set()) == expected
    assert "/" not in stem(name, set())


def test_two_names_that_are_one_as_files_get_two_files():
    used = set()
    assert [stem(name, used) for name in ("a/b", "a-b", "A b", "c")] == ["a-b", "a-b-2", "A-b-3", "c"]
