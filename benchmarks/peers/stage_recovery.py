"""Our own stage after a restart: how long it takes to read its panes back. Its records are pane keys.

The interval begins when the partitions are assigned and ends when the stage is at work again; all panes are still open.
"""

from __future__ import annotations

import asyncio
from argparse import Namespace
from multiprocessing import get_context
from typing import Any

from benchmarks.peers import stage_counts
from benchmarks.peers.subject import Interval, arguments

GRACE_MS = 60 * 86_400_000
LONGEST_SECONDS = 300


def count(options: Namespace) -> None:
    """Fill the output topic, in a process that ends before."""
    asyncio.run(stage_counts.run(options, GRACE_MS))


async def recover(options: Namespace) -> str:
    """Start on what is there; the measured line."""
    interval, unused = Interval(), Interval()
    counting = await stage_counts.make(options, unused, GRACE_MS, worker="recovery")

    async def assigned(*_: Any, **__: Any) -> None:
        interval.begin()

    counting.app.on_partitions_assigned.connect(assigned, weak=False)
    await counting.app.start()
    async with asyncio.timeout(LONGEST_SECONDS):
        while not counting.stage.is_ready:
            await asyncio.sleep(0.005)
    line = interval.end("Groundswell's stage, recovery of its panes", sum(f.panes for f in counting.folds.values()))
    if unused.began:
        raise SystemExit("a record came again whose position was saved")
    await counting.app.stop()
    return line


if __name__ == "__main__":
    given = arguments(__doc__ or "")
    child = get_context("spawn").Process(target=count, args=(given,))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode)
    print(asyncio.run(recover(given)))
