"""Run as a program by `test_ledger_crashes`: a ledger that dies by SIGKILL at each stage of a commit, then goes on.

Each stage is a child of its own, forked before any database is open. It takes the partition, does its batches, and
kills itself in its third one. The last one but one stops there (SIGSTOP), and wakes up when its heir has done the rest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ledger_batches import SOURCE, batch, buy, limited

from aggregates import ledger_postgres, ledger_sqlite
from aggregates.ledger import Fenced, Ledger
from aggregates.ledger_store import Encoded, LedgerStore

STAGES = (
    *("before it begins", "after the move", "in the middle of the rows", "in the middle of many rows"),
    *("before the commit", "before it is told"),
)
RECORDS = 500
BATCH = 20
ENDS_IN = 3
FENCED = 17
"""The exit code of one who finds that the partition is another one's."""
CAMPAIGN = limited(4_320)
"""Of the 5,000 points that are asked for."""


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


def stop() -> None:
    """Until SIGCONT; as a machine that is suspended."""
    os.kill(os.getpid(), signal.SIGSTOP)


def arm(store: LedgerStore, stage: str, end: Callable[[], None]) -> None:
    """From now on the next write comes to that end at that stage."""
    write, move, writing = store.write, store.move, store.writing
    ledger_sqlite.ROWS = BATCH // 4  # type: ignore[misc]  # so that the middle is between two statements
    if stage == "in the middle of many rows":
        ledger_postgres.FEW = 0  # type: ignore[misc]  # as many are written

    def at(here: str) -> None:
        if here == stage:
            end()

    def ending_write(rows: Sequence[Encoded], tracking: Any = None) -> range:
        at("before it begins")
        return write(Half(rows) if stage.startswith("in the middle") else rows, tracking)

    def ending_move(*arguments: Any) -> None:
        move(*arguments)
        at("after the move")

    @contextmanager
    def ending_writing(**how: Any) -> Iterator[Any]:
        with writing(**how) as cursor:
            yield cursor
            at("before the commit")
        at("before it is told")

    store.write, store.move = ending_write, ending_move  # type: ignore[method-assign]
    store.writing = ending_writing  # type: ignore[method-assign]


def work(address: str, writer: str, stage: str = "", end: Callable[[], None] = die) -> None:
    """From the ledger's position to the end of the log, or to the stage at which this process comes to its own."""
    ledger = Ledger(address)
    position = ledger.take(SOURCE, writer, 0)
    for number, start in enumerate(range(position, RECORDS, BATCH), 1):
        if stage and number == ENDS_IN:
            arm(ledger.store, stage, end)
        bought = [buy(offset, f"m{offset % 7}", CAMPAIGN) for offset in range(start, start + BATCH)]
        ledger.consume(batch(start, start + BATCH, *bought, writer=writer, number=number))
    ledger.close()


def child(*arguments: Any) -> int:
    """A process that does this work; its id."""
    forked = os.fork()
    if forked == 0:
        try:
            work(*arguments)
        except Fenced:
            os._exit(FENCED)
        os._exit(0)
    return forked


def ended(process: int, flags: int = 0) -> int:
    """How a child has ended, or (with WUNTRACED) by what signal it stopped."""
    _, status = os.waitpid(process, flags)
    return os.WSTOPSIG(status) if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def main(address: str) -> None:
    """Prints how each child ended."""
    ends = {stage: ended(child(address, stage, stage)) for stage in STAGES}
    suspended = child(address, "suspended", "before it begins", stop)
    ends["stopped"] = ended(suspended, os.WUNTRACED)
    ends["heir"] = ended(child(address, "heir"))
    os.kill(suspended, signal.SIGCONT)
    ends["suspended"] = ended(suspended)
    print(json.dumps(ends))


if __name__ == "__main__":
    main(sys.argv[1])
