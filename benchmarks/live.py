"""`python -m benchmarks.live`: how soon 1,000 readers of live events have a change, all of them following everything.

The API is a process of its own over a SQLite file; the readers are plain connections of this one. Each reader must get
every change to the end, and none may be dropped, or there is no figure.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer

from aggregates.database import open_database
from aggregates.ledger import Ledger, account_id
from aggregates.ledger_store import encoded
from benchmarks.commands import Wrong, percentile
from benchmarks.contest import Row, merge
from benchmarks.serving import _environment, _server, fill, rewarded
from projections import registry
from projections.upkeep.runner import Runner

LIMIT_MS: Final = 1_000.0
PORTIONS: Final = 10
"""In which a second's events are stored."""
END_SECONDS: Final = 60.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Stored:
    """When read models had each ledger position."""

    def __init__(self, database: str) -> None:
        self._ledger = Ledger(database)
        self._engine = open_database(database)
        self._runner = Runner(self._engine, self._ledger.notifications, registry.LEDGER)
        self._number = 1_000_000
        self.last = self._ledger.last_notification()
        self.at: dict[int, float] = {}

    def add(self, count: int) -> None:
        """Store so many rewards of members of their own, and bring the read models up to them."""
        begun = self._number
        self._number += count
        self._ledger.store.write(
            [encoded(account_id("acme", f"n-{n}"), 1, rewarded(n, 5)) for n in range(begun, self._number)]
        )
        self._runner.catch_up()
        now = time.perf_counter()
        for position in range(self.last + 1, self.last + count + 1):
            self.at[position] = now
        self.last += count

    def close(self) -> None:
        """Give back the connections."""
        self._ledger.close()
        self._engine.dispose()


class Reader(asyncio.Protocol):
    """One reader: notes how late each portion is that it gets."""

    def __init__(self, stored: Stored, late: list[float]) -> None:
        self.position = 0
        self.is_dropped = False
        self._stored = stored
        self._late = late
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for everything."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """The last id in what came is the position that it has."""
        data = self._rest + data
        self._rest = data[-100:]
        self.is_dropped |= b"event: dropped" in data
        start = data.rfind(b"\nid: ")
        end = data.find(b"\n", start + 5)
        if start < 0 or end < 0:
            return
        position = int(data[start + 5 : end])
        if position > self.position:
            self.position = position
            if position in self._stored.at:
                self._late.append((time.perf_counter() - self._stored.at[position]) * 1_000)


@app.command(epilog="Example: python -m benchmarks.live --readers 1000 --rate 50 --seconds 20")
def bench(
    readers: Annotated[int, typer.Option(min=1, help="Readers at the same time.")] = 1_000,
    rate: Annotated[int, typer.Option(min=PORTIONS, help="Rewards a second; each is a balance and a score.")] = 50,
    seconds: Annotated[int, typer.Option(min=1, help="For how long.")] = 20,
    results: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the row goes too, as JSON.")] = None,
) -> None:
    """Time how late changes come. The ratio is 1 s over the 99th percentile."""
    with ExitStack() as ending:
        directory = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="groundswell-live-")))
        database = f"sqlite:///{directory / 'groundswell.db'}"
        fill(database)
        stored = Stored(database)
        ending.callback(stored.close)
        role = [sys.executable, "-m", "service", "api"]
        address = ending.enter_context(_server(role, "/healthz", _environment(database, directory)))
        late = asyncio.run(_follow(stored, address, readers, rate, seconds))
    p50, p99 = percentile(late, 50), percentile(late, 99)
    print(f"{readers:,} readers, {rate} rewards/s: {len(late):,} portions, p50 {p50:.0f} ms, p99 {p99:.0f} ms late")
    if results is not None:
        merge(results, [_row(readers, rate, late)])


def _row(readers: int, rate: int, late: list[float]) -> Row:
    p99 = percentile(late, 99)
    return {
        "name": f"live events to {readers:,} readers, {rate} rewards a second to each, 99th percentile",
        "subject": f"GET /v1/events, p50 {percentile(late, 50):.0f} ms",
        "peer": "the limit",
        "ratio": round(LIMIT_MS / p99, 2),
        "target": 1.0,
        "median": round(p99, 1),
        "peer_median": LIMIT_MS,
        "unit": "ms",
        "runs": len(late),
    }


async def _follow(stored: Stored, address: str, readers: int, rate: int, seconds: int) -> list[float]:
    """How late each portion came to each reader, in milliseconds. Raises `Wrong`."""
    late: list[float] = []
    url = httpx.URL(address)
    loop = asyncio.get_running_loop()
    following = [Reader(stored, late) for _ in range(readers)]
    made = []
    for reader in following:
        transport, _ = await loop.create_connection(lambda reader=reader: reader, url.host, url.port or 80)  # type: ignore[misc]
        made.append(transport)
    await _until(lambda: all(reader.position for reader in following), "some readers were not connected")
    started = time.monotonic()
    for portion in range(seconds * PORTIONS):
        await asyncio.sleep(max(0.0, started + portion / PORTIONS - time.monotonic()))
        await asyncio.to_thread(stored.add, rate // PORTIONS)
    await _until(lambda: all(reader.position >= stored.last for reader in following), "some readers miss changes")
    for transport in made:
        transport.close()
    dropped = sum(reader.is_dropped for reader in following)
    if dropped:
        raise Wrong(f"{dropped} readers were dropped")
    return late


async def _until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise Wrong(otherwise)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.live")
