"""Publishing lines from the command line: progress, the file of refused lines, and what is said at the end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO

from service import definitions
from service.broker import publisher
from service.broker.publisher import Outcome
from service.cli.command import note, progress, refused, show_data
from service.feeds.reading import Line, Refused
from service.feeds.simulation import Broken
from service.problems import Refusal, Unusable
from service.reads import Reads
from service.settings import Settings

SHOWN = 10
"""Refused lines that are also said on standard error."""
_RATE = re.compile(r"(\d{1,7})(/s)?")


class Rejected:
    """Writes refused lines to a file as they come; there is no file while there are none."""

    def __init__(self, source: str) -> None:
        """Beside the source, or in the working directory where that cannot be written to.

        Raises `Unusable` when neither can: then nothing is published.
        """
        self.path = Path("stdin.rejected.jsonl" if source == "-" else f"{source}.rejected.jsonl")
        if _is_writable(self.path):
            self.path.unlink(missing_ok=True)  # that of an earlier run
        else:
            self.path = _new_here(self.path)
        self.count = 0
        self._file: IO[str] | None = None

    def through(self, lines: Iterable[Line | Refused | Broken]) -> Iterator[Line | Refused | Broken]:
        """The same lines; the refused ones are also written."""
        try:
            for line in lines:
                if isinstance(line, Refused):
                    self._write(line)
                yield line
        finally:
            if self._file is not None:
                self._file.close()

    def _write(self, line: Refused) -> None:
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8")
        self.count += 1
        raw = line.raw if isinstance(line.raw, str) else line.raw.decode("utf-8", "backslashreplace")
        row = {"line": line.number, "reason": line.reason, "raw": raw}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if self.count <= SHOWN:
            note(f"line {line.number}: {line.reason}" if line.number else line.reason)
        elif self.count == SHOWN + 1:
            note(f"… the others are in {self.path}")


def _is_writable(path: Path) -> bool:
    """Whether a file can be made there, or made anew."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return False
    return not path.exists() or (path.is_file() and os.access(path, os.W_OK))


def _new_here(wanted: Path) -> Path:
    """A file in the working directory that is not there yet: one of that name may be of another source."""
    if not os.access(".", os.W_OK | os.X_OK):
        raise Unusable(
            f"refused lines could be written neither to {wanted} nor here: run this in a directory that can be "
            "written to"
        )
    here = Path(wanted.name)
    number = 1
    while here.exists():
        number += 1
        here = Path(f"{wanted.name.removesuffix('.jsonl')}-{number}.jsonl")
    return here


def publish_lines(
    settings: Settings,
    lines: Iterable[Line | Refused | Broken],
    rejected: Rejected,
    as_json: bool,
    left_out: Mapping[str, int] | None = None,
    a_second: int | None = None,
) -> None:
    """Publish, say how many were accepted and refused, and end with 1 when some were refused."""
    with progress("publishing") as done:
        outcome = asyncio.run(_publish(settings, rejected.through(lines), done, a_second))
    left = dict(left_out or {})
    body = {
        "accepted": outcome.accepted,
        "refused": rejected.count,
        "left_out": left,
        "rejected_file": str(rejected.path) if rejected.count else None,
    }
    where = f" (see {rejected.path})" if rejected.count else ""
    also = "".join(f", left out {count}: {why}" for why, count in left.items())
    show_data(body, as_json, lambda _: f"accepted {outcome.accepted}, refused {rejected.count}{where}{also}")
    for brand in _undefined(settings, outcome.brands):
        note(f"brand `{brand}` is not defined: its records are dead letters; `groundswell apply` defines one")
    refused(rejected.count > 0)


async def _publish(
    settings: Settings,
    lines: Iterator[Line | Refused | Broken],
    on_progress: Callable[[int], None],
    a_second: int | None,
) -> Outcome:
    """Publish all lines, at most `a_second` in each second."""
    if a_second is None:
        return await publisher.publish(settings, lines, on_progress)
    outcome = Outcome()
    while slice_of := list(islice(lines, a_second)):
        started = time.monotonic()
        part = await publisher.publish(settings, slice_of)
        outcome.accepted += part.accepted
        outcome.refused += part.refused
        outcome.brands |= part.brands
        on_progress(outcome.accepted)
        await asyncio.sleep(max(0.0, 1 - (time.monotonic() - started)))
    return outcome


def define_or_check(settings: Settings, brand: str, text: str | None) -> None:
    """Apply definitions (YAML); without any, make sure that the brand has some. Raises `Refusal`, `Unusable`."""
    if text is None:
        try:
            Reads(settings).check_brand(brand)
        except Refusal as error:
            raise Refusal(
                error.code,
                f"{error.detail} Its records would be dead letters: `groundswell apply` one, or add --define.",
            ) from None
        return
    documents = definitions.documents(text, f"definitions for {brand}")
    for line in asyncio.run(definitions.apply_documents(settings, documents)):
        note(line)


def parse_rate(rate: str | None) -> int | None:
    """Records a second of `500/s` or `500`. Raises `Unusable`."""
    if rate is None:
        return None
    found = _RATE.fullmatch(rate.strip())
    if found is None or int(found[1]) < 1:
        raise Unusable(f"--rate: `{rate}` is no rate; write records a second, such as 500/s")
    return int(found[1])


def _undefined(settings: Settings, brands: Iterable[str]) -> list[str]:
    reads = Reads(settings)
    unknown = []
    for brand in sorted(brands):
        try:
            reads.check_brand(brand)
        except Refusal:
            unknown.append(brand)
    reads.close()
    return unknown
