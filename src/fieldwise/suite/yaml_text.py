"""YAML as people expect it (version 1.2 of the standard): times, dates, `no` and `on` are text; a key stands once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import JsonValue

from fieldwise.errors import DatasetError


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A SafeLoader with fewer types and without aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, "aliases multiply what they name; write it out", event.start_mark
            )
        made: yaml.Node | None = super().compose_node(parent, index)
        return made

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands twice", key.start_mark
                    )
                seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("tag:yaml.org,2002:float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", "~nN"),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), [*_first, ""] if _tag.endswith("null") else [*_first])


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """A SafeDumper that quotes every text that one of the two versions of YAML would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(value: object) -> str:
    """Return a value as YAML that `load_yaml` reads as it was."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def load_yaml(text: str, path: Path) -> JsonValue:
    """Return the value of a YAML text, times and dates as text; raises DatasetError with the line."""
    try:
        value: JsonValue = yaml.load(text, Loader=_Loader)
        json.dumps(value, allow_nan=False)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise DatasetError(
            "not valid YAML",
            where=f"{path}:{mark.line + 1}" if mark else path,
            found=getattr(error, "problem", None) or str(error).splitlines()[0],
            fix="Check indentation, colons and quotes on that line.",
        ) from error
    return value
