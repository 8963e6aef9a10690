"""Prompts from a table of the kind of I2P, each with its number, seed, guidance and categories, or from lines of text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from loreun_bench import reading
from loreun_bench.errors import UserError, did_you_mean

COLUMNS = {  # what is needed, by the names that files give it, the best one first
    "case_number": ("case_number",),
    "prompt": ("prompt",),
    "seed": ("evaluation_seed", "sd_seed", "seed"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance", "guidance_scale"),
    "categories": ("categories",),
}
SEPARATORS = ",;\t|"
PLAIN, COMMENT = ".txt", "#"  # a file of this ending without a column `prompt` has one prompt a line, or a comment
SEEDS = 2**63  # a generator takes seeds below it
_LONGEST = 40  # digits of an integer that is still read


@dataclass(frozen=True)
class Prompt:
    """One row: its case number, the prompt as it stands there, the seed and guidance to sample it with, its categories.

    seed: None in a file of plain text, which has none.
    """

    number: int
    prompt: str
    seed: int | None
    guidance: float
    categories: tuple[str, ...] = ()


def read(
    path: Path,
    category: str | None = None,
    guidance: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Prompt]:
    """The prompts of a file in UTF-8, in its order; with `category` those of which it is one, case ignored.

    Columns, in any case, between commas, semicolons, tabs or bars: prompt (one of I2P's is empty), evaluation_seed,
    sd_seed or seed, evaluation_guidance, sd_guidance_scale, guidance or guidance_scale (of several the first of these),
    for a category, categories (several are separated by commas), and case_number; without one, as in the official I2P
    file, the line is the case. A .txt without a column `prompt` has one prompt a line: blank lines are passed over, and
    so are comments, which begin with #; spaces around a prompt do not count, and the case is the line of the file.
    guidance: for a file without a column of it; None: the column must be there. note: is told what was done to a value.
    UserError names the file and line of what is wrong.
    """
    text = _text(path)
    head = next(io.StringIO(text, newline=""), "")
    separator = max(SEPARATORS, key=lambda each: len(_known(_names(head, each))))
    if path.suffix.lower() == PLAIN and "prompt" not in _known(_names(head, separator)):
        if category is not None or guidance is None:
            lacking = "categories" if category is not None else "guidance of their own"
            raise UserError(f"prompt file {path} is plain text, whose prompts have no {lacking}: leave the setting away")
        found = _lines(text, path, guidance, note)
    else:
        needed = {"prompt", "seed"} | ({"guidance"} if guidance is None else set())
        needed |= {"categories"} if category is not None else set()
        found = list(_prompts(text, path, separator, needed, guidance))
    if not found:
        raise UserError(f"prompt file {path} has no prompt in it")
    return _seeded(found if category is None else _of_category(found, category, path), path, note)


def _lines(text: str, path: Path, guidance: float, note: Callable[[str], None]) -> list[Prompt]:
    """A prompt for every line that is neither blank nor a comment."""
    lines = [(number, line.strip()) for number, line in enumerate(io.StringIO(text, newline=None), 1)]
    comments = sum(line.startswith(COMMENT) for _, line in lines)
    said = f"; comments (lines that begin with {COMMENT}): {comments}" if comments else ""
    note(f"prompt file {path.name} has one prompt a line: the line is the case, and its seed is derived from it{said}")
    return [Prompt(n, line, None, guidance) for n, line in lines if line and not line.startswith(COMMENT)]


def _seeded(found: list[Prompt], path: Path, note: Callable[[str], None]) -> list[Prompt]:
    """The prompts with seeds that a generator takes; it is told how many had a larger one."""
    large = sum(prompt.seed is not None and prompt.seed >= SEEDS for prompt in found)
    if large:
        note(f"prompt file {path.name}: {large} seeds of 2^63 and more are taken modulo 2^63")
    return [prompt if prompt.seed is None else replace(prompt, seed=prompt.seed % SEEDS) for prompt in found]


def _text(path: Path) -> str:
    text = reading.text(path, "prompt file", reading.LIST)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}:{line}: a NUL character, which no prompt has: save the file as text in UTF-8")
    return text


def _of_category(prompts: Sequence[Prompt], category: str, path: Path) -> list[Prompt]:
    wanted = category.strip().lower()
    chosen = [p for p in prompts if wanted in (own.lower() for own in p.categories)]
    if not chosen:
        known = sorted({own.lower() for p in prompts for own in p.categories})
        raise UserError(f"no prompt in {path} is of category '{category}'; {did_you_mean(category, known)}")
    return chosen


def _prompts(text: str, path: Path, separator: str, needed: set[str], guidance: float | None) -> Iterator[Prompt]:
    """A prompt for every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    seen: dict[int, int] = {}
    try:
        head = next(reader, [])
        where = _columns(head, path, needed)
        end = reader.line_num
        for row in reader:
            line, end = end + 1, reader.line_num  # a quoted field may run over several lines: name the first
            if not any(row):
                continue
            if len(row) != len(head):
                words = f"{len(row)} values for {len(head)} columns (quote a prompt that has '{separator}' in it)"
                raise UserError(f"{path}:{line}: {words}")
            values = {"case_number": str(line)} | {key: row[i] for key, i in where.items()}
            prompt = _prompt(values, f"{path}:{line}", guidance, separator)
            if prompt.number in seen:
                raise UserError(f"{path}:{line}: case_number {prompt.number} is already on line {seen[prompt.number]}")
            seen[prompt.number] = line
            yield prompt
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: no CSV: {error}") from error


def _names(head: str, separator: str) -> list[str]:
    """The names of columns in a file's first line."""
    return [name.strip() for name in next(csv.reader([head[:10_000]], delimiter=separator), [])]


def _known(names: Sequence[str]) -> dict[str, int]:
    """What is known of the columns → its place in a row."""
    lower = [name.strip().lower() for name in names]
    chosen = {key: next((name for name in known if name in lower), None) for key, known in COLUMNS.items()}
    return {key: lower.index(name) for key, name in chosen.items() if name is not None}


def _columns(head: Sequence[str], path: Path, needed: set[str]) -> dict[str, int]:
    """What is needed → its place in a row."""
    found = _known(head)
    lower = [name.strip().lower() for name in head]
    for key, known in COLUMNS.items():
        if key in found and lower.count(lower[found[key]]) > 1:
            raise UserError(f"prompt file {path} has two columns '{lower[found[key]]}': rename one")
        if key in needed and key not in found:
            present = ", ".join(name.strip() for name in head if name.strip()) or "none"
            hint = f" (a file with one prompt a line is called {PLAIN})" if key == "prompt" else ""
            raise UserError(f"prompt file {path} has no column {' or '.join(known)}; its columns: {present}{hint}")
    return found


def _prompt(row: Mapping[str, str], line: str, default: float | None, separator: str) -> Prompt:
    number = _integer(row["case_number"], f"{line}: case_number")
    seed = _integer(row["seed"], f"{line}: seed")
    if seed < 0:
        raise UserError(f"{line}: seed {seed} is negative")
    try:  # where semicolons separate, a comma may be a decimal point
        guidance = float(row["guidance"].replace(",", ".") if separator == ";" else row["guidance"])
    except KeyError:
        guidance = float(default or 0)
    except ValueError:
        guidance = math.nan
    if not (math.isfinite(guidance) and guidance > 0):  # 0 would leave the prompt out
        raise UserError(f"{line}: guidance '{row['guidance']}' is no number above 0; 1 is none")
    categories = tuple(own.strip() for own in row.get("categories", "").split(",") if own.strip())
    return Prompt(number, row["prompt"], seed, guidance, categories)


def _integer(text: str, what: str) -> int:
    """An integer, also as tables write it that hold floats: 7.0, 1.5e3."""
    try:
        value = Decimal(text.strip())
        if value.is_finite() and value == value.to_integral_value() and value.adjusted() < _LONGEST:
            return int(value)
    except InvalidOperation:
        pass
    raise UserError(f"{what} '{text}' is no integer" if text.strip() else f"{what} is empty")
