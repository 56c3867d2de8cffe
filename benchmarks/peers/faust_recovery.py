"""Faust after a restart: how long it takes to read its tables back from their changelogs. Its records are pane keys.

The interval begins when the partitions are assigned and ends when they are about to be resumed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from argparse import Namespace
from typing import Any

from benchmarks.peers import faust_tables
from benchmarks.peers.subject import Interval, arguments

LONGEST_SECONDS = 300


def count(options: Namespace) -> None:
    """Fill the changelogs, in a process that ends before."""
    command = [sys.executable, "-m", faust_tables.__name__, "--bootstrap", options.bootstrap, "--topic", options.topic]
    command += ["--records", str(options.records), "--group", options.group]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def recover(options: Namespace) -> str:
    """Start on the changelogs; the measured line."""
    interval, recovered = Interval(), asyncio.Event()
    counting = faust_tables.make(options, _not_again, _not_again)

    async def assigned(*_: Any, **__: Any) -> None:
        interval.begin()

    async def complete(*_: Any, **__: Any) -> None:
        recovered.set()

    counting.app.on_partitions_assigned.connect(assigned, weak=False)
    counting.app.on_rebalance_complete.connect(complete, weak=False)
    await counting.app.start()
    try:
        await asyncio.wait_for(recovered.wait(), LONGEST_SECONDS)
    except TimeoutError:
        faust_tables.give_up(f"the tables are not recovered after {LONGEST_SECONDS} s")
    line = interval.end("Faust, recovery of its tables", len(counting.campaigns) + len(counting.members))
    counting.dump(options)
    await counting.app.stop()
    return line


def _not_again() -> None:
    faust_tables.give_up("a record comes again whose position was committed")


if __name__ == "__main__":
    given = arguments(__doc__)
    count(given)
    print(asyncio.run(recover(given)))
