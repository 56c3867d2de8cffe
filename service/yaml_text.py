"""YAML as people write it by hand: what it would read as something else, without a word, is a mistake.

A key that is there twice, of which one would be lost; a number that is another one in YAML.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise ValueError(f"{_where(key)}: the key `{key.value}` is there twice")
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        """YAML 1.1 has `010` for 8, `0x10` for 16 and `1:30` for 90: whoever wrote that meant something else."""
        if not _DECIMAL.fullmatch(node.value):
            raise ValueError(
                f"{_where(node)}: YAML reads `{node.value}` as another number: write it plainly, or in quotes as a text"
            )
        return self.construct_yaml_int(node) if node.tag == _INT else self.construct_yaml_float(node)


_INT: Final = "tag:yaml.org,2002:int"
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)?(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan)", re.IGNORECASE)
for _tag in (_INT, "tag:yaml.org,2002:float"):
    _Loader.add_constructor(_tag, _Loader.construct_number)


def _where(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"


def documents(text: str) -> list[Any]:
    """Every document of a text. Raises ValueError that says in one line, and where, why it is no YAML."""
    try:
        return list(yaml.load_all(text, _Loader))  # a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deep") from None
