"""Run as a program by `test_ledger_crashes`: a ledger that dies by SIGKILL at each stage of a commit, then goes on.

Each stage is a child of its own, forked before any database is open. It takes the partition, does its batches, and
kills itself in its third one.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ledger_batches import SOURCE, batch, buy, limited

from aggregates.ledger import Ledger
from aggregates.ledger_store import Encoded, LedgerStore

STAGES = ("before it begins", "after the move", "in the middle of the rows", "before the commit", "before it is told")
RECORDS = 400
BATCH = 20
DIES_IN = 3
CAMPAIGN = limited(3_456)
"""Of the 4,000 points that are asked for."""


def die() -> None:
    """As `kill -9`: nothing of this process runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


class Half(list[Encoded]):
    """Rows of which the second half is never reached."""

    def __iter__(self) -> Iterator[Encoded]:
        for number, row in enumerate(super().__iter__()):
            if number == len(self) // 2:
                die()
            yield row


def arm(store: LedgerStore, stage: str) -> None:
    """From now on the next write ends this process at that stage."""
    write, move, writing = store.write, store.move, store.writing

    def dying_write(rows: Sequence[Encoded], tracking: Any = None) -> range:
        if stage == "before it begins":
            die()
        return write(Half(rows) if stage == "in the middle of the rows" else rows, tracking)

    def dying_move(*arguments: Any) -> None:
        move(*arguments)
        if stage == "after the move":
            die()

    @contextmanager
    def dying_writing() -> Iterator[Any]:
        with writing() as cursor:
            yield cursor
            if stage == "before the commit":
                die()
        die()

    store.write, store.move = dying_write, dying_move  # type: ignore[method-assign]
    store.writing = dying_writing  # type: ignore[method-assign]


def work(address: str, stage: str | None = None) -> None:
    """From the ledger's position to the end, or to the stage at which this process dies."""
    ledger, writer = Ledger(address), stage or "clean"
    position = ledger.take(SOURCE, writer, 0)
    for number, start in enumerate(range(position, RECORDS, BATCH), 1):
        if stage is not None and number == DIES_IN:
            arm(ledger.store, stage)
        bought = [buy(offset, f"m{offset % 7}", CAMPAIGN) for offset in range(start, start + BATCH)]
        ledger.consume(batch(start, start + BATCH, *bought, writer=writer, number=number))
    ledger.close()


def main(address: str) -> None:
    """Prints how each child ended."""
    ended = {}
    for stage in (*STAGES, None):
        child = os.fork()
        if child == 0:
            work(address, stage)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended[stage or "clean"] = os.waitstatus_to_exitcode(status)
    print(json.dumps(ended))


if __name__ == "__main__":
    main(sys.argv[1])
