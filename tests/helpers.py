"""What several test files check in the same words."""

from __future__ import annotations


def refused(result, says):
    """Exit code 2, and one line on stderr that says it."""
    code, _, err = result
    assert code == 2, err
    lines = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert says in lines[0]
