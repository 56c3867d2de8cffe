"""The tables of the pages for publishers and consumers, generated from the contracts so that they cannot go stale."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from schemas.catalogue import Schema, current
from schemas.dead_letters import Reason
from schemas.topics import TOPICS

_SECTION: Final = re.compile(r"(<!-- generated: (?P<what>[a-z]+)(?: (?P<name>\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with every section between `<!-- generated: … -->` and `<!-- end -->` written anew.

    Sections are `fields RecordType`, `topics` and `reasons`. Raises KeyError for another one.
    """
    return _SECTION.sub(lambda found: f"{found[1]}{_table(found['what'], found['name'])}{found[4]}", page)


def field_table(schema: Schema) -> str:
    """A Markdown table of a record's fields: name, type, whether it is required, and what it means with its unit."""
    rows = []
    for field in schema["fields"]:
        kind, required = _type(field["type"])
        rows.append((f"`{field['name']}`", kind, "no" if "default" in field else required, field["doc"]))
    return _markdown(("field", "type", "required", "meaning"), rows)


def topic_table() -> str:
    """A Markdown table of every topic."""
    rows = [
        (f"`{topic.name}`", topic.holds, ", ".join(topic.record_types), topic.key, topic.cleanup, topic.written_by)
        for topic in TOPICS
    ]
    return _markdown(("topic", "holds", "record types", "key", "cleanup", "written by"), rows)


def reason_table() -> str:
    """A Markdown table of the dead-letter reasons."""
    return _markdown(("reason", "meaning"), [(f"`{reason.value}`", reason.sentence) for reason in Reason])


def _table(what: str, name: str | None) -> str:
    if what == "fields" and name is not None:
        return f"{current()[name]['doc']}\n\n{field_table(current()[name])}"
    return {"topics": topic_table, "reasons": reason_table}[what]()


def _type(avro: Any) -> tuple[str, str]:
    if isinstance(avro, list):
        return _type(avro[1])[0], "no"
    if isinstance(avro, str):
        return avro, "yes"
    if avro["type"] == "enum":
        return "enum: " + ", ".join(f"`{symbol}`" for symbol in avro["symbols"]), "yes"
    if avro["type"] == "map":
        return f"map of {avro['values']}", "yes"
    return f"{avro['type']}, {avro['logicalType']}", "yes"


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in line) + " |\n" for line in lines
    )
