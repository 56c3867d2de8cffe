"""YAML as people write it by hand: a key that is there twice is a mistake, and one of them would be lost silently."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                where = f"line {key.start_mark.line + 1}, column {key.start_mark.column + 1}"
                raise ValueError(f"{where}: the key `{key.value}` is there twice")
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def documents(text: str) -> list[Any]:
    """Every document of a text. Raises ValueError that says in one line, and where, why it is no YAML."""
    try:
        return list(yaml.load_all(text, _Loader))  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
