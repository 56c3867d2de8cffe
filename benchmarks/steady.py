"""`python -m benchmarks.steady`: a simulated community's records at a steady rate, for `benchmarks.commands`.

A process of its own, and everything encoded before it begins, so that it takes little from those it is beside. The
records occur as they are sent, as they do where people act; the simulated month at that rate would pass in a minute,
and an hour of it would hardly have two records of anything.
"""

from __future__ import annotations

import asyncio
import time
from itertools import chain, islice
from typing import Annotated, Final

import typer

from schemas.topics import ACTIVITY
from service import waiting
from service.broker import kafka, publisher
from service.feeds import simulation
from service.instants import now_ms
from service.settings import Settings, from_environment

MEMBERS: Final = 10_000
DAYS: Final = 30
SLICES: Final = 50
"""Portions in which a second's records are sent."""
CATCH_UP_SECONDS: Final = 120.0
READY: Final = "ready"
"""The line that says that it begins."""


def definitions() -> str:
    """The community's brand and its campaign, which does not end."""
    end = simulation.START + DAYS * simulation.DAY
    return simulation.definitions(DAYS).replace(str(end), str(simulation.START + 10_000 * simulation.DAY))


def main(
    rate: Annotated[int, typer.Argument(metavar="N", help="Records a second.")],
    seconds: Annotated[float, typer.Argument(metavar="S", help="For how long.")],
    seed: Annotated[int, typer.Option(help="Another seed, another community.")] = 1,
) -> None:
    """Publish to the Kafka of the settings; prints `ready`, and at the end how many records were sent in how long."""
    settings = from_environment()
    count = MEMBERS + int(rate * seconds)
    lines = chain.from_iterable(simulation.community(seed + n, MEMBERS, DAYS).records() for n in range(1_000))
    good = (line for line in lines if not isinstance(line, simulation.Broken))
    begin = now_ms()
    # Ids of another run are duplicates, and those of another seed would be too where they only count up.
    records = [
        publisher.record(
            settings.signing_key,
            line.record_type,
            {
                **line.value,
                "event_id": f"{seed}-{number}-{line.value['event_id']}"[:200],
                "occurred_at": begin + max(0, number - MEMBERS) * 1_000 // rate,
            },
        )
        for number, line in enumerate(islice(good, count))
    ]
    asyncio.run(_send(settings, records, rate))


async def _send(settings: Settings, records: list[tuple[bytes, bytes, list[tuple[str, bytes]]]], rate: int) -> None:
    """First all that is known of the members, then the rest at the rate."""
    portion = max(1, rate // SLICES)
    async with kafka.producer(settings) as client:
        for key, data, headers in records[:MEMBERS]:
            await client.send(ACTIVITY, data, key=key, headers=headers)
        await client.flush()
        await waiting.wait(settings, CATCH_UP_SECONDS)
        records = records[MEMBERS:]
        print(READY, flush=True)
        started = time.monotonic()
        last = None
        for start in range(0, len(records), portion):
            for key, data, headers in records[start : start + portion]:
                last = await client.send(ACTIVITY, data, key=key, headers=headers)
            await asyncio.sleep(max(0.0, started + (start + portion) / rate - time.monotonic()))
        if last is not None:
            await last
        print(f"{len(records)} {time.monotonic() - started:.1f}", flush=True)


if __name__ == "__main__":
    typer.run(main)
