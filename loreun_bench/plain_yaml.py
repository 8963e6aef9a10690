"""YAML that holds nothing but plain values: no tags, no aliases, no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from loreun_bench.errors import UserError


def parsed(text: str, where: str) -> Any:
    """The value of a YAML text. UserError, beginning with `where`, for whatever is wrong with it."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{where}: {error if str(error) else type(error).__name__}") from error


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys, aliases and tags, and reads only what is plainly a number as one."""

    yaml_implicit_resolvers = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported in a configuration")
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if (tag := getattr(event, "tag", None)) not in (None, "!"):
            raise yaml.YAMLError(f"tags ({tag}) are not supported in a configuration")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, type(None))):
                raise yaml.YAMLError(f"a key is no plain word (line {key_node.start_mark.line + 1})")
            if key in seen:
                raise yaml.YAMLError(f"key '{key}' appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (  # YAML 1.2's: 007 is a name, and so are 12:30 and 2024-01-01
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", [*"-+0123456789"]),
    ("float", r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", [*"-+0123456789."]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
