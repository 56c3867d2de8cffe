"""Folds the pages of a long load in processes of their own, beside the one that writes: `load` takes them in order.

Decoding and folding take most of a load's time, and one process of Python does one thing at a time. A process gets by
pipe what to fold, opens the ledger itself, and answers every second page. It ends with the one that started it.
"""

from __future__ import annotations

import json
import marshal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import IO, Any, Final, NamedTuple

from aggregates.ledger import Ledger
from projections.projection import Held, Page
from projections.registry import LEDGER
from projections.upkeep.rows import NOTHING, Digest, digest_of_rows

PROCESSES: Final = 2
"""More are not quicker: then the one that writes has no rest."""
FAR: Final = 200_000
"""Fewer events take less time than it takes processes to start."""
_LENGTH: Final = 8


class Start(NamedTuple):
    """Where a read model stands before the first page, and whether its rows are only ever new ones."""

    position: int
    appends: bool


class Folded(NamedTuple):
    """A page as row changes."""

    reached: int
    """The id of its last event."""
    rows: Mapping[str, Mapping[str, list[list[Any]]]]
    """Read model → table → changed rows, each key once."""
    digests: Mapping[str, Digest]
    """Those of the rows of each read model whose rows are only ever new ones."""


def folded_beside(address: str, starts: Mapping[str, Start], stop: int, page: int) -> Iterator[Folded]:
    """The pages of the ledger at `address` up to the event of id `stop`, of what comes after each read model's start.

    Ends early, without a word, when a process does: whoever folds the rest meets what was wrong.
    """
    after = min(start.position for start in starts.values())
    with ExitStack() as stack:
        started = [stack.enter_context(_started(address, starts, after, stop, page, n)) for n in range(PROCESSES)]
        pages = max(0, -((after - stop) // page))
        for number in range(pages):
            answers = started[number % PROCESSES].stdout
            assert answers is not None
            head = answers.read(_LENGTH)
            length = int.from_bytes(head, "big")
            body = answers.read(length) if len(head) == _LENGTH else b""
            if not body or len(body) < length:
                return
            reached, rows, digests = marshal.loads(body)
            yield Folded(reached, rows, {name: Digest(*digest) for name, digest in digests.items()})


class _Started(subprocess.Popen[bytes]):
    """A process that ends when the block does, however that ends."""

    def __exit__(self, *raised: Any) -> None:
        self.kill()
        super().__exit__(*raised)


def _started(address: str, starts: Mapping[str, Start], after: int, stop: int, page: int, number: int) -> _Started:
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    process = _Started([sys.executable, "-m", __name__], stdin=pipe, stdout=pipe, stderr=nothing)
    assert process.stdin is not None
    what = {"address": address, "starts": starts, "after": after, "stop": stop, "page": page, "number": number}
    process.stdin.write(json.dumps(what).encode() + b"\n")  # not as arguments: the address may have a password
    process.stdin.flush()
    return process


def _fold_pages(asked: Mapping[str, Any], answers: IO[bytes]) -> None:
    starts = {name: Start(*start) for name, start in asked["starts"].items()}
    ledger = Ledger(asked["address"])
    page, stop = asked["page"], asked["stop"]
    for after in range(asked["after"] + asked["number"] * page, stop, PROCESSES * page):
        events = ledger.notifications(after, page, min(after + page, stop))
        body = marshal.dumps(_answer(events, starts), 2)  # later versions look for what is shared, which is slow
        answers.write(len(body).to_bytes(_LENGTH, "big") + body)
        answers.flush()


def _answer(events: Sequence[Any], starts: Mapping[str, Start]) -> tuple[int, dict[str, Any], dict[str, Any]]:
    whole, rows, digests = Page(events), {}, {}
    for projection in LEDGER:
        start = starts.get(projection.name)
        if start is None or not events or events[-1].id <= start.position:
            continue
        held: Held = {}
        first = events[0].id > start.position
        projection.hold(whole if first else Page([one for one in events if one.id > start.position]), held)
        rows[projection.name] = {name: list(found.values()) for name, found in held.items()}
        if start.appends:
            digest = NOTHING
            for target in projection.tables:
                digest = digest.plus(digest_of_rows(target, rows[projection.name].get(target.name, ())))
            digests[projection.name] = tuple(digest)
    return (events[-1].id if events else 0), rows, digests


def main() -> None:
    """Fold what standard input asks for, a line of JSON, and write it to standard output."""
    import gc

    gc.disable()  # pages hold no cycles
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    _fold_pages(json.loads(sys.stdin.readline()), answers)


if __name__ == "__main__":
    main()
