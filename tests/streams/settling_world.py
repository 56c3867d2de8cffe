"""A campaign and all that brings it to its end, in one process: two partitions, their workers, and a projector.

The broker is lists; everything else is the real thing, and each of its steps can be asked for, or be killed, alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from exact_bench import BRAND, SECRET, Bench, Died, Record, partition_of

from aggregates.database import open_database
from aggregates.definitions import content_of
from aggregates.ledger import Ledger, brand_aggregate, campaign_aggregate
from aggregates.parsing import parse
from aggregates.program_events import BrandDefined, CampaignDefined
from aggregates.settlement import close
from projections import engagement, registry
from projections.answers import Settlement, Standing
from projections.queries import campaigns
from projections.queries import settlement as settlement_queries
from projections.upkeep.runner import Runner
from schemas.codec import encode
from schemas.signing import SIGNATURE_HEADER, sign
from schemas.topics import ACTIVITY, TIERS, TRUSTED, WINDOWS, activity_key
from service.closing import load, store
from service.migrate import migrate
from service.outbox import Outbox, send_lost_again
from service.roles.settlement import Settlements
from streams import readstate
from streams.partition import Applied

HOUR = 3_600_000
START = 1_772_496_000_000
END = START + 48 * HOUR
CLOSED_AT = END + 30 * HOUR
PARTITIONS = 2
PAGE = 3
"""Events that the outbox sends in one step."""


class LogClient:
    """A producer whose broker is the lists of records."""

    def __init__(self, logs: list[list[Record]]) -> None:
        self._logs = logs
        self.left: int | None = None
        """Records until it dies; None: it does not."""

    async def send(
        self, topic: str, value: bytes, *, key: bytes, partition: int | None, headers: list[tuple[str, bytes]]
    ) -> Awaitable[None]:
        if topic == ACTIVITY:
            if self.left is not None:
                if not self.left:
                    raise Died
                self.left -= 1
            log = self._logs[partition_of(key, PARTITIONS) if partition is None else partition]
            log.append(Record(len(log), CLOSED_AT, key, value, tuple(headers)))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def flush(self) -> None:
        """Everything is there at once."""


class World:
    """`campaign` are keys of its definition."""

    def __init__(self, directory: Path, **campaign: Any) -> None:
        self.benches = [Bench(directory, [], partition=n, partitions=PARTITIONS) for n in range(PARTITIONS)]
        self.logs = [bench.log for bench in self.benches]
        self.database = self.benches[0].database
        migrate(self.database)
        self.engine, reading = open_database(self.database), open_database(self.database, read_only=True)
        self.ledger = Ledger(self.database)
        self.now = START
        self.client = LogClient(self.logs)
        self.runner = Runner(self.engine, self.ledger.notifications, registry.LEDGER)
        self.settlements = Settlements(reading, self.ledger, PARTITIONS, 24 * HOUR, 1, lambda: self.now)
        self._at = {(topic, n): 0 for topic in (WINDOWS, TIERS) for n in range(PARTITIONS)}
        self._start_outbox()
        self.define(campaign)
        self.parts = [bench.worker() for bench in self.benches]
        self.now = CLOSED_AT

    def define(self, campaign: dict[str, Any]) -> None:
        document = {"campaign": "spring", "brand": "acme", "starts_at": START, "ends_at": END, **campaign}
        brand, spring = content_of(parse(BRAND, "test")), content_of(parse(document, "test"))
        aggregates = brand_aggregate("acme"), campaign_aggregate("acme", "spring")
        events = (
            [BrandDefined("acme", 1, 0, brand, self.now)],
            [CampaignDefined("acme", "spring", 1, START, spring, self.now)],
        )
        self.ledger.append(dict(zip(aggregates, events, strict=True)), dict.fromkeys(aggregates, 0))
        self.send()

    # What may happen, in any order

    def publish(self, kind: str, value: dict[str, Any]) -> None:
        key, data = activity_key(value["brand_id"], value["member_id"]), encode(kind, value)
        log = self.logs[partition_of(key, PARTITIONS)]
        headers = ((SIGNATURE_HEADER, sign(SECRET, key, data)),) if kind in TRUSTED else ()
        log.append(Record(len(log), CLOSED_AT, key, data, headers))

    def work(self, number: int, count: int) -> None:
        """A worker applies its next records."""
        bench, part = self.benches[number], self.parts[number]
        end = min(part.next + count, len(bench.log))
        if end > part.next:
            assert part.apply(bench.chunk(part.next, end), 1) is Applied.DONE

    def flush(self, number: int, dies: str = "") -> None:
        """A worker flushes; one that dies is followed by another."""
        bench = self.benches[number]
        try:
            bench.flush(self.parts[number], dies)
        except Died:
            self.parts[number] = bench.worker()

    def project(self) -> None:
        """The projector brings the ledger's read models up to date."""
        self.runner.catch_up()

    def consume(self, number: int) -> None:
        """The projector reads the panes that a worker has written."""
        for topic, values in self.benches[number].appended.items():
            start, end = self._at[topic, number], len(values)
            records = [_decoded(value) for value in values[start:end]]
            with self.engine.begin() as conn:
                engagement.apply(conn, topic, number, start, end, records)
            self._at[topic, number] = end

    def send(self, dies_after: int | None = None) -> bool:
        """The outbox sends a page; one that dies is followed by another. Whether there was anything."""
        self.client.left = dies_after
        try:
            return asyncio.run(self.outbox.step()) > 0
        except Died:
            self._start_outbox()
            return True
        finally:
            self.client.left = None

    def settle(self) -> int:
        """The projector looks at campaigns."""
        return self.settlements.step()

    def close(self) -> None:
        """Somebody asks for the settlement."""
        state, version = load(self.ledger, "acme", "spring")
        events = close(state, self.now, "test")
        if events:
            store(self.ledger, "acme", "spring", version, [*events])

    def make_anew(self) -> Counter[str]:
        """The log is deleted and made anew, which is accepted; what was sent again, by record type."""
        for log in self.logs:
            log.clear()
        sent = asyncio.run(send_lost_again(self.engine, self.ledger, self.client, SECRET, PARTITIONS))  # type: ignore[arg-type]
        for number, bench in enumerate(self.benches):
            old = bench.source
            bench.source = old._replace(epoch=old.epoch + "-anew")
            with self.engine.begin() as connection:
                readstate.accept(connection, old.name, bench.source, 0)
            self.parts[number] = bench.worker()
        return sent

    def go_on(self) -> None:
        """Workers and outbox, until both have nothing left to do."""
        while any(part.next < len(log) for part, log in zip(self.parts, self.logs, strict=True)) or self.send():
            for number in range(PARTITIONS):
                self.work(number, len(self.logs[number]))

    def finish(self) -> None:
        """Go on until nothing is left to do."""
        ends: list[int] = []
        while True:
            for number in range(PARTITIONS):
                self.work(number, len(self.logs[number]))
                self.flush(number)
                self.consume(number)
            while self.send():
                pass
            self.project()
            changed = self.settle()
            reached = [len(log) for log in self.logs]
            if not changed and reached == ends and all(p.next == e for p, e in zip(self.parts, ends, strict=True)):
                return
            ends = reached

    # What it came to

    def settlement(self) -> Settlement | None:
        with self.engine.connect() as conn:
            return campaigns.settled(conn, "acme", "spring")

    def places(self) -> list[Standing]:
        with self.engine.connect() as conn:
            return settlement_queries.settled_places(conn, "acme", "spring", 0, 10_000)

    def _start_outbox(self) -> None:
        self.outbox = Outbox(self.engine, self.ledger, self.client, SECRET, PARTITIONS)  # type: ignore[arg-type]


def _decoded(value: bytes) -> dict[str, Any]:
    from schemas.codec import decode

    return decode(value)[1]
