"""YAML that holds nothing but plain values: no tags, no aliases, no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from loreun_bench.reading import told

DEEPEST = 40  # levels of lists and sections within one another


def parsed(text: str, where: str) -> Any:
    """The value of a YAML text. UserError, beginning with `where`, for whatever is wrong with it."""
    with told(where):
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            _check(event, depth)
        return yaml.load(text, Loader=_Loader)


def _check(event: Any, depth: int) -> None:
    if isinstance(event, yaml.AliasEvent):
        raise yaml.YAMLError("aliases (*name) are not supported in a configuration")
    if (tag := getattr(event, "tag", None)) not in (None, "!"):
        raise yaml.YAMLError(f"tags ({tag}) are not supported in a configuration")
    if depth > DEEPEST:
        raise yaml.YAMLError(f"it is nested deeper than {DEEPEST} levels (line {event.start_mark.line + 1})")


def dumped(values: Any) -> str:
    """The text that `parsed` reads back to the same values."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes whatever text either YAML would read as a number."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """SafeLoader that refuses duplicate keys, and reads only what is plainly a number as one."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, type(None))):
                raise yaml.YAMLError(f"a key is no plain word (line {key_node.start_mark.line + 1})")
            if key in seen:
                raise yaml.YAMLError(f"key '{key}' appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return dict(super().construct_mapping(node, deep))


for _tag, _pattern, _first in (  # YAML 1.2's: 007 is a name, and so are 12:30 and 2024-01-01
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", [*"-+0123456789"]),
    ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", [*"-+0123456789."]),
):
    for _each in (_Loader, _Dumper):
        _each.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
