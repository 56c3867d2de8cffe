"""Two workers of our own stage that share one topic's partitions, as two processes."""

from __future__ import annotations

import asyncio
import json
import time
from argparse import Namespace
from multiprocessing import get_context
from typing import Any

from benchmarks.peers import stage_counts
from benchmarks.peers.subject import Interval, arguments

WORKERS = 2
POLL_SECONDS = 0.05


async def work(options: Namespace, number: int, ready: Any, told: Any) -> None:
    """One of them: counts what it is given until everything is durable; tells its interval, CPU and memory."""
    interval = Interval()
    counting = await stage_counts.make(options, interval, worker=f"worker-{number}")
    ready.wait()  # both join the group at once, before either has begun
    await counting.app.start()
    while await asyncio.to_thread(counting.durable) < options.records:
        await asyncio.sleep(POLL_SECONDS)
    ended = time.perf_counter()
    interval.begin()  # one that was given nothing
    told.put((interval.began, ended, json.loads(interval.end("", counting.counted))))
    await counting.app.stop()


def run(options: Namespace, number: int, ready: Any, told: Any) -> None:
    """A process's main function."""
    asyncio.run(work(options, number, ready, told))


if __name__ == "__main__":
    given = arguments(__doc__ or "")
    context = get_context("spawn")
    ready, told = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=run, args=(given, number, ready, told)) for number in range(WORKERS)]
    for worker in workers:
        worker.start()
    lines = [told.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(ended for _, ended, _ in lines) - min(began for began, _, _ in lines)
    result = {
        "subject": "Groundswell's stage, two workers",
        "records": given.records,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(sum(line["cpu_seconds"] for *_, line in lines), 3),
        "rss_mb": sum(line["rss_mb"] for *_, line in lines),
    }
    print(json.dumps(result))
