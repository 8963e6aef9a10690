"""What the page says of how its numbers came about: settings, commands, what they were measured on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loreun_bench.report.group import Group
from loreun_bench.report.page.view import short
from loreun_bench.report.text import count, plain

LARGEST = 100_000  # characters of a configuration that are shown
NAMED = 4  # rows that are listed by name


@dataclass(frozen=True)
class Run:
    """A run folder by its name. config: the text of its config.yaml, "" if it has none."""

    name: str
    config: str

    @property
    def shown(self) -> str:
        """The configuration, line by line safe to show."""
        text = self.config if len(self.config) <= LARGEST else f"{self.config[:LARGEST]}\n…"
        return "\n".join(plain(line) for line in text.split("\n")).strip()

    def again(self, plugins: Sequence[str]) -> str:
        """The command that makes the run anew, for a shell beside the run folder."""
        folder = plain(self.name)
        words = ["python", "-m", "loreun_bench", "sweep", f"{folder}/config.yaml", "--out", f"{folder}-again"]
        return shlex.join([*words, *(word for path in plugins for word in ("--plugin", plain(path)))])


@dataclass(frozen=True)
class Fact:
    """Something that the records say of their making. values: (the value, of which rows; "" where that tells nothing)."""

    name: str
    values: Sequence[tuple[str, str]]


def facts(groups: Sequence[Group]) -> list[Fact]:
    """Everything that the records say of their environment, and of which rows where they do not all say the same."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    every: dict[str, None] = {}
    several = len({row.run for group in groups for row in group.rows}) > 1
    for group in groups:
        for row in group.rows:
            name = short(f"{row.run}: {row.name}" if several else row.name)
            for record in row.finished:
                every[name] = None
                about = {**record.environment, "operator": record.backend} if record.backend else record.environment
                for key, value in about.items():
                    found.setdefault(key, {}).setdefault(_text(value), {})[name] = None
    return [
        Fact(short(key), [(value, _of(rows) if _apart(values, every) else "") for value, rows in sorted(values.items())])
        for key, values in sorted(found.items())
    ]


def differing(found: Sequence[Fact]) -> list[str]:
    """The names of what is not the same for all cells."""
    return [fact.name for fact in found if len(fact.values) > 1]


def _text(value: Any) -> str:
    return short(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _apart(values: dict[str, dict[str, None]], every: dict[str, None]) -> bool:
    """Whether some rows have one value and others another, or none, rather than each seed its own."""
    rows = {frozenset(names) for names in values.values()}
    return len(rows) > 1 or (len(values) == 1 and len(next(iter(rows))) < len(every))


def _of(rows: dict[str, None]) -> str:
    """The rows that a value is of, in words."""
    names = list(rows)
    more = f" and {count(len(names) - NAMED, 'more row')}" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
