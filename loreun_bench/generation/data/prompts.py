"""Prompts from a CSV of the kind of I2P: each with its number, seed, guidance and categories."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from loreun_bench.errors import UserError, did_you_mean

COLUMNS = {  # what is needed, by the names that files give it, the best one first
    "case_number": ("case_number",),
    "prompt": ("prompt",),
    "seed": ("evaluation_seed", "sd_seed"),
    "guidance": ("evaluation_guidance", "sd_guidance_scale"),
    "categories": ("categories",),
}
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Prompt:
    """One row: its case number, the prompt as it stands there, the seed and guidance to sample it with, its categories."""

    number: int
    prompt: str
    seed: int
    guidance: float
    categories: tuple[str, ...]


def read(path: Path, category: str | None = None, guidance: float | None = None) -> list[Prompt]:
    """The prompts of a CSV in UTF-8, in its order; with `category` those of which it is one, case ignored.

    Columns: case_number, prompt (one of I2P's is empty), evaluation_seed or sd_seed, evaluation_guidance or
    sd_guidance_scale, and for a category, categories (several are separated by commas). guidance: for a file without a
    column of it; None: the column must be there. UserError names the file and line of what is wrong.
    """
    needed = {"case_number", "prompt", "seed"}
    needed |= {"guidance"} if guidance is None else set()
    needed |= {"categories"} if category is not None else set()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            found = list(_prompts(file, path, needed, guidance))
    except OSError as error:
        raise UserError(f"prompt file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"prompt file {path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    if not found:
        raise UserError(f"prompt file {path} has no prompt in it")
    return found if category is None else _of_category(found, category, path)


def _of_category(prompts: Sequence[Prompt], category: str, path: Path) -> list[Prompt]:
    wanted = category.strip().lower()
    chosen = [p for p in prompts if wanted in (own.lower() for own in p.categories)]
    if not chosen:
        known = sorted({own.lower() for p in prompts for own in p.categories})
        raise UserError(f"no prompt in {path} is of category '{category}'; {did_you_mean(category, known)}")
    return chosen


def _prompts(file: TextIO, path: Path, needed: set[str], guidance: float | None) -> Iterator[Prompt]:
    """A prompt for every row that is not blank."""
    reader = csv.reader(file, strict=True)
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
                raise UserError(f"{path}:{line}: {len(row)} values for {len(head)} columns (quote a prompt that has commas)")
            prompt = _prompt({key: row[i] for key, i in where.items()}, f"{path}:{line}", guidance)
            if prompt.number in seen:
                raise UserError(f"{path}:{line}: case_number {prompt.number} is already on line {seen[prompt.number]}")
            seen[prompt.number] = line
            yield prompt
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: no CSV: {error}") from error


def _columns(head: Sequence[str], path: Path, needed: set[str]) -> dict[str, int]:
    """What is needed → its place in a row."""
    names = [name.strip() for name in head]
    found = {}
    for key, known in COLUMNS.items():
        name = next((name for name in known if name in names), None)
        if name is not None:
            found[key] = names.index(name)
        elif key in needed:
            present = ", ".join(name for name in names if name) or "none"
            raise UserError(f"prompt file {path} has no column {' or '.join(known)}; its columns: {present}")
    return found


def _prompt(row: Mapping[str, str], line: str, default: float | None) -> Prompt:
    number = _integer(row["case_number"], f"{line}: case_number")
    seed = _integer(row["seed"], f"{line}: seed")
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f"{line}: seed {seed} is not between 0 and {MOST_SEED}")
    try:
        guidance = float(row["guidance"]) if "guidance" in row else float(default or 0)
    except ValueError:
        guidance = math.nan
    if not (math.isfinite(guidance) and guidance >= 0):
        raise UserError(f"{line}: guidance '{row['guidance']}' is no number from 0 on")
    categories = tuple(own.strip() for own in row.get("categories", "").split(",") if own.strip())
    return Prompt(number, row["prompt"], seed, guidance, categories)


def _integer(text: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        problem = f"'{text}' is no integer" if text.strip() else "is empty"
        raise UserError(f"{what} {problem}") from None
