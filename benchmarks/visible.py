"""`python -m benchmarks.visible`: how soon a published event is in the member's balance, while a stream comes in.

On Apache Kafka and PostgreSQL, with every role a process of its own, or on the embedded stack. The clock runs from
before a share is sent until a read that waits for it (`min_position`) answers with its points, and, for live events,
until a reader who follows the brand has it. Every share sent is seen both ways, or there is no figure.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import httpx
import typer
from aiokafka import AIOKafkaProducer

from benchmarks import steady
from benchmarks.commands import CATCH_UP_SECONDS, WARM_UP_SECONDS, Wrong, _embedded, _environment, _real, percentile
from benchmarks.contest import Row, merge
from benchmarks.steady import READY
from schemas.topics import ACTIVITY
from service import definitions, waiting
from service.broker import kafka, publisher
from service.instants import now_ms
from service.settings import Settings

LIMIT_MS: Final = 250.0
LIMITED_RATE: Final = 1_000
"""The rate at which the limit holds; at others it is measured beside it."""
POINTS: Final = 10
BRAND: Final = "probe"
DEFINITIONS: Final = f"""
{{brand: {BRAND}, plan: free, timezone: UTC, currency: EUR}}
---
campaign: always
brand: {BRAND}
starts_at: 2020-01-01T00:00:00Z
ends_at: 2090-01-01T00:00:00Z
earn: [{{rule: share, on: interaction, kind: [share], points: {POINTS}}}]
"""
SEEN_SECONDS: Final = 60.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Times(NamedTuple):
    """Milliseconds from publishing each share to seeing it."""

    read: list[float]
    live: list[float]


@app.command(epilog="Example: python -m benchmarks.visible --rate 1000 --seconds 30")
def bench(
    rates: Annotated[list[int], typer.Option("--rate", help="Records a second of the stream; several are allowed.")] = [  # noqa: B006
        1_000,
        5_000,
    ],
    seconds: Annotated[float, typer.Option(min=1, help="How long shares are sent at each rate.")] = 30,
    a_second: Annotated[float, typer.Option(min=0.1, help="Shares a second.")] = 20,
    embedded: Annotated[bool, typer.Option("--embedded", help="On the embedded stack, without Java.")] = False,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the rows go too, as JSON.")] = None,
) -> None:
    """Time a share's way into a balance under load. A ratio is the limit over the 99th percentile: 1 keeps it."""
    place = "the embedded stack" if embedded else "Apache Kafka and PostgreSQL"
    rows: list[Row] = []
    with (_embedded if embedded else _real)() as settings:
        for text in (DEFINITIONS, steady.definitions()):
            asyncio.run(definitions.apply_documents(settings, definitions.documents(text, "the benchmark")))
        for rate in rates:
            times = _measure(settings, rate, seconds, a_second)
            for how, found in (("a read", times.read), ("live events", times.live)):
                rows.append(_row(rate, how, place, found))
                print(
                    f"{rate:,} records/s, {how}: {len(found)} shares, p50 {percentile(found, 50):.0f} ms, "
                    f"p99 {percentile(found, 99):.0f} ms, slowest {max(found):.0f} ms",
                    flush=True,
                )
    if results is not None:
        merge(results, rows)


def _row(rate: int, how: str, place: str, times: list[float]) -> Row:
    p99 = percentile(times, 99)
    return {
        "name": f"published to visible in {how} under {rate:,} records/s, 99th percentile",
        "subject": f"a share on {place}, p50 {percentile(times, 50):.0f} ms",
        "peer": "the limit",
        "ratio": round(LIMIT_MS / p99, 2),
        "target": 1.0 if rate == LIMITED_RATE else None,
        "median": round(p99, 1),
        "peer_median": LIMIT_MS,
        "unit": "ms",
        "runs": len(times),
    }


def _measure(settings: Settings, rate: int, seconds: float, a_second: float) -> Times:
    run = uuid.uuid4().hex[:8]
    command = [sys.executable, "-m", "benchmarks.steady", str(rate), str(WARM_UP_SECONDS + seconds)]
    with subprocess.Popen(
        [*command, "--seed", str(int(run, 16))], env=_environment(settings), stdout=subprocess.PIPE, text=True
    ) as stream:
        assert stream.stdout is not None
        times = asyncio.run(_probe(settings, run, seconds, a_second, stream))
        sent, took = stream.stdout.readline().split()
    if float(took) > (WARM_UP_SECONDS + seconds) * 1.2:
        raise Wrong(f"the stream was slower than {rate}/s: {sent} records took {took} s")
    asyncio.run(waiting.wait(settings, CATCH_UP_SECONDS))
    return times


async def _probe(settings: Settings, run: str, seconds: float, a_second: float, stream: subprocess.Popen[str]) -> Times:
    """While the stream runs, send shares at a steady rate, however long they take to be seen."""
    live: dict[str, float] = {}
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
    address = f"http://127.0.0.1:{settings.port}"
    async with (
        kafka.producer(settings) as producer,
        httpx.AsyncClient(base_url=address, timeout=SEEN_SECONDS, limits=limits) as client,
    ):
        following = asyncio.create_task(_follow(client, live))
        assert stream.stdout is not None
        if (await asyncio.to_thread(stream.stdout.readline)).strip() != READY:
            raise Wrong("the stream did not begin")
        await asyncio.sleep(WARM_UP_SECONDS)
        started = time.monotonic()
        flying: dict[str, asyncio.Task[tuple[float, float]]] = {}
        for number in range(int(seconds * a_second)):
            await asyncio.sleep(max(0.0, started + number / a_second - time.monotonic()))
            member = f"probe-{run}-{number}"
            flying[member] = asyncio.create_task(_share(settings, producer, client, member))
        seen = dict(zip(flying, await asyncio.gather(*flying.values()), strict=True))
        deadline = time.monotonic() + SEEN_SECONDS
        while not seen.keys() <= live.keys():
            if following.done() or time.monotonic() > deadline:
                raise Wrong(f"live events told of {len(seen.keys() & live.keys())} of {len(seen)} shares")
            await asyncio.sleep(0.05)
        following.cancel()
    return Times(
        [(read - begun) * 1_000 for begun, read in seen.values()],
        [(live[member] - begun) * 1_000 for member, (begun, _) in seen.items()],
    )


async def _share(
    settings: Settings, producer: AIOKafkaProducer, client: httpx.AsyncClient, member: str
) -> tuple[float, float]:
    """When it was sent, and when a read had it. Raises `Wrong` when that read does not."""
    value: dict[str, Any] = {
        **{"event_id": member, "occurred_at": now_ms(), "brand_id": BRAND, "member_id": member, "quantity": 1},
        **{"surface": "brand_post", "kind": "share", "platform": "x", "post_id": member},
        **dict.fromkeys(("campaign_id", "actor_id", "followers")),
    }
    key, data, headers = publisher.record(settings.signing_key, "Interaction", value)
    begun = time.perf_counter()
    at = await (await producer.send(ACTIVITY, data, key=key, headers=headers))
    path = f"/v1/brands/{BRAND}/members/{member}/balance"
    while True:
        answer = await client.get(path, params={"min_position": f"{at.partition}:{at.offset}"})
        if answer.status_code not in (503, 504):  # too many wait, or 5 seconds have passed: one may ask again
            break
        await asyncio.sleep(0.02)
    read = time.perf_counter()
    if answer.status_code != 200 or answer.json()["active"] != POINTS:
        raise Wrong(f"{member}: {answer.status_code} {answer.text}")
    return begun, read


async def _follow(client: httpx.AsyncClient, seen: dict[str, float]) -> None:
    """Note when each member's balance came as a live event."""
    async with client.stream("GET", "/v1/events", params={"brand": BRAND, "types": "balances"}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                seen.setdefault(json.loads(line[6:]).get("member_id", ""), time.perf_counter())


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.visible")
