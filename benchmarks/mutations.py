"""Ways to damage what somebody else wrote: its bytes, its lines, or the values in its structure. Deterministic by `rng`."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

DEEP: list[Any] = []
for _ in range(400):
    DEEP = [DEEP]
WORDS = (
    "", "\0", "\ud800", "\udcff", "\x1b[2J\x1b]8;;http://x\x07", "\x9b31m", "\u202e\u2066", "a\nb", "\r", "\t",
    "é" * 90, "x" * 5000,
    "../../../x", "/etc/passwd", "C:\\x", "~", "~root/x", "=1+1", "@SUM(A1)", "{}", "{0.__class__}", "%s%n",
    "$x$ \\input{x}", "|", "<script>", "[a](javascript:b)", "null", "nan", "1e400", "-0", "0x10", "1_000", "٣", "*a",
    "&a", "!!python/name:os.system",
)  # fmt: skip
NAN, INF = float("nan"), float("inf")
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.5, 1e-320, 1e308, -1e308, NAN, INF, -INF)
ODD = (*WORDS, *NUMBERS, None, True, False, [], {}, [[1, 2], [3]], {"a": {"b": 1}}, ["x", 1, None], DEEP, {"\ud800": 1})
TEXTS = [json.dumps(each) for each in ODD]
TOKENS = (
    *(word.encode(errors="surrogatepass") for word in WORDS), b"\xff\xfe", b"\xef\xbb\xbf", b"9" * 5000, b"[" * 3000,
    b'{"a":' * 500, b'"', b"'", b",", b";", b":", b"- ", b"|", b"#", b"\r\n", b"\n\n",
    b"\xff" * 8, b"\0" * 64, b"-1", b"NaN", b"1e999",
)  # fmt: skip


def bytes_of(content: bytes, rng: random.Random) -> bytes:
    """The content after one to four changes of bytes, of lines, or of lengths that stand in it."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(CHANGES)(content, rng)
    return content


def values_of(tree: Any, rng: random.Random) -> Any:
    """A copy of the tree (of JSON or YAML), with one to four changes of its values, keys and nesting."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        tree = _changed(tree, rng)
    return tree


def _changed(tree: Any, rng: random.Random) -> Any:
    """One change: somewhere inside, or here."""
    if isinstance(tree, dict) and tree and rng.random() < 0.9:
        key = rng.choice(list(tree))
        how = rng.random()
        if how < 0.6:
            tree[key] = _changed(tree[key], rng)
        elif how < 0.75:
            del tree[key]
        elif how < 0.85:
            tree[str(rng.choice(ODD[:-2]))[:6000]] = tree[key]
        else:
            tree[rng.choice(list(tree))] = tree[key]
        return tree
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        how = rng.random()
        if how < 0.6:
            tree[place] = _changed(tree[place], rng)
        elif how < 0.8:
            tree.append(tree[place])
        else:
            del tree[place]
        return tree
    if isinstance(tree, str) and rng.random() < 0.4:
        return tree + rng.choice(WORDS)
    if isinstance(tree, int | float) and rng.random() < 0.5:
        return rng.choice(NUMBERS)
    odd = json.loads(rng.choice(TEXTS))  # a new one each time, as it is changed, too
    return rng.choice([*[odd] * 8, [tree], {"a": tree}, str(tree)])


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _inserted(content: bytes, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content))
    return content[:place] + rng.choice(TOKENS) + content[place:]


def _replaced(content: bytes, rng: random.Random) -> bytes:
    """A word or a number gives way to another."""
    place = rng.randint(0, len(content))
    return content[:place] + (token := rng.choice(TOKENS)) + content[place + len(token) :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    start = rng.randint(0, len(content))
    return content[:start] if rng.random() < 0.5 else content[:start] + content[start + rng.randint(1, 40) :]


def _lines(content: bytes, rng: random.Random) -> bytes:
    """A line twice, gone, elsewhere, or many times."""
    lines = content.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.random()
    if how < 0.4:
        lines.insert(other, lines[place])
    elif how < 0.7:
        del lines[place]
    elif how < 0.95:
        lines[place], lines[other] = lines[other], lines[place]
    else:
        lines[place:place] = [lines[place]] * 300
    return b"\n".join(lines)


def _length(content: bytes, rng: random.Random) -> bytes:
    """Four or eight bytes become a length that is huge, negative or off by one, in either order of bytes."""
    kind, most = rng.choice((("I", 2**32 - 1), ("Q", 2**64 - 1)))
    value = rng.choice((0, 1, 255, 65535, 60000, 2**31 - 1, 2**31, most, most // 2, rng.randint(0, most)))
    packed = struct.pack(rng.choice("<>") + kind, value)
    place = rng.randint(0, max(0, min(len(content), 400) - len(packed)))
    return content[:place] + packed + content[place + len(packed) :]


CHANGES = (_flipped, _flipped, _inserted, _inserted, _replaced, _cut, _lines, _length)
