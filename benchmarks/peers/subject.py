"""What the Python peers share: command line, decoder, the measured interval and the dump of the counts.

Needs no more than fastavro: the peers run in an environment of their own.
"""

from __future__ import annotations

import json
import resource
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fastavro

PANE_MS: Final = 300_000
PARTITIONS: Final = 4
"""Of the topic."""
COMMIT_SECONDS: Final = 1.0
"""How often a peer that lets one choose makes its work durable."""
HEADER: Final = 10
"""Bytes of the single-object encoding before the record."""
SCHEMA_FILE: Final = Path(__file__).parents[2] / "schemas" / "avsc" / "Interaction.avsc"


def arguments(description: str) -> Namespace:
    """The command line that every subject has."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--bootstrap", required=True, metavar="HOST:PORT")
    parser.add_argument("--topic", required=True, help="read from the beginning")
    parser.add_argument("--records", required=True, type=int, help="how many are on the topic")
    parser.add_argument("--dump", type=Path, metavar="FILE", help="where to write the counts")
    parser.add_argument("--group", default=f"pane-counts-{uuid4().hex[:12]}", help="consumer group; a new one if none")
    return parser.parse_args()


def _plain_schema() -> Any:
    """The schema without logical types: times stay integers, fastavro's faster way."""
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    for field in schema["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    return fastavro.parse_schema(schema)


_SCHEMA: Final = _plain_schema()
_read: Final = fastavro.schemaless_reader


def decode(value: bytes) -> dict[str, Any]:
    """All fields of an interaction."""
    stream = BytesIO(value)
    stream.seek(HEADER)
    fields: dict[str, Any] = _read(stream, _SCHEMA, None)
    return fields


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> int:
    """Most resident memory so far, by Linux; not `ru_maxrss`, which begins with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) // 1024


class Interval:
    """What is measured: from `begin` at the first record to `end` when the work of all is durable."""

    def __init__(self) -> None:
        self.began = self.cpu = 0.0

    def begin(self) -> None:
        """The first call counts."""
        if not self.began:
            self.began, self.cpu = time.perf_counter(), _cpu_seconds()

    def end(self, subject: str, records: int) -> str:
        """The line of JSON to print."""
        seconds, cpu = time.perf_counter() - self.began, _cpu_seconds() - self.cpu
        result = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3), "rss_mb": _peak_mb()}
        return json.dumps({"subject": subject, "records": records, **result})


def dump(path: Path | None, campaigns: Iterable[tuple[str, int]], members: Iterable[tuple[str, int]]) -> None:
    """Write the counts, if anywhere: `campaign/ID/KIND/PANE` and `member/ID/PANE`, a tab, the count.

    A campaign's key comes once for every partition that counted it.
    """
    if path is not None:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"campaign/{key}\t{count}\n" for key, count in campaigns)
            file.writelines(f"member/{key}\t{count}\n" for key, count in members)
