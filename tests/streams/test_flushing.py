"""A flush waits for the ledger, and for no more of it than it must; chunks go on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

from exact_bench import Bench, interaction, programs, record

from aggregates.ledger import Ledger
from streams import readstate
from streams.commits import Commits
from streams.partition import Applied, Partition

RECORDS = 12
HALF = 6


def log() -> list[Any]:
    start = programs()
    likes = [interaction(event_id=f"e{n}", post_id=f"p{n}", actor_id="fan", followers=100) for n in range(RECORDS)]
    return [*start, *(record(len(start) + n, "Interaction", like) for n, like in enumerate(likes))]


def apply(bench: Bench, part: Partition, end: int) -> None:
    assert part.apply(bench.chunk(part.next, end), 1) is Applied.DONE


def durable(bench: Bench) -> tuple[int, int, int]:
    """The positions of ledger and read-state, and how many panes were written."""
    owner = Ledger(bench.database).position(bench.source)
    return owner or 0, readstate.load(bench.engine, bench.source).saved, len(bench.panes())


def test_while_the_ledger_is_busy_chunks_go_on_and_a_flush_writes_nothing(tmp_path: Path) -> None:
    bench, busy = Bench(tmp_path / "busy", log()), threading.Event()

    async def story(part: Partition, commits: Commits) -> None:
        commits.deciding.submit(busy.wait)
        apply(bench, part, HALF)
        flushing = asyncio.ensure_future(bench.finish_flush(part, part.begin_flush()))
        await asyncio.wait({flushing}, timeout=0.1)
        apply(bench, part, RECORDS)
        assert not flushing.done()
        assert durable(bench) == (0, 0, 0)
        busy.set()
        await flushing
        assert (part.saved, part.next) == (HALF, RECORDS)
        ledger, saved, panes = durable(bench)
        assert ledger >= saved == HALF
        assert panes

    with Commits(Ledger(bench.database)) as commits:
        asyncio.run(story(bench.worker(commits), commits))
    bench.finish()  # whoever comes next, after a crash here
    clean = Bench(tmp_path / "clean", log())
    clean.finish()
    assert bench.result() == clean.result()


def test_a_flush_does_not_wait_for_what_came_after_it(tmp_path: Path) -> None:
    bench, busy = Bench(tmp_path, log()), threading.Event()

    async def story(part: Partition, commits: Commits) -> None:
        apply(bench, part, HALF)
        await part.fold.settle()
        flush = part.begin_flush()
        commits.deciding.submit(busy.wait)
        apply(bench, part, RECORDS)
        await asyncio.wait_for(bench.finish_flush(part, flush), 20)
        assert durable(bench)[:2] == (HALF, HALF)
        busy.set()
        await part.fold.settle()
        assert durable(bench)[:2] == (RECORDS, HALF)

    with Commits(Ledger(bench.database)) as commits:
        try:
            asyncio.run(story(bench.worker(commits), commits))
        finally:
            busy.set()
