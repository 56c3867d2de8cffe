"""`python -m benchmarks.steady`: a simulated community's records at a steady rate, for `benchmarks.commands`.

A process of its own, and everything encoded before it begins, so that it takes little from those it is beside.
"""

from __future__ import annotations

import asyncio
import time
from itertools import chain, islice
from typing import Annotated, Final

import typer

from schemas.topics import ACTIVITY
from service import kafka, publisher, simulation
from service.settings import Settings, from_environment

MEMBERS: Final = 3_000
DAYS: Final = 30
SLICES: Final = 50
"""Portions in which a second's records are sent."""
READY: Final = "ready"
"""The line that says that it begins."""


def main(
    rate: Annotated[int, typer.Argument(metavar="N", help="Records a second.")],
    seconds: Annotated[float, typer.Argument(metavar="S", help="For how long.")],
    seed: Annotated[int, typer.Option(help="Another seed, another community.")] = 1,
) -> None:
    """Publish to the Kafka of the settings; prints `ready`, and at the end how many records were sent in how long."""
    settings = from_environment()
    count = int(rate * seconds)
    lines = chain.from_iterable(simulation.community(seed + n, MEMBERS, DAYS).records() for n in range(1_000))
    good = (line for line in lines if not isinstance(line, simulation.Broken))
    # Ids of another run are duplicates, and those of another seed would be too where they only count up.
    records = [
        publisher.record(
            settings.signing_key,
            line.record_type,
            {**line.value, "event_id": f"{seed}-{number}-{line.value['event_id']}"[:200]},
        )
        for number, line in enumerate(islice(good, count))
    ]
    print(READY, flush=True)
    took = asyncio.run(_send(settings, records, rate))
    print(f"{len(records)} {took:.1f}", flush=True)


async def _send(settings: Settings, records: list[tuple[bytes, bytes, list[tuple[str, bytes]]]], rate: int) -> float:
    portion = max(1, rate // SLICES)
    async with kafka.producer(settings) as client:
        started = time.monotonic()
        last = None
        for start in range(0, len(records), portion):
            for key, data, headers in records[start : start + portion]:
                last = await client.send(ACTIVITY, data, key=key, headers=headers)
            await asyncio.sleep(max(0.0, started + (start + portion) / rate - time.monotonic()))
        if last is not None:
            await last
        return time.monotonic() - started


if __name__ == "__main__":
    typer.run(main)
